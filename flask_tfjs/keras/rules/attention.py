"""Attention, written with Dense, Dot and Softmax layers, so that it can be trained
further, too."""

from __future__ import annotations

import math

from ..graph import Tensor
from ..rewrite import Outcome
from ..rewrite import Port
from ..rewrite import Rewrite
from ..weights import Weight
from ..weights import reshaped
from .activations import affine
from .space import mask_values

# Keras adds this to the scores of what is masked.
_FAR_BELOW = -1e9

# Each head becomes some eight layers.
_MAX_HEADS = 128

# Up to so many scores a causal mask is written into the topology, as 0 and -1e9.
_MAX_WRITTEN_MASK = 64 * 64

# From here on a Softmax given a mask makes zeros of a row that is masked altogether;
# a MultiHeadAttention uses one if it has dropout (keras
# src/layers/activations/softmax.py, src/layers/attention/multi_head_attention.py).
_ZEROES_MASKED_ROWS = (3, 10)


def multi_head_attention(rewrite: Rewrite) -> Outcome:
    """The kernels stay as they are but for their shape: one Dense for all heads, whose
    parts are then cut out."""
    _refuse_options(rewrite)
    query, value, key = _query_value_key(rewrite)
    tensors = len(rewrite.call.inputs)
    _, heads, key_dim = rewrite.weights["query/kernel"].shape
    if not 0 < heads <= _MAX_HEADS:
        raise rewrite.refusal(f"has {heads} heads; up to {_MAX_HEADS} can be written")
    queries = affine(
        rewrite,
        _projected(rewrite, "query", query),
        1 / math.sqrt(key_dim),
        suffix="scaled",
    )
    keys = _projected(rewrite, "key", key)
    values = _projected(rewrite, "value", value)
    masking = _masking(rewrite, query_index=0, value_index=min(1, tensors - 1))
    attended = []
    for head in range(heads):
        one, two, three = (
            _part_of(rewrite, x, name, head)
            for x, name in ((queries, "query"), (keys, "key"), (values, "value"))
        )
        scores = rewrite.add(
            "Dot", [one, two], {"axes": [2, 2]}, suffix=f"scores{head}"
        )
        weights = masking.attend(rewrite, scores, str(head))
        attended.append(
            rewrite.add(
                "Dot", [weights, three], {"axes": [2, 1]}, suffix=f"attended{head}"
            )
        )
    rewrite.note(
        f"written with Dense, Dot and Softmax layers ({heads} "
        f"{'head' if heads == 1 else 'heads'}); its dropout is left out"
    )
    joined = attended[0]
    if heads > 1:
        joined = rewrite.add("Concatenate", attended, {"axis": -1}, suffix="heads")
    return _dense(rewrite, joined, _flat_weights(rewrite, "attention_output", 2), "")


def _projected(rewrite: Rewrite, name: str, x: Port) -> Port:
    """All heads of the queries, keys or values: ``[batch, steps, heads * size]``."""
    return _dense(rewrite, x, _flat_weights(rewrite, name, 1), name)


def _flat_weights(rewrite: Rewrite, name: str, rows: int) -> dict[str, Weight | None]:
    """A kernel and its bias as those of a Dense.

    :param rows: how many axes of the kernel are those of the input.
    """
    kernel, bias = (
        rewrite.weights[f"{name}/kernel"],
        rewrite.weights.get(f"{name}/bias"),
    )
    shape = math.prod(kernel.shape[:rows]), math.prod(kernel.shape[rows:])
    return {
        "kernel": reshaped(kernel, shape),
        "bias": None if bias is None else reshaped(bias, shape[1:]),
    }


def _part_of(rewrite: Rewrite, x: Port, name: str, head: int) -> Port:
    """One head of several: ``[batch, steps, size]``."""
    _, heads, size = rewrite.weights[f"{name}/kernel"].shape
    if heads == 1:
        return x
    tensors = len(rewrite.shapes)
    steps = _steps(rewrite, min(_ORDER.index(name), tensors - 1))
    if head == 0:
        split = {"target_shape": [steps, heads, size]}
        rewrite.add("Reshape", x, split, suffix=f"{name}_heads")
    apart = rewrite.step(f"{name}_heads")
    crop = {
        "cropping": [[0, 0], [head, heads - 1 - head]],
        "data_format": "channels_last",
    }
    one = rewrite.add("Cropping2D", apart, crop, suffix=f"{name}_crop{head}")
    flat = {"target_shape": [steps, size]}
    return rewrite.add("Reshape", one, flat, suffix=f"{name}{head}")


# The order in which attention is called with them.
_ORDER = ("query", "value", "key")


