"""The operations of the script of layers, and those of Keras 3 that they stand for.

Keras 3 has them as classes: what is fixed stands in the config, what is computed on in
the call. Keras 2 has them as functions of TensorFlow, which differ by version.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from types import MappingProxyType
from typing import Any

import numpy as np

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Given:
    """A tensor that the layer is called with."""

    index: int = 0


@dataclass(frozen=True, slots=True)
class Made:
    """What a step before returns."""

    step: int


@dataclass(frozen=True, slots=True)
class Step:
    """An operation or a layer of Keras 3.

    :ivar name: of an operation in snake case, of a layer as its class.
    :ivar args: of the call: :class:`Given`, :class:`Made`, constants.
    """

    name: str
    args: Sequence[Any] = (Given(),)
    config: Mapping[str, Any] = field(default_factory=dict)


class Unknown(ValueError):
    """There is no such operation in Keras 3, or not with these options."""


#: The modules of Keras 3 that the classes of operations are in.
MODULES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            """
            absolute add all any arccos arccosh arcsin arcsinh arctan arctan2 arctanh
            argmax argmin ceil clip copy cos cosh cumsum divide einsum equal exp exp2
            expand_dims expm1 flip floor floor_divide get_item greater greater_equal
            isfinite isnan less less_equal log log10 log1p log2 logical_and logical_not
            logical_or logical_xor matmul max maximum mean min minimum mod multiply
            not_equal ones_like pad power prod reciprocal repeat round sign sin
            sinh sqrt square squeeze stack std subtract sum tan
            triu trunc var where zeros_like
            """.split(),
            "keras.src.ops.numpy",
        ),
        **dict.fromkeys(
            """
            celu elu gelu glu hard_shrink log_softmax one_hot soft_shrink softmax
            sparse_plus sparse_sigmoid squareplus threshold
            """.split(),
            "keras.src.ops.nn",
        ),
        **dict.fromkeys(["erf", "logsumexp", "rsqrt"], "keras.src.ops.math"),
        "cast": "keras.src.ops.core",
    }
)

#: Operations that are called with one list of tensors.
LISTING = frozenset({"stack"})

# The options of an operation, where it has any; the script calls them as Keras does.
_OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            "all any argmax argmin logsumexp max mean min prod std sum var".split(),
            "axis keepdims",
        ),
        **dict.fromkeys(
            "cumsum expand_dims flip glu squeeze stack".split(),
            "axis",
        ),
        **dict.fromkeys(["hard_shrink", "soft_shrink"], "threshold"),
        "triu": "k",
        **dict.fromkeys(["celu", "elu"], "alpha"),
        "clip": "x_min x_max",
        "einsum": "subscripts",
        "gelu": "approximate",
        "one_hot": "num_classes",
        "repeat": "repeats axis",
        "round": "decimals",
        "squareplus": "b",
        "threshold": "threshold default_value",
    }
)

# Keras returns truth values, the script numbers.
_TRUTHS = frozenset(
    """
    all any equal greater greater_equal isfinite isnan less less_equal logical_and
    logical_not logical_or logical_xor not_equal
    """.split()
)


def steps_of(name: str, options: Options, args: Sequence[Any]) -> list[Step]:
    """What computes an operation of the script in Keras 3; the last step returns it.

    :param args: the arguments in their order: :class:`Given`, or constants.
    :raises Unknown: nothing does.
    """
    arguments = [_constant(arg) for arg in args]
    rule = _RULES.get(name)
    if rule is not None:
        return rule(options, arguments)
    if name not in MODULES:
        raise Unknown(name)
    steps = [Step(name, arguments, _chosen(name, options))]
    if name in _TRUTHS:
        steps.append(_cast(0, "float32"))
    return steps


def causal_mask() -> list[Step]:
    """Scores, less 1e9 where the key comes after the query."""
    return [
        Step("ones_like"),
        Step("triu", [Made(0)], {"k": 1}),
        Step("multiply", [Made(1), -1e9]),
        Step("add", [Given(), Made(2)]),
    ]


def _constant(value: Any) -> Any:
    return np.asarray(value, np.float32) if isinstance(value, list) else value


def _chosen(name: str, options: Options) -> dict[str, Any]:
    keys = _OPTIONS.get(name, "").split()
    return {key: options[key] for key in keys if key in options}


def _cast(step: int, dtype: str) -> Step:
    return Step("cast", [Made(step)], {"dtype": dtype})


# What Keras 3 has no operation for, or another one.


def _copied(options: Options, args: Sequence[Any]) -> list[Step]:
    return [Step("copy", args)]


def _softmax(options: Options, args: Sequence[Any]) -> list[Step]:
    axis = options.get("axis", -1)
    if not isinstance(axis, list):
        return [Step("softmax", args, {"axis": axis})]
    return [*_exponentials(args, axis), Step("divide", [Made(2), Made(3)])]


def _log_softmax(options: Options, args: Sequence[Any]) -> list[Step]:
    axis = options.get("axis", -1)
    if not isinstance(axis, list):
        return [Step("log_softmax", args, {"axis": axis})]
    difference = Step("subtract", [Made(1), Made(4)])
    return [*_exponentials(args, axis), Step("log", [Made(3)]), difference]


def _exponentials(args: Sequence[Any], axes: list[int]) -> list[Step]:
    """Of what values are above the largest one; the last step is their sum."""
    along = {"axis": axes, "keepdims": True}
    return [
        Step("max", args, along),
        Step("subtract", [*args, Made(0)]),
        Step("exp", [Made(1)]),
        Step("sum", [Made(2)], along),
    ]


def _square_plus(options: Options, args: Sequence[Any]) -> list[Step]:
    return [Step("squareplus", args, _chosen("squareplus", options))]


def _squared_difference(options: Options, args: Sequence[Any]) -> list[Step]:
    return [Step("subtract", args), Step("square", [Made(0)])]


def _cast_to(options: Options, args: Sequence[Any]) -> list[Step]:
    dtype = options["dtype"]
    steps = [Step("cast", args, {"dtype": dtype})]
    return [*steps, _cast(0, "float32")] if dtype == "bool" else steps


def _where(options: Options, args: Sequence[Any]) -> list[Step]:
    if not isinstance(args[0], Given):
        raise Unknown("where")
    condition = Step("cast", args[:1], {"dtype": "bool"})
    return [condition, Step("where", [Made(0), *args[1:]])]


def _get_item(options: Options, args: Sequence[Any]) -> list[Step]:
    return [Step("get_item", [*args, tuple(map(_entry, options["key"]))])]


def _entry(entry: Any) -> Any:
    if entry == "ellipsis":
        return ...
    if isinstance(entry, dict):
        return slice(entry.get("start"), entry.get("stop"), entry.get("step"))
    return entry


def _crop(options: Options, args: Sequence[Any]) -> list[Step]:
    key = tuple(
        slice(before or None, -after if after else None)
        for before, after in options["cropping"]
    )
    return [Step("get_item", [*args, key])]


def _pad(options: Options, args: Sequence[Any]) -> list[Step]:
    mode = options.get("mode", "constant")
    config = {"pad_width": options["pad_width"], "mode": mode}
    value = [options["constant_values"]] if options.get("constant_values") else []
    return [Step("pad", [*args, *value], config)]


def _up_sample(options: Options, args: Sequence[Any]) -> list[Step]:
    steps: list[Step] = []
    for axis, times in enumerate(options["size"]):
        if times != 1:
            before = [Made(len(steps) - 1)] if steps else args
            steps.append(Step("repeat", before, {"repeats": times, "axis": axis}))
    return steps or _copied(options, args)


def _one_hot(options: Options, args: Sequence[Any]) -> list[Step]:
    cast = Step("cast", args, {"dtype": "int32"})
    return [cast, Step("one_hot", [Made(0)], _chosen("one_hot", options))]


_RULES: Mapping[str, Callable[[Options, Sequence[Any]], list[Step]]] = MappingProxyType(
    {
        "cast": _cast_to,
        "crop": _crop,
        "get_item": _get_item,
        "identity": _copied,
        "log_softmax": _log_softmax,
        "one_hot": _one_hot,
        "pad": _pad,
        "softmax": _softmax,
        "square_plus": _square_plus,
        "squared_difference": _squared_difference,
        "upsample": _up_sample,
        "where": _where,
    }
)
