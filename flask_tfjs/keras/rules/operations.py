"""Operations on tensors: functions of ``keras.ops`` (Keras 3) and of TensorFlow
(Keras 2), Python's operators among them. What stock layers can say they say; the rest
is a layer of the script."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..functions import function_name
from ..graph import Tensor
from ..rewrite import Outcome
from ..rewrite import Port
from ..rewrite import Rewrite
from .activations import activate
from .activations import affine
from .activations import elu_layer
from .activations import relu_layer


def operation(rewrite: Rewrite) -> Outcome:
    """:raises InvalidModel: no layer does what the function does."""
    name = function_name(rewrite.layer.class_name)
    rule = _RULES.get(name)
    if rule is not None:
        return rule(rewrite)
    if name in _ONE_TENSOR:
        return rewrite.operation(_ONE_TENSOR[name], rewrite.input())
    if name in _BROADCASTING:
        return _by_script(rewrite, _BROADCASTING[name])
    if name in _REDUCTIONS:
        return _reduction(rewrite, _REDUCTIONS[name])
    raise rewrite.refusal(
        f"the operation {rewrite.layer.class_name!r} has no layer in TensorFlow.js; "
        "use layers of Keras in its place, or write a JavaScript layer and convert "
        "with --custom"
    )


def _argument(rewrite: Rewrite, name: str, default: Any = None) -> Any:
    """An argument of the function, as it was called or made."""
    return rewrite.call.kwargs.get(name, rewrite.layer.config.get(name, default))


def _is_left_out(rewrite: Rewrite) -> Port:
    return rewrite.input()


# Arithmetic -------------------------------------------------------------------------


def _operands(rewrite: Rewrite) -> list[Any]:
    """The two operands: ports for tensors, numbers or lists for constants."""
    ports = iter(rewrite.inputs)
    operands = [next(ports) if isinstance(a, Tensor) else a for a in rewrite.call.args]
    if len(operands) != 2:
        raise rewrite.refusal(
            f"{rewrite.layer.class_name} has {len(operands)} operands, not 2"
        )
    return operands


def _is_constant(value: Any) -> bool:
    return not isinstance(value, Port)


def _mapped(value: Any, change: Callable[[float], float]) -> Any:
    """A constant, a number or nested lists of them, changed number by number."""
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    return change(float(value))


def _add(rewrite: Rewrite) -> Outcome:
    left, right = _operands(rewrite)
    for tensor, constant in ((left, right), (right, left)):
        if _is_constant(constant):
            return _constant(rewrite, tensor, 1.0, constant)
    return _merged(rewrite, "Add", "add")


def _subtract(rewrite: Rewrite) -> Outcome:
    left, right = _operands(rewrite)
    if _is_constant(right):
        return _constant(rewrite, left, 1.0, _mapped(right, lambda value: -value))
    if _is_constant(left):
        return _constant(rewrite, right, -1.0, left)
    if not _same_rank(rewrite):
        return _by_script(rewrite, "subtract")
    negative = affine(rewrite, right, -1.0, suffix="negative")
    return rewrite.add("Add", [left, negative])


def _multiply(rewrite: Rewrite) -> Outcome:
    left, right = _operands(rewrite)
    for tensor, constant in ((left, right), (right, left)):
        if _is_constant(constant):
            return _constant(rewrite, tensor, constant, 0.0)
    return _merged(rewrite, "Multiply", "multiply")


def _divide(rewrite: Rewrite) -> Outcome:
    left, right = _operands(rewrite)
    if not _is_constant(right):
        return _by_script(rewrite, "divide")
    if _holds_zero(right):
        raise rewrite.refusal("divides by zero")
    return _constant(rewrite, left, _mapped(right, lambda value: 1 / value), 0.0)


def _holds_zero(value: Any) -> bool:
    if isinstance(value, list):
        return any(_holds_zero(item) for item in value)
    return float(value) == 0


def _negative(rewrite: Rewrite) -> Outcome:
    return affine(rewrite, rewrite.input(), -1.0, suffix="")


def _constant(rewrite: Rewrite, x: Port, scale: Any, offset: Any) -> Outcome:
    """``x * scale + offset``; the constants may have lists of one number around them,
    but no more axes than *x*."""
    if max(_depth(scale), _depth(offset)) >= len(rewrite.shape):
        name = function_name(rewrite.layer.class_name)
        return _by_script(rewrite, "divide" if name == "true_divide" else name)
    return affine(rewrite, x, scale, offset, suffix="")


def _depth(value: Any) -> int:
    return 1 + _depth(value[0]) if isinstance(value, list) and value else 0


def _same_rank(rewrite: Rewrite) -> bool:
    ranks = {None if shape is None else len(shape) for shape in rewrite.shapes}
    return len(ranks) == 1 and None not in ranks


def _merged(rewrite: Rewrite, class_name: str, operation: str) -> Outcome:
    # TensorFlow.js broadcasts tensors of different ranks in another way than Keras.
    if not _same_rank(rewrite):
        return _by_script(rewrite, operation)
    return rewrite.add(class_name, rewrite.inputs)


def _extreme(class_name: str, operation: str) -> Callable[[Rewrite], Outcome]:
    def rule(rewrite: Rewrite) -> Outcome:
        if any(map(_is_constant, _operands(rewrite))):
            return _by_script(rewrite, operation)
        return _merged(rewrite, class_name, operation)

    return rule


def _by_script(rewrite: Rewrite, operation: str) -> Outcome:
    """A function of tensors and constants, in their order."""
    args = rewrite.call.args
    constants = [None if isinstance(a, Tensor) else a for a in args]
    given = constants if any(c is not None for c in constants) else None
    return rewrite.operation(operation, rewrite.inputs, constants=given)


def _square(rewrite: Rewrite) -> Outcome:
    return rewrite.add("Multiply", [rewrite.input(), rewrite.input()])


# Reductions and products ------------------------------------------------------------


def _reduction(rewrite: Rewrite, operation: str) -> Outcome:
    axis = _argument(rewrite, "axis")
    keepdims = bool(_argument(rewrite, "keepdims", False))
    axes = _axes(rewrite, axis)
    if operation == "mean" and not keepdims:
        rank = len(rewrite.shape)
        if axes == [1] and rank == 3:
            return rewrite.add("GlobalAveragePooling1D", rewrite.input())
        if axes == [1, 2] and rank == 4:
            return rewrite.add("GlobalAveragePooling2D", rewrite.input())
    return rewrite.operation(operation, rewrite.input(), axis=axes, keepdims=keepdims)


def _axes(rewrite: Rewrite, axis: Any) -> list[int]:
    """*axis* as axes counted from the front.

    :raises InvalidModel: the batch is among them: a browser has other batches.
    """
    rank = len(rewrite.shape)
    given = axis if isinstance(axis, (list, tuple)) else [axis]
    axes = [int(a) % rank for a in given if a is not None]
    if not axes or 0 in axes:
        raise rewrite.refusal(
            f"{rewrite.layer.class_name} works along the batch, which is another "
            "one in a browser; name the other axes"
        )
    return axes


def _axis_option(operation: str) -> Callable[[Rewrite], Outcome]:
    """A function with one axis as its option, not the batch."""

    def rule(rewrite: Rewrite) -> Outcome:
        (axis,) = _axes(rewrite, _argument(rewrite, "axis", -1))
        return rewrite.operation(operation, rewrite.inputs, axis=axis)

    return rule


def _index_of_extreme(operation: str) -> Callable[[Rewrite], Outcome]:
    def rule(rewrite: Rewrite) -> Outcome:
        (axis,) = _axes(rewrite, _argument(rewrite, "axis"))
        keepdims = bool(_argument(rewrite, "keepdims", False))
        return rewrite.operation(
            operation, rewrite.input(), axis=axis, keepdims=keepdims
        )

    return rule


def _matmul(rewrite: Rewrite) -> Outcome:
    ranks = [len(shape) if shape else 0 for shape in rewrite.shapes]
    transposed = any(_argument(rewrite, f"transpose_{side}", False) for side in "ab")
    if ranks == [3, 3] and len(rewrite.call.args) == 2 and not transposed:
        return rewrite.add("Dot", rewrite.inputs, {"axes": [2, 1]})
    if transposed:
        raise rewrite.refusal(
            "transposes in a product; use keras.layers.Permute or Dot"
        )
    return _by_script(rewrite, "matmul")


def _einsum(rewrite: Rewrite) -> Outcome:
    subscripts = str(_argument(rewrite, "subscripts", ""))
    if len(rewrite.call.inputs) > 2 or _constants(rewrite) or not subscripts:
        raise rewrite.refusal(
            "an einsum of more than two tensors, or of constants; take two tensors at "
            "a time"
        )
    subscripts = subscripts.replace(" ", "")
    if "->" not in subscripts:
        raise rewrite.refusal("an einsum without '->'; write what comes out")
    return rewrite.operation("einsum", rewrite.inputs, subscripts=subscripts)


# Functions with options ---------------------------------------------------------------


def _softmax(operation: str, class_name: str) -> Callable[[Rewrite], Outcome]:
    def rule(rewrite: Rewrite) -> Outcome:
        (axis,) = _axes(rewrite, _argument(rewrite, "axis", -1))
        if axis == len(rewrite.shape) - 1:
            config = {"activation": class_name}
            return rewrite.add("Activation", rewrite.input(), config)
        return rewrite.operation(operation, rewrite.input(), axis=axis)

    return rule


def _gelu(rewrite: Rewrite) -> Outcome:
    if _argument(rewrite, "approximate", True):
        return rewrite.operation("gelu", rewrite.input())
    return rewrite.add("Activation", rewrite.input(), {"activation": "gelu"})


def _leaky_relu(rewrite: Rewrite) -> Outcome:
    slope = _argument(rewrite, "negative_slope", _argument(rewrite, "alpha", 0.2))
    return rewrite.add("LeakyReLU", rewrite.input(), {"alpha": float(slope)})


def _by_name(activation: str) -> Callable[[Rewrite], Outcome]:
    """A function that is an activation of the same name."""

    def rule(rewrite: Rewrite) -> Outcome:
        return activate(rewrite, rewrite.input(), activation, suffix="")

    return rule


def _relu(rewrite: Rewrite) -> Outcome:
    names = ("negative_slope", "max_value", "threshold")
    options = {name: _argument(rewrite, name) for name in names}
    return relu_layer(rewrite, rewrite.input(), options, "")


def _elu(rewrite: Rewrite) -> Outcome:
    options = {"alpha": _argument(rewrite, "alpha", 1.0)}
    return elu_layer(rewrite, rewrite.input(), options, "")


def _with_options(operation: str, *names: str) -> Callable[[Rewrite], Outcome]:
    """A function of one tensor; the options that it was given go with it."""

    def rule(rewrite: Rewrite) -> Outcome:
        given = {name: _argument(rewrite, name) for name in names}
        rest = dict(zip(names, _constants(rewrite), strict=False))
        options = {k: v for k, v in {**given, **rest}.items() if v is not None}
        return rewrite.operation(operation, rewrite.input(), **options)

    return rule


def _constants(rewrite: Rewrite) -> list[Any]:
    return [a for a in rewrite.call.args if not isinstance(a, Tensor)]


# Functions that move values -----------------------------------------------------------


def _concatenate(rewrite: Rewrite) -> Outcome:
    constants = _constants(rewrite)  # Keras 2 gives the axis behind the tensors
    axis = constants[0] if constants else _argument(rewrite, "axis", -1)
    (axis,) = _axes(rewrite, axis)
    return rewrite.add("Concatenate", rewrite.inputs, {"axis": axis})


def _transpose(rewrite: Rewrite) -> Outcome:
    rank = len(rewrite.shape)
    axes = _argument(rewrite, "axes", _argument(rewrite, "perm"))
    axes = [int(a) % rank for a in axes] if axes else list(range(rank))[::-1]
    if axes[0] != 0:
        raise rewrite.refusal("moves the batch; keep it the first axis")
    return rewrite.add("Permute", rewrite.input(), {"dims": axes[1:]})


def _reshape(rewrite: Rewrite) -> Outcome:
    shape = _argument(rewrite, "newshape", _argument(rewrite, "shape"))
    if not isinstance(shape, (list, tuple)) or not all(
        size is None or isinstance(size, int) for size in shape
    ):
        raise rewrite.refusal("its new shape is not known; use a Reshape layer")
    if len(shape) < 2 or shape[0] not in (-1, None):
        raise rewrite.refusal("reshapes the batch; use a Reshape layer")
    rest = [-1 if size is None else size for size in shape[1:]]
    if rest.count(-1) > 1 or (shape[0] == -1 and -1 in rest):
        raise rewrite.refusal("leaves several sizes open; use a Reshape layer")
    _refuse_another_batch(rewrite, rest)
    return rewrite.add("Reshape", rewrite.input(), {"target_shape": rest})


def _refuse_another_batch(rewrite: Rewrite, rest: list[int]) -> None:
    """A -1 in front may hide that samples are cut or joined."""
    before, after = 1, 1
    for size in rewrite.shape[1:]:
        if size is None:
            if -1 in rest:
                return
            raise rewrite.refusal("may reshape the batch; use a Reshape layer")
        before *= size
    for size in rest:
        after *= size
    if after > 0 and before != after:
        raise rewrite.refusal("reshapes the batch; use a Reshape layer")


def _known_output(rewrite: Rewrite, moved: Callable[[], Outcome]) -> Outcome:
    """A Reshape, where the sizes of what comes out are known."""
    after = rewrite.output_shapes[0] if rewrite.output_shapes else None
    if after is None or sum(size is None for size in after[1:]) > 1 or len(after) < 2:
        return moved()
    target = [-1 if size is None else size for size in after[1:]]
    return rewrite.add("Reshape", rewrite.input(), {"target_shape": target})


def _expand_dims(rewrite: Rewrite) -> Outcome:
    rank = len(rewrite.shape)
    given = _argument(rewrite, "axis")
    axes = given if isinstance(given, (list, tuple)) else [given]
    axes = [int(a) % (rank + len(axes)) for a in axes]
    if 0 in axes:
        raise rewrite.refusal("puts an axis before the batch; put it after")
    return _known_output(
        rewrite, lambda: rewrite.operation("expand_dims", rewrite.input(), axis=axes)
    )


def _squeeze(rewrite: Rewrite) -> Outcome:
    given = _argument(rewrite, "axis")
    if given is None:
        given = [i for i, size in enumerate(rewrite.shape) if i and size == 1]
    axes = _axes(rewrite, given)
    return _known_output(
        rewrite, lambda: rewrite.operation("squeeze", rewrite.input(), axis=axes)
    )


def _get_item(rewrite: Rewrite) -> Outcome:
    key = _constants(rewrite)[0] if _constants(rewrite) else _argument(rewrite, "key")
    key = _argument(rewrite, "slice_spec") if key is None else key
    entries = list(key) if isinstance(key, (list, tuple)) else [key]
    if not entries or not _whole_batch(entries[0]):
        raise rewrite.refusal("takes a part of the batch; begin the index with ':'")
    return rewrite.operation(
        "get_item", rewrite.input(), key=[_entry(rewrite, entry) for entry in entries]
    )


def _whole_batch(entry: Any) -> bool:
    return entry is ... or entry == slice(None, None, None)


def _entry(rewrite: Rewrite, entry: Any) -> Any:
    if entry is ...:
        return "ellipsis"
    if isinstance(entry, slice):
        return {"start": entry.start, "stop": entry.stop, "step": entry.step}
    if entry is None or isinstance(entry, int):
        return entry
    raise rewrite.refusal("is indexed with a tensor; use keras.ops.take or Embedding")


def _stack(rewrite: Rewrite) -> Outcome:
    rank = len(rewrite.shape) + 1
    axis = int(_argument(rewrite, "axis", 0)) % rank
    if axis == 0:
        raise rewrite.refusal("stacks along the batch; use another axis")
    return rewrite.operation("stack", rewrite.inputs, axis=axis)


_MAX_PARTS = 1000


def _split(rewrite: Rewrite) -> Outcome:
    (axis,) = _axes(rewrite, _argument(rewrite, "axis", 0))
    size = rewrite.shape[axis]
    given = _argument(rewrite, "indices_or_sections")
    if given is None:
        given = _constants(rewrite)[0] if _constants(rewrite) else None
    if size is None or given is None:
        raise rewrite.refusal("splits an axis whose size is not known")
    parts = given if isinstance(given, int) else len(given) + 1
    if not 0 < parts <= _MAX_PARTS:
        raise rewrite.refusal(f"splits into {parts} parts; up to {_MAX_PARTS} can be")
    if isinstance(given, int):
        bounds = [size // given * part for part in range(given + 1)]
    else:
        bounds = [0, *(int(bound) for bound in given), size]
    everything: list[Any] = [{"start": None, "stop": None, "step": None}] * axis
    return [
        rewrite.operation(
            "get_item",
            rewrite.input(),
            key=[*everything, {"start": start, "stop": stop, "step": None}],
            suffix=f"part{number}" if number else "",
        )
        for number, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False))
    ]


def _pad(rewrite: Rewrite) -> Outcome:
    widths = _argument(rewrite, "pad_width") or _constants(rewrite)[0]
    widths = [[w, w] if isinstance(w, int) else list(w) for w in widths]
    if widths[0] != [0, 0]:
        raise rewrite.refusal("pads the batch; pad the other axes")
    value = _argument(rewrite, "constant_values") or 0
    mode = _argument(rewrite, "mode", "constant")
    return rewrite.operation(
        "pad", rewrite.input(), pad_width=widths, mode=mode, constant_values=value
    )


def _cast(rewrite: Rewrite) -> Outcome:
    dtype = str(_argument(rewrite, "dtype"))
    if dtype.startswith("float") or dtype == "bfloat16":
        return affine(rewrite, rewrite.input(), suffix="")
    kind = "bool" if dtype == "bool" else "int32"
    return rewrite.operation("cast", rewrite.input(), dtype=kind)


def _swap_axes(rewrite: Rewrite) -> Outcome:
    axes = _axes(rewrite, [_argument(rewrite, "axis1"), _argument(rewrite, "axis2")])
    dims = list(range(1, len(rewrite.shape)))
    first, second = axes
    dims[first - 1], dims[second - 1] = dims[second - 1], dims[first - 1]
    return rewrite.add("Permute", rewrite.input(), {"dims": dims})


_Rule = Callable[[Rewrite], Outcome]

_RULES: Mapping[str, _Rule] = MappingProxyType(
    {
        **{
            name: _by_name(name)
            for name in """
        celu exponential glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh
        log_sigmoid mish relu6 selu sigmoid silu soft_shrink softplus softsign
        sparse_plus sparse_sigmoid squareplus swish tanh tanh_shrink
        """.split()
        },
        "add": _add,
        "argmax": _index_of_extreme("argmax"),
        "argmin": _index_of_extreme("argmin"),
        "cast": _cast,
        "clip": _with_options("clip", "x_min", "x_max"),
        "concatenate": _concatenate,
        "cumsum": _axis_option("cumsum"),
        "einsum": _einsum,
        "elu": _elu,
        "expand_dims": _expand_dims,
        "flip": _axis_option("flip"),
        "gelu": _gelu,
        "get_item": _get_item,
        "identity": _is_left_out,
        "leaky_relu": _leaky_relu,
        "log_softmax": _softmax("log_softmax", "log_softmax"),
        "matmul": _matmul,
        "maximum": _extreme("Maximum", "maximum"),
        "minimum": _extreme("Minimum", "minimum"),
        "multiply": _multiply,
        "negative": _negative,
        "one_hot": _with_options("one_hot", "num_classes"),
        "pad": _pad,
        "re_lu": _relu,
        "relu": _relu,
        "reshape": _reshape,
        "softmax": _softmax("softmax", "softmax"),
        "split": _split,
        "square": _square,
        "squeeze": _squeeze,
        "stack": _stack,
        "stop_gradient": _is_left_out,
        "subtract": _subtract,
        "swapaxes": _swap_axes,
        "transpose": _transpose,
        "true_divide": _divide,
    }
)

# By the names of keras.ops, those of the script.
_ONE_TENSOR: Mapping[str, str] = MappingProxyType(
    {
        **{
            name: name
            for name in """
        arccos arccosh arcsin arcsinh arctan arctanh ceil cos cosh erf exp exp2 expm1
        floor log log10 log1p log2 reciprocal round rsqrt sign sin sinh sqrt tan trunc
        logical_not isfinite isnan zeros_like ones_like
        """.split()
        },
        "abs": "absolute",
        "absolute": "absolute",
    }
)
_BROADCASTING: Mapping[str, str] = MappingProxyType(
    {
        **{
            name: name
            for name in """
        arctan2 equal floor_divide greater greater_equal less less_equal logical_and
        logical_or logical_xor mod not_equal power where
        """.split()
        },
        "squared_difference": "squared_difference",
    }
)
_REDUCTIONS: Mapping[str, str] = MappingProxyType(
    {
        **{
            name: name
            for name in "sum mean max min prod var std any all logsumexp".split()
        },
        "amax": "max",
        "amin": "min",
    }
)
