"""Whether float32 values are values of float16, told where there is no NumPy."""

from __future__ import annotations

import struct
from collections.abc import Iterator

# Most weights have a value that is none among the first few; those that have none are
# looked at in large blocks.
_FIRST_BLOCK = 64
_BLOCK = 64 * 1024

# Times that it takes longer to pick a value out than to look at one more in a row.
_DEARER = 8

_LARGEST = 65504.0

# A value has eight bits of its mantissa in the first of its bytes, which are little
# endian, and five more that float16 lacks in the second.
_THREE_HIGH_BITS = bytes(range(0, 256, 32))

# The last has the sign and seven bits of the exponent. They tell that float16 has the
# exponent, 2**-13 <= |x| < 2**15; or that a value is zero, if it is one of float16; or
# that it takes a closer look.
_ZERO = bytes(255 * (byte & 0x7F == 0) for byte in range(256))
_UNUSUAL = bytes(byte & 0x7F not in (0, *range(0x39, 0x47)) for byte in range(256))


def are_halves(data: bytes | bytearray | memoryview) -> bool:
    """Whether every float32 of *data* is a finite value of float16, which then holds
    the same in half the bytes.

    Exact. It ends at the first value that is none; of weights as a training leaves
    them that is the first, found within microseconds.

    :param data: any whole number of values, little endian; true for none at all.
    """
    view = memoryview(data)
    start, size = 0, _FIRST_BLOCK
    while start < view.nbytes:
        if not _are_halves(bytes(view[start : start + size])):
            return False
        start, size = start + size, _BLOCK
    return True


def _are_halves(block: bytes) -> bool:
    first, second, third, last = (block[i::4] for i in range(4))
    if first.strip(b"\0") or second.translate(None, _THREE_HIGH_BITS):
        return False
    if _number(last.translate(_ZERO)) & (_number(second) | _number(third)):
        return False
    unusual = last.translate(_UNUSUAL)
    if unusual.count(1) * _DEARER > len(unusual):
        return _survive(block)
    return _survive(b"".join(block[4 * i : 4 * i + 4] for i in _ones(unusual)))


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _ones(data: bytes) -> Iterator[int]:
    index = data.find(1)
    while index >= 0:
        yield index
        index = data.find(1, index + 1)


def _survive(block: bytes) -> bool:
    """Whether values are finite, and the same after a way through float16."""
    count = len(block) // 4
    values = struct.unpack(f"<{count}f", block)
    if not all(-_LARGEST <= value <= _LARGEST for value in values):
        return False
    halves = struct.unpack(f"<{count}e", struct.pack(f"<{count}e", *values))
    return struct.pack(f"<{count}f", *halves) == block
