// What the tests do with a model that needs keras-layers.js, the same in Node and in a
// browser: load it from memory, predict, save, train.

/**
 * Tensors travel as {shape, dtype, values}; NaN as null.
 *
 * job: {script, topology, weights, inputs, calls, gradients, epochs}
 *   script    keras-layers.js to be run first, where no page did
 *   weights   as inputs, with a name
 *   calls     how often to predict
 *   gradients whether to differentiate the sum of outputs * (1, 2, 3, ...)
 *   epochs    how long to train
 * result: {
 *   symbolic  the shapes of the outputs, as the model knows them
 *   outputs   of the last call
 *   alone     of the first sample alone
 *   reloaded  of the model, saved and loaded
 *   config    of the last layer, as it is saved
 *   gradients by each input
 *   losses    of each epoch
 *   leaked    how many tensors a call leaves behind
 *   trainable how many weights it would train
 * }
 */
export async function run({tf}, job) {
  try {
    if (job.script) {
      await import(job.script);
      globalThis.kerasLayers.register(tf);
    }
    return await use(tf, job);
  } catch (error) {
    return {error: String(error?.message ?? error)};
  }
}

async function use(tf, {topology, weights, inputs, calls = 1, gradients, epochs = 0}) {
  const model = await load(tf, topology, weights);
  const xs = inputs.map((input) => toTensor(tf, input));
  const predict = (one, values) =>
    [one.predict(values, {batchSize: values[0].shape[0]})].flat();

  let outputs = predict(model, xs);
  for (let call = 1; call < calls; call++) {
    outputs = predict(model, xs);
  }
  const before = tf.memory().numTensors;
  tf.dispose(predict(model, xs));
  const leaked = tf.memory().numTensors - before;

  const result = {
    symbolic: model.outputs.map((output) => output.shape),
    outputs: outputs.map(fromTensor),
    leaked,
    trainable: model.trainableWeights.length,
  };
  if (calls === 1) {
    const first = xs.map((x) => tf.slice(x, 0, 1));
    result.alone = predict(model, first).map(fromTensor);
    const saved = await save(tf, model);
    result.config = saved.modelTopology.config.layers.at(-1).config;
    const reloaded = await tf.loadLayersModel(tf.io.fromMemory(saved));
    result.reloaded = predict(reloaded, xs).map(fromTensor);
  }
  if (gradients) {
    result.gradients = differentiate(tf, model, xs).map(fromTensor);
  }
  if (epochs > 0) {
    result.losses = await train(tf, model, xs, outputs, epochs);
  }
  model.dispose();
  return result;
}

function toTensor(tf, {shape, dtype = 'float32', values}) {
  return tf.tensor(values, shape, dtype);
}

function fromTensor(tensor) {
  return {shape: tensor.shape, dtype: tensor.dtype, values: [...tensor.dataSync()]};
}

function load(tf, modelTopology, weights) {
  const weightSpecs = weights.map(({name, shape}) => ({name, shape, dtype: 'float32'}));
  const weightData = Float32Array.from(weights.flatMap(({values}) => values)).buffer;
  return tf.loadLayersModel(tf.io.fromMemory({modelTopology, weightSpecs, weightData}));
}

// As over HTTP: the topology is JSON in between.
async function save(tf, model) {
  let saved;
  await model.save(
    tf.io.withSaveHandler(async (artifacts) => {
      const modelTopology = JSON.parse(JSON.stringify(artifacts.modelTopology));
      saved = {...artifacts, modelTopology};
      return {modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON'}};
    }),
  );
  return saved;
}

function differentiate(tf, model, inputs) {
  const weighted = (x) => {
    const size = tf.util.sizeFromShape(x.shape);
    return tf.sum(tf.mul(tf.reshape(x, [size]), tf.range(1, size + 1)));
  };
  const total = (...xs) =>
    tf.addN([model.apply(xs.length > 1 ? xs : xs[0])].flat().map(weighted));
  return tf.grads(total)(inputs);
}

async function train(tf, model, inputs, outputs, epochs) {
  const targets = outputs.map((output) => tf.add(output, 0.5));
  model.compile({optimizer: tf.train.adam(0.01), loss: 'meanSquaredError'});
  const {history} = await model.fit(inputs, targets, {epochs, verbose: 0});
  return history.loss;
}
