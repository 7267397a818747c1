"""Models made in JavaScript, as pages make them, and what TensorFlow.js predicts of
them: between them every layer that Keras has, too."""

from __future__ import annotations

import contextlib
import re
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

import numpy as np
from javascript import Function
from javascript import javascript

import flask_tfjs

SCRIPT = Path(flask_tfjs.__file__).parent / "static/keras-layers.js"

_MAKING = "packages => packages('./making.cjs')(packages('@tensorflow/tfjs'))"

Kind = t.Literal["numbers", "words", "masked"]


@dataclass(frozen=True)
class Made:
    """A model.

    :ivar expression: makes it of ``tf`` and ``L``, which is ``tf.layers``.
    :ivar kind: of its inputs.
    :ivar trained: it is trained, and saved with its optimizer.
    :ivar script: it has layers of the script.
    :ivar only: the one ending of files that it can be written to.
    """

    expression: str
    kind: Kind = "numbers"
    trained: bool = False
    script: bool = False
    only: str | None = None


class Saved(t.NamedTuple):
    """A model that was saved as a browser saves it.

    :ivar examples: an .npz file: arrays ``input_0``, …, and what TensorFlow.js
        predicted, ``output_0``, ….
    """

    directory: Path
    examples: Path


class TFJSFailed(Exception):
    """TensorFlow.js could not do it."""


class Maker:
    """TensorFlow.js in Node, which makes one model after another."""

    def __init__(self, function: Function) -> None:
        self._function = function

    def make(self, made: Made, directory: Path) -> Saved:
        return self._run(
            directory,
            expression=made.expression,
            kind=made.kind,
            trained=made.trained,
            script=made.script,
        )

    def retrain(
        self, model: Path, directory: Path, *, script: bool, kind: Kind = "numbers"
    ) -> Saved:
        """Load the model in the directory *model*, train it, save it in another."""
        return self._run(
            directory, load=str(model), kind=kind, trained=True, script=script
        )

    def _run(self, directory: Path, *, script: bool, **job: t.Any) -> Saved:
        job["directory"] = str(directory)
        if script:
            job["script"] = str(SCRIPT)
        result = self._function(job)
        if "error" in result:
            raise TFJSFailed(result["error"])
        examples = directory.with_suffix(".npz")
        arrays: t.Any = dict(_arrays(result))
        np.savez(examples, **arrays)
        return Saved(directory, examples)


def _arrays(result: dict[str, t.Any]) -> Iterator[tuple[str, np.typing.NDArray[t.Any]]]:
    for kind in ("input", "output"):
        for index, tensor in enumerate(result[f"{kind}s"]):
            array = np.array(tensor["values"], tensor["dtype"])
            yield f"{kind}_{index}", array.reshape(tensor["shape"])


@contextlib.contextmanager
def start_maker() -> Iterator[Maker]:
    with javascript(_MAKING, "@tensorflow/tfjs") as function:
        yield Maker(function)


def chain(shape: str, *layers: str, **options: t.Any) -> Made:
    """A Sequential; the first layer tells the shape."""
    first, *others = [f"L.{layer}" for layer in layers]
    first = first.replace("({", f"({{inputShape: {shape}, ", 1)
    return Made(
        f"tf.sequential({{layers: [{', '.join([first, *others])}]}})", **options
    )


def graph(body: str, **options: t.Any) -> Made:
    """A functional model: statements that leave its inputs in ``x``, its outputs in
    ``y``."""
    return Made(
        f"(() => {{{body} return tf.model({{inputs: x, outputs: y}});}})()", **options
    )


def scripted(shape: str, class_name: str, config: str, **options: t.Any) -> Made:
    """A model of one layer of the script."""
    return Made(
        f"""(() => {{
            const Class = tf.serialization.SerializationMap.getMap()
                .classNameMap.{class_name}[0];
            const x = tf.input({{shape: {shape}}});
            return tf.model({{inputs: x, outputs: new Class({config}).apply(x)}});
        }})()""",
        script=True,
        **options,
    )


def scripted_in(class_name: str, layer: str) -> Made:
    """A model of one layer, which has one of the script in it, called ``Class``."""
    return Made(
        f"""(() => {{
            const Class = tf.serialization.SerializationMap.getMap()
                .classNameMap.{class_name}[0];
            return tf.sequential({{layers: [{layer}]}});
        }})()""",
        script=True,
    )


