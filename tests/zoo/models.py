"""Keras models as people make them, without weights of use: a function makes each.

They are small: few filters, few units, inputs of few pixels; what is deep is deep. No
function takes an argument, so that a name says which model is meant.
"""

from __future__ import annotations

import zlib
from typing import Any

import keras
import numpy as np
from keras import layers
from keras import ops

WORDS = 12
STEPS = 8


def _image(size: int = 12, channels: int = 3, **options: Any) -> Any:
    return keras.Input((size, size, channels), **options)


def _pixels(size: int = 16) -> Any:
    """An image whose values go from 0 to 255: the name says so to who draws inputs."""
    return _image(size, name="pixels")


def _words(steps: int | None = STEPS, **options: Any) -> Any:
    return keras.Input((steps,), dtype="int32", **options)


def _signal(steps: int | None = 16, channels: int = 3, **options: Any) -> Any:
    return keras.Input((steps, channels), **options)


def _conv_block(x: Any, filters: int, **options: Any) -> Any:
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, **options)(x)
    x = layers.BatchNormalization()(x)
    return layers.ReLU()(x)


def _residual(x: Any, filters: int, strides: int = 1) -> Any:
    shortcut = x
    if strides != 1 or x.shape[-1] != filters:
        shortcut = layers.Conv2D(filters, 1, strides=strides)(x)
        shortcut = layers.BatchNormalization()(shortcut)
    x = _conv_block(x, filters, strides=strides)
    x = layers.Conv2D(filters, 3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    return layers.ReLU()(layers.Add()([x, shortcut]))


def _numbers(name: str, *shape: int) -> Any:
    """Numbers to make a model with, the same each time."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    return generator.normal(size=shape).astype("float32")


# Tables


def mlp() -> Any:
    return keras.Sequential(
        [
            keras.Input((10,)),
            layers.Dense(16, activation="relu", kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(8, activation="gelu", kernel_initializer="he_normal"),
            layers.Dense(4, activation="softmax", bias_constraint="non_neg"),
        ]
    )


def mlp_deferred() -> Any:
    """Without an input of its own: its shape comes with the first call."""
    model = keras.Sequential(
        [
            layers.Dense(8, activation="relu"),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.build((None, 6))
    return model


def mlp_inputshape() -> Any:
    return keras.Sequential(
        [
            layers.Input(shape=(6,)),
            layers.Dense(8, activation="tanh"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def normalization() -> Any:
    """Normalization that was adapted to a table, before dense layers."""
    normalize = layers.Normalization()
    normalize.adapt(_numbers("normalization", 64, 5) * 3 + 2)
    return keras.Sequential(
        [
            keras.Input((5,)),
            normalize,
            layers.Dense(8, activation="relu"),
            layers.Dense(1),
        ]
    )


def multi_io() -> Any:
    left, right = keras.Input((6,), name="left"), keras.Input((4,), name="right")
    a = layers.Dense(5, activation="relu")(left)
    b = layers.Dense(5, activation="tanh")(right)
    difference = layers.Subtract()([a, b])
    both = layers.Concatenate()([a, b, difference])
    price = layers.Dense(1, name="price")(both)
    label = layers.Dense(3, activation="softmax", name="label")(both)
    return keras.Model([left, right], [price, label])


def multi_io_dict() -> Any:
    inputs = {"size": keras.Input((3,), name="size"), "age": keras.Input((2,))}
    both = layers.Concatenate()(list(inputs.values()))
    hidden = layers.Dense(6, activation="relu")(both)
    outputs = {
        "mean": layers.Dense(1)(hidden),
        "scale": layers.Dense(1, activation="softplus")(hidden),
    }
    return keras.Model(inputs, outputs)


def wide_and_deep() -> Any:
    wide, deep = keras.Input((7,), name="wide"), keras.Input((9,), name="deep")
    x = layers.Dense(16, activation="relu")(deep)
    x = layers.Dense(8, activation="relu")(x)
    return keras.Model([wide, deep], layers.Dense(1)(layers.concatenate([wide, x])))


def recommender() -> Any:
    users, items = _words(1, name="user"), _words(1, name="item")
    options = {"embeddings_regularizer": keras.regularizers.L2(1e-4)}
    user = layers.Flatten()(layers.Embedding(WORDS, 6, **options)(users))
    item = layers.Flatten()(layers.Embedding(WORDS, 6, **options)(items))
    score = layers.Dot(axes=1)([user, item])
    bias = layers.Flatten()(layers.Embedding(WORDS, 1)(items))
    score = layers.Activation("sigmoid")(layers.Add()([score, bias]))
    return keras.Model([users, items], score)


def two_towers() -> Any:
    """Cosines of what two nested models make of two inputs."""
    query, product = keras.Input((8,)), keras.Input((6,))

    def tower(width: int, name: str) -> Any:
        stack = [layers.Dense(8, activation="relu"), layers.Dense(4)]
        return keras.Sequential([keras.Input((width,)), *stack], name=name)

    left, right = tower(8, "query_tower")(query), tower(6, "product_tower")(product)
    return keras.Model(
        [query, product], layers.Dot(axes=-1, normalize=True)([left, right])
    )


def factorization_machine() -> Any:
    """Pairs of embeddings by the square of their sum less the sum of their squares."""
    fields = _words(5)
    embedded = layers.Embedding(WORDS, 4)(fields)
    square_of_sum = ops.square(ops.sum(embedded, axis=1))
    sum_of_squares = ops.sum(ops.square(embedded), axis=1)
    pairs = 0.1 * ops.sum(square_of_sum - sum_of_squares, axis=-1, keepdims=True)
    linear = ops.sum(layers.Embedding(WORDS, 1)(fields), axis=1)
    return keras.Model(fields, layers.Activation("sigmoid")(pairs + linear))


def deep_and_cross() -> Any:
    start = keras.Input((6,))
    x = start
    for _ in range(2):
        x = layers.Add()([layers.Multiply()([start, layers.Dense(6)(x)]), x])
    return keras.Model(start, layers.Dense(1, activation="sigmoid")(x))


def dueling() -> Any:
    """What a state is worth plus what its actions add, less their mean."""
    state = keras.Input((6,))
    x = layers.Dense(12, activation="relu")(state)
    value, advantage = layers.Dense(1)(x), layers.Dense(4)(x)
    return keras.Model(
        state, value + (advantage - ops.mean(advantage, axis=1, keepdims=True))
    )


def mixture_of_experts() -> Any:
    x = keras.Input((6,))
    gates = layers.Dense(3, activation="softmax")(x)
    experts = [layers.Dense(5, activation="tanh")(x) for _ in range(3)]
    stacked = ops.stack(experts, axis=1)
    return keras.Model(x, ops.sum(stacked * ops.expand_dims(gates, -1), axis=1))


def self_normalizing() -> Any:
    options = {"activation": "selu", "kernel_initializer": "lecun_normal"}
    stack = [keras.Input((8,)), layers.Dense(12, **options), layers.AlphaDropout(0.1)]
    return keras.Sequential([*stack, layers.Dense(6, **options), layers.Dense(2)])


def noisy() -> Any:
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.GaussianNoise(0.2),
            layers.Dense(8),
            layers.LeakyReLU(negative_slope=0.1),
            layers.GaussianDropout(0.2),
            layers.Dense(8),
            layers.PReLU(),
            layers.ActivityRegularization(l2=1e-3),
            layers.Dense(4),
            layers.ELU(),
            layers.Dense(3),
            layers.Softmax(),
        ]
    )


def autoencoder_dense() -> Any:
    """Of nested models, used together and each alone."""
    encoder = keras.Sequential(
        [keras.Input((8,)), layers.Dense(4, activation="relu"), layers.Dense(2)],
        name="encoder",
    )
    decoder = keras.Sequential(
        [keras.Input((2,)), layers.Dense(4, activation="relu"), layers.Dense(8)],
        name="decoder",
    )
    start = keras.Input((8,))
    code = encoder(start)
    return keras.Model(start, [decoder(code), code])


# Images


def cnn() -> Any:
    return keras.Sequential(
        [
            _image(),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.SpatialDropout2D(0.2),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, activation="softmax"),
        ]
    )


def cnn_aug() -> Any:
    augment = keras.Sequential(
        [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)], name="augment"
    )
    return keras.Sequential(
        [
            _pixels(12),
            augment,
            layers.Rescaling(1 / 255),
            layers.RandomZoom(0.1),
            layers.Conv2D(6, 3, activation="relu"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(4, activation="softmax"),
        ]
    )


def convs() -> Any:
    image = _image()
    a = layers.SeparableConv2D(6, 3, padding="same", depth_multiplier=2)(image)
    b = layers.DepthwiseConv2D(3, padding="same", activation="relu")(image)
    c = layers.Conv2D(4, 3, dilation_rate=2, padding="same")(image)
    x = layers.Concatenate()([a, b, c])
    x = layers.Conv2DTranspose(5, 3, strides=2, padding="same")(x)
    x = layers.ZeroPadding2D(((1, 0), (0, 2)))(x)
    x = layers.Cropping2D(((0, 1), (2, 0)))(x)
    x = layers.UpSampling2D(2)(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    return keras.Model(image, layers.GlobalMaxPooling2D()(x))


def groupconv() -> Any:
    image = _image(channels=4)
    x = layers.Conv2D(8, 3, groups=2, activation="relu")(image)
    x = layers.Conv2D(8, 1)(x)
    x = layers.Conv2D(8, 3, groups=8, use_bias=False)(x)
    return keras.Model(image, layers.GlobalAveragePooling2D()(x))


def lenet() -> Any:
    return keras.Sequential(
        [
            _image(20, 1),
            layers.Conv2D(4, 5, activation="tanh"),
            layers.AveragePooling2D(2),
            layers.Conv2D(6, 5, activation="tanh"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(12, activation="tanh"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def vgg() -> Any:
    model = keras.Sequential([_image(16)])
    for filters, count in ((6, 2), (8, 2), (12, 3)):
        for _ in range(count):
            model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D((2, 2), strides=(2, 2)))
    model.add(layers.Flatten())
    model.add(layers.Dense(16, activation="relu"))
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(5, activation="softmax"))
    return model


def resnet() -> Any:
    image = _image(16)
    x = _conv_block(image, 8)
    for filters, strides in ((8, 1), (12, 2), (16, 2)):
        x = _residual(x, filters, strides)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(5, activation="softmax")(x))


def inception() -> Any:
    image = _image()
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(image)
    a = layers.Conv2D(4, 1, activation="relu")(x)
    b = layers.Conv2D(3, 1, activation="relu")(x)
    b = layers.Conv2D(4, (1, 3), padding="same", activation="relu")(b)
    b = layers.Conv2D(4, (3, 1), padding="same", activation="relu")(b)
    c = layers.MaxPooling2D(3, strides=1, padding="same")(x)
    c = layers.Conv2D(3, 1, activation="relu")(c)
    x = layers.concatenate([a, b, c])
    return keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def squeeze_and_excite() -> Any:
    image = _image()
    x = _conv_block(image, 8)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(2, 1, activation="relu")(gate)
    gate = layers.Conv2D(8, 1, activation="hard_sigmoid")(gate)
    x = layers.Multiply()([x, gate])
    return keras.Model(image, layers.GlobalMaxPooling2D()(x))


def squeeze_and_excite_reshaped() -> Any:
    image = _image()
    x = _conv_block(image, 8)
    gate = layers.GlobalAveragePooling2D()(x)
    gate = layers.Dense(2, activation="relu")(gate)
    gate = layers.Dense(8, activation="sigmoid")(gate)
    x = layers.Multiply()([x, layers.Reshape((1, 1, 8))(gate)])
    return keras.Model(image, layers.Flatten()(layers.AveragePooling2D(3)(x)))


def xception() -> Any:
    image = _image(16)
    x = _conv_block(image, 6, strides=2)
    for filters in (8, 12):
        residual = layers.Conv2D(filters, 1, strides=2, padding="same")(x)
        residual = layers.BatchNormalization()(residual)
        for _ in range(2):
            x = layers.Activation("relu")(x)
            x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        x = layers.add([x, residual])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(4, activation="softmax")(x))


def densenet() -> Any:
    """DenseNet121, a few of its blocks' layers."""
    image = _image(32)
    x = _conv_block(image, 8, strides=2)
    for _ in range(3):
        for _ in range(4):
            y = layers.BatchNormalization(epsilon=1.001e-5)(x)
            y = layers.Activation("relu")(y)
            y = layers.Conv2D(8, 1, use_bias=False)(y)
            y = layers.Conv2D(4, 3, padding="same", use_bias=False)(y)
            x = layers.Concatenate(axis=3)([x, y])
        x = layers.Conv2D(x.shape[-1] // 2, 1, use_bias=False)(x)
        x = layers.AveragePooling2D(2, strides=2)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(5, activation="softmax")(x))


def unet() -> Any:
    image = _image(16, 1)
    x, skipped = image, []
    for filters in (4, 6):
        x = _conv_block(_conv_block(x, filters), filters)
        skipped.append(x)
        x = layers.MaxPooling2D()(x)
    x = _conv_block(x, 8)
    for filters, skip in zip((6, 4), reversed(skipped), strict=True):
        x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)
        x = layers.concatenate([x, skip])
        x = _conv_block(x, filters)
    return keras.Model(image, layers.Conv2D(2, 1, activation="softmax")(x))


