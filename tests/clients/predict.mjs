// What a layers model predicts, the same in Node and in a browser: load it as its users
// do, give it inputs, say what comes out. Nothing of tfjs is replaced.

const TIME_LIMIT = 60_000;
const scripts = new Map();

// The script of layers: a script tag in a page, and as near to it as Node has.
async function runScript(url) {
  if (globalThis.document === undefined) {
    (0, eval)(await (await fetch(url)).text());
    return;
  }
  await new Promise((resolve, reject) => {
    const element = document.createElement('script');
    element.src = url;
    element.onload = resolve;
    element.onerror = () => reject(new Error(`${url} did not load`));
    document.head.append(element);
  });
}

async function useScript(tf, url) {
  globalThis.tf ??= tf;
  if (!scripts.has(url)) {
    scripts.set(url, runScript(url));
  }
  await scripts.get(url);
}

const tensorOf = (tf, {shape, dtype, values}) => tf.tensor(values, shape, dtype);

// What is no number is null in JSON.
async function valuesOf(tensor) {
  const values = Array.from(await tensor.data(), Number);
  return {shape: tensor.shape, values};
}

async function predict(tf, job) {
  if (job.script !== undefined) {
    await useScript(tf, job.script);
  }
  const model = await tf.loadLayersModel(job.url);
  const inputs = job.inputs.map((input) => tensorOf(tf, input));
  try {
    const given = inputs.length === 1 ? inputs[0] : inputs;
    const outputs = [model.predict(given)].flat();
    const result = {outputs: await Promise.all(outputs.map(valuesOf))};
    tf.dispose(outputs);
    return result;
  } finally {
    tf.dispose(inputs);
    model.dispose();
  }
}

/**
 * One job -> one result that JSON can carry.
 *
 * job: {url, inputs, script?}
 *   url     of a model.json
 *   inputs  in the order of the model, each {shape, dtype, values}
 *   script  URL of a script that registers layers; once run it stays
 * result: {outputs}, each {shape, values}, in the order of the model; or {error}
 */
export async function run({tf}, job) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('out of time')), TIME_LIMIT);
  });
  try {
    return await Promise.race([predict(tf, job), late]);
  } catch (error) {
    return {error: String(error?.message ?? error)};
  } finally {
    clearTimeout(timer);
  }
}
