"""JSON as ``JSON.parse`` reads it, within bounds.

Python's :mod:`json` accepts ``NaN`` and ``Infinity`` and reads ``1e999`` as infinity;
a browser refuses the first two and computes with the last. Both are refused here.
"""

from __future__ import annotations

import json
import math
from typing import Any
from typing import NoReturn

from ..errors import InvalidModel

#: Bytes of one JSON file. The largest model.json of the models on npm has 0.9 MB.
MAX_BYTES = 32 * 1024 * 1024

#: Levels of arrays and objects. Real topologies stay below 40.
MAX_DEPTH = 200

# The largest double has 309 digits before the point.
_MAX_DIGITS = 310

GIT_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"


def loads(data: bytes, where: str) -> Any:
    """Parse *data* as strict JSON.

    :param data: the bytes of the file; a UTF-8 byte order mark is allowed, as
        browsers allow it.
    :param where: the file's relative name, for the message.
    :raises InvalidModel: not UTF-8, not JSON, ``NaN``, ``Infinity``, a number beyond
        the range of a double, deeper than :data:`MAX_DEPTH`, larger than
        :data:`MAX_BYTES`, or a Git LFS pointer.
    """
    if len(data) > MAX_BYTES:
        raise InvalidModel(too_large(len(data)), where)
    if data.startswith(GIT_LFS_POINTER):
        raise InvalidModel(
            "is a Git LFS pointer, not the file itself; run 'git lfs pull'", where
        )
    if not data.strip():
        raise InvalidModel("is empty; copy it again", where)
    if data.lstrip().startswith(b"<"):
        raise InvalidModel(
            "is a page or an error message, not JSON; download it again", where
        )
    try:
        value = json.loads(
            data.decode("utf-8-sig"),
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
            parse_int=_exact_int,
        )
    except UnicodeDecodeError as error:
        raise InvalidModel(
            f"is not UTF-8 (byte {error.start}); save it as UTF-8", where
        ) from None
    except json.JSONDecodeError as error:
        raise InvalidModel(
            f"is not JSON: {error.msg} in line {error.lineno}, column {error.colno}",
            where,
        ) from None
    except _Refused as error:
        raise InvalidModel(str(error), where) from None
    except RecursionError:
        raise InvalidModel(_too_deep(), where) from None
    if _deeper_than(MAX_DEPTH, value):
        raise InvalidModel(_too_deep(), where)
    return value


def dumps(value: Any) -> bytes:
    """The shortest JSON text of *value*, which :func:`loads` has read. ASCII, so that
    lone surrogates, legal in JSON strings, survive."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def too_large(size: int) -> str:
    return f"has {size} bytes; a model's JSON may have {MAX_BYTES}"


def _too_deep() -> str:
    return f"is nested more than {MAX_DEPTH} levels deep"


class _Refused(Exception):
    """Carries a sentence out of the JSON decoder's hooks."""


def _refuse_constant(name: str) -> NoReturn:
    raise _Refused(
        f"contains {name}, which is not JSON: no browser reads it; "
        "find the weight or setting that became not-a-number and save the model again"
    )


def _finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _Refused(_overflow(text))
    return value


def _exact_int(text: str) -> int | float:
    # "-0" is an integer to Python, which has no negative integer zero; JSON.parse
    # keeps the sign, and so must a rewritten copy.
    if text == "-0":
        return -0.0
    # The length first: int() of very long text takes quadratic time.
    if len(text) > _MAX_DIGITS:
        raise _Refused(_overflow(text))
    value = int(text)
    try:
        float(value)
    except OverflowError:
        raise _Refused(_overflow(text)) from None
    return value


def _overflow(number: str) -> str:
    shown = number if len(number) <= 40 else f"{number[:40]}…"
    return f"contains the number {shown}, which a browser reads as Infinity"


def _deeper_than(limit: int, value: Any) -> bool:
    level = [value]
    for _ in range(limit):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [v for v in value.values() if isinstance(v, (dict, list))]
    if isinstance(value, list):
        return [v for v in value if isinstance(v, (dict, list))]
    return []
