"""Smaller weights: what is float32, stored as float16 or as whole numbers of a range,
as TensorFlow.js decodes it (tfjs-core ``src/io/io_utils.ts``, ``decodeWeight``)."""

from __future__ import annotations

import contextlib
import glob
import math
import os
import posixpath
import shlex
from collections import Counter
from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any
from typing import Literal
from typing import NamedTuple
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidModel
from ..errors import TFJSError
from ..format import strict_json
from ..format.layout import Layout
from ..format.manifest import QUANTIZED_ITEM_SIZES
from ..format.manifest import ModelJSON
from ..format.manifest import WeightSpec
from ..format.manifest import shown
from ..format.release import MEMBER
from ..models.delivery import BeingWritten
from ..models.delivery import Delivery
from ..models.delivery import Examination
from ..models.delivery import unreadable
from ..models.digests import Digest
from ..models.directory import ModelDirectory
from ..models.files import FileChanged
from ..models.served import open_body
from .directory import Data
from .directory import NewDirectory

#: How weights are stored; ``none`` leaves them as they are.
Coding = Literal["float16", "uint16", "uint8", "none"]

CODINGS: tuple[Coding, ...] = get_args(Coding)

#: The largest finite value of float16, and the smallest that has all of its 11 bits.
LARGEST_HALF = 65504.0
SMALLEST_HALF = 2.0**-14

# The numbers that a coding in whole numbers has, but for 0.
_LEVELS: Mapping[str, int] = MappingProxyType({"uint8": 255, "uint16": 65535})

# As numpy calls what is in the shards.
_STORED: Mapping[str, str] = MappingProxyType(
    {"float32": "<f4", "float16": "<f2", "uint16": "<u2", "uint8": "|u1"}
)

# Values that are coded at once, so that what is computed on the way stays small.
_BLOCK = 1 << 18

# Names that a sentence has before it only counts.
_MAX_NAMES = 5

# What weights of depthwise convolutions are called in all layers that have them
# (tfjs-layers ``convolutional_depthwise.ts``, ``convolutional.ts``), and the operations
# in graphs (tfjs-converter ``operations/op_list/convolution.ts``).
_DEPTHWISE_SLOT = "depthwise_kernel"
_DEPTHWISE_OPS = frozenset({"DepthwiseConv2dNative", "FusedDepthwiseConv2dNative"})


@dataclass(frozen=True, slots=True)
class LargestError:
    """Where a coding changed a value the most.

    :ivar error: the difference.
    :ivar largest: the largest value of that weight, without its sign.
    """

    weight: str
    error: float
    largest: float


@dataclass(frozen=True, slots=True)
class Quantization:
    """What became of the weights of a model.

    :ivar before: bytes in the shards, by the dtype that they have there; *after*: the
        same in the new ones.
    :ivar errors: by coding, of the weights that got it now; compared with what a
        client made of the old ones.
    :ivar notices: what stayed as it was or was left out, and why.
    :ivar warnings: what may make predictions useless.
    """

    before: Mapping[str, int]
    after: Mapping[str, int]
    errors: Mapping[str, LargestError]
    notices: tuple[str, ...]
    warnings: tuple[str, ...]


def quantize(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    coding: str = "float16",
    by_pattern: Sequence[tuple[str, str]] = (),
    force: bool = False,
    *,
    assets: Sequence[str] = (),
    link_roots: Sequence[str] = (),
) -> Quantization:
    """Write the model in *source* with smaller weights into a new directory.

    Weights that are not float32, and those that would gain nothing, stay byte for byte
    as they are; those of an optimizer are left out.

    :param source: a directory of one model, or a model's ``.json`` file.
    :param by_pattern: pairs of a pattern of names, as :mod:`fnmatch` has them, and the
        coding of the weights whose names it matches; the first that does wins.
    :param force: whether a model at the destination is replaced.
    :param assets: patterns of the files that are copied along, such as labels.
    :param link_roots: absolute real paths of folders that links in *source* may lead
        into.
    :raises InvalidModel: no client could load it, something writes to it, it is weights
        alone, or a weight to be coded holds what is not finite.
    :raises ModelNotFound: there is no model in it, or there are several.
    :raises TFJSError: an unknown coding; the destination cannot be written or replaced.
    """
    for asked in (coding, *(other for _, other in by_pattern)):
        if asked not in CODINGS:
            raise TFJSError(f"there is no coding {asked!r}: {', '.join(CODINGS)}")
    directory = _open(source, assets, link_roots)
    with NewDirectory(destination, force=force, source=directory.path) as new:
        delivery = directory.main()
        found = directory.examine(delivery.entry)
        if found.model.kind == "weights-manifest":
            raise InvalidModel(
                "holds weights without a model, and only those of a layers model or a "
                "graph model are quantized",
                delivery.entry,
            )
        recoder = _Recoder(found.model, coding, by_pattern)
        with contextlib.closing(_read(directory, delivery, found)) as weights:
            new.write_model(_without_release(found), recoder.recode(weights))
        for name in directory.assets_beside(delivery.entry):
            base = posixpath.basename(name)
            if not os.path.lexists(os.path.join(new.path, base)):
                served = directory.file(name)
                new.write_file(base, _blocks(served.path, served.digest))
        # The JSON and its shards were looked at twice.
        if directory.delivery(delivery.entry).digest != delivery.digest:
            raise BeingWritten(delivery.entry)
    return recoder.result()