def words(embedding: str, *layers: str, **options: t.Any) -> Made:
    """A Sequential that takes words; *embedding* is the config of its first layer."""
    first = f"embedding({embedding})"
    listed = ", ".join(f"L.{layer}" for layer in (first, *layers))
    return Made(f"tf.sequential({{layers: [{listed}]}})", kind="words", **options)


def masked_words(*layers: str, **options: t.Any) -> Made:
    embedding = "{inputDim: 10, outputDim: 4, maskZero: true, inputLength: 6}"
    return words(embedding, *layers, **options)


_SIGMOID = "recurrentActivation: 'sigmoid'"

MODELS: dict[str, Made] = {
    # Tables
    "mlp": chain(
        "[6]",
        "dense({units: 5, activation: 'relu', kernelRegularizer: 'l1l2'})",
        "dropout({rate: 0.3, seed: 1})",
        "batchNormalization({momentum: 0.9, epsilon: 0.01})",
        "dense({units: 4, activation: 'softmax', kernelConstraint: 'unitNorm'})",
        trained=True,
    ),
    "initializers": chain(
        "[3]",
        *(
            f"dense({{units: 3, kernelInitializer: tf.initializers.{one}}})"
            for one in (
                *("zeros()", "ones()", "constant({value: 0.5})", "identity({gain: 2})"),
                *(
                    "randomUniform({minval: -1, maxval: 1, seed: 3})",
                    "glorotUniform({})",
                ),
                *(
                    "randomNormal({mean: 1, stddev: 2})",
                    "leCunNormal({})",
                    "heUniform({})",
                ),
                *("truncatedNormal({mean: 0, stddev: 1})", "orthogonal({gain: 1.5})"),
                "varianceScaling({scale: 2, mode: 'fanOut', distribution: 'normal'})",
            )
        ),
    ),
    "constraints": chain(
        "[4]",
        "dense({units: 3, kernelConstraint: tf.constraints.maxNorm({maxValue: 2})})",
        "dense({units: 3, kernelConstraint: tf.constraints.minMaxNorm({minValue: 0.5,"
        " maxValue: 1, rate: 0.9, axis: 0}), biasConstraint: 'nonNeg'})",
        "dense({units: 2, kernelRegularizer: tf.regularizers.l2({l2: 0.1}),"
        " useBias: false})",
    ),
    "activations": chain(
        "[6]",
        *(
            f"dense({{units: 6, activation: '{name}'}})"
            for name in (
                *("elu", "selu", "relu", "relu6", "linear", "sigmoid", "softplus"),
                *("softsign", "tanh", "softmax", "logSoftmax", "gelu", "mish", "swish"),
            )
        ),
    ),
    "activation-layers": chain(
        "[6]",
        "dense({units: 6})",
        "reLU({maxValue: 0.4})",
        "dense({units: 6})",
        "leakyReLU({alpha: 0.15})",
        "dense({units: 6})",
        "prelu({})",
        "dense({units: 6})",
        "elu({})",
        "activation({activation: 'swish'})",
        "softmax({})",
    ),
    "leaky-default": chain("[6]", "leakyReLU({})", "reLU({})", "prelu({})"),
    "prelu-shared": chain("[4, 5, 3]", "prelu({sharedAxes: [1, 2]})"),
    "softmax-axis": chain("[4, 5]", "dense({units: 3})", "softmax({axis: -1})"),
    "hard-sigmoid": chain(
        "[4]", "dense({units: 5, activation: 'hardSigmoid'})", only=".h5"
    ),
    "thresholded": chain("[5]", "dense({units: 8})", "thresholdedReLU({theta: 0.2})"),
    "gelu-new": chain(
        "[5]",
        "dense({units: 4})",
        "activation({activation: 'gelu_new'})",
        "dense({units: 2})",
        only=".keras",
    ),
    "noise": chain(
        "[5]",
        "gaussianNoise({stddev: 0.3})",
        "dense({units: 4})",
        "gaussianDropout({rate: 0.2})",
        "alphaDropout({rate: 0.1})",
        "dropout({rate: 0.5, noiseShape: [null, 1]})",
    ),
    "rescaling": chain(
        "[4, 3]",
        "rescaling({scale: [2, 0.5, -1], offset: [1, 0, 0.25]})",
        "rescaling({scale: 0.1})",
    ),
    # Shapes
    "shapes": chain(
        "[2, 3, 4]",
        "flatten({})",
        "reshape({targetShape: [4, 6]})",
        "permute({dims: [2, 1]})",
        "dense({units: 3, useBias: false})",
        "reshape({targetShape: [2, 9]})",
        "flatten({})",
        "repeatVector({n: 3})",
    ),
    "flatten-channels-first": chain(
        "[2, 3, 4]", "flatten({dataFormat: 'channelsFirst'})", "dense({units: 3})"
    ),
    # Images
    "cnn": chain(
        "[9, 8, 2]",
        "conv2d({filters: 3, kernelSize: [3, 2], strides: 2, padding: 'same',"
        " activation: 'relu'})",
        "batchNormalization({scale: false})",
        "batchNormalization({center: false})",
        "maxPooling2d({poolSize: 2, strides: 1})",
        "conv2d({filters: 4, kernelSize: 2, dilationRate: 2, useBias: false})",
        "globalAveragePooling2d({})",
        "dense({units: 3})",
    ),
    "cnn-trained": chain(
        "[8, 8, 2]",
        "conv2d({filters: 3, kernelSize: 3, activation: 'tanh'})",
        "batchNormalization({})",
        "averagePooling2d({poolSize: [2, 3], padding: 'same'})",
        "flatten({})",
        "dense({units: 2})",
        trained=True,
    ),
    "mobile": chain(
        "[8, 8, 3]",
        "zeroPadding2d({padding: [[0, 1], [2, 1]]})",
        "depthwiseConv2d({kernelSize: 3, strides: 2, depthMultiplier: 2})",
        "batchNormalization({})",
        "reLU({maxValue: 6})",
        "separableConv2d({filters: 4, kernelSize: 2, depthMultiplier: 2,"
        " activation: 'relu'})",
        "globalMaxPooling2d({})",
    ),
    "depthwise-dilated": chain(
        "[8, 8, 2]",
        "depthwiseConv2d({kernelSize: 3, dilationRate: 2, depthwiseRegularizer: 'l1l2',"
        " padding: 'same', activation: 'relu'})",
    ),
    "channels-first": chain(
        "[3, 7, 6]",
        "conv2d({filters: 4, kernelSize: 3, dataFormat: 'channelsFirst'})",
        "zeroPadding2d({padding: 1, dataFormat: 'channelsFirst'})",
        "cropping2D({cropping: [1, 0], dataFormat: 'channelsFirst'})",
        "maxPooling2d({poolSize: 2, dataFormat: 'channelsFirst'})",
        "upSampling2d({size: [2, 2], dataFormat: 'channelsFirst'})",
        "globalAveragePooling2d({dataFormat: 'channelsFirst'})",
    ),
    "resized": chain(
        "[6, 5, 2]",
        "cropping2D({cropping: [[1, 0], [0, 2]]})",
        "upSampling2d({size: [2, 3]})",
        "zeroPadding2d({padding: 1})",
        "conv2d({filters: 2, kernelSize: 3, padding: 'same'})",
    ),
    "transposed": chain(
        "[4, 5, 2]",
        "conv2dTranspose({filters: 3, kernelSize: 3, strides: 2, padding: 'same'})",
        "conv2dTranspose({filters: 2, kernelSize: [2, 4], strides: [3, 1],"
        " activation: 'sigmoid'})",
    ),
    "volumes": chain(
        "[6, 5, 4, 2]",
        "conv3d({filters: 3, kernelSize: 2, activation: 'relu'})",
        "maxPooling3d({poolSize: 2, strides: 1, padding: 'same'})",
        "averagePooling3d({poolSize: [2, 1, 1]})",
        "conv3dTranspose({filters: 2, kernelSize: 2, strides: 2})",
    ),
    "batch-norm-axis": chain(
        "[4, 3]", "dense({units: 3})", "batchNormalization({axis: -1})"
    ),
    "layer-norm": chain(
        "[4, 5]",
        "layerNormalization({})",
        "dense({units: 5})",
        "layerNormalization({axis: [1, 2], epsilon: 0.1})",
        "layerNormalization({axis: 2, scale: false})",
        "layerNormalization({center: false})",
    ),
    # Sequences
    "conv1d": chain(
        "[12, 3]",
        "conv1d({filters: 4, kernelSize: 3, padding: 'same', strides: 2})",
        "maxPooling1d({poolSize: 2, padding: 'same'})",
        "conv1d({filters: 3, kernelSize: 2, dilationRate: 2, activation: 'relu',"
        " useBias: false})",
        "globalAveragePooling1d({})",
    ),
    "pooling1d": chain(
        "[9, 3]",
        "averagePooling1d({poolSize: 3, strides: 2})",
        "spatialDropout1d({rate: 0.2})",
        "globalMaxPooling1d({})",
    ),
    "simple-rnn": chain(
        "[5, 3]",
        "simpleRNN({units: 4, returnSequences: true, dropout: 0.1})",
        "simpleRNN({units: 3, activation: 'relu', goBackwards: true, useBias: false})",
    ),
    "lstm": chain(
        "[5, 3]",
        f"lstm({{units: 4, returnSequences: true, {_SIGMOID}}})",
        f"lstm({{units: 3, goBackwards: true, {_SIGMOID}, unitForgetBias: false,"
        " useBias: false})",
    ),
    "lstm-trained": chain(
        "[5, 3]",
        f"lstm({{units: 4, {_SIGMOID}, recurrentDropout: 0.1}})",
        "dense({units: 2})",
        trained=True,
    ),
    "lstm-as-made": chain("[5, 3]", "lstm({units: 4})", only=".h5"),
    "gru": chain(
        "[5, 3]",
        f"gru({{units: 4, returnSequences: true, {_SIGMOID}}})",
        f"gru({{units: 3, {_SIGMOID}, kernelRegularizer: 'l1l2'}})",
    ),
    "gru-as-made": chain("[5, 3]", "gru({units: 4})", only=".h5"),
    "words": masked_words(
        f"lstm({{units: 4, returnSequences: true, {_SIGMOID}}})",
        f"gru({{units: 3, {_SIGMOID}}})",
    ),
    "words-unmasked": words(
        "{inputDim: 10, outputDim: 4, embeddingsConstraint: 'unitNorm'}",
        "globalAveragePooling1d({})",
        "dense({units: 2})",
        trained=True,
    ),
    "masking": chain(
        "[5, 3]",
        "masking({})",
        "dense({units: 4, activation: 'tanh'})",
        f"bidirectional({{layer: L.lstm({{units: 3, {_SIGMOID}}})}})",
        kind="masked",
    ),
    "bidirectional": chain(
        "[5, 3]",
        "bidirectional({layer: L.simpleRNN({units: 3, returnSequences: true})})",
        f"bidirectional({{mergeMode: 'ave', layer: L.gru({{units: 3, {_SIGMOID},"
        " returnSequences: true})})",
        "bidirectional({layer: L.simpleRNN({units: 3, goBackwards: true,"
        " returnSequences: true}), mergeMode: 'mul'})",
        f"bidirectional({{layer: L.lstm({{units: 2, {_SIGMOID}}}), mergeMode: 'sum'}})",
    ),
    "bidirectional-apart": graph(
        f"""const x = tf.input({{shape: [4, 3]}});
        const y = L.bidirectional({{layer: L.lstm({{units: 2, returnState: true,
            {_SIGMOID}}}), mergeMode: null}}).apply(x);"""
    ),
    "time-distributed": chain(
        "[4, 6, 6, 2]",
        "timeDistributed({layer: L.conv2d({filters: 3, kernelSize: 3})})",
        "timeDistributed({layer: L.batchNormalization({})})",
        "timeDistributed({layer: L.flatten({})})",
        "timeDistributed({layer: L.dense({units: 4, activation: 'relu'})})",
        f"lstm({{units: 3, {_SIGMOID}}})",
    ),
    "time-distributed-rnn": chain(
        "[3, 4, 2]",
        "timeDistributed({layer: L.simpleRNN({units: 3})})",
    ),
    "frames": chain(
        "[3, 6, 6, 2]",
        f"convLstm2d({{filters: 3, kernelSize: 3, {_SIGMOID}, returnSequences: true,"
        " padding: 'same'})",
        f"convLstm2d({{filters: 2, kernelSize: 2, strides: 2, {_SIGMOID}}})",
    ),
    "cell": chain("[4, 3]", "rnn({cell: L.simpleRNNCell({units: 3})})"),
    "cells": chain(
        "[4, 3]",
        f"rnn({{cell: [L.lstmCell({{units: 3, {_SIGMOID}}}),"
        f" L.gruCell({{units: 2, {_SIGMOID}}}), L.lstmCell({{units: 4, {_SIGMOID}}})],"
        " returnSequences: true})",
    ),
    "stateful": Made(
        f"""tf.sequential({{layers: [L.lstm({{units: 3, stateful: true, {_SIGMOID},
            batchInputShape: [3, 4, 2]}})]}})"""
    ),
    # Graphs
    "merging": graph(
        """const x = [tf.input({shape: [4]}), tf.input({shape: [4]})];
        const a = L.dense({units: 3}).apply(x[0]);
        const b = L.dense({units: 3, activation: 'tanh'}).apply(x[1]);
        const y = ['add', 'multiply', 'average', 'maximum', 'minimum', 'concatenate']
            .map((name) => L[name]({}).apply([a, b]));
        y.push(L.dot({axes: 1}).apply([a, b]));
        y.push(L.dot({axes: -1, normalize: true}).apply([b, a]));"""
    ),
    "merging-matrices": graph(
        """const x = [tf.input({shape: [4, 3]}), tf.input({shape: [4, 3]}),
                   tf.input({shape: [3]})];
        const y = [L.concatenate({axis: 1}).apply([x[0], x[1]]),
                   L.dot({axes: [2, 2]}).apply([x[0], x[1]]),
                   L.dot({axes: 1}).apply([x[0], x[1]]),
                   L.dot({axes: [2, 1]}).apply([x[0], x[2]]),
                   L.add().apply([x[0], x[2]]),
                   L.average().apply([x[0], x[1], x[0]])];"""
    ),
    "residual": graph(
        """const x = tf.input({shape: [8, 8, 3]});
        let z = L.conv2d({filters: 4, kernelSize: 3, padding: 'same'}).apply(x);
        for (let i = 0; i < 2; i++) {
            const inner = L.batchNormalization().apply(
                L.conv2d({filters: 4, kernelSize: 3, padding: 'same'}).apply(z));
            z = L.activation({activation: 'relu'}).apply(L.add().apply([inner, z]));
        }
        const y = L.dense({units: 2}).apply(L.flatten().apply(z));""",
        trained=True,
    ),
    "branches": graph(
        # Of one class and shape, and not named or listed as they are used.
        """const x = tf.input({shape: [3]});
        const [d, b, a, c] = ['d', 'b', 'a', 'c'].map(
            (name) => L.dense({units: 3, name}));
        const left = a.apply(b.apply(x));
        const right = c.apply(x);
        const y = [L.add().apply([d.apply(right), left]),
                   L.average().apply([right, left])];"""
    ),
    "shared": graph(
        """const x = [tf.input({shape: [4]}), tf.input({shape: [4]})];
        const one = L.dense({units: 4, activation: 'tanh'});
        const other = L.dense({units: 4});
        const a = one.apply(x[0]);
        const b = one.apply(other.apply(x[1]));
        const y = [L.add().apply([one.apply(b), a]), other.apply(a)];"""
    ),
    "states": graph(
        f"""const x = [tf.input({{shape: [5, 3]}}), tf.input({{shape: [4, 3]}})];
        const encoder = L.lstm({{units: 4, returnState: true, {_SIGMOID}}});
        const [, h, c] = encoder.apply(x[0]);
        const decoded = L.lstm({{units: 4, returnSequences: true, {_SIGMOID}}}).apply(
            x[1], {{initialState: [h, c]}});
        const also = L.gru({{units: 4, {_SIGMOID}}}).apply(x[1], {{initialState: [h]}});
        const y = [L.dense({{units: 2}}).apply(decoded), also];"""
    ),
    "states-both-ways": graph(
        """const x = [tf.input({shape: [4, 3]}), tf.input({shape: [2]}),
                   tf.input({shape: [2]})];
        const y = L.bidirectional({layer: L.simpleRNN({units: 2})}).apply(
            x[0], {initialState: [x[1], x[2]]});"""
    ),
    "nested": Made(
        """tf.sequential({layers: [
            tf.sequential({layers: [L.dense({units: 4, inputShape: [3]}),
                                    L.batchNormalization({})]}),
            L.dense({units: 2}),
        ]})""",
        trained=True,
    ),
    "nested-functional": graph(
        """const inner = (() => {
            const i = tf.input({shape: [3]});
            const o = [L.dense({units: 2}).apply(i), L.dense({units: 3}).apply(i)];
            return tf.model({inputs: i, outputs: o});
        })();
        const middle = tf.sequential({layers: [
            L.dense({units: 3, inputShape: [3]}), L.batchNormalization({}),
            L.dense({units: 3}),
        ]});
        const x = tf.input({shape: [3]});
        const z = inner.apply(middle.apply(x));
        const y = [z[0], ...inner.apply(z[1]), ...inner.apply(x)];"""
    ),
    "nested-inputs": graph(
        """const i = [tf.input({shape: [3]}), tf.input({shape: [2]})];
        const inner = tf.model({inputs: i, outputs: L.concatenate().apply(
            [L.dense({units: 2}).apply(i[1]), L.dense({units: 2}).apply(i[0])])});
        const x = [tf.input({shape: [2]}), tf.input({shape: [3]})];
        const y = L.dense({units: 1}).apply(inner.apply([x[1], x[0]]));"""
    ),
    "nested-output": graph(
        """const layers = [L.dense({units: 3, inputShape: [3]})];
        const inner = tf.sequential({layers});
        const i = tf.input({shape: [3]});
        const model = tf.model({inputs: i, outputs: L.dense({units: 3}).apply(i)});
        const x = tf.input({shape: [3]});
        const y = [model.apply(x), inner.apply(x), model.apply(inner.apply(x))];"""
    ),
    "frozen": Made(
        """(() => {
            const model = tf.sequential({layers: [
                L.dense({units: 4, inputShape: [3], trainable: false}),
                L.batchNormalization({trainable: false}), L.batchNormalization({}),
                L.dense({units: 2}),
            ]});
            const x = tf.input({shape: [3]});
            return tf.model({inputs: x, outputs: L.dense({units: 2}).apply(
                model.apply(x))});
        })()"""
    ),
    "odd-names": Made(
        """tf.sequential({name: 'my/model', layers: [
            L.dense({units: 3, inputShape: [3], name: 'block-1/size'}),
            L.dense({units: 3, name: 'block-1_size'}),
            L.repeatVector({n: 2}),
            L.bidirectional({layer: L.simpleRNN({units: 2, name: 'in/side'}),
                             name: 'top_level_model_weights'}),
        ]})"""
    ),
}


