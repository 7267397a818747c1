"""``model.json`` and its weights manifest, read and checked against what the clients
accept (tfjs-core ``src/io/types.ts``, ``io_utils.ts``; tfjs-converter
``python/tensorflowjs/write_weights.py``)."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from typing import Literal

from ..errors import InvalidModel
from . import strict_json

Kind = Literal["layers-model", "graph-model", "weights-manifest"]

#: Bytes of one element on the wire, by the dtype of a weight that is not quantized.
#: ``string`` is missing: its length stands in the data.
ITEM_SIZES: Mapping[str, int] = MappingProxyType(
    {"float32": 4, "int32": 4, "bool": 1, "complex64": 8}
)

#: Bytes of one element on the wire, by ``quantization.dtype``.
QUANTIZED_ITEM_SIZES: Mapping[str, int] = MappingProxyType(
    {"uint8": 1, "uint16": 2, "float16": 2}
)

# Beyond this JavaScript no longer counts exactly.
_MAX_ELEMENTS = 2**53


@dataclass(frozen=True, slots=True)
class WeightSpec:
    """One entry of a group's ``weights``: the name, shape and dtype of a tensor.

    :ivar elements: the product of ``shape``; 1 for a scalar.
    :ivar wire_dtype: the dtype of the bytes in the shards: ``quantization.dtype``
        where there is one, else ``dtype``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    elements: int
    wire_dtype: str

    @property
    def byte_length(self) -> int | None:
        """Bytes in the shards; ``None`` for strings, which tell it themselves."""
        if self.dtype == "string":
            return None
        size = QUANTIZED_ITEM_SIZES.get(self.wire_dtype)
        return self.elements * (size or ITEM_SIZES[self.wire_dtype])


@dataclass(frozen=True, slots=True)
class WeightsManifestGroup:
    """One group of the weights manifest: the shards named by ``paths``, joined in
    their order, hold ``weights`` one after another without padding.

    :ivar where: how messages call this group, such as ``weightsManifest[0]``.
    """

    where: str
    paths: tuple[str, ...]
    weights: tuple[WeightSpec, ...]


@dataclass(frozen=True, slots=True)
class ModelJSON:
    """A JSON file that is a TensorFlow.js model.

    :ivar kind: which loader reads it: ``loadLayersModel``, ``loadGraphModel``, or
        ``tf.io.loadWeights`` for weights without a topology.
    :ivar document: the JSON value, an object, or the bare list of groups that
        face-api.js and other pre-1.0 formats use.
    """

    kind: Kind
    groups: tuple[WeightsManifestGroup, ...]
    document: Any

    @property
    def weights(self) -> Iterator[WeightSpec]:
        return (weight for group in self.groups for weight in group.weights)

    @property
    def entries(self) -> Iterator[Mapping[str, Any]]:
        """The objects of the JSON that :attr:`weights` were read from, in their
        order."""
        document = self.document
        manifest = document if self.is_list else document.get("weightsManifest") or []
        return (entry for group in manifest for entry in group["weights"])

    @property
    def byte_length(self) -> int | None:
        """Bytes of all weights; ``None`` where there are strings, which tell it
        themselves."""
        sizes = [weight.byte_length for weight in self.weights]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None

    @property
    def is_list(self) -> bool:
        """Whether it is a bare list, which ``tf.io.loadWeights`` alone reads: it joins
        the shards of one group, where the loaders of models join all."""
        return isinstance(self.document, list)

    @property
    def joined(self) -> list[range]:
        """The groups, by index, whose shards a client joins into one row of bytes."""
        every = range(len(self.groups))
        return [range(i, i + 1) for i in every] if self.is_list else [every]


def shown(value: Any) -> str:
    """A value of a JSON as messages show it: anything of any length may stand there."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def with_paths(document: Any, paths: Sequence[Sequence[str]]) -> Any:
    """A model's *document* with other ``paths``, a sequence for each group."""
    if isinstance(document, list):
        return _replace_paths(document, paths)
    manifest = document.get("weightsManifest")
    if not manifest:
        return document
    return {**document, "weightsManifest": _replace_paths(manifest, paths)}


def parse(data: bytes, where: str) -> ModelJSON | None:
    """Read the bytes of a JSON file.

    :param where: the file's relative name, for messages.
    :returns: ``None`` for JSON that is something else than a model.
    :raises InvalidModel: it is, or by its text seems to be, a model that no client
        can load.
    """
    return read_document(strict_json.loads(data, where))


def read_document(document: Any) -> ModelJSON | None:
    """The same for the value of a JSON file, as :mod:`.strict_json` reads it."""
    if _is_manifest_list(document):
        groups = _groups(document, "")
        _refuse_strings(groups)
        return ModelJSON("weights-manifest", groups, document)
    if not isinstance(document, dict) or not _names_a_model(document):
        return None
    kind = _kind(document.get("modelTopology"))
    manifest = document.get("weightsManifest")
    if manifest is None:
        if "weightSpecs" in document:
            raise InvalidModel(
                "is a storage dump, which no URL can load; load it where it was "
                "stored and save it with model.save()",
                "weightSpecs",
            )
        return ModelJSON(kind, (), document)
    return ModelJSON(kind, _groups(manifest, "weightsManifest"), document)


def seems_a_model(data: bytes) -> bool:
    """Whether a JSON file that cannot be read was meant to be a model: a truncated or
    re-encoded one still holds the names that only models have."""
    text = data.replace(b"\0", b"")  # UTF-16 and UTF-32
    return (
        b'"weightsManifest"' in text
        or b'"modelTopology"' in text
        or (b'"paths"' in text and b'"weights"' in text)
        or text.startswith(strict_json.GIT_LFS_POINTER)
    )


