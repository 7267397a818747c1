// Models made in JavaScript, as pages make them: built, trained, saved as a browser
// saves them. What is random elsewhere is not here: equal jobs give equal models.

const {mkdirSync, readFileSync, writeFileSync} = require('node:fs');
const {join} = require('node:path');

const BATCH = 3;
const OPEN_SIZE = 5;

/** Numbers between -1 and 1 that look like noise, other ones for another seed. */
const noise = (size, seed) =>
  Float32Array.from({length: size}, (_, i) => {
    const wave = Math.sin((i + 1) * 12.9898 + seed * 78.233) * 43758.5453;
    return 2 * (wave - Math.floor(wave)) - 1;
  });

const sizeOf = (shape) => shape.reduce((product, size) => product * size, 1);

const shapeOf = (symbolic) =>
  symbolic.shape.map((size, i) => size ?? (i === 0 ? BATCH : OPEN_SIZE));

// What a model is given: numbers, words of a vocabulary with zeros at the end of each
// sample, or numbers with steps of nothing at the end.
const drawings = {
  numbers: (shape, seed) => noise(sizeOf(shape), seed),
  words: (shape, seed) => {
    const steps = shape[shape.length - 1];
    return noise(sizeOf(shape), seed).map((value, i) => {
      const [sample, step] = [Math.floor(i / steps), i % steps];
      return step >= steps - (sample % 3) ? 0 : 1 + Math.floor(4.5 * (value + 1));
    });
  },
  masked: (shape, seed) => {
    const [, steps, features] = shape;
    return noise(sizeOf(shape), seed).map((value, i) => {
      const step = Math.floor(i / features) % steps;
      const sample = Math.floor(i / features / steps);
      return step >= steps - (sample % 3) ? 0 : value;
    });
  },
};

function draw(tf, model, kind) {
  return model.inputs.map((input, i) => {
    const shape = shapeOf(input);
    const drawn = input.dtype === 'int32' ? 'words' : kind;
    return tf.tensor(drawings[drawn](shape, i), shape, input.dtype);
  });
}

function fill(tf, model) {
  model.weights.forEach((weight, i) => {
    const values = noise(sizeOf(weight.shape), 100 + i).map((value) =>
      /variance$/.test(weight.originalName) ? 0.5 + value * value : value / 2,
    );
    weight.write(tf.tensor(values, weight.shape));
  });
}

async function train(tf, model, inputs) {
  const outputs = [model.predict(inputs, {batchSize: BATCH})].flat();
  const wanted = outputs.map((output, i) =>
    tf.tensor(noise(output.size, 50 + i), output.shape),
  );
  const loss = outputs.map(() => 'meanSquaredError');
  model.compile({optimizer: tf.train.adam(0.01), loss});
  await model.fit(inputs, wanted, {epochs: 2, batchSize: BATCH, verbose: 0});
}

function load(tf, directory) {
  const {weightsManifest = [], ...artifacts} = JSON.parse(
    readFileSync(join(directory, 'model.json'), 'utf-8'),
  );
  const paths = weightsManifest.flatMap((group) => group.paths);
  const weightData = Uint8Array.from(
    Buffer.concat(paths.map((path) => readFileSync(join(directory, path)))),
  ).buffer;
  const weightSpecs = weightsManifest.flatMap((group) => group.weights);
  const handler = tf.io.fromMemory({...artifacts, weightSpecs, weightData});
  return tf.loadLayersModel(handler);
}

function build(tf, expression) {
  const model = new Function('tf', 'L', `return ${expression};`)(tf, tf.layers);
  fill(tf, model);
  return model;
}

/** Writes the two files that a browser downloads or sends. */
async function save(tf, model, directory) {
  mkdirSync(directory, {recursive: true});
  const handler = tf.io.withSaveHandler(async (artifacts) => {
    const {weightData, weightSpecs, ...document} = artifacts;
    const paths = ['./model.weights.bin'];
    document.weightsManifest = [{paths, weights: weightSpecs}];
    writeFileSync(join(directory, 'model.json'), JSON.stringify(document));
    writeFileSync(join(directory, 'model.weights.bin'), Buffer.from(weightData));
    return {modelArtifactsInfo: {}};
  });
  await model.save(handler, {includeOptimizer: model.optimizer !== undefined});
}

const sent = (tensor) => ({
  shape: tensor.shape,
  dtype: tensor.dtype,
  values: Array.from(tensor.dataSync(), Number),
});

/**
 * One job -> one result that JSON can carry.
 *
 * job: {expression or load, directory, kind?, trained?, script?}
 *   expression  makes a model of tf and L, which is tf.layers
 *   load        the directory of a model.json
 *   directory   that it is saved to
 *   kind        of inputs, see drawings
 *   trained     whether it is trained, and saved with the optimizer
 *   script      keras-layers.js, to be run first
 * result: {inputs, outputs}, each {shape, dtype, values}, or {error}
 */
module.exports = (tf) => async (job) => {
  try {
    if (job.script !== undefined) {
      globalThis.tf = tf;
      require(job.script);
    }
    const model = job.load ? await load(tf, job.load) : build(tf, job.expression);
    const inputs = draw(tf, model, job.kind ?? 'numbers');
    if (job.trained) {
      await train(tf, model, inputs);
    }
    await save(tf, model, job.directory);
    const outputs = [model.predict(inputs, {batchSize: BATCH})].flat();
    return {inputs: inputs.map(sent), outputs: outputs.map(sent)};
  } catch (error) {
    return {error: String(error?.stack ?? error)};
  }
};
