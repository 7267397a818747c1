"""The names of functions on tensors: those of ``keras.ops`` stand for all."""

from __future__ import annotations

from types import MappingProxyType

# What Keras 2 calls the functions of TensorFlow, by the names of keras.ops.
_KERAS_2_NAMES = MappingProxyType(
    {
        "__operators__.add": "add",
        "__operators__.getitem": "get_item",
        "clip_by_value": "clip",
        "concat": "concatenate",
        "linalg.matmul": "matmul",
        "math.divide": "true_divide",
        "math.floordiv": "floor_divide",
        "math.floormod": "mod",
        "math.pow": "power",
        "math.reduce_logsumexp": "logsumexp",
        "math.reduce_max": "max",
        "math.reduce_mean": "mean",
        "math.reduce_min": "min",
        "math.reduce_prod": "prod",
        "math.reduce_std": "std",
        "math.reduce_sum": "sum",
        "math.truediv": "true_divide",
        "pow": "power",
        "truediv": "true_divide",
    }
)

_ARITHMETIC = MappingProxyType({"divide": "true_divide"})


def function_name(name: str) -> str:
    """The name of keras.ops for a function: ``nn.relu`` -> ``relu``."""
    if name in _KERAS_2_NAMES:
        return _KERAS_2_NAMES[name]
    plain = name.rpartition(".")[2]
    return _ARITHMETIC.get(plain, plain)


#: Functions whose values follow from the values at the same place.
ELEMENTWISE = frozenset(
    """
    abs absolute add arctan arctan2 cast ceil clip cos elu equal erf exp expm1 floor
    floor_divide gelu greater greater_equal hard_sigmoid identity leaky_relu less
    less_equal log log1p log_sigmoid logical_and logical_not logical_or maximum minimum
    mod multiply negative not_equal power relu relu6 round rsqrt selu sigmoid sign silu
    sin softplus softsign sqrt square squared_difference stop_gradient subtract swish
    tanh true_divide where
    """.split()
)