def _open(
    source: str | os.PathLike[str], assets: Sequence[str], link_roots: Sequence[str]
) -> ModelDirectory:
    label = os.fspath(source)
    path = os.path.abspath(label)
    if os.path.isfile(path) and not path.endswith(".json"):
        raise TFJSError(
            f"{label} is not a directory or .json file of a TensorFlow.js model; "
            "convert it first"
        )
    return ModelDirectory(
        os.path.basename(path), path, assets=assets, link_roots=link_roots, label=label
    )


def _without_release(found: Examination) -> dict[str, Any]:
    return {key: value for key, value in found.document.items() if key != MEMBER}


# Reading


class _Weight(NamedTuple):
    """A weight as it is.

    :ivar where: how messages call its entry.
    :ivar entry: of the manifest, with members that no client looks at.
    """

    where: str
    spec: WeightSpec
    entry: Mapping[str, Any]
    data: bytearray


def _read(
    directory: ModelDirectory, delivery: Delivery, found: Examination
) -> Generator[_Weight, None, None]:
    """The weights in their order, each when it is asked for."""
    shards = [shard.name for shard in found.every_shard]
    if not delivery.files.keys() >= set(shards):
        raise BeingWritten(delivery.entry)
    blocks = (
        block
        for name in shards
        for block in _blocks(directory.root.join(name), delivery.files[name])
    )
    groups = found.document.get("weightsManifest") or []
    entries = [entry for group in groups for entry in group["weights"]]
    places = [
        f"{group.where}.weights[{index}]"
        for group in found.model.groups
        for index in range(len(group.weights))
    ]
    rows = _cut(blocks, found.layout)
    for where, entry, placed in zip(places, entries, found.layout.weights, strict=True):
        yield _Weight(where, placed.spec, entry, next(rows))


def _blocks(path: str, digest: Digest) -> Iterator[bytes]:
    name = os.path.basename(path)
    try:
        with contextlib.closing(open_body(path, digest, 0, digest.length)) as body:
            yield from body
    except FileChanged:
        raise BeingWritten(name) from None
    except OSError as error:
        raise unreadable(error, name) from None


def _cut(blocks: Iterator[bytes], layout: Layout) -> Iterator[bytearray]:
    """The bytes of each weight; what lies between them is dropped."""
    rest, position = memoryview(b""), 0
    for weight in layout.weights:
        data = bytearray()
        while position < weight.end:
            rest = rest or memoryview(next(blocks))
            is_between = position < weight.start
            part = rest[: (weight.start if is_between else weight.end) - position]
            if not is_between:
                data += part
            position += len(part)
            rest = rest[len(part) :]
        yield data


# Coding

# Of the manifest, and its bytes.
_Entry = tuple[Mapping[str, Any], Data]


class _Coded(NamedTuple):
    """A weight in a coding.

    :ivar quantization: the member of its entry in the manifest.
    :ivar error: the largest difference to what it was.
    :ivar largest: its largest value, without the sign.
    """

    quantization: Mapping[str, Any]
    data: NDArray[Any]
    error: float
    largest: float


class _Unsuited(Exception):
    """A coding that a weight cannot have; carries the reason."""