_BOTH_WAYS = (
    f"bidirectional({{layer: L.lstm({{units: 3, returnSequences: true, {_SIGMOID}}})}})"
)
_LSTM = f"lstm({{units: 3, {_SIGMOID}}})"
_SEQUENCES = f"lstm({{units: 3, returnSequences: true, {_SIGMOID}}})"

#: Masks, which Keras and TensorFlow.js hand on in different ways.
MASKED: dict[str, Made] = {
    "through-many": masked_words(
        "layerNormalization({})",
        "batchNormalization({})",
        "prelu({})",
        "activation({activation: 'tanh'})",
        "dropout({rate: 0.1})",
        "dense({units: 4})",
        _LSTM,
    ),
    "kept-for-the-next": masked_words("leakyReLU({})", "elu({})", _LSTM),
    "twice": masked_words(_SEQUENCES, _LSTM),
    "both-ways": masked_words(_BOTH_WAYS, "dense({units: 3})", _LSTM),
    "dropped": masked_words("globalAveragePooling1d({})", only=".keras"),
    "flattened": masked_words("flatten({})", "dense({units: 2})"),
    "convolved": chain(
        "[5, 3]",
        "masking({})",
        _SEQUENCES,
        "conv1d({filters: 2, kernelSize: 2})",
        kind="masked",
    ),
    "rescaled": chain(
        "[5, 3]",
        "masking({maskValue: 0})",
        "rescaling({scale: 2})",
        _LSTM,
        kind="masked",
        only=".keras",
    ),
    "of-two": graph(
        f"""const x = tf.input({{shape: [6]}});
        const embedded = [0, 1].map(() => L.embedding(
            {{inputDim: 10, outputDim: 4, maskZero: true}}).apply(x));
        const y = L.{_LSTM}.apply(L.concatenate().apply(embedded));""",
        kind="words",
    ),
    "beside-one-without": graph(
        f"""const x = [tf.input({{shape: [6]}}), tf.input({{shape: [6]}})];
        const [a, b] = x.map((one, i) => L.{_LSTM}.apply(L.embedding(
            {{inputDim: 10, outputDim: 4, maskZero: i === 0}}).apply(one)));
        const y = L.concatenate().apply([a, b]);""",
        kind="words",
    ),
}