def attention(rewrite: Rewrite) -> Outcome:
    """Dot-product attention; the query, the value, and the key if it is another."""
    config = rewrite.config
    if config.get("score_mode", "dot") != "dot":
        raise rewrite.refusal(
            "score_mode='concat' is not in TensorFlow.js; use score_mode='dot'"
        )
    if rewrite.call.kwargs.get("return_attention_scores"):
        raise rewrite.refusal(_NO_SCORES)
    if any(shape is None or len(shape) != 3 for shape in rewrite.shapes):
        raise rewrite.refusal("takes sequences of vectors only; reshape its input")
    query, value, key = _query_value_key(rewrite)
    scores = rewrite.add("Dot", [query, key], {"axes": [2, 2]}, suffix="scores")
    if config.get("use_scale"):
        scale = rewrite.weights["scale"]
        scores = affine(rewrite, scores, scale, suffix="scaled")
        rewrite.note("its trained scale is written as a constant")
    return _attended(rewrite, scores, value)


def additive_attention(rewrite: Rewrite) -> Outcome:
    """Scores are sums over ``scale * tanh(query + key)`` (keras
    ``src/layers/attention/additive_attention.py``)."""
    if rewrite.call.kwargs.get("return_attention_scores"):
        raise rewrite.refusal(_NO_SCORES)
    if not rewrite.config.get("use_scale", True):
        raise rewrite.refusal("use_scale=False is not supported; use the default")
    if any(shape is None or len(shape) != 3 for shape in rewrite.shapes):
        raise rewrite.refusal("takes sequences of vectors only; reshape its input")
    query, value, key = _query_value_key(rewrite)
    scale = rewrite.weights["scale"]
    (size,) = scale.shape
    rows = {"target_shape": [_steps(rewrite, 0), 1, size]}
    columns = {"target_shape": [1, _steps(rewrite, 1), size]}
    pairs = [
        rewrite.add("Reshape", query, rows, suffix="queries"),
        rewrite.add("Reshape", key, columns, suffix="keys"),
    ]
    added = rewrite.add("Add", pairs, suffix="pairs")
    bent = rewrite.add("Activation", added, {"activation": "tanh"}, suffix="tanh")
    kernel: dict[str, Weight | None] = {"kernel": reshaped(scale, (size, 1))}
    summed = _dense(rewrite, bent, kernel, "summed")
    flat = {"target_shape": [_steps(rewrite, 0), _steps(rewrite, 1)]}
    if flat["target_shape"] == [-1, -1]:
        raise rewrite.refusal("both of its lengths are open; give one of them")
    scores = rewrite.add("Reshape", summed, flat, suffix="scores")
    return _attended(rewrite, scores, value)


def _query_value_key(rewrite: Rewrite) -> tuple[Port, Port, Port]:
    """What attention is called with; the value is the key where no other is given."""
    tensors = len(rewrite.call.inputs)
    value = rewrite.input(min(1, tensors - 1))
    key = rewrite.input(2) if tensors > 2 else value
    return rewrite.input(0), value, key


def _attended(rewrite: Rewrite, scores: Port, value: Port) -> Outcome:
    masking = _masking(rewrite, query_index=0, value_index=1)
    probabilities = masking.attend(rewrite, scores, "")
    if masking.query is None:
        return rewrite.add("Dot", [probabilities, value], {"axes": [2, 1]})
    result = rewrite.add(
        "Dot", [probabilities, value], {"axes": [2, 1]}, suffix="result"
    )
    return rewrite.add("Multiply", [result, masking.query])


_NO_SCORES = (
    "return_attention_scores is not possible in TensorFlow.js; leave the scores out"
)


def _refuse_options(rewrite: Rewrite) -> None:
    config, kwargs = rewrite.config, rewrite.call.kwargs
    if kwargs.get("return_attention_scores"):
        raise rewrite.refusal(_NO_SCORES)
    if config.get("use_gate") or config.get("sliding_window"):
        raise rewrite.refusal(
            "use_gate and sliding_window are not in TensorFlow.js; leave them out"
        )
    if any(shape is None or len(shape) != 3 for shape in rewrite.shapes):
        raise rewrite.refusal(
            "attends over one axis of sequences only; reshape its input to "
            "(steps, features)"
        )
    if config.get("attention_axes") not in (None, [1], (1,), 1):
        raise rewrite.refusal("attends over other axes than 1; use attention_axes=1")