class _Recoder:
    """Codes the weights of a model and keeps account."""

    def __init__(
        self, model: ModelJSON, coding: str, by_pattern: Sequence[tuple[str, str]]
    ) -> None:
        self._coding = coding
        self._by_pattern = by_pattern
        self._depthwise = depthwise_layers(model)
        self._unused = dict.fromkeys(pattern for pattern, _ in by_pattern)
        self._before: Counter[str] = Counter()
        self._after: Counter[str] = Counter()
        self._errors: dict[str, LargestError] = {}
        self._unsuited: dict[str, list[str]] = {}
        self._eight_bits = False
        self._optimizer: list[int] = []

    def recode(self, weights: Iterator[_Weight]) -> Iterator[_Entry]:
        # So that nobody holds a weight while the next one is read.
        return filter(None, map(self._recode, weights))

    def _recode(self, weight: _Weight) -> _Entry | None:
        self._before[weight.spec.wire_dtype] += len(weight.data)
        if weight.entry.get("group") == "optimizer":
            self._optimizer.append(len(weight.data))
            return None
        coded = self._code(weight, self._coding_of(weight.spec.name))
        if coded is None:
            self._after[weight.spec.wire_dtype] += len(weight.data)
            return weight.entry, weight.data
        self._after[coded.quantization["dtype"]] += coded.data.nbytes
        return _with(weight.entry, coded.quantization), coded.data

    def result(self) -> Quantization:
        return Quantization(
            dict(self._before),
            dict(self._after),
            dict(self._errors),
            tuple(self._notices()),
            tuple(self._warnings()),
        )

    def _coding_of(self, name: str) -> str:
        for pattern, coding in self._by_pattern:
            if fnmatchcase(name, pattern):
                self._unused.pop(pattern, None)
                return coding
        return self._coding

    def _code(self, weight: _Weight, coding: str) -> _Coded | None:
        """*weight* in *coding*; ``None`` where it stays as it is."""
        if coding == "none" or weight.spec.dtype != "float32":
            return None
        # A member of the JSON says how to decode it, and takes room itself.
        size = weight.spec.elements * QUANTIZED_ITEM_SIZES[coding]
        if not _gains(weight, _shortest(coding), size):
            return None
        values = decode(
            np.frombuffer(weight.data, _STORED[weight.spec.wire_dtype]),
            weight.entry.get("quantization"),
        )
        try:
            coded = _encode(values, coding, weight)
        except _Unsuited as reason:
            self._unsuited.setdefault(str(reason), []).append(weight.spec.name)
            return None
        if not _gains(weight, coded.quantization, size):
            return None
        self._note(weight.spec.name, coding, coded)
        return coded

    def _note(self, name: str, coding: str, coded: _Coded) -> None:
        known = self._errors.get(coding)
        if known is None or coded.error > known.error:
            self._errors[coding] = LargestError(name, coded.error, coded.largest)
        self._eight_bits |= coding == "uint8"

    def _notices(self) -> Iterator[str]:
        for reason, names in self._unsuited.items():
            yield f"left as it was, since {reason}: {_listed(names)}"
        if self._optimizer:
            yield (
                f"{len(self._optimizer)} weights of the optimizer "
                f"({sum(self._optimizer):,} bytes) are left out: the new model is for "
                "predictions; train the old one"
            )

    def _warnings(self) -> Iterator[str]:
        for pattern in self._unused:
            yield f"the pattern {shown(pattern)} decides about no weight"
        if self._eight_bits:
            yield (
                "uint8 has 256 values for all of a weight, from its smallest to its "
                "largest, so one value far from the others makes all of them coarse; "
                "compare predictions, or take uint16 or float16"
            )
        if self._eight_bits and self._depthwise:
            yield (
                "models with depthwise convolutions often predict nonsense when some "
                "of their weights are uint8, whichever these are; take float16 or "
                f"uint16 for all. It has: {_listed(self._depthwise)}"
            )


def _with(entry: Mapping[str, Any], quantization: Mapping[str, Any]) -> dict[str, Any]:
    return {**entry, "quantization": quantization}


def _gains(weight: _Weight, quantization: Mapping[str, Any], size: int) -> bool:
    gained = len(weight.data) - size
    longer = _with(weight.entry, quantization)
    added = len(strict_json.dumps(longer)) - len(strict_json.dumps(weight.entry))
    return gained > max(added, 0)


def _shortest(coding: str) -> dict[str, Any]:
    scale = {} if coding == "float16" else {"min": 0, "scale": 1}
    return _quantization(coding, **scale)


def _quantization(coding: str, **scale: float) -> dict[str, Any]:
    # As TensorFlow's converter writes it; clients do not look at the original one.
    return {"dtype": coding, "original_dtype": "float32", **scale}


