"""What takes the place of each layer of Keras in TensorFlow.js 4.22, whose published
bundles have about 60 classes of layers. One table, one small function for each rule."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..rewrite import Outcome
from ..rewrite import Rewrite
from ..rewrite import Rule
from . import activations
from . import attention
from . import layers
from . import normalizations
from . import recurrent
from . import space

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(layers.STOCK, layers.kept),
        **dict.fromkeys(layers.ONLY_IN_TRAINING, layers.left_out),
        **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), space.convolution),
        **dict.fromkeys(
            ("DepthwiseConv1D", "SeparableConv1D"), space.convolution_1d_as_2d
        ),
        **{f"Conv{n}DTranspose": space.transposed_convolution for n in (1, 2, 3)},
        **{
            f"Global{kind}Pooling{n}D": space.global_pooling
            for kind in ("Average", "Max")
            for n in (1, 2, 3)
        },
        **dict.fromkeys(
            ("ConvLSTM2D", "GRU", "LSTM", "SimpleRNN"), recurrent.recurrent
        ),
        "Activation": layers.activation,
        "AdditiveAttention": attention.additive_attention,
        "Attention": attention.attention,
        "BatchNormalization": normalizations.batch_normalization,
        "Concatenate": layers.concatenate,
        "Cropping1D": space.cropping_1d,
        "Cropping3D": space.cropping_3d,
        "Dense": space.layer_with_activation,
        "DepthwiseConv2D": space.depthwise_convolution,
        "Dot": layers.dot,
        "ELU": layers.advanced(activations.elu_layer),
        "EinsumDense": layers.einsum_dense,
        "Flatten": layers.flatten,
        "GroupNormalization": normalizations.group_normalization,
        "LayerNormalization": normalizations.layer_normalization,
        "LeakyReLU": layers.advanced(activations.leaky_relu_layer),
        "MultiHeadAttention": attention.multi_head_attention,
        "Normalization": normalizations.normalization,
        "RMSNormalization": normalizations.rms_normalization,
        "ReLU": layers.advanced(activations.relu_layer),
        "Rescaling": layers.rescaling,
        "SeparableConv2D": space.separable_convolution,
        "Softmax": layers.softmax,
        "SpatialDropout2D": space.spatial_dropout,
        "SpatialDropout3D": space.spatial_dropout,
        "Subtract": layers.subtract,
        "UnitNormalization": normalizations.unit_normalization,
        "UpSampling1D": space.up_sampling_1d,
        "UpSampling2D": space.up_sampling_2d,
        "UpSampling3D": space.up_sampling_3d,
        "ZeroPadding1D": space.padding_1d,
        "ZeroPadding3D": space.padding_3d,
    }
)


def apply(rewrite: Rewrite) -> Outcome:
    """Rewrite a layer by the rule of its class.

    :raises InvalidModel: there is none, or it refuses.
    """
    rule = RULES.get(rewrite.layer.class_name)
    if rule is None:
        raise layers.refusal(rewrite)
    if layers.is_channels_first(rewrite):
        return layers.with_channels_last(rewrite, rule)
    return rule(rewrite)
