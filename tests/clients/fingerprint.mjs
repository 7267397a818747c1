// What the tests do with TensorFlow.js, the same in Node and in a browser: load a
// model as its users do, then say what arrived. Nothing of tfjs is replaced; fetch is
// watched, because the tests count requests.

const TIME_LIMIT = 60_000;
let watched = [];
let before = null;
const fetchUnwatched = globalThis.fetch;

globalThis.fetch = async (resource, options) => {
  const url = String(resource?.url ?? resource);
  const seen = {url, status: null};
  watched.push(seen);
  if (before !== null && new RegExp(before.match).test(url)) {
    before.done ??= fetchUnwatched(before.hook);
    await before.done;
  }
  const response = await fetchUnwatched(resource, options);
  seen.status = response.status;
  return response;
};

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

// The bytes of a tensor's values as they lie in a weight file: little endian, complex
// numbers interleaved, each string behind its length.
async function bytesOf(tensor) {
  if (tensor.dtype !== 'string') {
    const values = await tensor.data();
    return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  }
  const strings = tensor.size === 0 ? [] : await tensor.bytes();
  const bytes = new Uint8Array(strings.reduce((sum, one) => sum + 4 + one.length, 0));
  let offset = 0;
  for (const one of strings) {
    new DataView(bytes.buffer).setUint32(offset, one.length, true);
    bytes.set(one, offset + 4);
    offset += 4 + one.length;
  }
  return bytes;
}

export async function fingerprint(pairs) {
  const weights = {};
  for (const [name, tensor] of pairs) {
    if (name in weights) {
      throw new Error(`two weights are called ${name}`);
    }
    const {dtype, shape} = tensor;
    weights[name] = {dtype, shape, sha256: await sha256(await bytesOf(tensor))};
  }
  return weights;
}

// (name, tensor) of a loaded model. Layers models know their weights under the names
// of the file; of a graph model's every name stands for a list of one.
export function weightsOf(model) {
  if (Array.isArray(model.weights)) {
    return model.weights.map((variable) => [variable.originalName, variable.read()]);
  }
  return Object.entries(model.weights).map(([name, tensors]) => {
    if (tensors.length !== 1) {
      throw new Error(`${tensors.length} tensors for ${name}`);
    }
    return [name, tensors[0]];
  });
}

const directoryOf = (url) => url.slice(0, url.lastIndexOf('/'));

function optionsOf(job, progress) {
  const options = {...job.options};
  if (job.progress) {
    options.onProgress = (fraction) => progress.push(fraction);
  }
  if (job.weightUrl !== undefined) {
    options.weightUrlConverter = async (path) => job.weightUrl.replace('*', () => path);
  }
  return Object.keys(options).length === 0 ? undefined : options;
}

const loaders = {
  async layers({tf}, job, options) {
    const model = await tf.loadLayersModel(job.url, options);
    return {pairs: weightsOf(model), dispose: () => model.dispose()};
  },

  async graph({tf}, job, options) {
    const model = await tf.loadGraphModel(job.url, options);
    return {pairs: weightsOf(model), dispose: () => model.dispose()};
  },

  // A bare list of weight groups, as face-api reads it.
  async weights({tf}, job) {
    const response = await fetch(job.url);
    if (response.status >= 400) {
      throw new Error(`${response.status} of ${job.url}: ${await response.text()}`);
    }
    const tensors = await tf.io.loadWeights(await response.json(), directoryOf(job.url));
    return {pairs: Object.entries(tensors), dispose: () => tf.dispose(tensors)};
  },

  // The artifacts alone, for weights that no model can hold.
  async artifacts({tf}, job, options) {
    const artifacts = await tf.io.http(job.url, options).load();
    const tensors = tf.io.decodeWeights(artifacts.weightData, artifacts.weightSpecs);
    return {pairs: Object.entries(tensors), dispose: () => tf.dispose(tensors)};
  },

  async faceapi({faceapi}, job) {
    const net = faceapi.nets[job.net];
    await net.loadFromUri(job.url);
    // Half of the nets keep most of their weights in a second one.
    const nets = [net, net.faceFeatureExtractor].filter((one) => one?.isLoaded);
    const pairs = nets.flatMap((one) =>
      one.paramMappings.map(({originalPath, paramPath}) => [
        originalPath ?? paramPath,
        one.getParamFromPath(paramPath),
      ]),
    );
    return {pairs, dispose: () => net.dispose(false)};
  },

  async nsfwjs({nsfwjs}, job) {
    const net = await nsfwjs.load(job.url, job.options);
    return {pairs: weightsOf(net.model), dispose: () => net.dispose()};
  },
};

async function load(libraries, job) {
  const progress = [];
  const loaded = await loaders[job.loader](libraries, job, optionsOf(job, progress));
  const weights = await fingerprint(loaded.pairs);
  loaded.dispose();
  const also = [];
  for (const url of job.also ?? []) {
    also.push(await (await fetch(new URL(url, job.url))).json());
  }
  return {weights, progress, also};
}

/**
 * One job -> one result that JSON can carry.
 *
 * job: {loader, url, options?, progress?, weightUrl?, net?, also?, before?}
 *   options   of the loader, as its users pass them
 *   progress  record what onProgress says
 *   weightUrl a weightUrlConverter: this, with the path in place of the star
 *   also      files beside the model, to be fetched as JSON after it
 *   before    {match, hook}: fetch hook once, before every URL that matches
 * result: {weights, requests, progress, also} or {error, requests}
 */
export async function run(libraries, job) {
  const requests = [];
  watched = requests;
  before = job.before ? {...job.before} : null;
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('out of time')), TIME_LIMIT);
  });
  try {
    return {...(await Promise.race([load(libraries, job), late])), requests};
  } catch (error) {
    return {error: String(error?.message ?? error), requests};
  } finally {
    clearTimeout(timer);
    before = null;
  }
}
