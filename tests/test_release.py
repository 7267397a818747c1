"""What the JSON of a published model says of itself, as written and as spoiled."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import DENSE_WEIGHTS
from models import FLATTEN_TOPOLOGY
from models import dense_document

from flask_tfjs import InvalidModel
from flask_tfjs.format.manifest import ModelJSON
from flask_tfjs.format.manifest import read_document
from flask_tfjs.format.release import MEMBER
from flask_tfjs.format.release import Release
from flask_tfjs.format.release import release_of
from flask_tfjs.format.release import with_release

WHERE = "m/model.json"
DIGEST = "0123456789abcdef" * 4
SHARD = f"model.weights.{DIGEST[:32]}.bin"

RELEASE = Release(7, "2026-11-22T03:40:12Z", {SHARD: DIGEST}, {"labels.txt": DIGEST})

DOCUMENTS: dict[str, Any] = {
    "object": dense_document(SHARD),
    "list": [
        {"paths": [], "weights": []},
        {"paths": [SHARD], "weights": DENSE_WEIGHTS},
    ],
    "weightless": {"modelTopology": FLATTEN_TOPOLOGY},
}


def model_of(document: Any) -> ModelJSON:
    model = read_document(json.loads(json.dumps(document)))
    assert model is not None
    return model


def spoil(**members: Any) -> ModelJSON:
    """The model with other members in its member."""
    document = with_release(dense_document(SHARD), RELEASE)
    document[MEMBER].update(members)
    return model_of(document)


@pytest.mark.parametrize("kind", ["object", "list"])
def test_there_and_back(kind: str) -> None:
    document = DOCUMENTS[kind]
    before = copy.deepcopy(document)
    model = model_of(with_release(document, RELEASE))
    assert document == before
    assert release_of(model, WHERE) == RELEASE


def test_nothing_else_changes() -> None:
    document = with_release(DOCUMENTS["object"], RELEASE)
    assert document.pop(MEMBER) == {
        "version": 7,
        "published": "2026-11-22T03:40:12Z",
        "sha256": {SHARD: DIGEST},
        "assets": {"labels.txt": DIGEST},
    }
    assert document == DOCUMENTS["object"]
    first, *others = with_release(DOCUMENTS["list"], RELEASE)
    first.pop(MEMBER)
    assert [first, *others] == DOCUMENTS["list"]


def test_without_weights() -> None:
    release = Release(1, "2026-11-22T03:40:12Z", {}, {})
    model = model_of(with_release(DOCUMENTS["weightless"], release))
    assert release_of(model, WHERE) == release


def test_an_older_member_is_replaced() -> None:
    once = with_release(DOCUMENTS["object"], RELEASE)
    newer = Release(8, "2026-11-23T00:00:00Z", RELEASE.sha256, {})
    assert release_of(model_of(with_release(once, newer)), WHERE) == newer


def test_a_clients_own_member_is_replaced() -> None:
    spoiled = {**DOCUMENTS["object"], MEMBER: "mine"}
    assert release_of(model_of(with_release(spoiled, RELEASE)), WHERE) == RELEASE


@pytest.mark.parametrize("member", [None, 7, "x", [], [RELEASE.version]])
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_not_a_published_model(kind: str, member: Any) -> None:
    document = copy.deepcopy(DOCUMENTS[kind])
    if member is not None:
        holder = document[0] if isinstance(document, list) else document
        holder[MEMBER] = member
    with pytest.raises(InvalidModel, match="is not a published model") as error:
        release_of(model_of(document), WHERE)
    assert error.value.where == WHERE


@pytest.mark.parametrize(
    "members",
    [
        {"version": None},
        {"version": "7"},
        {"version": 7.5},
        {"version": 0},
        {"version": -1},
        {"version": True},
        {"published": None},
        {"published": 20261122},
        {"sha256": None},
        {"sha256": []},
        {"sha256": [SHARD]},
        {"sha256": {}},
        {"sha256": {"other.bin": DIGEST}},
        {"sha256": {SHARD: DIGEST, "other.bin": DIGEST}},
        {"sha256": {SHARD: DIGEST[:-1]}},
        {"sha256": {SHARD: DIGEST.upper()}},
        {"sha256": {SHARD: DIGEST + "\n"}},
        {"sha256": {SHARD: 7}},
        {"sha256": {SHARD: None}},
        {"assets": None},
        {"assets": []},
        {"assets": {"labels.txt": None}},
        {"assets": {"labels.txt": ""}},
        {"assets": {"../labels.txt": DIGEST}},
        {"assets": {"/etc/passwd": DIGEST}},
    ],
)
def test_changed_by_hand(members: dict[str, Any]) -> None:
    with pytest.raises(InvalidModel, match="changed by hand; publish") as error:
        release_of(spoil(**members), WHERE)
    assert error.value.where == WHERE


@pytest.mark.parametrize("name", ["version", "published", "sha256", "assets"])
def test_a_part_is_missing(name: str) -> None:
    document = with_release(DOCUMENTS["object"], RELEASE)
    del document[MEMBER][name]
    with pytest.raises(InvalidModel, match="changed by hand"):
        release_of(model_of(document), WHERE)


@pytest.mark.parametrize("paths", [[], ["other.bin"], [SHARD, "other.bin"]])
def test_other_paths(paths: list[str]) -> None:
    document = with_release(dense_document(*paths), RELEASE)
    with pytest.raises(InvalidModel, match="changed by hand"):
        release_of(model_of(document), WHERE)


JUNK = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=20),
        st.sampled_from([DIGEST, SHARD, 7, RELEASE.published]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(
                st.text(max_size=5),
                st.sampled_from(["version", "published", "sha256", "assets", SHARD]),
            ),
            inner,
            max_size=4,
        ),
    ),
)


@given(st.sampled_from(sorted(DOCUMENTS)), JUNK)
def test_junk_is_refused_or_right(kind: str, junk: Any) -> None:
    document = copy.deepcopy(DOCUMENTS[kind])
    holder = document[0] if isinstance(document, list) else document
    holder[MEMBER] = junk
    require_refused_or_right(model_of(document), junk)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "version": st.one_of(st.integers(), JUNK),
            "published": st.one_of(st.text(), JUNK),
            "sha256": st.one_of(st.just({SHARD: DIGEST}), JUNK),
            "assets": st.one_of(st.just({"a": DIGEST}), JUNK),
        },
    )
)
def test_half_junk_is_refused_or_right(members: dict[str, Any]) -> None:
    model = spoil(**members)
    require_refused_or_right(model, model.document[MEMBER])


def require_refused_or_right(model: ModelJSON, junk: Any) -> None:
    try:
        release = release_of(model, WHERE)
    except InvalidModel:
        return
    assert type(release.version) is int and release.version >= 1
    assert isinstance(release.published, str)
    assert set(release.sha256) == {p for group in model.groups for p in group.paths}
    for digests in (release.sha256, release.assets):
        assert all("/" not in name for name in digests)
        assert all(len(value) == 64 for value in digests.values())
    assert release.version == junk["version"]