class _Masking:
    """The masks of one attention, which are the same for each of its heads.

    :ivar kept: tensors of 0 and 1, their product tells which scores count:
        ``[batch, queries or 1, keys or 1]``.
    :ivar query: 1 for each query that counts: ``[batch, queries, 1]``.
    :ivar causal: whether a query attends to what is before it only.
    :ivar zeroes: whether a query without any score that counts gets zeros, not the
        mean of all values.
    """

    def __init__(self) -> None:
        self.kept: list[Port] = []
        self.query: Port | None = None
        self.causal = False
        self.zeroes = False
        self._product: Port | None = None
        self._added: Port | None = None

    def attend(self, rewrite: Rewrite, scores: Port, head: str) -> Port:
        """The weights of attention."""
        if self.causal and not self.kept and not _is_short(rewrite):
            scores = rewrite.script_layer(
                "KerasCausalMask", scores, suffix=f"causal{head}", instead=_BE_SHORT
            )
        elif self.causal or self.kept:
            added = self._added or self._make(rewrite, scores)
            scores = rewrite.add("Add", [scores, added], suffix=f"masked{head}")
        done = rewrite.add("Softmax", scores, {"axis": -1}, suffix=f"softmax{head}")
        if self.zeroes and self._product is not None:
            both = [done, self._product]
            done = rewrite.add("Multiply", both, suffix=f"kept{head}")
        return done

    def _make(self, rewrite: Rewrite, scores: Port) -> Port:
        """What is added to scores: 0 where they count. Several masks become one first,
        since a score that is masked twice must not lie below one masked once."""
        kept = list(self.kept)
        if self.causal:
            kept.append(_causal(rewrite, scores))
        self._product = kept[0]
        if len(kept) > 1:
            self._product = rewrite.add("Multiply", kept, suffix="masks")
        self._added = affine(
            rewrite, self._product, -_FAR_BELOW, _FAR_BELOW, suffix="mask_added"
        )
        return self._added


_BE_SHORT = "give the sequence a known length of at most 64"


def _lengths(rewrite: Rewrite) -> tuple[int | None, int | None]:
    """The numbers of queries and of keys."""
    queries, keys = rewrite.shapes[0], rewrite.shapes[1 % len(rewrite.shapes)]
    assert queries is not None and keys is not None
    return queries[1], keys[1]


def _is_short(rewrite: Rewrite) -> bool:
    rows, columns = _lengths(rewrite)
    if rows is None or columns is None:
        return False
    return rows * columns <= _MAX_WRITTEN_MASK


def _causal(rewrite: Rewrite, scores: Port) -> Port:
    """1 for each key that is not after the query."""
    if not _is_short(rewrite):
        zeros = affine(rewrite, scores, 0.0, suffix="zeros")
        later = rewrite.script_layer(
            "KerasCausalMask", zeros, suffix="later", instead=_BE_SHORT
        )
        return rewrite.operation(
            "greater", later, suffix="causal_mask", constants=[None, -1.0]
        )
    rows, columns = _lengths(rewrite)
    assert rows is not None and columns is not None
    mask = [[float(c <= row) for c in range(columns)] for row in range(rows)]
    return affine(rewrite, scores, 0.0, mask, suffix="causal_mask")


def _masking(rewrite: Rewrite, *, query_index: int, value_index: int) -> _Masking:
    kwargs, masking = rewrite.call.kwargs, _Masking()
    masking.causal = bool(kwargs.get("use_causal_mask"))
    given = kwargs.get("attention_mask")
    if isinstance(given, Tensor):
        if len(rewrite.layer.calls) > 1:
            raise rewrite.refusal("is shared, and called with a mask; use two layers")
        outer = Port(None, outer=given)
        masking.kept.append(affine(rewrite, outer, suffix="attention_mask"))
    elif given is not None:
        raise rewrite.refusal("its attention_mask is not a tensor; leave it out")
    is_multi_head = rewrite.layer.class_name == "MultiHeadAttention"
    masks = list(rewrite.masks) + [None] * 2
    query_mask, value_mask = masks[query_index], masks[value_index]
    if value_mask is not None:
        values = mask_values(rewrite, value_mask)
        row = {"target_shape": [1, _steps(rewrite, value_index)]}
        masking.kept.append(rewrite.add("Reshape", values, row, suffix="value_mask"))
    if query_mask is not None:
        values = mask_values(rewrite, query_mask)
        column = {"target_shape": [_steps(rewrite, query_index), 1]}
        masking.query = rewrite.add("Reshape", values, column, suffix="query_mask")
        if is_multi_head:
            masking.kept.append(masking.query)
    masking.zeroes = (
        is_multi_head
        and bool(rewrite.config.get("dropout"))
        and rewrite.version >= _ZEROES_MASKED_ROWS
    )
    return masking


def _steps(rewrite: Rewrite, index: int) -> int:
    shape = rewrite.shapes[index]
    if shape is None or shape[1] is None:
        return -1
    return shape[1]


def _dense(
    rewrite: Rewrite, x: Port, weights: dict[str, Weight | None], suffix: str
) -> Port:
    own = {slot: weight for slot, weight in weights.items() if weight is not None}
    config = {
        "units": own["kernel"].shape[-1],
        "use_bias": "bias" in own,
        "activation": "linear",
    }
    return rewrite.add("Dense", x, config, own, suffix=suffix)
