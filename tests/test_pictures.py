"""The pictures of the documentation show the pages as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from pictures import DOCS
from pictures import PICTURES
from pictures import digest_of_the_page
from pictures import size_of
from pictures import take
from pictures import text_in


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_of_the_page_as_it_is(name: str) -> None:
    told = text_in((DOCS / name).read_bytes())
    assert told == digest_of_the_page(), "take it anew: python tests/pictures.py"


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_can_be_taken_anew(name: str, tmp_path: Path) -> None:
    take(name, tmp_path / name)
    taken, kept = (tmp_path / name).read_bytes(), (DOCS / name).read_bytes()
    assert size_of(taken) == size_of(kept) == PICTURES[name][1:]
    assert text_in(taken) == text_in(kept)
    assert len(kept) < 200_000


def test_every_picture_is_shown() -> None:
    assert {path.name for path in DOCS.glob("*.png")} == PICTURES.keys()
    pages = "".join(path.read_text("utf-8") for path in DOCS.glob("*.md"))
    for name in PICTURES:
        assert f"]({name})" in pages