def decode(
    stored: NDArray[Any], quantization: Mapping[str, Any] | None
) -> NDArray[np.float32]:
    """The float32 values that a client makes of what is in the shards."""
    if quantization is None or quantization["dtype"] == "float16":
        return stored.astype("<f4", copy=False)
    values = np.empty(stored.size, "<f4")
    scale, least = float(quantization["scale"]), float(quantization["min"])
    for part in _parts(stored.size):
        with np.errstate(over="ignore"):
            values[part] = stored[part].astype(np.float64) * scale + least
    return values


def _encode(values: NDArray[np.float32], coding: str, weight: _Weight) -> _Coded:
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(low) or not math.isfinite(high):
        name = weight.spec.name
        rule = shlex.quote(f"{glob.escape(name)}=none")
        raise InvalidModel(
            f"weight {name!r} holds NaN or infinity and cannot be quantized; mend it, "
            f"or leave it as it is: --only {rule}",
            weight.where,
        )
    largest = max(-low, high)
    if coding == "float16":
        if largest > LARGEST_HALF:
            raise _Unsuited("float16 ends at 65504")
        if 0 < largest < SMALLEST_HALF:
            raise _Unsuited("float16 has few bits for values below 0.00006")
        quantization = _quantization(coding)
        stored = values.astype("<f2")
    else:
        scale, least = fit_range(low, high, _LEVELS[coding])
        quantization = _quantization(coding, min=least, scale=scale)
        stored = _whole_numbers(values, coding, scale, least)
    error = _largest_difference(values, stored, quantization)
    if not math.isfinite(error):
        raise _Unsuited(f"{coding} would make it infinite")
    return _Coded(quantization, stored, error, largest)


def fit_range(low: float, high: float, levels: int) -> tuple[float, float]:
    """The scale and the least value of whole numbers from 0 to *levels* that stand for
    values from *low* to *high*. If zero is one of these, a number stands for just zero.
    """
    if low == high:
        return 1.0, low
    step = (high - low) / levels
    if low > 0 or high < 0:
        return step, low
    # The number for zero: so that those below it reach down to the lowest value, and
    # those above up to the highest, by the smaller steps.
    fewest, most = int(low < 0), levels - int(high > 0)

    def scale(zero: int) -> float:
        below = -low / zero if zero else 0.0
        return max(below, high / (levels - zero) if zero < levels else 0.0)

    places = (math.floor(-low / step), math.ceil(-low / step))
    zero = min((min(max(place, fewest), most) for place in places), key=scale)
    return scale(zero), 0.0 - zero * scale(zero)


def _whole_numbers(
    values: NDArray[np.float32], coding: str, scale: float, least: float
) -> NDArray[Any]:
    stored = np.empty(values.size, _STORED[coding])
    for part in _parts(values.size):
        numbers = np.rint((values[part].astype(np.float64) - least) / scale)
        stored[part] = numbers.clip(0, _LEVELS[coding])
    return stored


def _largest_difference(
    values: NDArray[np.float32], stored: NDArray[Any], quantization: Mapping[str, Any]
) -> float:
    return max(
        float(np.abs(decode(stored[part], quantization) - wide).max())
        for part in _parts(values.size)
        for wide in [values[part].astype(np.float64)]
    )


def _parts(size: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, size, _BLOCK))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMES
    first = ", ".join(map(repr, names[:_MAX_NAMES]))
    return f"{first} and {more} more" if more > 0 else first


# Depthwise convolutions


def depthwise_layers(model: ModelJSON) -> list[str]:
    """The layers of a layers model, or the nodes of a graph, that convolve each channel
    by itself."""
    if model.kind == "graph-model":
        nodes = _nodes(model.document["modelTopology"])
        return [node["name"] for node in nodes if node.get("op") in _DEPTHWISE_OPS]
    names = (weight.name.rpartition("/") for weight in model.weights)
    return [layer for layer, _, slot in names if slot == _DEPTHWISE_SLOT]


def _nodes(topology: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    # Bodies of loops and branches are functions of a library.
    library = topology.get("library")
    functions = library.get("function") if isinstance(library, dict) else None
    rows = [topology.get("node")]
    rows += [f.get("nodeDef") for f in functions or [] if isinstance(f, dict)]
    for row in rows:
        for node in row if isinstance(row, list) else []:
            if isinstance(node, dict) and isinstance(node.get("name"), str):
                yield node
