// What the tests do with TensorFlow.js that saves a model, the same in Node and in a
// browser: one step after another on one model, as its users write them.

import {fingerprint, weightsOf} from './fingerprint.mjs';

const TIME_LIMIT = 120_000;
let model = null;

function dense(tf, units, {activation, ...args} = {}) {
  const kernelInitializer = tf.initializers.glorotNormal({});
  const biasInitializer = tf.initializers.randomNormal({});
  const initializers = {kernelInitializer, biasInitializer};
  return tf.layers.dense({units, activation, ...initializers, ...args});
}

function sequential(tf, inputs, ...units) {
  const inputShape = [inputs];
  return tf.sequential({
    layers: units.map((one, i) => dense(tf, one, i === 0 ? {inputShape} : {})),
  });
}

// The network of MobileNet 1.0: its 13 blocks and some 3.2 million weights in layers
// called base, below a small head. The size of its input has no part in that.
const BLOCKS = [
  [64, 1], [128, 2], [128, 1], [256, 2], [256, 1], [512, 2], [512, 1], [512, 1],
  [512, 1], [512, 1], [512, 1], [1024, 2], [1024, 1],
];

function mobilenet(tf) {
  const layers = [];
  const add = (kind, args, name) =>
    layers.push(tf.layers[kind]({...args, name: `base_${name}`}));
  const activate = (name) => {
    add('batchNormalization', {}, `${name}_bn`);
    add('reLU', {maxValue: 6}, `${name}_relu`);
  };
  const common = {padding: 'same', useBias: false};
  const inputShape = [32, 32, 3];
  add('conv2d', {filters: 32, kernelSize: 3, strides: 2, inputShape, ...common}, 'conv');
  activate('conv');
  BLOCKS.forEach(([filters, strides], i) => {
    add('depthwiseConv2d', {kernelSize: 3, strides, ...common}, `dw_${i}`);
    activate(`dw_${i}`);
    add('conv2d', {filters, kernelSize: 1, ...common}, `pw_${i}`);
    activate(`pw_${i}`);
  });
  add('globalAveragePooling2d', {}, 'pool');
  layers.push(dense(tf, 64, {activation: 'relu', name: 'head_hidden'}));
  layers.push(dense(tf, 5, {activation: 'softmax', name: 'head_classes'}));
  return tf.sequential({layers});
}

const makers = {
  dense: (tf) => sequential(tf, 4, 3, 2),
  // Of 4.8 MB each, which is more than a shard may have.
  large: (tf) => sequential(tf, 1200, 1000, 1200, 1000),
  weightless: (tf) =>
    tf.sequential({layers: [tf.layers.flatten({inputShape: [2, 2]})]}),
  mobilenet,
};

const isHead = (layer) => layer.name.startsWith('head');

function sizesOf(tensor, batch) {
  return tensor.shape.map((size, i) => (size > 0 ? size : i === 0 ? batch : 1));
}

// The same for the same shape, in every client.
function values(tf, shape) {
  const size = shape.reduce((product, one) => product * one, 1);
  const data = Float32Array.from({length: size}, (_, i) => Math.sin(i) / 2);
  return tf.tensor(data, shape);
}

function targets(tf, [batch, units]) {
  const indices = Array.from({length: batch}, (_, i) => i % units);
  return tf.oneHot(tf.tensor1d(indices, 'int32'), units);
}

async function fitAll(tf, trained, inputs, {epochs = 1, optimizer = 'sgd'}) {
  const ys = targets(tf, sizesOf(trained.outputs[0], inputs.shape[0]));
  trained.compile({optimizer, loss: 'meanSquaredError'});
  const {history} = await trained.fit(inputs, ys, {epochs, verbose: 0});
  return {loss: history.loss};
}

// Of the head, what the base makes of the inputs: as transfer learning in a browser
// does it, since the base is run once.
async function fitHead(tf, inputs, options) {
  const below = model.layers.filter((layer) => !isHead(layer)).at(-1);
  const base = tf.model({inputs: model.inputs, outputs: below.output});
  const activations = base.predict(inputs);
  const input = tf.input({shape: activations.shape.slice(1)});
  const output = model.layers
    .filter(isHead)
    .reduce((tensor, layer) => layer.apply(tensor), input);
  return fitAll(tf, tf.model({inputs: input, outputs: output}), activations, options);
}

const steps = {
  // {what}: a new model, of other weights each time.
  async make(tf, {what}) {
    model = makers[what](tf);
    return {};
  },

  // {loader, url, options}
  async load(tf, {loader, url, options}) {
    const load = {layers: tf.loadLayersModel, graph: tf.loadGraphModel}[loader];
    model = await load(url, options);
    return {};
  },

  // {layers}: which of them fit() and save() take for trained: all, head, or none.
  async train(tf, {layers}) {
    for (const layer of model.layers) {
      layer.trainable = layers === 'all' || (layers === 'head' && isHead(layer));
    }
    return {};
  },

  // {samples, epochs, optimizer, head}: of the whole model, or of its head alone.
  async fit(tf, {samples = 4, head = false, ...options}) {
    const inputs = values(tf, sizesOf(model.inputs[0], samples));
    return head ? fitHead(tf, inputs, options) : fitAll(tf, model, inputs, options);
  },

  // {url, requestInit, config, topologyOnly}: the URL alone where no request is asked
  // for.
  async save(tf, {url, requestInit, config, topologyOnly = false}) {
    let result;
    if (topologyOnly) {
      const modelTopology = model.toJSON(null, false);
      result = await tf.io.http(url, {requestInit}).save({modelTopology});
    } else {
      const handler = requestInit ? tf.io.http(url, {requestInit}) : url;
      result = await model.save(handler, config);
    }
    const [response] = result.responses;
    return {
      status: response.status,
      location: response.headers.get('Location'),
      etag: response.headers.get('ETag'),
      body: await response.json(),
    };
  },

  // {predict}: what the model is.
  async look(tf, {predict = true}) {
    const weights = await fingerprint(weightsOf(model));
    if (!predict) {
      return {weights};
    }
    const inputs = model.inputs.map((one) => values(tf, sizesOf(one, 2)));
    const prediction = [];
    for (const output of [model.predict(inputs)].flat()) {
      prediction.push(Array.from(await output.data()));
    }
    return {weights, prediction};
  },
};

/** One step -> what JSON can carry of its result, or {error}. */
export async function run({tf}, {step, ...args}) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('out of time')), TIME_LIMIT);
  });
  try {
    return await Promise.race([steps[step](tf, args), late]);
  } catch (error) {
    return {error: String(error?.message ?? error)};
  } finally {
    clearTimeout(timer);
  }
}
