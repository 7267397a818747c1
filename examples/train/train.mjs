// Trains a small classifier of handwritten digits and saves it for the example.
// Usage: node train.mjs digits.json ../digits

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { augment, generator } from "./augment.mjs";

const EPOCHS = 60;
const BATCH = 48;
const LEARNING_RATE = 2e-3;
// The share of images that are trained on as they are.
const UNTOUCHED = 0.5;

const [source, destination] = process.argv.slice(2);
const random = generator(1);
const digits = readDigits(source);
const held = digits.filter((_, i) => i % 5 === 4);
const seen = digits.filter((_, i) => i % 5 !== 4);

const model = build();
await train(model, seen);
const accuracy = measure(model, held);
console.log(`${(100 * accuracy).toFixed(2)} % of ${held.length} held-out digits`);
await model.save(directory(destination));
writeFileSync(
  join(destination, "metadata.json"),
  JSON.stringify(
    {
      labels: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
      input: "8 x 8 counts of inked pixels, 0 to 16, row by row",
      accuracy: Number(accuracy.toFixed(4)),
      heldOut: held.length,
      trainedOn: `${seen.length} of scikit-learn's handwritten digits`,
      trainedWith: `examples/train/train.mjs, TensorFlow.js ${tf.version.tfjs}`,
    },
    null,
    2,
  ) + "\n",
);

function readDigits(path) {
  const { images, labels } = JSON.parse(readFileSync(path));
  return images.map((image, i) => ({ image, label: labels[i] }));
}

function build() {
  const dense = (units, activation, seed) =>
    tf.layers.dense({
      units,
      activation,
      kernelInitializer: tf.initializers.heNormal({ seed }),
    });
  const model = tf.sequential({
    layers: [
      tf.layers.rescaling({ inputShape: [64], scale: 1 / 16 }),
      dense(256, "relu", 1),
      dense(64, "relu", 2),
      dense(10, "softmax", 3),
    ],
  });
  model.compile({ optimizer: "adam", loss: "sparseCategoricalCrossentropy" });
  return model;
}

// Not model.fit, which shuffles with Math.random and sees the same images in
// each epoch.
async function train(model, digits) {
  for (let epoch = 0; epoch < EPOCHS; epoch++) {
    const cooling = (1 + Math.cos((Math.PI * epoch) / EPOCHS)) / 2;
    model.optimizer.learningRate = LEARNING_RATE * cooling;
    const order = shuffled(digits);
    for (let i = 0; i < order.length; i += BATCH) {
      const batch = order.slice(i, i + BATCH).map(vary);
      const [images, labels] = tensors(batch);
      await model.trainOnBatch(images, labels);
      tf.dispose([images, labels]);
    }
  }
}

function vary({ image, label }) {
  return { image: random() < UNTOUCHED ? image : augment(image, random), label };
}

function shuffled(items) {
  return items
    .map((item) => [random(), item])
    .sort(([a], [b]) => a - b)
    .map(([, item]) => item);
}

function measure(model, digits) {
  return tf.tidy(() => {
    const [images, labels] = tensors(digits);
    const guesses = model.predict(images).argMax(1);
    return guesses.equal(labels).mean().arraySync();
  });
}

function tensors(digits) {
  return [
    tf.tensor2d(digits.map(({ image }) => image)),
    tf.tensor1d(digits.map(({ label }) => label)),
  ];
}

// Writes the files that tfjs would upload: plain tfjs has no handler for
// directories.
function directory(path) {
  const fetchFunc = async (_, { body }) => {
    mkdirSync(path, { recursive: true });
    for (const file of body.values()) {
      writeFileSync(join(path, file.name), Buffer.from(await file.arrayBuffer()));
    }
    return new Response();
  };
  return tf.io.http(path, { fetchFunc });
}