def unet_upsampling() -> Any:
    """Its way up by nearest neighbours, of images of any size."""
    image = keras.Input((None, None, 3))
    down = _conv_block(image, 4)
    x = _conv_block(layers.MaxPooling2D()(down), 6)
    x = layers.UpSampling2D((2, 2), interpolation="nearest")(x)
    x = _conv_block(layers.concatenate([x, down]), 4)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


def autoenc() -> Any:
    """A convolutional autoencoder; its way up is bilinear."""
    image = _image()
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(image)
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    return keras.Model(image, layers.Conv2D(3, 3, padding="same")(x))


def generator() -> Any:
    """From noise to an image."""
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(3 * 3 * 8, use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Reshape((3, 3, 8)),
            layers.Conv2DTranspose(6, 5, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(0.2),
            layers.Conv2DTranspose(4, 4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2DTranspose(1, 4, strides=2, padding="valid", activation="tanh"),
        ]
    )


def discriminator() -> Any:
    return keras.Sequential(
        [
            _image(14, 1),
            layers.Conv2D(6, 5, strides=(2, 2), padding="same"),
            layers.LeakyReLU(negative_slope=0.3),
            layers.Dropout(0.3),
            layers.Conv2D(8, 5, strides=(2, 2), padding="same"),
            layers.LeakyReLU(negative_slope=0.3),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )


def detector() -> Any:
    """Boxes and classes at two scales, in one list each."""
    image = _image(16)
    x = _conv_block(image, 6, strides=2)
    boxes, classes = [], []
    for filters in (8, 10):
        x = _conv_block(x, filters, strides=2)
        box = layers.Conv2D(2 * 4, 3, padding="same")(x)
        boxes.append(layers.Reshape((-1, 4))(box))
        label = layers.Conv2D(2 * 3, 3, padding="same")(x)
        classes.append(layers.Reshape((-1, 3))(label))
    box = layers.Concatenate(axis=1, name="boxes")(boxes)
    label = layers.Concatenate(axis=1)(classes)
    return keras.Model(image, [box, layers.Softmax(name="classes")(label)])


def heatmaps() -> Any:
    """Key points: sums of coordinates, weighted by a softmax over a map."""
    image = _image(8)
    x = _conv_block(image, 6)
    x = layers.Conv2D(3, 1)(x)
    x = layers.Permute((3, 1, 2))(x)
    x = layers.Softmax()(layers.Reshape((3, 64))(x))
    return keras.Model(image, layers.Dense(2, use_bias=False)(x))


def group_normalized() -> Any:
    image = _image()
    x = layers.Conv2D(8, 3)(image)
    x = layers.GroupNormalization(4)(x)
    x = layers.Activation("silu")(x)
    x = layers.Conv2D(6, 3)(x)
    x = layers.GroupNormalization(groups=-1)(x)
    return keras.Model(image, layers.GlobalAveragePooling2D()(layers.ReLU()(x)))


def transfer() -> Any:
    """A frozen base of Keras under a head, behind augmentation."""
    base = _application("MobileNetV2", alpha=0.35, include_top=False)
    base.trainable = False
    image = _pixels(32)
    x = layers.RandomFlip()(image)
    x = layers.RandomRotation(0.2)(x)
    x = layers.Rescaling(1 / 127.5, offset=-1)(x)
    x = base(x, training=False)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(image, layers.Dense(3, activation="softmax")(x))


def transfer_preproc() -> Any:
    """As in the guides of Keras: preprocess_input in the model."""
    base = _application("MobileNetV2", alpha=0.35, include_top=False)
    base.trainable = False
    image = _pixels(32)
    x = keras.applications.mobilenet_v2.preprocess_input(image)
    x = layers.GlobalAveragePooling2D()(base(x, training=False))
    return keras.Model(image, layers.Dense(3, activation="softmax")(x))


def transfer_seq() -> Any:
    base = _application("MobileNet", alpha=0.25, include_top=False, pooling="avg")
    head = [layers.Dense(8, activation="relu"), layers.Dense(2, activation="softmax")]
    return keras.Sequential([base, *head])


def mobilenet() -> Any:
    return _application("MobileNet", alpha=0.25, classes=5)


def mobilenetv2() -> Any:
    return _application("MobileNetV2", alpha=0.35, classes=5)


def mobilenetv3() -> Any:
    return _application("MobileNetV3Small", alpha=0.5, classes=5)


def efficientnet() -> Any:
    """The first blocks of EfficientNetB0, to the end of its fourth stage."""
    whole = _application("EfficientNetB0", include_top=False)
    x = whole.get_layer("block4a_project_bn").output
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(whole.input, layers.Dense(5, activation="softmax")(x))


def efficientnetv2() -> Any:
    whole = _application("EfficientNetV2B0", include_top=False)
    x = whole.get_layer("block4a_project_bn").output
    return keras.Model(whole.input, layers.GlobalAveragePooling2D()(x))


def convnext() -> Any:
    """A block of ConvNeXt."""
    image = _image(16)
    x = layers.Conv2D(8, 4, strides=4)(image)
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    y = layers.DepthwiseConv2D(7, padding="same")(x)
    y = layers.LayerNormalization(epsilon=1e-6)(y)
    y = layers.Dense(32)(y)
    y = layers.Activation("gelu")(y)
    y = layers.Dense(8)(y)
    x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(4)(layers.LayerNormalization()(x)))


def _application(name: str, **options: Any) -> Any:
    options = {"weights": None, "input_shape": (32, 32, 3), **options}
    return getattr(keras.applications, name)(**options)


def image_and_table() -> Any:
    image, table = _image(), keras.Input((4,))
    x = layers.Conv2D(6, 3, activation="relu")(image)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Concatenate()([x, layers.Dense(4, activation="relu")(table)])
    return keras.Model([image, table], layers.Dense(1, activation="sigmoid")(x))


def super_resolution() -> Any:
    """Four channels become pixels, by Reshape and Permute."""
    image = _image(6, 1)
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = layers.Conv2D(4, 3, padding="same")(x)
    x = layers.Reshape((6, 6, 2, 2))(x)
    x = layers.Permute((1, 3, 2, 4))(x)
    return keras.Model(image, layers.Reshape((12, 12, 1))(x))


def channels_second() -> Any:
    """Batch normalization of another axis than the last."""
    image = keras.Input((4, 6, 5))
    x = layers.Conv2D(3, 2)(image)
    x = layers.BatchNormalization(axis=1)(x)
    x = layers.ReLU()(x)
    x = layers.BatchNormalization(axis=2)(x)
    return keras.Model(image, layers.Flatten()(x))


def siamese() -> Any:
    """One model of two images, and how far what it makes of them lies apart."""
    a, b = _image(10, 1), _image(10, 1)
    encoder = keras.Sequential(
        [
            _image(10, 1),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(5),
        ],
        name="encoder",
    )
    left, right = encoder(a), encoder(b)
    apart = ops.sqrt(ops.sum(ops.square(left - right), axis=1, keepdims=True) + 1e-6)
    return keras.Model([a, b], layers.Dense(1, activation="sigmoid")(apart))


def shared() -> Any:
    """Layers used more than once."""
    a, b = keras.Input((5,)), keras.Input((5,))
    dense, drop = layers.Dense(5, activation="tanh"), layers.Dropout(0.1)
    x, y = dense(a), drop(dense(b))
    x = dense(drop(x))
    return keras.Model([a, b], layers.Dense(2)(layers.Concatenate()([x, y])))


def nested() -> Any:
    """Models in models, two of them used twice."""
    start = keras.Input((6,))
    stack = [layers.Dense(6, activation="relu"), layers.Dense(4)]
    inner = keras.Sequential([keras.Input((6,)), *stack], name="inner")
    left, right = inner(start), inner(layers.Dense(6)(start))
    middle = keras.Model(start, [left, layers.Dense(3)(right)], name="middle")
    a, b = keras.Input((6,)), keras.Input((6,))
    x, y = middle(a)
    z, _ = middle(b)
    return keras.Model([a, b], layers.Dense(2)(layers.Concatenate()([x, y, z])))


def nested_deep() -> Any:
    """Three models deep, each of which has a layer of the same name."""

    def wrap(core: Any, depth: int) -> Any:
        start = keras.Input((5,))
        x = layers.Dense(5, activation="tanh", name="dense")(start)
        if core is not None:
            x = core(x)
        x = layers.BatchNormalization(name="norm")(x)
        return keras.Model(start, x, name=f"depth_{depth}")

    model = None
    for depth in range(4):
        model = wrap(model, depth)
    return model


# Texts


def text_average() -> Any:
    return keras.Sequential(
        [
            _words(),
            layers.Embedding(WORDS, 6),
            layers.GlobalAveragePooling1D(),
            layers.Dense(6, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def text_average_masked() -> Any:
    """The mean over words alone, not over what fills a text up."""
    return keras.Sequential(
        [
            _words(),
            layers.Embedding(WORDS, 6, mask_zero=True),
            layers.GlobalAveragePooling1D(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def text_cnn() -> Any:
    words = _words()
    x = layers.Embedding(WORDS, 6)(words)
    pooled = [
        layers.GlobalMaxPooling1D()(layers.Conv1D(4, width, activation="relu")(x))
        for width in (2, 3, 4)
    ]
    x = layers.Dropout(0.5)(layers.Concatenate()(pooled))
    return keras.Model(words, layers.Dense(3, activation="softmax")(x))


def lstm() -> Any:
    """Words, masked, of texts of any length."""
    return keras.Sequential(
        [
            _words(None),
            layers.Embedding(WORDS, 6, mask_zero=True),
            layers.LSTM(8),
            layers.Dense(3, activation="softmax"),
        ]
    )


def bilstm() -> Any:
    return keras.Sequential(
        [
            _words(),
            layers.Embedding(WORDS, 6),
            layers.Bidirectional(layers.LSTM(5, return_sequences=True)),
            layers.Bidirectional(layers.LSTM(4), merge_mode="sum"),
            layers.Dense(2),
        ]
    )


def bilstm_masked() -> Any:
    return keras.Sequential(
        [
            _words(),
            layers.Embedding(WORDS, 6, mask_zero=True),
            layers.Bidirectional(layers.LSTM(5, return_sequences=True)),
            layers.Bidirectional(layers.LSTM(4)),
            layers.Dense(2),
        ]
    )


def tagger() -> Any:
    """A label for each word."""
    words = _words()
    x = layers.Embedding(WORDS, 6, mask_zero=True)(words)
    x = layers.Bidirectional(layers.LSTM(5, return_sequences=True))(x)
    x = layers.TimeDistributed(layers.Dense(4, activation="relu"))(x)
    return keras.Model(words, layers.Dense(3, activation="softmax")(x))


def gru() -> Any:
    return keras.Sequential(
        [
            _signal(8),
            layers.GRU(6, return_sequences=True),
            layers.GRU(5),
            layers.Dense(2),
        ]
    )


def gru_masked() -> Any:
    return keras.Sequential(
        [
            _words(),
            layers.Embedding(WORDS, 6, mask_zero=True),
            layers.Bidirectional(layers.GRU(5, return_sequences=True)),
            layers.GRU(4),
            layers.Dense(2),
        ]
    )


def gru_ra0() -> Any:
    """As GRUs were before they ran on graphics cards: reset_after=False."""
    return keras.Sequential(
        [
            _signal(8),
            layers.GRU(6, reset_after=False, return_sequences=True),
            layers.GRU(5, reset_after=False, recurrent_activation="sigmoid"),
            layers.Dense(2),
        ]
    )


def character_rnn() -> Any:
    return keras.Sequential(
        [
            _words(),
            layers.Embedding(WORDS, 6),
            layers.SimpleRNN(8, return_sequences=True),
            layers.LSTM(8, return_sequences=True),
            layers.Dense(WORDS, activation="softmax"),
        ]
    )


def seq2seq() -> Any:
    """The states of one LSTM begin another."""
    source, target = _signal(6, 4), _signal(5, 3)
    _, h, c = layers.LSTM(7, return_state=True)(source)
    decoder = layers.LSTM(7, return_sequences=True, return_state=True)
    x, _, _ = decoder(target, initial_state=[h, c])
    x = layers.Dense(3, activation="softmax")(x)
    return keras.Model([source, target], x)


def mask_before_nested() -> Any:
    """The mask of the words is not that of the sequence in the nested model."""
    words = _words(6)
    read = layers.LSTM(3)(layers.Embedding(WORDS, 4, mask_zero=True)(words))
    steps = keras.Input((5, 3))
    inner = keras.Model(steps, layers.LSTM(4)(steps), name="inner")
    return keras.Model(words, inner(layers.RepeatVector(5)(read)))


def mask_in_nested() -> Any:
    """The mask in the nested model is not that of the sequence behind it."""
    words = _words(6)
    inside = _words(6)
    read = layers.LSTM(3)(layers.Embedding(WORDS, 4, mask_zero=True)(inside))
    inner = keras.Model(inside, read, name="inner")
    return keras.Model(words, layers.LSTM(4)(layers.RepeatVector(5)(inner(words))))


def seq2seq_gru() -> Any:
    source, target = _words(6), _words(5)
    embedding = layers.Embedding(WORDS, 6)
    _, state = layers.GRU(7, return_state=True)(embedding(source))
    x = layers.GRU(7, return_sequences=True)(embedding(target), initial_state=state)
    return keras.Model([source, target], layers.Dense(WORDS)(x))


def seq2seq_attention() -> Any:
    """Luong's attention between what an encoder and a decoder return."""
    source, target = _signal(6, 4), _signal(5, 3)
    encoded, h, c = layers.LSTM(7, return_sequences=True, return_state=True)(source)
    x = layers.LSTM(7, return_sequences=True)(target, initial_state=[h, c])
    context = layers.Attention()([x, encoded])
    x = layers.Concatenate()([x, context])
    return keras.Model([source, target], layers.Dense(4)(x))


def seq2seq_additive() -> Any:
    """Bahdanau's attention."""
    source, target = _signal(6, 4), _signal(5, 3)
    encoded = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(source)
    x = layers.LSTM(6, return_sequences=True)(target)
    context = layers.AdditiveAttention()([x, encoded])
    return keras.Model([source, target], layers.Dense(4)(context + x))


def autoencoder_lstm() -> Any:
    return keras.Sequential(
        [
            _signal(6, 2),
            layers.LSTM(5),
            layers.RepeatVector(6),
            layers.LSTM(5, return_sequences=True),
            layers.TimeDistributed(layers.Dense(2)),
        ]
    )


def _transformer_block(x: Any, width: int, **options: Any) -> Any:
    attended = layers.MultiHeadAttention(2, width // 2)(x, x, **options)
    x = layers.LayerNormalization(epsilon=1e-6)(x + attended)
    y = layers.Dense(2 * width, activation="relu")(x)
    y = layers.Dropout(0.1)(layers.Dense(width)(y))
    return layers.LayerNormalization(epsilon=1e-6)(layers.Add()([x, y]))


def transformer() -> Any:
    start = _signal(STEPS, 6)
    x = _transformer_block(start, 6)
    x = layers.GlobalAveragePooling1D()(_transformer_block(x, 6))
    return keras.Model(start, layers.Dense(3, activation="softmax")(x))


def transformer_decoder() -> Any:
    """Causal: no word sees those behind it."""
    words = _words()
    x = layers.Embedding(WORDS, 6)(words)
    for _ in range(2):
        x = _transformer_block(x, 6, use_causal_mask=True)
    return keras.Model(words, layers.Dense(WORDS, activation="softmax")(x))


def transformer_masked() -> Any:
    """No word sees what fills a text up."""
    words = _words()
    x = layers.Embedding(WORDS, 6, mask_zero=True)(words)
    x = _transformer_block(x, 6)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(words, layers.Dense(3, activation="softmax")(x))


def transformer_cross() -> Any:
    """An encoder, and a decoder that sees what it returns."""
    source, target = _signal(6, 4), _signal(5, 6)
    encoded = _transformer_block(layers.Dense(6)(source), 6)
    x = layers.MultiHeadAttention(2, 3)(target, target, use_causal_mask=True)
    x = layers.LayerNormalization()(x + target)
    y = layers.MultiHeadAttention(2, 4, value_dim=3, output_shape=6)(x, encoded)
    return keras.Model([source, target], layers.LayerNormalization()(x + y))


def transformer_prenorm() -> Any:
    """RMS normalization before each block, gated linear units in it."""
    start = _signal(STEPS, 6)
    x = layers.RMSNormalization()(start)
    x = start + layers.MultiHeadAttention(2, 3, use_bias=False)(x, x)
    y = layers.RMSNormalization()(x)
    gate = layers.Dense(8, activation="silu", use_bias=False)(y)
    y = gate * layers.Dense(8, use_bias=False)(y)
    return keras.Model(start, x + layers.Dense(6, use_bias=False)(y))


def vision_transformer() -> Any:
    image = _image(8)
    x = layers.Conv2D(6, 4, strides=4)(image)
    x = layers.Reshape((4, 6))(x)
    x = layers.LayerNormalization()(x)
    x = _transformer_block(x, 6)
    return keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))


def mlp_mixer() -> Any:
    start = _signal(STEPS, 6)
    x = layers.LayerNormalization()(start)
    x = layers.Permute((2, 1))(x)
    x = layers.Dense(STEPS, activation="gelu")(x)
    x = layers.Add()([start, layers.Permute((2, 1))(x)])
    y = layers.Dense(6, activation="gelu")(layers.LayerNormalization()(x))
    return keras.Model(start, layers.Add()([x, y]))


def layernorm() -> Any:
    return keras.Sequential(
        [
            _signal(8, 6),
            layers.Dense(6, activation="swish"),
            layers.LayerNormalization(),
            layers.Dense(4),
            layers.LayerNormalization(epsilon=1e-5, center=False),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


# Signals


def sepconv1d() -> Any:
    return keras.Sequential(
        [
            _signal(),
            layers.SeparableConv1D(6, 3, activation="relu"),
            layers.MaxPooling1D(),
            layers.SeparableConv1D(4, 3, padding="same", depth_multiplier=2),
            layers.DepthwiseConv1D(3, padding="same"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(3),
        ]
    )


def timedist() -> Any:
    """A network of images in each step of a film."""
    return keras.Sequential(
        [
            keras.Input((4, 10, 10, 1)),
            layers.TimeDistributed(layers.Conv2D(4, 3, activation="relu")),
            layers.TimeDistributed(layers.MaxPooling2D()),
            layers.TimeDistributed(layers.Flatten()),
            layers.LSTM(5),
            layers.Dense(2),
        ]
    )


def forecaster() -> Any:
    """Several steps ahead, from a signal that was normalized."""
    normalize = layers.Normalization(axis=-1)
    normalize.adapt(_numbers("forecaster", 20, 16, 3) * 2 + 1)
    signal = _signal()
    x = normalize(signal)
    x = layers.Conv1D(6, 3, padding="causal", activation="relu")(x)
    x = layers.LSTM(6, return_sequences=True)(x)
    x = layers.LSTM(5, dropout=0.1, recurrent_dropout=0.1)(x)
    return keras.Model(signal, layers.Reshape((4, 3))(layers.Dense(12)(x)))


def wavenet() -> Any:
    """Gated causal convolutions, dilated."""
    signal = _signal(channels=1)
    x = layers.Conv1D(6, 1)(signal)
    skipped = []
    for rate in (1, 2, 4):
        options = {"padding": "causal", "dilation_rate": rate}
        wave = layers.Conv1D(6, 2, activation="tanh", **options)(x)
        gate = layers.Conv1D(6, 2, activation="sigmoid", **options)(x)
        y = layers.Multiply()([wave, gate])
        skipped.append(layers.Conv1D(4, 1)(y))
        x = layers.Add()([x, layers.Conv1D(6, 1)(y)])
    x = layers.Activation("relu")(layers.Add()(skipped))
    return keras.Model(signal, layers.Conv1D(5, 1, activation="softmax")(x))


def tcn() -> Any:
    signal = _signal()
    x = signal
    for rate in (1, 2):
        y = layers.Conv1D(6, 3, padding="causal", dilation_rate=rate)(x)
        y = layers.BatchNormalization()(y)
        y = layers.SpatialDropout1D(0.1)(layers.ReLU()(y))
        x = layers.ReLU()(layers.Conv1D(6, 1)(x) + y)
    return keras.Model(signal, layers.Dense(2)(x[:, -1]))


def signal_unet() -> Any:
    """Padding, cropping, upsampling and transposed convolution in one dimension."""
    signal = _signal(14)
    x = layers.ZeroPadding1D(1)(signal)
    down = layers.Conv1D(6, 3, padding="same", activation="relu")(x)
    x = layers.AveragePooling1D(2)(down)
    x = layers.Conv1D(6, 3, padding="same", activation="relu")(x)
    up = layers.UpSampling1D(2)(x)
    other = layers.Conv1DTranspose(6, 4, strides=2, padding="same")(x)
    x = layers.Concatenate()([up, other, down])
    x = layers.Cropping1D((1, 1))(x)
    return keras.Model(signal, layers.Conv1D(2, 1)(x))


def spectrogram() -> Any:
    """Sounds as images: the axis of channels is added, the spectrum is logarithmic."""
    frames = keras.Input((12, 10))
    x = ops.log(ops.abs(frames) + 1e-3)
    x = layers.Reshape((12, 10, 1))(x)
    normalize = layers.Normalization(axis=None)
    normalize.adapt(_numbers("spectrogram", 8, 12, 10, 1))
    x = layers.Conv2D(6, 3, activation="relu")(normalize(x))
    x = layers.MaxPooling2D()(x)
    return keras.Model(frames, layers.Dense(4)(layers.Flatten()(x)))


def heart() -> Any:
    """Residual blocks of one dimension."""
    signal = _signal(16, 2)
    x = layers.Conv1D(6, 5, padding="same")(signal)
    for strides in (1, 2):
        y = layers.BatchNormalization()(x)
        y = layers.Activation("relu")(y)
        y = layers.Conv1D(6, 5, strides=strides, padding="same")(y)
        x = layers.MaxPooling1D(strides)(x) if strides > 1 else x
        x = layers.add([x, y])
    return keras.Model(signal, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))


def volumes() -> Any:
    """Films, or scans: three dimensions."""
    return keras.Sequential(
        [
            keras.Input((6, 8, 8, 2)),
            layers.Conv3D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling3D(2),
            layers.Conv3D(4, 2, padding="same"),
            layers.AveragePooling3D((1, 3, 3)),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


def conv_lstm() -> Any:
    return keras.Sequential(
        [
            keras.Input((4, 6, 6, 1)),
            layers.ConvLSTM2D(3, 3, padding="same", return_sequences=True),
            layers.ConvLSTM2D(2, 3),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


# Operations


def rawops() -> Any:
    a, b = keras.Input((5,)), keras.Input((5,))
    x = (layers.Dense(5)(a) / 2.0 - 1.0) * 3.0
    x = 1.0 - x + b * a - b
    return keras.Model([a, b], [ops.relu(x), -x])


def keras_ops() -> Any:
    x = start = keras.Input((6, 4))
    x = ops.transpose(layers.Dense(4)(x), (0, 2, 1))
    x = ops.reshape(x, (-1, 24))
    x = ops.concatenate([ops.sigmoid(x), ops.tanh(x)], axis=-1)
    x = layers.Dense(4)(x)
    y = ops.exp(-ops.square(x)) / (1.0 + ops.abs(x))
    return keras.Model(start, [y, ops.softmax(x), ops.max(x, axis=-1)])


def slicing() -> Any:
    start = keras.Input((6, 5))
    x = layers.Dense(5)(start)
    first, rest = x[:, 0], x[:, 1:]
    return keras.Model(start, [first, rest, x[:, ::2, 1:-1], x[..., -1]])


def splitting() -> Any:
    """A layer's output in parts, as the gates of a cell."""
    start = keras.Input((8,))
    a, b, c = ops.split(layers.Dense(9)(start), 3, axis=-1)
    return keras.Model(start, ops.sigmoid(a) * ops.tanh(b) + c)


def dot_product_attention() -> Any:
    """Attention as one writes it by hand."""
    start = _signal(5, 6)
    query, key, value = (layers.Dense(4)(start) for _ in range(3))
    scores = ops.matmul(query, ops.transpose(key, (0, 2, 1))) / 2.0
    return keras.Model(start, ops.matmul(ops.softmax(scores, axis=-1), value))


def variational() -> Any:
    """What a variational encoder knows; its samples are drawn elsewhere."""
    start = keras.Input((8,))
    x = layers.Dense(6, activation="relu")(start)
    mean, log_variance = layers.Dense(2)(x), layers.Dense(2)(x)
    return keras.Model(start, [mean, ops.exp(0.5 * log_variance)])


def physics() -> Any:
    """Waves of a point, as in fields of light."""
    point = keras.Input((3,))
    waves = [point]
    for octave in range(3):
        waves += [ops.sin(point * 2.0**octave), ops.cos(point * 2.0**octave)]
    x = layers.Concatenate()(waves)
    x = layers.Dense(8, activation="softplus")(x)
    return keras.Model(point, layers.Dense(1)(x))


def clipped() -> Any:
    start = keras.Input((6,))
    x = layers.Dense(4)(start)
    x = ops.clip(x, -1.0, 1.0)
    x = ops.maximum(x, 0.5 * x) ** 2
    return keras.Model(start, ops.where(x > 0.25, x, 0.1 * x))


# What is known to a computer with the code alone, or differs in more than form


def mixed() -> Any:
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        return keras.Sequential(
            [
                _image(),
                layers.Conv2D(6, 3, activation="relu"),
                layers.BatchNormalization(),
                layers.Flatten(),
                layers.Dense(4),
                layers.Activation("softmax", dtype="float32"),
            ]
        )
    finally:
        keras.mixed_precision.set_dtype_policy(policy)


@keras.saving.register_keras_serializable("zoo")
class Scale(keras.layers.Layer):  # type: ignore[misc]
    """A layer that only this file knows: each channel times a weight of its own."""

    def build(self, input_shape: Any) -> None:
        self.factor = self.add_weight(
            shape=(input_shape[-1],), initializer="ones", name="factor"
        )

    def call(self, inputs: Any) -> Any:
        return inputs * self.factor


def custom() -> Any:
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, activation="relu"), Scale(name="scale")]
    )


def lambdas() -> Any:
    start = keras.Input((6,))
    x = layers.Lambda(lambda value: value * 2, name="twice")(layers.Dense(4)(start))
    return keras.Model(start, x)
