// TensorFlow.js in Node loads models again and again: the work of tearing.py.
//
// Usage: node torn.mjs JOB
//   JOB  JSON, see loads.mjs
// A line of JSON per load, as loadAll() reports it.

import {createRequire} from 'node:module';

import {loadAll} from './loads.mjs';

console.log = console.error;
console.info = console.error;

const tf = createRequire(import.meta.url)('@tensorflow/tfjs');

await tf.setBackend('cpu');
await loadAll(tf, JSON.parse(process.argv[2]), (result) => {
  process.stdout.write(`${JSON.stringify(result)}\n`);
});

// What a late load left pending must not keep the process alive.
process.exit(0);