#: Layers of the script.
SCRIPTED: dict[str, Made] = {
    "gru": scripted("[5, 3]", "KerasGRU", "{units: 4, returnSequences: true}"),
    "gru-options": scripted(
        "[5, 3]",
        "KerasGRU",
        "{units: 4, goBackwards: true, useBias: false, activation: 'relu'}",
    ),
    "gru-cell": scripted_in(
        "KerasGRUCell", "L.rnn({cell: new Class({units: 3}), inputShape: [4, 3]})"
    ),
    "gru-both-ways": scripted_in(
        "KerasGRU",
        "L.bidirectional({layer: new Class({units: 3}), inputShape: [4, 3]})",
    ),
    "up-sampling": scripted(
        "[4, 5, 2]", "KerasUpSampling2D", "{size: [2, 3], interpolation: 'bilinear'}"
    ),
    "groups": scripted(
        "[4, 5, 6]", "KerasGroupNormalization", "{groups: 3, epsilon: 0.01}"
    ),
    "groups-of-one": scripted(
        "[4, 6]", "KerasGroupNormalization", "{groups: -1, scale: false, axis: 1}"
    ),
    "rms": scripted("[4, 6]", "KerasRMSNormalization", "{}", only=".keras"),
    "rms-axes": scripted(
        "[4, 6]",
        "KerasRMSNormalization",
        "{axis: [1, 2], epsilon: 0.1}",
        only=".keras",
    ),
    "unit": scripted("[4, 6]", "KerasUnitNormalization", "{}"),
    "unit-axes": scripted("[4, 6]", "KerasUnitNormalization", "{axis: [1, 2]}"),
    "einsum-dense": scripted(
        "[4, 6]",
        "KerasEinsumDense",
        "{equation: 'abc,cd->abd', outputShape: [null, 3], biasAxes: 'd',"
        " activation: 'relu'}",
    ),
    "einsum-dense-heads": scripted(
        "[4, 6]",
        "KerasEinsumDense",
        "{equation: 'abc,cde->abde', outputShape: [4, 3, 2], biasAxes: 'de'}",
    ),
    "causal": scripted("[4, 4]", "KerasCausalMask", "{}", only=".keras"),
    "causal-of-any-length": scripted(
        "[null, 4]", "KerasCausalMask", "{}", only=".keras"
    ),
}


