"""Which tensors carry a mask, in Keras and in TensorFlow.js.

Keras hands a mask on by itself, from the layer that makes it to those that use it.
TensorFlow.js does so for fewer layers: it throws where one knows nothing of masks
(tfjs-layers ``src/engine/topology.ts``, ``computeMask``), and makes another mask where
tensors are merged (``src/layers/merge.ts``).
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from types import MappingProxyType

from .graph import Call
from .graph import Graph
from .graph import Layer
from .graph import Tensor

_RECURRENT = frozenset({"GRU", "KerasGRU", "LSTM", "RNN", "SimpleRNN"})

# Layers that hand a mask on unchanged.
_KERAS = frozenset(
    """
    Activation ActivityRegularization AlphaDropout Attention BatchNormalization Dense
    Dropout ELU GaussianDropout GaussianNoise GroupNormalization Identity
    LayerNormalization LeakyReLU MultiHeadAttention Normalization PReLU ReLU Rescaling
    Softmax SpatialDropout1D SpatialDropout2D SpatialDropout3D TimeDistributed
    UnitNormalization
    """.split()
)
_KERAS_2 = _KERAS - {"Rescaling"} | {"ThresholdedReLU"}
_MERGING = frozenset(
    "Add Average Concatenate Maximum Minimum Multiply Subtract".split()
)
_TFJS = frozenset(
    """
    Activation AlphaDropout BatchNormalization Dense Dropout GaussianDropout
    GaussianNoise KerasGroupNormalization KerasUnitNormalization KerasZeroMasked
    LayerNormalization PReLU ReLU SpatialDropout1D TimeDistributed
    """.split()
)

# Layers of TensorFlow.js where a mask ends without an error.
_ENDING = frozenset({"Dot", "Embedding"})


#: Arguments in which Keras names the mask that comes with an input, and the index of
#: that input.
ARGUMENTS: Mapping[str, int] = MappingProxyType(
    {"mask": 0, "query_mask": 0, "value_mask": 1, "key_mask": 2}
)


@dataclass(frozen=True, slots=True)
class Mask:
    """What a mask tells: which steps of a sequence count.

    :ivar maker: the Embedding or Masking layer that made it.
    :ivar source: what that layer was called with.
    :ivar value: of a Masking: steps that hold nothing else do not count.
    :ivar others: masks that were merged with it: a step counts if it does in one.
    :ivar unknown: it was made from several in another way.
    """

    maker: str
    source: Tensor
    value: float | None = None
    others: tuple[Mask, ...] = ()
    unknown: bool = False


Masks = Mapping[Tensor, Mask]


def keras_masks(graph: Graph) -> Masks:
    """The mask of each tensor that carries one, as Keras hands them on."""
    if graph.version[0] == 2:
        masks = dict(_flow(graph, _KERAS_2, _MERGING))
        # There a step counts if it does in all of several masks.
        return {
            tensor: replace(mask, unknown=mask.unknown or bool(mask.others))
            for tensor, mask in masks.items()
        }
    return dict(_flow(graph, _KERAS, _MERGING))


def tfjs_masks(graph: Graph) -> Masks:
    """The mask of each tensor that carries one in TensorFlow.js."""
    return dict(_flow(graph, _TFJS, frozenset()))


def hands_on_in_tfjs(layer: Layer) -> bool:
    """Whether TensorFlow.js takes a mask there without an error and without making
    another one of it."""
    if layer.class_name.startswith("Keras"):
        return True
    known = _TFJS | _ENDING | {"Masking"}
    return layer.class_name in known or _inner_class(layer) in _RECURRENT


def _inner_class(layer: Layer) -> str:
    if layer.class_name in ("Bidirectional", "TimeDistributed"):
        inner = layer.config.get("layer")
        if isinstance(inner, dict):
            return str(inner.get("class_name")).rpartition(">")[2]
    return layer.class_name


def makes(layer: Layer) -> bool:
    """Whether the layer makes a mask."""
    if layer.class_name == "Embedding":
        return bool(layer.config.get("mask_zero"))
    return layer.class_name == "Masking"


def _flow(
    graph: Graph, handing_on: frozenset[str], merging: frozenset[str]
) -> Iterator[tuple[Tensor, Mask]]:
    masks: dict[Tensor, Mask] = {}
    for layer, index, call in graph.in_order():
        tensor = Tensor(layer.name, index)
        mask = _mask_after(layer, call, masks, handing_on, merging)
        if mask is not None:
            masks[tensor] = mask
            yield tensor, mask


def _mask_after(
    layer: Layer,
    call: Call,
    masks: Masks,
    handing_on: frozenset[str],
    merging: frozenset[str],
) -> Mask | None:
    inputs = call.inputs
    if makes(layer):
        return _made(layer, inputs[0]) if inputs else None
    given = [masks[tensor] for tensor in inputs if tensor in masks]
    if not given or layer.is_operation:
        return None
    if layer.class_name in merging:
        return _merged(layer, given, len(inputs))
    if _inner_class(layer) in _RECURRENT and layer.class_name != "TimeDistributed":
        config = layer.config
        if layer.class_name == "Bidirectional":
            config = config["layer"]["config"]
        return masks.get(inputs[0]) if config.get("return_sequences") else None
    passes = layer.class_name in handing_on or layer.config.get("masking") is True
    return masks.get(inputs[0]) if passes else None


def _merged(layer: Layer, given: list[Mask], inputs: int) -> Mask | None:
    """The mask of what several tensors become: a step counts if it does in one of them,
    and all do if a tensor has no mask (keras ``src/layers/merging/base_merge.py``)."""
    along_steps = layer.class_name == "Concatenate" and layer.config.get("axis") == 1
    if along_steps:
        return replace(given[0], unknown=True)
    if len(given) < inputs:
        return None
    different = tuple(dict.fromkeys(given))
    return replace(different[0], others=(*different[0].others, *different[1:]))


def stands_for(graph: Graph, tensor: Tensor, mask: Mask) -> bool:
    """Whether *tensor* is *mask*, computed by the operations that Keras 3 writes for
    it: ``not_equal(source, value)``, for a Masking ``any`` of that."""
    layers = graph.by_name()
    layer = layers.get(tensor.layer)
    if layer is not None and layer.class_name == "any" and layer.calls[0].inputs:
        layer = layers.get(layer.calls[0].inputs[0].layer)
    if layer is None or layer.class_name != "not_equal":
        return False
    return layer.calls[0].args == [mask.source, mask.value or 0]


def _made(layer: Layer, source: Tensor) -> Mask:
    if layer.class_name == "Embedding":
        return Mask(layer.name, source)
    return Mask(layer.name, source, float(layer.config.get("mask_value") or 0.0))
