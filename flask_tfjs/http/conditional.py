"""Preconditions and ranges, evaluated in the order of RFC 9110 section 13.2.2.

Pure functions of header values. A representation here has a strong entity tag and no
modification date: a date of one second's grain, set by whoever copied the file, cannot
tell two contents apart. So ``If-Modified-Since`` and ``If-Unmodified-Since`` are
ignored, as RFC 9110 sections 13.1.3 and 13.1.4 ask of such a resource, and a date in
``If-Range`` never matches (13.1.5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from werkzeug.datastructures import ETags

# Digits of ASCII only: int() also takes signs, underscores and other scripts.
_RANGE_SPEC = re.compile(r"([0-9]*)-([0-9]*)", re.ASCII)

# More digits than any length has; int() takes quadratic time over long texts.
_MAX_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Full:
    """200: the whole representation."""


@dataclass(frozen=True, slots=True)
class Partial:
    """206: bytes ``[start, stop)`` of the representation."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Refused:
    """304, 412 or 416, without content."""

    status: Literal[304, 412, 416]


Answer = Full | Partial | Refused

FULL = Full()
NOT_MODIFIED = Refused(304)
PRECONDITION_FAILED = Refused(412)
RANGE_NOT_SATISFIABLE = Refused(416)


def evaluate(
    *,
    method: str,
    etag: str,
    length: int,
    if_match: ETags | None = None,
    if_none_match: ETags | None = None,
    range_: str | None = None,
    if_range: str | None = None,
) -> Answer:
    """What a GET or HEAD of an existing representation is answered with.

    :param etag: the opaque tag of the selected representation, without quotes; strong.
    :param length: bytes of the selected representation.
    :param if_match: compared strongly (RFC 9110 13.1.1); ``None`` where it was not
        sent, since one that cannot be read matches nothing.
    :param if_none_match: compared weakly (13.1.2).
    :param range_: the ``Range`` value; ``None`` where ranges are not supported.
    :param if_range: the ``If-Range`` value.
    """
    if if_match is not None and etag not in if_match:
        return PRECONDITION_FAILED
    if if_none_match and if_none_match.contains_weak(etag):
        return NOT_MODIFIED
    # Only GET has ranges (14.2); If-Range asks for the whole on any doubt (13.1.5).
    if range_ is None or method != "GET":
        return FULL
    if if_range is not None and if_range.strip(" \t") != f'"{etag}"':
        return FULL
    return parse_range(range_, length)


def may_write(
    digest: str | None, *, if_match: ETags | None, if_none_match: ETags | None
) -> bool:
    """Whether the preconditions of a POST or PUT hold (RFC 9110 13.1.1, 13.1.2).

    A client has the tag of some representation: of a form of the URL, in a coding. All
    begin with the digest of the model, which alone is compared.

    :param digest: of the model as it is now; ``None`` where there is none.
    :param if_match: ``None`` where it was not sent, as *if_none_match*.
    """
    if if_match is not None:
        named = _digests(if_match.as_set())
        if digest is None or not (if_match.star_tag or digest in named):
            return False
    if if_none_match is not None and digest is not None:
        named = _digests(if_none_match.as_set(include_weak=True))
        return not (if_none_match.star_tag or digest in named)
    return True


def _digests(tags: Iterable[str]) -> set[str]:
    return {re.split("[.-]", tag, maxsplit=1)[0] for tag in tags if tag}


def parse_range(value: str, length: int) -> Answer:
    """One range of bytes, clamped to *length* (RFC 9110 14.1.2).

    Another unit, several ranges or anything malformed is ignored, which 14.2 allows,
    so the answer is :class:`Full`. So is a range of nothing: some clients add one to
    every request, and no ``Content-Range`` can say "all of nothing".
    """
    unit, _, specs = value.strip(" \t").partition("=")
    spec = _RANGE_SPEC.fullmatch(specs.strip(" \t"))
    if unit.lower() != "bytes" or spec is None or not length:
        return FULL
    first, last = spec[1], spec[2]
    if first:
        start = _number(first)
        if last and _number(last) < start:
            return FULL
        stop = min(_number(last) + 1, length) if last else length
    elif last:
        start, stop = max(length - _number(last), 0), length
    else:
        return FULL
    return Partial(start, stop) if start < stop else RANGE_NOT_SATISFIABLE


def _number(digits: str) -> int:
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= _MAX_DIGITS else 10**_MAX_DIGITS
