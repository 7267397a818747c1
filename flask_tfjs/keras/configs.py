"""The members of a layer's config as TensorFlow.js reads them: initializers,
regularizers and constraints by its names, what only Keras knows left out."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .reading import plain_class

# What TensorFlow.js has no use for, or refuses.
_LEFT_OUT = frozenset(
    """
    activity_regularizer batch_input_shape batch_shape build_config compile_config
    dtype fused lora_alpha lora_rank optional quantization_config ragged renorm
    renorm_clipping renorm_momentum seed shared_object_id synchronized time_major
    use_cudnn virtual_batch_size zero_output_for_mask
    """.split()
)

_INITIALIZERS = MappingProxyType(
    {
        **{
            name: name
            for name in """
        Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LeCunNormal
        LeCunUniform Ones Orthogonal RandomNormal RandomUniform TruncatedNormal
        VarianceScaling Zeros
        """.split()
        },
        "IdentityInitializer": "Identity",
        "LecunNormal": "LeCunNormal",
        "LecunUniform": "LeCunUniform",
        "OrthogonalInitializer": "Orthogonal",
    }
)
_INITIALIZER_KEYS = frozenset(
    "distribution gain maxval mean minval mode scale stddev value".split()
)

_REGULARIZERS = frozenset({"L1", "L1L2", "L2"})


def stock_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """*config* without what TensorFlow.js does not know."""
    return {
        key: _stock_value(key, value)
        for key, value in config.items()
        if key not in _LEFT_OUT
    }


def _stock_value(key: str, value: Any) -> Any:
    if key.endswith("_initializer"):
        return _document(value, _initializer)
    if key.endswith("_regularizer"):
        return _document(value, _regularizer)
    if key.endswith("_constraint"):
        # Keras applies it after a step of training, TensorFlow.js whenever weights are
        # set (tfjs-layers src/variables.ts, LayerVariable.write): it would change
        # those that are loaded.
        return None
    return value


def constraints(config: Mapping[str, Any]) -> list[str]:
    """The constraints in *config*, which :func:`stock_config` leaves out."""
    return [
        key for key, value in config.items() if key.endswith("_constraint") and value
    ]


def _document(value: Any, change: Any) -> Any:
    """A document of a class, or a bare name as old files have it."""
    if not isinstance(value, dict) or not isinstance(value.get("class_name"), str):
        return None
    inner = value.get("config")
    return change(
        plain_class(value["class_name"]), inner if isinstance(inner, dict) else {}
    )


def _initializer(class_name: str, config: dict[str, Any]) -> Any:
    name = _INITIALIZERS.get(class_name)
    if name is None:
        return None
    kept = {
        key: value
        for key, value in config.items()
        if key in _INITIALIZER_KEYS and not isinstance(value, (dict, list))
    }
    if kept.get("distribution") == "untruncated_normal":
        kept["distribution"] = "normal"
    return {"class_name": name, "config": kept}


def _regularizer(class_name: str, config: dict[str, Any]) -> Any:
    if class_name not in _REGULARIZERS:
        return None
    sizes = {key: number(config.get(key)) or 0.0 for key in ("l1", "l2")}
    return {"class_name": "L1L2", "config": sizes}


def number(value: Any) -> float | None:
    """A number that a config holds bare, as a NumPy document or in lists of one."""
    if isinstance(value, dict):
        value = value.get("config")
        value = value.get("value") if isinstance(value, dict) else None
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return float(value) if isinstance(value, (int, float)) else None