def _camel_case(name: str) -> str:
    """As TensorFlow.js has a name from a JSON, and writes it there again."""
    return re.sub("_([a-z])", lambda match: match[1].upper(), name)


def _operation(
    name: str,
    options: str = "{}",
    *shapes: str,
    constants: str = "null",
    kind: Kind = "numbers",
    before: str = "",
) -> Made:
    """A model of one operation of the script, on inputs of *shapes*."""
    inputs = ", ".join(
        f"tf.input({{shape: {shape}}})" for shape in shapes or ("[4, 3]",)
    )
    return graph(
        f"""const Class = tf.serialization.SerializationMap.getMap()
            .classNameMap.KerasOperation[0];
        const x = [{inputs}];
        const taken = {before or "x"};
        const y = new Class({{operation: '{_camel_case(name)}', options: {options},
            constants: {constants}}}).apply(taken.length > 1 ? taken : taken[0]);""",
        kind=kind,
        script=True,
        only=".keras",
    )


_POSITIVE = "[L.rescaling({scale: 0.4, offset: 0.5}).apply(x[0])]"
_ABOVE_ONE = "[L.rescaling({scale: 2, offset: 3.5}).apply(x[0])]"
_TRUTHS = "x.map((one) => L.reLU({}).apply(one))"
_PAIR = ("[4, 3]", "[4, 3]")

