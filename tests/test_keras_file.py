"""Files of Keras that are cut, damaged, foreign or made to do harm: one sentence, and
nothing else happens."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import typing as t
import zipfile
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from click.testing import Result
from filesystem import bind
from filesystem import time_limit
from filesystem import unprivileged_directory
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from made_keras import BIAS
from made_keras import CONFIG
from made_keras import DENSE
from made_keras import KERNEL
from made_keras import METADATA
from made_keras import WEIGHTS
from made_keras import dense
from made_keras import layer
from made_keras import sequential
from made_keras import weights_file
from made_keras import write_h5
from made_keras import write_keras
from made_keras import write_zip
from publishing import snapshot
from servers import TESTS

from flask_tfjs.cli import tfjs
from flask_tfjs.convert.arrays import values_of
from flask_tfjs.convert.keras_file import open_model
from flask_tfjs.convert.to_tfjs import to_tfjs
from flask_tfjs.errors import InvalidModel

Write = Callable[[Path], t.Any]
Spoil = Callable[[t.Any, str], t.Any]

KINDS = ("h5", "keras")


def run(*arguments: t.Any) -> Result:
    runner = CliRunner()
    vars(runner)["mix_stderr"] = False  # click 8.1 mixes unless told not to
    return runner.invoke(tfjs, ["convert", *map(str, arguments)])


def refusal(path: Path) -> str:
    """What is said of a file, and nothing else happens."""
    before = set(os.listdir(path.parent))
    with time_limit():
        result = run(path, path.parent / "converted")
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: ") and len(line) < 500
    assert set(os.listdir(path.parent)) == before
    return line.removeprefix("Error: ")


def held(path: Path) -> list[tuple[str, t.Any]]:
    """The weights in a file."""
    with time_limit(), open_model(str(path)) as graph:
        return [
            (slot, values_of(weight))
            for layer in graph.walk()
            for slot, weight in layer.weights.items()
        ]


def write(kind: str, path: Path, **how: t.Any) -> Path:
    return write_h5(path, **how) if kind == "h5" else write_keras(path, **how)


def spoiling(kind: str, spoil: Spoil) -> Callable[[t.Any], None]:
    """Change a file at the place of a kernel: a group, and the kernel's name in it."""
    place = "model_weights/dense/dense" if kind == "h5" else "layers/dense/vars"
    name = "kernel" if kind == "h5" else "0"
    return lambda file: spoil(file[place], name)


# Sound files


def test_a_file_as_keras_writes_it(tmp_path: Path) -> None:
    for kind in KINDS:
        path = write(kind, tmp_path / f"m.{kind}")
        assert len(held(path)) == 2
        done = to_tfjs(path, tmp_path / kind)
        assert done.byte_length == 32
    assert snapshot(tmp_path / "h5")["group1-shard1of1.bin"] == (
        KERNEL.tobytes() + BIAS.tobytes()
    )
    one, other = (snapshot(tmp_path / kind) for kind in KINDS)
    assert one == other


def rewrite_kernel(values: t.Any, **how: t.Any) -> Spoil:
    def spoil(group: t.Any, name: str) -> None:
        del group[name]
        group.create_dataset(name, data=values, **how)

    return spoil


def as_bfloat16(values: t.Any) -> t.Any:
    """As h5py writes what ml_dtypes brings."""
    return (values.view("<u4") >> 16).astype("<u2").view("V2")