def _names_a_model(document: dict[str, Any]) -> bool:
    return (
        document.get("modelTopology") is not None
        or document.get("weightsManifest") is not None
    )


def _is_manifest_list(document: Any) -> bool:
    return (
        isinstance(document, list)
        and bool(document)
        and all(
            isinstance(group, dict) and "paths" in group and "weights" in group
            for group in document
        )
    )


def _kind(topology: Any) -> Kind:
    if topology is None:
        return "weights-manifest"
    if isinstance(topology, dict):
        if "node" in topology:
            return "graph-model"
        if "class_name" in topology or "model_config" in topology:
            return "layers-model"
    raise InvalidModel(
        "is neither a graph ('node') nor a Keras model ('class_name', "
        "'model_config'); convert or save the model again",
        "modelTopology",
    )


def _groups(manifest: Any, where: str) -> tuple[WeightsManifestGroup, ...]:
    if not isinstance(manifest, list):
        raise InvalidModel("is not a list of groups", where)
    groups = tuple(_group(g, f"{where}[{i}]") for i, g in enumerate(manifest))
    seen: set[str] = set()
    for group in groups:
        for index, weight in enumerate(group.weights):
            if weight.name in seen:
                raise InvalidModel(
                    f"the name {shown(weight.name)} occurs twice; "
                    "of two weights of one name a browser keeps the later",
                    f"{group.where}.weights[{index}].name",
                )
            seen.add(weight.name)
    return groups


def _refuse_strings(groups: tuple[WeightsManifestGroup, ...]) -> None:
    for group in groups:
        for index, weight in enumerate(group.weights):
            if weight.dtype == "string":
                raise InvalidModel(
                    "tf.io.loadWeights, which alone reads a bare list, reads strings "
                    "as empty; put the list into an object as its 'weightsManifest'",
                    f"{group.where}.weights[{index}].dtype",
                )


def _group(group: Any, where: str) -> WeightsManifestGroup:
    if not isinstance(group, dict):
        raise InvalidModel("is not an object with 'paths' and 'weights'", where)
    paths = _list(group, "paths", where)
    for index, path in enumerate(paths):
        if not isinstance(path, str):
            raise InvalidModel("is not a string", f"{where}.paths[{index}]")
    weights = tuple(
        _weight(weight, f"{where}.weights[{index}]")
        for index, weight in enumerate(_list(group, "weights", where))
    )
    return WeightsManifestGroup(where, tuple(paths), weights)


def _list(group: dict[str, Any], key: str, where: str) -> list[Any]:
    value = group.get(key)
    if not isinstance(value, list):
        fault = "is missing" if key not in group else "is not a list"
        raise InvalidModel(fault, f"{where}.{key}")
    return value


def _weight(spec: Any, where: str) -> WeightSpec:
    if not isinstance(spec, dict):
        raise InvalidModel("is not an object", where)
    name, dtype = spec.get("name"), spec.get("dtype")
    if not isinstance(name, str):
        raise InvalidModel("is not a string", f"{where}.name")
    if not isinstance(dtype, str) or (dtype not in ITEM_SIZES and dtype != "string"):
        raise InvalidModel(
            f"{shown(dtype)} of weight {shown(name)} is not a dtype that TensorFlow.js "
            f"loads: {', '.join(ITEM_SIZES)}, string",
            f"{where}.dtype",
        )
    shape = _shape(spec.get("shape"), f"{where}.shape")
    wire_dtype = dtype
    # The key's presence decides in the client, not its value (io_utils.ts,
    # decodeWeight): null is as wrong as an unknown dtype.
    if "quantization" in spec:
        wire_dtype = _quantized_dtype(
            spec["quantization"], dtype, f"{where}.quantization"
        )
    elements = _elements(shape, f"{where}.shape")
    return WeightSpec(name, shape, dtype, elements, wire_dtype)


def _shape(shape: Any, where: str) -> tuple[int, ...]:
    if not isinstance(shape, list):
        raise InvalidModel("is not a list", where)
    for index, size in enumerate(shape):
        whole = isinstance(size, (int, float)) and not isinstance(size, bool)
        if not whole or size < 0 or size != int(size):
            raise InvalidModel(
                f"{shown(size)} is not a size: a whole number, 0 or more",
                f"{where}[{index}]",
            )
    return tuple(int(size) for size in shape)


def _elements(shape: tuple[int, ...], where: str) -> int:
    # In their order: to the client 1e200 * 1e200 * 0 is not a number.
    elements = 1
    for size in shape:
        elements *= size
        if elements > _MAX_ELEMENTS:
            raise InvalidModel("has more than 2**53 elements", where)
    return elements


def _quantized_dtype(quantization: Any, dtype: str, where: str) -> str:
    if not isinstance(quantization, dict):
        raise InvalidModel("is not an object; leave the key out instead", where)
    wire_dtype = quantization.get("dtype")
    if not isinstance(wire_dtype, str) or wire_dtype not in QUANTIZED_ITEM_SIZES:
        raise InvalidModel(
            f"{shown(wire_dtype)} is none of {', '.join(QUANTIZED_ITEM_SIZES)}",
            f"{where}.dtype",
        )
    allowed = ("float32",) if wire_dtype == "float16" else ("float32", "int32")
    if dtype not in allowed:
        raise InvalidModel(
            f"{wire_dtype} cannot stand for {dtype}, only for {' or '.join(allowed)}",
            f"{where}.dtype",
        )
    if wire_dtype != "float16":
        for key in ("scale", "min"):
            value = quantization.get(key)
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise InvalidModel("is not a number", f"{where}.{key}")
    return wire_dtype


def _replace_paths(
    manifest: list[dict[str, Any]], paths: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    return [
        {**group, "paths": list(new)}
        for group, new in zip(manifest, paths, strict=True)
    ]
