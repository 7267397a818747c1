// TensorFlow.js in Node loads graph models again and again, some at a time, and says
// what arrived: the work of tearing.py. Nothing of tfjs or of fetch is replaced.
//
// Usage: node torn.mjs JOB
//   JOB  JSON: {urls, loads, lanes, pause, delay}
//     loads  how many in all, the URLs in turn
//     lanes  how many at a time
//     pause  before each load, at random from 0 to so many milliseconds
//     delay  the same between the JSON and its shards, in every other load, as if the
//            server were far away
// A line of JSON per load: {url, document, weights} or {url, error}
//   document  userDefinedMetadata.version of the JSON
//   weights   name -> [value, count] of each run of equal values

import {createRequire} from 'node:module';
import {setTimeout as sleep} from 'node:timers/promises';

console.log = console.error;
console.info = console.error;

const tf = createRequire(import.meta.url)('@tensorflow/tfjs');
const TIME_LIMIT = 30_000;
const MOST_RUNS = 100;

function runsOf(values) {
  const runs = [];
  let start = 0;
  while (start < values.length && runs.length < MOST_RUNS) {
    let end = start + 1;
    while (end < values.length && values[end] === values[start]) {
      end += 1;
    }
    runs.push([values[start], end - start]);
    start = end;
  }
  return runs;
}

function farAway(url) {
  const base = url.slice(0, url.lastIndexOf('/') + 1);
  const delay = Math.random() * job.delay;
  const weightUrlConverter = async (path) => {
    await sleep(delay);
    return base + path;
  };
  return {weightUrlConverter};
}

async function load(url, options) {
  const model = await tf.loadGraphModel(url, options);
  const weights = {};
  for (const [name, [tensor]] of Object.entries(model.weights)) {
    weights[name] = runsOf(await tensor.data());
  }
  const document = model.artifacts.userDefinedMetadata.version;
  model.dispose();
  return {document, weights};
}

async function outcome(url, options) {
  const limit = new AbortController();
  const late = sleep(TIME_LIMIT, null, {signal: limit.signal}).then(
    () => ({error: 'out of time'}),
    () => null,
  );
  try {
    return await Promise.race([load(url, options), late]);
  } catch (error) {
    const cause = error?.cause?.message;
    return {error: String(error?.message ?? error) + (cause ? `: ${cause}` : '')};
  } finally {
    limit.abort();
  }
}

const job = JSON.parse(process.argv[2]);
let begun = 0;

async function lane() {
  while (begun < job.loads) {
    const url = job.urls[begun % job.urls.length];
    const options = begun % 2 === 0 ? undefined : farAway(url);
    begun += 1;
    await sleep(Math.random() * job.pause);
    const result = {url, ...(await outcome(url, options))};
    process.stdout.write(`${JSON.stringify(result)}\n`);
  }
}

await tf.setBackend('cpu');
await Promise.all(Array.from({length: job.lanes}, lane));

// What a late load left pending must not keep the process alive.
process.exit(0);
