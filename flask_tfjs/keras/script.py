"""The layers of ``static/keras-layers.js``, which TensorFlow.js itself lacks."""

from __future__ import annotations

from typing import Any

from ..format.topology import keras_layers

#: Where the script lies, below the URL prefix of the blueprint.
PATH = "-/static/keras-layers.js"

#: The classes that the script registers.
LAYERS = frozenset(
    """
    KerasCausalMask KerasEinsumDense KerasGRU KerasGRUCell KerasGroupNormalization
    KerasMask KerasOperation KerasRMSNormalization KerasUnitNormalization
    KerasUpSampling2D KerasZeroMasked
    """.split()
)


def needs_script(document: Any) -> bool:
    """Whether a layers model's document has layers of the script, in wrappers too."""
    return any(
        is_of_script(layer.get("class_name"), layer.get("config"))
        for layer in keras_layers(document)
    )


def is_of_script(class_name: Any, config: Any) -> bool:
    """Whether a layer is one of the script, or a wrapper around one."""
    inner = config.get("layer") if isinstance(config, dict) else None
    wrapped = inner.get("class_name") if isinstance(inner, dict) else None
    return str(class_name) in LAYERS or str(wrapped) in LAYERS
