"""Layers, options, activations and operations of Keras, each in a model of its own: it
is converted and predicts what Keras predicts, or is refused by its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import outcomes
import pytest
from keras_files import Example
from keras_files import examples
from keras_files import start_keras
from keras_files import sweep_jobs
from predicting import Clients
from predicting import permute
from predicting import start_clients
from zoo.sweep import ACTIVATIONS
from zoo.sweep import SWEEP

RECORDED = outcomes.recorded()["sweep"]

#: Classes without a case of their own: bases, cells, and what is no part of a model or
#: needs TensorFlow.
NOT_SWEPT = frozenset(
    """
    FlaxLayer HashedCrossing Hashing InputLayer InputSpec IntegerLookup JaxLayer Layer
    MaxNumBoundingBoxes MelSpectrogram STFTSpectrogram StringLookup TFSMLayer
    TextVectorization TorchModuleWrapper Wrapper Equalization
    """.split()
)


NAMES = list(dict.fromkeys(str(case) for case in SWEEP))

#: Each third case, and all of masks, which are the most intricate. All others are tried
#: by benchmarks/keras_zoo.py, which writes what is recorded.
TRIED = [name for i, name in enumerate(NAMES) if i % 3 == 0 or "mask" in name]


@pytest.fixture(scope="module")
def sweep() -> dict[str, Example]:
    jobs = sweep_jobs()
    return examples({name: jobs[name] for name in TRIED})


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    with start_clients(tmp_path_factory.mktemp("sweep")) as clients:
        yield clients


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of files, none of which has to outlive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.mark.parametrize("name", TRIED)
def test_case(sweep: dict[str, Example], clients: Clients, name: str) -> None:
    example, allowed = sweep[name], outcomes.tolerance(name)
    found = outcomes.convert_all(example, clients)
    assert found == RECORDED[name]
    for kind, apart in outcomes.differences(example, found, clients).items():
        assert apart <= allowed
        path = clients.directory / outcomes.directory(example, kind)
        other = path.with_name(f"{path.name}-permuted")
        if permute(path, other) is not None:
            script = outcomes.needs_script(found[kind])
            noticed = clients.difference(other.name, example, script=script)
            assert noticed > 10 * allowed


def test_every_case_is_recorded_once() -> None:
    assert sorted(RECORDED) == sorted(NAMES)


def test_no_layer_and_no_activation_is_left_out(tmp_path: Path) -> None:
    expressions = [case.expression for case in SWEEP]
    with start_keras(tmp_path) as keras:
        classes = keras.ask({"list": "layers"})
        activations = keras.ask({"list": "activations"})
    swept = {
        classes[name]
        for name in classes
        if any(f"layers.{name}(" in expression for expression in expressions)
    }
    assert set(classes.values()) - swept == NOT_SWEPT
    assert set(activations) - set(ACTIVATIONS) == {"deserialize", "get", "serialize"}
