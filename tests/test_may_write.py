"""Compare and swap: which preconditions of a POST or PUT hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import parse_etags

from flask_tfjs.http.conditional import may_write

NOW = "0123456789abcdef0123456789abcdef"
OLD = "fedcba9876543210fedcba9876543210"

#: The tags of all answers about one model: forms of its URL, codings.
FORMS = ["", ".bare", ".root"]
CODINGS = ["", "-br", "-gzip", "-zstd"]
ENDS = [form + coding for form in FORMS for coding in CODINGS]


def allowed(
    digest: str | None, if_match: str | None = None, if_none_match: str | None = None
) -> bool:
    return may_write(
        digest,
        if_match=None if if_match is None else parse_etags(if_match),
        if_none_match=None if if_none_match is None else parse_etags(if_none_match),
    )


@pytest.mark.parametrize("digest", [None, NOW])
def test_without_preconditions(digest: str | None) -> None:
    assert allowed(digest)


@pytest.mark.parametrize("end", ENDS)
def test_the_tag_of_any_answer(end: str) -> None:
    assert allowed(NOW, if_match=f'"{NOW}{end}"')
    assert not allowed(OLD, if_match=f'"{NOW}{end}"')
    assert not allowed(None, if_match=f'"{NOW}{end}"')
    assert not allowed(NOW, if_match=f'W/"{NOW}{end}"')
    assert not allowed(NOW, if_none_match=f'"{NOW}{end}"')
    assert not allowed(NOW, if_none_match=f'W/"{NOW}{end}"')
    assert allowed(OLD, if_none_match=f'"{NOW}{end}"')
    assert allowed(None, if_none_match=f'"{NOW}{end}"')


@pytest.mark.parametrize(
    ("if_match", "there", "not_there"),
    [
        ("*", True, False),
        (f'"{OLD}", "{NOW}"', True, False),
        (f'"{NOW}-br","{OLD}"', True, False),
        (f'W/"{NOW}", "{OLD}"', False, False),
        (f'W/"{OLD}", "{NOW}"', True, False),
        (NOW, True, False),  # some clients forget the quotes
        ("", False, False),
        ('""', False, False),
        ('"*"', False, False),
        (", ,", False, False),
        (f'"{NOW}', False, False),
        (f'"{NOW[:-1]}"', False, False),
        (f'"{NOW}0"', False, False),
        (f'"x{NOW}"', False, False),
        (f'"{NOW.upper()}"', False, False),
        (f'"-{NOW}"', False, False),
        (f'"{OLD}.{NOW}"', False, False),
    ],
)
def test_if_match(if_match: str, there: bool, not_there: bool) -> None:
    assert allowed(NOW, if_match=if_match) is there
    assert allowed(None, if_match=if_match) is not_there


@pytest.mark.parametrize(
    ("if_none_match", "there"),
    [
        ("*", False),
        (f'"{OLD}"', True),
        (f'"{OLD}", "{NOW}"', False),
        (f'W/"{NOW}.bare-gzip"', False),
        ("", True),
        ('""', True),
        ('"*"', True),
    ],
)
def test_if_none_match(if_none_match: str, there: bool) -> None:
    assert allowed(NOW, if_none_match=if_none_match) is there
    assert allowed(None, if_none_match=if_none_match)


def test_both() -> None:
    assert allowed(NOW, f'"{NOW}"', f'"{OLD}"')
    assert not allowed(NOW, f'"{NOW}"', "*")
    assert not allowed(NOW, f'"{OLD}"', f'"{OLD}"')
    assert not allowed(None, "*", "*")


#: No field value has a line end, and Werkzeug 3.1.0 never ends on one.
FIELD_VALUES = st.text(st.characters(blacklist_categories=["Cc", "Cs"]), max_size=60)


@given(FIELD_VALUES, st.sampled_from([None, NOW]))
def test_junk_matches_nothing(junk: str, digest: str | None) -> None:
    star = parse_etags(junk).star_tag
    assert allowed(digest, if_match=junk) is (star and digest is not None)
    assert allowed(digest, if_none_match=junk) is not (star and digest is not None)