NUMBERS = {
    "float16": (KERNEL.astype("<f2"), KERNEL),
    "float64": (KERNEL.astype("<f8"), KERNEL),
    "big endian": (KERNEL.astype(">f4"), KERNEL),
    "big endian float64": (KERNEL.astype(">f8"), KERNEL),
    "bfloat16": (as_bfloat16(KERNEL), KERNEL),
    "int8": (-KERNEL.astype("i1"), -KERNEL),
    "uint16": (KERNEL.astype(">u2"), KERNEL),
    "int64": (-KERNEL.astype("<i8"), -KERNEL),
    "bool": (KERNEL > 2, (KERNEL > 2).astype("<f4")),
    "too large for float32": (np.full((3, 2), -1e300), np.full((3, 2), -np.inf)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_any_type(tmp_path: Path, name: str, kind: str) -> None:
    values, expected = NUMBERS[name]
    change = spoiling(kind, rewrite_kernel(values))
    (slot, kernel), (_, bias) = held(write(kind, tmp_path / "m", change=change))
    assert slot == "kernel" and kernel.dtype == "float32"
    np.testing.assert_array_equal(kernel, expected)
    np.testing.assert_array_equal(bias, BIAS)


def compact(group: t.Any, name: str) -> None:
    """Values within the description of the dataset."""
    del group[name]
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_layout(h5py.h5d.COMPACT)
    space, kind = h5py.h5s.create_simple((3, 2)), h5py.h5t.IEEE_F32LE
    made = h5py.h5d.create(group.id, name.encode(), kind, space, how)
    made.write(h5py.h5s.ALL, h5py.h5s.ALL, KERNEL)


def texts_of_any_size(group: t.Any, name: str) -> None:
    names = np.array(["dense/kernel", "dense/bias"], h5py.string_dtype())
    group.parent.attrs["weight_names"] = names


def padded_with_blanks(group: t.Any, name: str) -> None:
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(20)
    kind.set_strpad(h5py.h5t.STR_SPACEPAD)
    group.parent.attrs.create(
        "weight_names",
        np.array([b"dense/kernel".ljust(20), b"dense/bias".ljust(20)]),
        dtype=h5py.Datatype(kind),
    )


def many_names(group: t.Any, name: str) -> None:
    """As Keras cuts a list that is too long for one attribute."""
    attributes = group.parent.attrs
    del attributes["weight_names"]
    attributes["weight_names0"] = np.array([b"dense/kernel"])
    attributes["weight_names1"] = np.array([b"dense/bias"])


def moved(group: t.Any, name: str) -> None:
    """One object of many names, as a hard link is."""
    group.file["elsewhere"] = group[name]
    for i in range(400):  # levels of the index
        group.file[f"elsewhere{i}"] = group


def much_beside(group: t.Any, name: str) -> None:
    for i in range(40):
        group.attrs[f"attribute{i}"] = "x" * i
        group[f"other{i}"] = i


def with_own_type(group: t.Any, name: str) -> None:
    group.file["type"] = np.dtype("f4")
    group.attrs["of"] = h5py.Reference()


USUAL: dict[str, Spoil] = {
    "compact": compact,
    "much beside it": much_beside,
    "hard links": moved,
    "a type of its own beside it": with_own_type,
}
USUAL_H5: dict[str, Spoil] = {
    "names of any size": texts_of_any_size,
    "names padded with blanks": padded_with_blanks,
    "names in parts": many_names,
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [*itertools.product(KINDS, USUAL), *(("h5", name) for name in USUAL_H5)],
)
def test_what_keras_could_write(tmp_path: Path, kind: str, name: str) -> None:
    change = spoiling(kind, {**USUAL, **USUAL_H5}[name])
    (_, kernel), (_, bias) = held(write(kind, tmp_path / "m", change=change))
    np.testing.assert_array_equal(kernel, KERNEL)
    np.testing.assert_array_equal(bias, BIAS)


def unseekable(path: Path, members: dict[str, bytes]) -> None:
    """A zip whose sizes come behind the data, in descriptors."""

    class Stream(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: t.Any) -> int:
            return file.write(data)

    with path.open("wb") as file, zipfile.ZipFile(t.cast(t.Any, Stream()), "w") as zip_:
        for name, data in members.items():
            zip_.writestr(name, data)


def of_64_bits(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(data)


def behind_something(path: Path, members: dict[str, bytes]) -> None:
    write_zip(path, members)
    path.write_bytes(b"PK, but not yet" + path.read_bytes())


def with_extra_fields(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.extra = struct.pack("<HH4s", 0x7075, 4, b"more")
            archive.writestr(info, data)


ZIPS: dict[str, Callable[[Path, dict[str, bytes]], None]] = {
    "stored": write_zip,
    "deflated": lambda path, members: write_zip(path, members, zipfile.ZIP_DEFLATED),
    "descriptors": unseekable,
    "zip64": of_64_bits,
    "behind something": behind_something,
    "extra fields": with_extra_fields,
    "odd names": lambda path, members: write_zip(
        path,
        {
            **{"../evil": b"x", "/evil": b"x", "evil\0.txt": b"x", "a/../../b": b"x"},
            **{"config.json/": b"", "C:\\evil": b"x", **members},
        },
    ),
    "assets": lambda path, members: write_zip(
        path, {**members, "assets/words.txt": b"a\nb"}
    ),
}


@pytest.mark.parametrize("name", ZIPS)
def test_zips(tmp_path: Path, name: str) -> None:
    members = {
        METADATA: b'{"keras_version": "3.0.5"}',
        CONFIG: json.dumps(dense()).encode(),
        WEIGHTS: weights_file(),
    }
    ZIPS[name](tmp_path / "m.keras", members)
    to_tfjs(tmp_path / "m.keras", tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["m.keras", "new"]
    assert len(os.listdir(tmp_path / "new")) == 2


# What is in place of weights


def replaced_by(make: Callable[[t.Any, str], t.Any]) -> Spoil:
    def spoil(group: t.Any, name: str) -> None:
        del group[name]
        made = make(group, name)
        if made is not None:
            group[name] = made

    return spoil


def virtual(group: t.Any, name: str) -> None:
    virtual = h5py.VirtualLayout((3, 2), "f4")
    virtual[:] = h5py.VirtualSource("secret.h5", "w", (3, 2))
    group.create_virtual_dataset(name, virtual)


def dataset(*shape: int, dtype: t.Any = "f4", **how: t.Any) -> Spoil:
    return replaced_by(
        lambda group, name: group.create_dataset(name, shape, dtype, **how) and None
    )


def of_no_values(group: t.Any, name: str) -> None:
    group[name] = h5py.Empty("f4")


def of_own_type(group: t.Any, name: str) -> None:
    group.file["type"] = np.dtype("f4")
    group.create_dataset(name, (3, 2), group.file["type"])


COMPOUND = np.dtype([("re", "f4"), ("im", "f4")])

LINK = r"kernel|0: is a link to somewhere else, which is not followed; load the model"
CHUNKS = "is stored in chunks, compressed or in other files, as Keras does not do; load"
LACKS = (
    r"dense: (the file lacks its weight dense/kernel \(Keras stopped while it wrote "
    r"the file\); save the model as \.keras"
    r"|is a Dense and has 2 weights \(kernel, bias\), but the file holds 1 of it; save "
    r"the model again, as \.keras)"
)


def not_numbers(what: str) -> str:
    return rf"holds {what}, not numbers such as float32; save the model with float32"


def claims(shape: str, size: int) -> str:
    return (
        rf"claims the shape \[{shape}\], and the file holds {size} bytes of it; save "
        "the model again"
    )


def has_shape(shape: str) -> str:
    return (
        rf"dense: its kernel has the shape \[{shape}\] in the file, but the layer's "
        r"config asks for \[3, 2\]; save the model again, as \.keras"
    )


IN_PLACE_OF_WEIGHTS: dict[str, tuple[Spoil, str]] = {
    "nothing": (replaced_by(lambda group, name: None), LACKS),
    "a group": (
        replaced_by(lambda group, name: group.create_group(name) and None),
        LACKS,
    ),
    "itself": (replaced_by(lambda group, name: group), LACKS),
    "the whole file": (replaced_by(lambda group, name: group.file["/"]), LACKS),
    "a type": (replaced_by(lambda group, name: np.dtype("f4")), LACKS),
    "a soft link": (
        replaced_by(lambda group, name: h5py.SoftLink(f"{group.name}/1")),
        LINK,
    ),
    "a soft link to itself": (
        replaced_by(lambda group, name: h5py.SoftLink(f"{group.name}/{name}")),
        LINK,
    ),
    "a link to another file": (
        replaced_by(lambda group, name: h5py.ExternalLink("secret.h5", "w")),
        LINK,
    ),
    "a link to a device": (
        replaced_by(lambda group, name: h5py.ExternalLink("/dev/zero", "w")),
        LINK,
    ),
    "parts of another file": (replaced_by(virtual), CHUNKS),
    "bytes of another file": (
        dataset(3, 2, external=[("secret.h5", 0, 24)]),
        "is stored in other files, as Keras does not do; load the model with Keras",
    ),
    "chunks": (dataset(3, 2, chunks=(1, 2)), CHUNKS),
    "compressed": (dataset(3, 2, compression="gzip"), CHUNKS),
    "compressed, and not there": (
        dataset(1 << 14, 1 << 14, compression="gzip", fillvalue=1.0),
        CHUNKS,
    ),
    "never written": (dataset(3, 2), claims("3, 2", 0)),
    "never written, with a fill value": (
        dataset(3, 2, fillvalue=0.5),
        claims("3, 2", 0),
    ),
    "absurdly large": (
        dataset(10**9, 10**9),
        claims("1000000000, 1000000000", 0),
    ),
    "no values": (replaced_by(of_no_values), "has no values, as Keras does not do"),
    "a type of its own": (
        replaced_by(of_own_type),
        "has types that are kept apart from what has them, as Keras does not do",
    ),
    "texts": (
        replaced_by(lambda group, name: np.array([b"abcd"] * 6).reshape(3, 2)),
        not_numbers("texts"),
    ),
    "texts of any size": (
        dataset(3, 2, dtype=h5py.string_dtype()),
        not_numbers("texts"),
    ),
    "lists": (dataset(3, 2, dtype=h5py.vlen_dtype("f4")), not_numbers("lists")),
    "references": (dataset(3, 2, dtype=h5py.ref_dtype), not_numbers("references")),
    "compounds": (dataset(3, 2, dtype=COMPOUND), not_numbers("compounds")),
    "complex numbers": (
        dataset(3, 2, dtype="c8"),
        not_numbers("(compounds|complex numbers)"),
    ),
    "opaque bytes": (dataset(3, 2, dtype="V5"), not_numbers("opaque bytes")),
    "arrays": (dataset(3, 2, dtype=np.dtype(("f4", 2))), not_numbers("arrays")),
    "long doubles": (dataset(3, 2, dtype=np.longdouble), not_numbers("floats")),
    "transposed": (rewrite_kernel(KERNEL.T), has_shape("2, 3")),
    "an axis more": (rewrite_kernel(KERNEL[None]), has_shape("1, 3, 2")),
    "one number": (rewrite_kernel(np.float32(1)), has_shape("")),
    "an axis less": (rewrite_kernel(KERNEL.ravel()), has_shape("6")),
    "empty": (rewrite_kernel(KERNEL[:0]), has_shape("0, 2")),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", IN_PLACE_OF_WEIGHTS)
def test_in_place_of_weights(tmp_path: Path, name: str, kind: str) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["w"] = KERNEL
    spoil, sentence = IN_PLACE_OF_WEIGHTS[name]
    path = write(kind, tmp_path / "m", change=spoiling(kind, spoil))
    assert re.search(sentence, refusal(path))


# What is in place of texts


def attribute(where: str, name: str, value: t.Any) -> Write:
    def change(file: t.Any) -> None:
        attributes = file[where].attrs
        if name in attributes:
            del attributes[name]
        if value is not None:
            attributes[name] = value

    return lambda path: write_h5(path, change=change)


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


NOT_ONE_TEXT = "its model_config is not one text"
ONLY_WEIGHTS = "holds weights only, without the model; save the whole model with model"

IN_PLACE_OF_TEXTS: dict[str, tuple[Write, str]] = {
    "no model": (attribute("/", "model_config", None), ONLY_WEIGHTS),
    "a number for a model": (
        attribute("/", "model_config", 5),
        "its model_config is no text",
    ),
    "two texts": (attribute("/", "model_config", ["a", "b"]), NOT_ONE_TEXT),
    "no text": (attribute("/", "model_config", h5py.Empty("S1")), NOT_ONE_TEXT),
    "a reference": (
        attribute("/", "model_config", h5py.Reference()),
        "its model_config is no text",
    ),
    "not JSON": (
        attribute("/", "model_config", "{'a': 1}"),
        "m: model_config: is not JSON: Expecting property name",
    ),
    "NaN": (attribute("/", "model_config", "[NaN]"), "contains NaN, which is not JSON"),
    "null": (attribute("/", "model_config", "null"), "has no class_name; save the"),
    "not UTF-8": (
        attribute("/", "model_config", b"\xff\xfe"),
        r"m: is damaged or cut \(a name or text is not UTF-8\); save it or copy it",
    ),
    "deep": (
        attribute("/", "model_config", deep(300)),
        "is nested more than 200 l",
    ),
    "deeper": (
        attribute("/", "model_config", deep(10**5)),
        "is nested more than 200 l",
    ),
    "much text": (
        attribute("/", "model_config", "x" * (13 << 20)),
        "model_config: has 13631488 bytes; the configuration of a model may have",
    ),
    "many values": (
        attribute("/", "model_config", f"[{'[],' * 10**6}[]]"),
        "has 2000002 values; the configuration of a model may have 1000000",
    ),
    "a number for a version": (
        attribute("/", "keras_version", 3),
        "its keras_version is no text",
    ),
    "no weights": (
        lambda path: write_h5(path, change=lambda file: file.pop("model_weights")),
        ONLY_WEIGHTS,
    ),
    "numbers for names": (
        attribute("model_weights/dense", "weight_names", np.arange(3)),
        "its weight_names is no text",
    ),
    "no names": (
        attribute("model_weights/dense", "weight_names", None),
        "has 2 weights .kernel, bias., but the file holds 0 of it; save the model",
    ),
    "another weight": (
        attribute("model_weights/dense", "weight_names", [b"dense/kernel", b"x"]),
        "dense: the file lacks its weight x",
    ),
    "one weight twice": (
        attribute("model_weights/dense", "weight_names", [b"dense/bias"] * 2),
        r"its kernel has the shape \[2\] in the file",
    ),
    "odd names": (
        attribute("model_weights/dense", "weight_names", [b"/", b"../..//."]),
        "dense: the file lacks its weight /",
    ),
}


@pytest.mark.parametrize("name", IN_PLACE_OF_TEXTS)
def test_in_place_of_texts(tmp_path: Path, name: str) -> None:
    make, sentence = IN_PLACE_OF_TEXTS[name]
    make(tmp_path / "m")
    assert re.search(sentence, refusal(tmp_path / "m"))


@pytest.mark.parametrize("name", ["..", ".", "/", "a\0b", "\ud800", "x" * 300])
@pytest.mark.parametrize("kind", KINDS)
def test_odd_names_of_layers(tmp_path: Path, kind: str, name: str) -> None:
    """They are not paths of files, nor do they leave the group they belong to."""
    document = sequential(layer("Dense", name, units=2))
    path = write(kind, tmp_path / "m", document=document)
    if kind == "h5":
        assert re.search("has 2 weights", refusal(path))
    else:
        to_tfjs(path, tmp_path / "new")
        assert set(os.listdir(tmp_path)) == {"m", "new"}


def of_newer_format(count: int) -> Write:
    def make(path: Path) -> None:
        write_h5(path)
        with h5py.File(path) as old, h5py.File(f"{path}2", "w", libver="latest") as new:
            for name, value in old.attrs.items():
                new.attrs[name] = value
            here = old["model_weights/dense"]
            group = new.create_group("model_weights/dense")
            group.attrs["weight_names"] = here.attrs["weight_names"]
            for name in ("dense/kernel", "dense/bias"):
                group[name] = here[name][()]
            for i in range(count):
                new.create_group(f"model_weights/other{i}")
        os.replace(f"{path}2", path)

    return make


def test_the_format_of_newer_versions(tmp_path: Path) -> None:
    """h5py does not use it unless it is told to."""
    of_newer_format(3)(tmp_path / "m")
    assert len(held(tmp_path / "m")) == 2
    of_newer_format(100)(tmp_path / "m")
    assert re.search(
        "m: has groups in the format of newer versions, as Keras does not do; load the "
        "model with Keras and save it again",
        refusal(tmp_path / "m"),
    )


# Other files


def content(data: bytes) -> Write:
    return lambda path: path.write_bytes(data)


def members(*names: str) -> Write:
    return lambda path: write_zip(path, dict.fromkeys(names, b"x"))


def weights_of_keras_3(path: Path) -> None:
    path.write_bytes(weights_file())


def weights_of_keras_2(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"dense"])
        file.attrs["keras_version"] = "2.15.0"
        file.create_group("dense").attrs["weight_names"] = np.array([b"dense/kernel:0"])
        file["dense/dense/kernel:0"] = KERNEL


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


GRAPH = "is a SavedModel of TensorFlow, which no longer has layers; save the whole mod"
PYTORCH = "is of PyTorch; build the model in Keras, which can run on PyTorch, and save"
NEITHER = r"is neither a \.keras nor an \.h5 file of Keras; save the whole model with"
NO_FILE = "cannot be read: is not a regular file"

FOREIGN: dict[str, tuple[str, Write, str]] = {
    "empty": ("m.h5", content(b""), "m.h5: is empty; copy it again"),
    "nothing known": ("m.keras", content(b"\x01\x02" * 99), NEITHER),
    "short": ("m.keras", content(b"P"), NEITHER),
    "text": ("m.txt", content(b"a model, perhaps"), NEITHER),
    "zeros": ("m.h5", content(bytes(9999)), NEITHER),
    "LFS": (
        "m.h5",
        content(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "is a Git LFS pointer, not the file itself; run 'git lfs pull'",
    ),
    "a page": ("m.h5", content(b"\n<!DOCTYPE html>"), "is a page or an error message"),
    "gzip": ("m.h5.gz", content(b"\x1f\x8b\x08"), "is compressed with gzip; unpack it"),
    "JSON": (
        "m.config",
        content(b'{"class_name": "Model"}'),
        "is JSON, which holds no",
    ),
    "a pickle": ("m.pt", content(b"\x80\x02}q\x00."), PYTORCH),
    "PyTorch": ("m.pt", members("archive/data.pkl", "archive/data/0"), PYTORCH),
    "ONNX": (
        "m.onnx",
        content(b"\x08\x07\x12\x07pytorch"),
        "is of ONNX; onnxruntime-web runs it in a browser as it is",
    ),
    "TensorFlow Lite": (
        "m.tflite",
        content(b"\x1c\0\0\0TFL3"),
        "is of TensorFlow Lite, which keeps no layers; convert the model that it was",
    ),
    "a graph": ("saved_model.pb", content(b"\x08\x01\x12\xf0"), GRAPH),
    "a SavedModel": (
        "m.zip",
        members("m/saved_model.pb", "m/variables/variables.index", "keras_metadata.pb"),
        GRAPH,
    ),
    "a checkpoint": ("m.ckpt.index", content(b"\0\0\x01\x02"), ONLY_WEIGHTS),
    "its weights": ("m.data-00000-of-00001", content(b"\0\0\x01\x02"), ONLY_WEIGHTS),
    "safetensors": ("m.safetensors", content(b"\x10" + bytes(20)), ONLY_WEIGHTS),
    "arrays": (
        "m.npz",
        members("a.npy", "b.npy"),
        "holds arrays of NumPy, without the",
    ),
    "an array": (
        "m.npy",
        content(b"\x93NUMPY\x01\0"),
        "holds arrays of NumPy, without",
    ),
    "TensorFlow.js": (
        "m.zip",
        members("m/model.json", "m/group1-shard1of1.bin"),
        "is a zip of a model of TensorFlow.js already; unpack it",
    ),
    "a zipped model": (
        "m.zip",
        members("m/digits.keras"),
        "is a zip that a model was put into; unpack it first",
    ),
    "a document": (
        "m.docx",
        members("word/document.xml"),
        "is a zip, but holds no model of Keras; save the whole model",
    ),
    "a zip of nothing": ("m.keras", members(), "is a zip, but holds no model of Keras"),
    "directories": (
        "m.keras",
        members("config.json/", "model.weights.h5/", "metadata.json/"),
        "is a zip, but holds no model of Keras",
    ),
    "a configuration": (
        "m.keras",
        members(CONFIG, METADATA),
        "holds no model of Keras",
    ),
    "weights of Keras 3": ("m.weights.h5", weights_of_keras_3, ONLY_WEIGHTS),
    "weights of Keras 2": ("m.h5", weights_of_keras_2, ONLY_WEIGHTS),
    "a FIFO": ("m.h5", a_fifo, NO_FILE),
    "a device": ("m.h5", lambda path: path.symlink_to("/dev/zero"), NO_FILE),
    "a socket": ("m.h5", bind, "cannot be read: "),
    "a dangling link": (
        "m.h5",
        lambda path: path.symlink_to("away"),
        "there is no file or directory",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files(tmp_path: Path, name: str) -> None:
    file_name, make, sentence = FOREIGN[name]
    make(tmp_path / file_name)
    assert re.search(sentence, refusal(tmp_path / file_name))


def test_a_directory(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "saved_model.pb").write_bytes(b"x")
    refusal(tmp_path / "m")


def test_a_file_that_may_not_be_read() -> None:
    with unprivileged_directory() as directory:
        path = write_h5(directory / "m.h5")
        path.chmod(0)
        assert refusal(path) == "m.h5: cannot be read: Permission denied"


# Damaged zips


def patched(
    signature: bytes, field: int, form: str, value: t.Any, name: str = WEIGHTS
) -> Write:
    """Write a number into the header of a member: that in front of its data, or that in
    the directory at the end."""

    def make(path: Path) -> None:
        write_keras(path)
        data = bytearray(path.read_bytes())
        at = -1
        length_at, name_at = (26, 30) if signature == LOCAL else (28, 46)
        while True:
            at = data.index(signature, at + 1)
            (length,) = struct.unpack_from("<H", data, at + length_at)
            if data[at + name_at : at + name_at + length] == name.encode():
                break
        given = value
        if callable(value):
            given = value(struct.unpack_from(form, data, at + field)[0])
        struct.pack_into(form, data, at + field, given)
        path.write_bytes(data)

    return make


LOCAL, DIRECTORY = b"PK\x03\x04", b"PK\x01\x02"
ENCRYPTED = "is encrypted; save the model without a password"
UNUSUAL = "is compressed in a way that Keras does not read; save the model again"
DAMAGED = r"is damaged or cut \(.*\); save it or copy it again"


def bomb(name: str, size: int) -> Write:
    def make(path: Path) -> None:
        write_keras(path, compression=zipfile.ZIP_DEFLATED)
        with zipfile.ZipFile(path) as archive:
            kept = {n: archive.read(n) for n in archive.namelist() if n != name}
        write_zip(path, kept)
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            with archive.open(name, "w") as member:
                for _ in range(size >> 20):
                    member.write(bytes(1 << 20))

    return make


def with_lie(make: Write, size: int) -> Write:
    """Say that the weights have another size when they are unpacked."""

    def lie(path: Path) -> None:
        make(path)
        data = bytearray(path.read_bytes())
        name_at = data.rindex(WEIGHTS.encode())
        struct.pack_into("<I", data, name_at - 46 + 24, size)
        path.write_bytes(data)

    return lie


def overlapping(path: Path) -> None:
    """All members lie at one place."""
    write_keras(path)
    data = bytearray(path.read_bytes())
    at = data.index(DIRECTORY)
    while at >= 0:
        struct.pack_into("<I", data, at + 42, 0)
        at = data.find(DIRECTORY, at + 1)
    path.write_bytes(data)


def large_directory(path: Path) -> None:
    write_keras(path)
    with zipfile.ZipFile(path, "a") as archive:
        for i in range(4000):
            archive.writestr(f"{i:0300}", b"")


def of_other_compression(method: int) -> Write:
    def make(path: Path) -> None:
        write_keras(path, compression=method)

    return make


DAMAGED_ZIPS: dict[str, tuple[Write, str]] = {
    "an encrypted configuration": (
        patched(DIRECTORY, 8, "<H", 1, CONFIG),
        "config.json: " + ENCRYPTED,
    ),
    "encrypted weights": (patched(DIRECTORY, 8, "<H", 1), "weights.h5: " + ENCRYPTED),
    "bzip2": (of_other_compression(zipfile.ZIP_BZIP2), UNUSUAL),
    "LZMA": (of_other_compression(zipfile.ZIP_LZMA), UNUSUAL),
    "an unknown compression": (patched(DIRECTORY, 10, "<H", 99), UNUSUAL),
    "data that is not compressed": (patched(DIRECTORY, 10, "<H", 8), DAMAGED),
    "another checksum": (patched(DIRECTORY, 16, "<I", 0), DAMAGED),
    "another checksum of the configuration": (
        patched(DIRECTORY, 16, "<I", 0, CONFIG),
        DAMAGED,
    ),
    "a smaller size": (patched(DIRECTORY, 24, "<I", 96), DAMAGED),
    "a larger size": (
        with_lie(lambda path: write_keras(path), 1 << 30),
        DAMAGED,
    ),
    "a name elsewhere": (patched(LOCAL, 30, "<B", ord("X")), DAMAGED),
    "a longer name": (patched(LOCAL, 26, "<H", 5000), DAMAGED),
    "a place behind the end": (patched(DIRECTORY, 42, "<I", 1 << 31), DAMAGED),
    "a needed version": (patched(DIRECTORY, 6, "<B", 99), DAMAGED),
    "overlapping members": (overlapping, DAMAGED),
    "a large directory": (large_directory, "its directory is too large"),
    "a bomb of a configuration": (
        bomb(CONFIG, 16 << 20),
        "config.json: has 16777216 bytes; the configuration of a model may have",
    ),
    "a bomb of metadata": (bomb(METADATA, 16 << 20), "metadata.json: has 16777216 b"),
    "a bomb of weights": (
        bomb(WEIGHTS, 80 << 20),
        r"weights.h5: claims to unpack from \d+ to 83886080 bytes; save the model",
    ),
    "a small bomb": (bomb(WEIGHTS, 1 << 20), "it does not begin as HDF5 does"),
    "a bomb that lies": (with_lie(bomb(WEIGHTS, 16 << 20), 1 << 20), DAMAGED),
}


@pytest.mark.parametrize("name", DAMAGED_ZIPS)
def test_damaged_zips(tmp_path: Path, name: str) -> None:
    make, sentence = DAMAGED_ZIPS[name]
    make(tmp_path / "m.keras")
    assert re.search(sentence, refusal(tmp_path / "m.keras"))


def test_a_temporary_directory_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is compressed is unpacked where nobody else sees it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    path = write_keras(tmp_path / "m.keras", compression=zipfile.ZIP_DEFLATED)
    assert refusal(path).startswith(
        f"m.keras/model.weights.h5: cannot be unpacked to {tmp_path}/gone: "
    )
    write_keras(path)
    assert len(held(path)) == 2


# Cut and changed anywhere


@pytest.mark.parametrize("kind", KINDS)
def test_cut_anywhere(tmp_path: Path, kind: str) -> None:
    path = write(kind, tmp_path / "m")
    data = path.read_bytes()
    for size in {*range(0, len(data), 97), *range(100), len(data) - 1}:
        path.write_bytes(data[:size])
        with pytest.raises(InvalidModel) as refused:
            held(path)
        assert refused.value.where.startswith("m")


class Sound(t.NamedTuple):
    kind: str
    data: bytes


@pytest.fixture(scope="module", params=KINDS)
def sound(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Sound:
    path = tmp_path_factory.mktemp("sound") / "m"
    kind = str(request.param)
    write(kind, path, change=spoiling(kind, moved) if kind == "h5" else None)
    return Sound(kind, path.read_bytes())


NUMBERS_THAT_HURT = [0, 1, 255, 2**15, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1]


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[float, bytes]]:
    """Bytes, and the place for each as a part of the file."""
    byte = st.binary(min_size=1, max_size=3)
    number = st.builds(
        lambda value, size: (value % (1 << 8 * size)).to_bytes(size, "little"),
        st.sampled_from(NUMBERS_THAT_HURT) | st.integers(0, 30_000),
        st.sampled_from([1, 2, 4, 8]),
    )
    place = st.floats(0, 1, exclude_max=True)
    return draw(st.lists(st.tuples(place, byte | number), min_size=1, max_size=4))


@settings(max_examples=150, deadline=None)
@given(changes=changes())
def test_changed_anywhere(sound: Sound, changes: list[tuple[float, bytes]]) -> None:
    data = bytearray(sound.data)
    # What describes the values lies at the beginning, most of what fills it up behind.
    room = len(data) if sound.kind == "keras" else 12_000
    for part, value in changes:
        at = int(part * room)
        data[at : at + len(value)] = value
    with TemporaryDirectory() as folder:
        path = Path(folder) / "m"
        path.write_bytes(data)
        with time_limit(5), contextlib.suppress(InvalidModel):
            held(path)


def test_a_weight_with_another_bit(tmp_path: Path) -> None:
    """Of a .keras the checksum tells."""
    path = write_keras(tmp_path / "m.keras")
    data = path.read_bytes()
    assert data.count(KERNEL.tobytes()) == 1
    at = data.index(KERNEL.tobytes())
    path.write_bytes(data[:at] + b"\1" + data[at + 1 :])
    assert "Bad CRC-32" in refusal(path)


# Changed meanwhile


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_replaced_meanwhile(tmp_path: Path, kind: str) -> None:
    path = write(kind, tmp_path / "m")
    other = write(kind, tmp_path / "other", weights={"dense": {**DENSE, "bias": -BIAS}})
    with open_model(str(path)) as graph:
        os.replace(other, path)
        with pytest.raises(InvalidModel, match="was written to while it was read"):
            values_of(graph.layers[1].weights["bias"])


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def cut(path: Path) -> None:
    os.truncate(path, 100)


def rewrite(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(BIAS.tobytes(), KERNEL.tobytes()[: BIAS.nbytes]))
    os.utime(path, (0, 0))


@pytest.mark.parametrize("write_to", [append, cut, rewrite])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_written_to_meanwhile(
    tmp_path: Path, kind: str, write_to: Callable[[Path], None]
) -> None:
    path = write(kind, tmp_path / "m")
    with open_model(str(path)) as graph:
        write_to(path)
        with pytest.raises(InvalidModel, match="was written to while it was read"):
            values_of(graph.layers[1].weights["bias"])


def test_a_fault_of_the_writer_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "m.h5")
    with pytest.raises(OSError, match="disk"):
        with open_model(str(path)):
            raise OSError("disk")


# More than a file holds


def many_layers(path: Path) -> None:
    """Two hundred layers of one and the same megabyte."""
    names = [f"dense_{i}" for i in range(200)]
    layers = [layer("Dense", n, units=512, use_bias=False) for n in names]
    kernel = np.zeros((512, 512), "float32")

    def share(file: t.Any) -> None:
        group = file["model_weights"]
        group["kernel"] = kernel
        for name in names:
            here = group.create_group(name)
            here.attrs["weight_names"] = np.array([b"k"])
            here["k"] = group["kernel"]

    write_h5(path, sequential(*layers, size=512), {}, change=share)


def many_texts(path: Path) -> None:
    """Thousands of names, all of them the same eight megabytes."""
    names = ["x" * (8 << 20), *(str(i) for i in range(3000))]
    kind = h5py.string_dtype()
    attribute("model_weights/dense", "weight_names", np.array(names, kind))(path)
    data = bytearray(path.read_bytes())
    first, second = (struct.pack("<I", size) for size in (8 << 20, 1))
    found = re.search(first + b".{8}" + second + second, data, re.DOTALL)
    assert found is not None
    at = found.start()
    data[at : at + 3001 * 16] = data[at : at + 16] * 3001
    path.write_bytes(data)


def sparse(path: Path) -> None:
    """A text that claims four gigabytes, in a file that has them and takes none."""
    write_h5(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"GCOL")
    struct.pack_into("<Q", data, at + 8, 4 << 30)
    path.write_bytes(data)
    os.truncate(path, 5 << 30)


def thicket(path: Path) -> None:
    """A group whose index leads to its entries on billions of ways."""
    write_h5(path)
    data = bytearray(path.read_bytes())
    root = data.index(b"TREE")
    (below,) = struct.unpack_from("<Q", data, root + 32)
    for level in range(6):
        head = struct.pack("<4sBBHQQ", b"TREE", 0, level, 32, 2**64 - 1, 2**64 - 1)
        node = head + struct.pack("<QQ", 0, below) * 32
        below = len(data)
        data += node
    data[root : root + len(node)] = node.replace(b"TREE\0\5", b"TREE\0\6")
    struct.pack_into("<32Q", data, root + 24, *[0, below] * 16)
    struct.pack_into("<Q", data, 40, len(data))
    path.write_bytes(data)


def wide_json(path: Path) -> None:
    text = b'{"":{"":[]},"a":1.5},' * 140_000
    document = b'{"class_name": "Sequential", "config": {"layers": [' + text + b"{}]}}"
    write_keras(path, compression=zipfile.ZIP_DEFLATED, others={CONFIG: document})


def long_json(path: Path) -> None:
    document = json.dumps(["\N{PILE OF POO}" + "x" * (11 << 20)], ensure_ascii=False)
    write_keras(path, others={CONFIG: document.encode()})


MUCH: dict[str, tuple[Write, str]] = {
    "weights": (many_layers, "its values overlap"),
    "texts": (many_texts, "its parts overlap"),
    "a sparse text": (sparse, "a part of it claims to have 429496"),
    "an index": (thicket, "its parts overlap"),
    "values": (wide_json, "has no class_name"),
    "text": (long_json, "has no class_name"),
    "a bomb": (bomb(WEIGHTS, 60 << 20), "does not begin as HDF5"),
    "a directory": (large_directory, "its directory is too large"),
}

LOOK = """
import json, os, sys, time
from resident import peak
from test_keras_file import refusal
from pathlib import Path

for name in sys.argv[1:]:
    before = time.process_time()
    said = refusal(Path(name))
    took = time.process_time() - before
    print(json.dumps([said, took, peak(os.getpid())]), flush=True)
"""


def looked_at(paths: list[Path]) -> Iterator[tuple[str, float, int]]:
    """What is said of each, the seconds it took, and all memory taken until then."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *map(str, paths)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for line in done.stdout.splitlines():
        said, took, memory = json.loads(line)
        yield said, took, memory


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_more_than_a_file_holds(tmp_path: Path) -> None:
    paths = []
    for i, (make, _) in enumerate(MUCH.values()):
        path = tmp_path / str(i) / "m"
        path.parent.mkdir()
        make(path)
        paths.append(path)
    found = dict(zip(MUCH, looked_at(paths), strict=True))
    for name, (said, took, memory) in found.items():
        print(f"{name}: {took:.2f} s, {memory / 1e6:.0f} MB so far: {said}")
        assert re.search(MUCH[name][1], said), name
        assert took < 5, name
        assert memory < 300e6, name
    shutil.rmtree(tmp_path)
