"""JSON is read as a browser reads it, or refused with the reason."""

from __future__ import annotations

import base64
import json
import random
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from javascript import Function
from javascript import javascript

from flask_tfjs import InvalidModel
from flask_tfjs.format import strict_json
from flask_tfjs.format.strict_json import MAX_DEPTH
from flask_tfjs.format.strict_json import dumps
from flask_tfjs.format.strict_json import loads

LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 12345\n"
)


def canonical(value: Any) -> Any:
    """A value in which -0 differs from 0, true from 1, and a number is what a browser
    keeps of it: a double."""
    if isinstance(value, str):
        return "s" + value.encode("utf-16-be", "surrogatepass").hex()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return "n" + struct.pack(">d", value).hex()
    if isinstance(value, list):
        return [canonical(one) for one in value]
    members = [[canonical(key), canonical(one)] for key, one in value.items()]
    return {"members": sorted(members, key=lambda member: str(member[0]))}


CANONICAL_JS = """
() => {
  const hex = (bytes) => Buffer.from(bytes).toString('hex');
  const canonical = (value) => {
    if (typeof value === 'string') {
      return 's' + hex(Buffer.from(value, 'utf16le').swap16());
    }
    if (typeof value === 'number') {
      const view = new DataView(new ArrayBuffer(8));
      view.setFloat64(0, value);
      return 'n' + hex(view.buffer);
    }
    if (value === null || typeof value === 'boolean') {
      return value;
    }
    if (Array.isArray(value)) {
      return value.map(canonical);
    }
    const members = Object.keys(value).map((key) => [key, value[key]].map(canonical));
    return {members: members.sort(([a], [b]) => (a < b ? -1 : 1))};
  };
  return (base64) => {
    try {
      // What the Fetch standard says of json(); Node's own takes two marks off.
      const text = new TextDecoder().decode(Buffer.from(base64, 'base64'));
      return {value: canonical(JSON.parse(text))};
    } catch (error) {
      return {error: error.name};
    }
  };
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Function]:
    """How ``response.json()`` reads a body."""
    with javascript(CANONICAL_JS) as function:
        yield lambda data: function(base64.b64encode(data).decode())


def nested(depth: int, inner: str = "") -> bytes:
    return ("[" * depth + inner + "]" * depth).encode()


ACCEPTED: dict[str, tuple[bytes, Any]] = {
    "byte order mark": (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
    "white space": (b' \t\r\n{"a" : 1}\n', {"a": 1}),
    "the last of equal keys": (b'{"a": 1, "b": 0, "a": 2}', {"a": 2, "b": 0}),
    "escaped key": (b'{"\\u0061": 1}', {"a": 1}),
    "lone surrogate": (b'["\\ud800"]', ["\ud800"]),
    "surrogate pair": (b'["\\ud83d\\ude00"]', ["\N{GRINNING FACE}"]),
    "any character": ('["é\u2028\x7f\N{GRINNING FACE}"]'.encode(), ["é\u2028\x7f😀"]),
    "words in strings": (b'["NaN", "1e999"]', ["NaN", "1e999"]),
    "minus zero": (b"-0", -0.0),
    "minus zero with a point": (b"-0.0", -0.0),
    "underflow": (b"1e-999", 0.0),
    "largest double": (b"1.7976931348623157e308", 1.7976931348623157e308),
    "the largest double in digits": (
        str(2**1024 - 2**971).encode(),
        1.7976931348623157e308,
    ),
    "rounded down to it": (
        str(2**1024 - 2**970 - 1).encode(),
        1.7976931348623157e308,
    ),
    "large integer": (b"12345678901234567890", 12345678901234567890),
    "scalar": (b"null", None),
    "deep": (nested(MAX_DEPTH), json.loads(nested(MAX_DEPTH))),
    "deep, a scalar inside": (nested(MAX_DEPTH, "1"), json.loads(nested(200, "1"))),
}

REFUSED: dict[str, tuple[bytes, str]] = {
    "NaN": (b'{"min": NaN}', "contains NaN, which is not JSON"),
    "Infinity": (b"[Infinity]", "contains Infinity"),
    "-Infinity": (b"[1, -Infinity]", "contains -Infinity"),
    "overflow": (b"[1e999]", "contains the number 1e999, which a browser reads as"),
    "negative overflow": (b"[-1e999]", "number -1e999"),
    "overflow in digits": (b"1" + b"0" * 309, "a browser reads as Infinity"),
    "rounded up to infinity": (str(2**1024 - 2**970).encode(), "reads as Infinity"),
    "very many digits": (b"-" + b"9" * 100_000, "number -" + "9" * 39 + "…, which"),
    "not UTF-8": (b'{"a": "\xe9"}', "is not UTF-8 (byte 7); save it as UTF-8"),
    "cut in a character": ('"é"'.encode()[:2], "is not UTF-8 (byte 1)"),
    "an encoded surrogate": (b'"\xed\xa0\x80"', "is not UTF-8 (byte 1)"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "is not UTF-8 (byte 0)"),
    "UTF-16 without its mark": (
        '{"a": 1}'.encode("utf-16-le"),
        "is not JSON: Expecting property name enclosed in double quotes in line 1",
    ),
    "two byte order marks": (b"\xef\xbb\xbf" * 2 + b"{}", "is not JSON"),
    "too deep": (nested(MAX_DEPTH + 1), f"nested more than {MAX_DEPTH} levels"),
    "objects too deep": (b'{"a":' * 201 + b"1" + b"}" * 201, "nested more than"),
    "too deep for any parser": (nested(500_000), "nested more than 200 levels"),
    "opened and never closed": (b"[" * 100_000, "nested more than 200 levels"),
    "Git LFS pointer": (LFS_POINTER, "is a Git LFS pointer, not the file itself"),
    "page": (b"<!doctype html><title>404</title>", "is a page or an error message"),
    "empty": (b"", "is empty; copy it again"),
    "only white space": (b" \n ", "is empty; copy it again"),
    "only a byte order mark": (b"\xef\xbb\xbf", "is not JSON"),
    "cut short": (b'{"a": [1, 2', "is not JSON"),
    "trailing comma": (b'{\n"a": 1,\n}', "line "),
    "trailing text": (b"{} {}", "is not JSON: Extra data in line 1, column 4"),
    "comment": (b"{} // no", "is not JSON"),
    "single quotes": (b"{'a': 1}", "is not JSON"),
    "control character in a string": (b'"a\nb"', "is not JSON"),
    "leading zero": (b"[01]", "is not JSON"),
    "leading plus": (b"[+1]", "is not JSON"),
    "bare point": (b"[1.]", "is not JSON"),
    "other digits": ("[\u0661]".encode(), "is not JSON"),
    "NUL": (b"{}\0", "is not JSON"),
    "no-break space": ("\u00a0{}".encode(), "is not JSON"),
}


@pytest.mark.parametrize("data, value", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(data: bytes, value: Any, browser: Function) -> None:
    assert canonical(loads(data, "m.json")) == canonical(value)
    assert browser(data) == {"value": canonical(value)}


@pytest.mark.parametrize("data, sentence", REFUSED.values(), ids=REFUSED)
def test_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(InvalidModel) as caught:
        loads(data, "m.json")
    assert caught.value.where == "m.json"
    assert sentence in caught.value.message
    assert len(caught.value.message) < 250
    assert str(caught.value) == f"m.json: {caught.value.message}"


def test_the_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_json, "MAX_BYTES", 4)
    assert loads(b"1234", "m.json") == 1234
    with pytest.raises(InvalidModel, match="has 5 bytes; a model's JSON may have 4"):
        loads(b"12345", "m.json")


@pytest.mark.parametrize(
    "data",
    [
        b"[" + b"9" * 5_000_000 + b"]",
        b"[0." + b"9" * 5_000_000 + b"]",
        b"[1e" + b"9" * 5_000_000 + b"]",
        b"[" * 5_000_000,
        b'{"a":' * 1_000_000,
        b"[" + b"[]," * 500_000 + b"[]]",
        b'["' + b"\\u0061" * 1_000_000 + b'"]',
    ],
    ids=lambda data: repr(data[:8]),
)
def test_no_text_takes_long(data: bytes) -> None:
    started = time.process_time()
    try:
        loads(data, "m.json")
    except InvalidModel:
        pass
    assert time.process_time() - started < 5


def test_written_short_and_in_ascii() -> None:
    assert dumps({"é": [1.0, "\ud800", -0.0]}) == b'{"\\u00e9":[1.0,"\\ud800",-0.0]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps(float("nan"))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(
    st.binary()
    | st.text(alphabet='[]{},:"\\u-+.eE0123456789 \ttruefalsnNIy\ufeff').map(str.encode)
    | JSON_VALUES.map(json.dumps).map(str.encode)
)
@example(b'["\\ud800\\u0000"]')
@example(b"[-0, -0.0, 1e22, 1E400]")
@example(b'{"__proto__": 1, "__proto__": 2}')
def test_any_bytes_are_a_value_or_invalid(data: bytes) -> None:
    try:
        value = loads(data, "m.json")
    except InvalidModel as fault:
        assert fault.where == "m.json" and fault.message
        return
    assert canonical(loads(dumps(value), "m.json")) == canonical(value)


# What we refuse although a browser reads it.
STRICTER = ("reads as Infinity", "is not UTF-8", "nested more than")

TOKENS = [
    *(b'[]{},:"\\-+.eE01239 \n\t'[i : i + 1] for i in range(21)),
    *(b"true", b"false", b"null", b"NaN", b"Infinity", b"-0", b"1e999", b"1e-400"),
    *(b'""', b'"a":', b'{"a":1,"a":2}', b"\\ud800", b"\\u00e9", b"\\x", b"\\n", b"'"),
    *("é".encode(), b"\xff", b"\xef\xbb\xbf", b"\0", b"9" * 30, b"0" * 320, b"\x7f"),
    *(b"[" * 199, b"]" * 199, b".5", b"5.", b"//", b"\xc2\xa0", b"\xe2\x80\xa8"),
]


def corpus(count: int) -> Iterator[bytes]:
    """Texts one to four slips away from JSON."""
    chance = random.Random(5)
    seeds = [
        b'{"modelTopology":{"node":[{"name":"x","attr":{}}]},"weightsManifest":[]}',
        b'[{"paths":["a.bin"],"weights":[{"name":"w","shape":[2,3],"dtype":"bool"}]}]',
        b'{"s": 0.0039215688593685627, "min": -1.5e-7, "n": [-0, 1234567890123456789]}',
        b'"\\ud83d\\ude00\\u0000 \xc3\xa9"',
        b"[true, false, null, 1E+2]",
    ]
    for _ in range(count):
        text = chance.choice(seeds)
        for _ in range(chance.randint(1, 4)):
            start = chance.randint(0, len(text))
            end = start + chance.choice([0, 0, 1, 1, 2, 5])
            text = text[:start] + chance.choice([b"", *TOKENS]) + text[end:]
        yield text


def test_a_browser_reads_the_same(browser: Function) -> None:
    accepted = refused = 0
    for text in [*corpus(3000), *(data for data, _ in REFUSED.values())]:
        answer = browser(text)
        try:
            value = loads(text, "m.json")
        except InvalidModel as fault:
            refused += 1
            if not any(reason in fault.message for reason in STRICTER):
                assert answer == {"error": "SyntaxError"}, text
            continue
        accepted += 1
        assert answer == {"value": canonical(value)}, text
    assert accepted > 300 and refused > 300