OPERATIONS: dict[str, Made] = {
    **{
        name: _operation(name)
        for name in """
            absolute arcsin arccos arcsinh arctan arctanh ceil cos cosh erf exp exp2
            expm1 floor isfinite isnan ones_like sign sin sinh sparse_plus
            sparse_sigmoid tan trunc zeros_like
        """.split()
    },
    **{
        name: _operation(name, before=_POSITIVE)
        for name in "log log10 log1p log2 reciprocal rsqrt sqrt".split()
    },
    "arccosh": _operation("arccosh", before=_ABOVE_ONE),
    # It only ends a mask, as Keras does by itself.
    "identity": replace(_operation("identity"), only=None),
    "logical_not": _operation("logical_not", before=_TRUTHS),
    "round": _operation("round", "{decimals: 1}"),
    "elu": _operation("elu", "{alpha: 0.5}"),
    "celu": _operation("celu", "{alpha: 2}"),
    "square_plus": _operation("square_plus", "{b: 3}"),
    "hard_shrink": _operation("hard_shrink", "{threshold: 0.3}"),
    "soft_shrink": _operation("soft_shrink", "{threshold: 0.3}"),
    "threshold": _operation("threshold", "{threshold: 0.1, defaultValue: -3}"),
    "clip": _operation("clip", "{xMin: -0.5, xMax: 0.25}"),
    "glu": _operation("glu", "{axis: 1}"),
    "softmax": _operation("softmax", "{axis: 1}"),
    "softmax-axes": _operation("softmax", "{axis: [1, 2]}"),
    "log_softmax": _operation("log_softmax", "{axis: 1}"),
    "log_softmax-axes": _operation("log_softmax", "{axis: [1, 2]}"),
    "cast-int": _operation("cast", "{dtype: 'int32'}", before=_ABOVE_ONE),
    "cast-bool": _operation("cast", "{dtype: 'bool'}", before=_TRUTHS),
    "cumsum": _operation("cumsum", "{axis: 1}"),
    **{
        name: _operation(name, "{}", *_PAIR)
        for name in """
            add subtract multiply divide mod floor_divide arctan2 squared_difference
            maximum minimum greater greater_equal less less_equal equal not_equal
        """.split()
    },
    **{
        name: _operation(name, "{}", *_PAIR, before=_TRUTHS)
        for name in "logical_and logical_or logical_xor".split()
    },
    "power": _operation("power", constants="[2, null]"),
    "subtract-constants": _operation("subtract", constants="[[1, 2, 3], null]"),
    "greater-constant": _operation("greater", constants="[null, 0.25]"),
    "divide-broadcasting": _operation("divide", "{}", "[4, 3]", "[1, 3]"),
    "where": _operation("where", "{}", *_PAIR, constants="[null, 2]", before=_TRUTHS),
    **{
        name: _operation(name, "{axis: 1}")
        for name in "sum mean max min prod var std any all logsumexp argmax".split()
    },
    "sum-keepdims": _operation("sum", "{axis: [1, -1], keepdims: true}"),
    "argmin": _operation("argmin", "{axis: -1, keepdims: true}"),
    "matmul": _operation("matmul", "{}", "[2, 4, 3]", "[2, 3, 5]"),
    "matmul-constant": _operation("matmul", constants="[null, [[1], [2], [3]]]"),
    "einsum": _operation("einsum", "{subscripts: 'abc,adc->abd'}", "[4, 3]", "[5, 3]"),
    "get_item": _operation(
        "get_item",
        "{key: [{}, {start: 1, stop: null, step: 2}, null, -1]}",
    ),
    "get_item-ellipsis": _operation("get_item", "{key: ['ellipsis', 1]}"),
    "pad": _operation(
        "pad", "{padWidth: [[0, 0], [1, 2], [0, 1]], constantValues: 0.5}"
    ),
    "pad-reflect": _operation(
        "pad", "{padWidth: [[0, 0], [1, 2], [0, 1]], mode: 'reflect'}"
    ),
    "crop": _operation("crop", "{cropping: [[0, 0], [1, 2], [0, 1]]}"),
    "upsample": _operation("upsample", "{size: [1, 2, 3]}"),
    "expand_dims": _operation("expand_dims", "{axis: [1, -1]}"),
    "squeeze": _operation("squeeze", "{axis: 2}", "[4, 1]"),
    "flip": _operation("flip", "{axis: 1}"),
    "stack": _operation("stack", "{axis: 1}", *_PAIR),
    "one_hot": _operation("one_hot", "{numClasses: 10}", "[5]", kind="words"),
}
