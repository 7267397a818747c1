// TensorFlow.js in Node: a job per line of standard input (JSON, see fingerprint.mjs),
// a result per line of standard output.
//
// Usage: node load.mjs [MODULE]
//   MODULE  whose run() takes the jobs, in place of ./fingerprint.mjs

import {createRequire} from 'node:module';
import {createInterface} from 'node:readline';

console.log = console.error;
console.info = console.error;

const {run} = await import(process.argv[2] ?? './fingerprint.mjs');
const require = createRequire(import.meta.url);
const tf = require('@tensorflow/tfjs');
const libraries = {
  tf,
  get faceapi() {
    return require('@vladmandic/face-api/dist/face-api.node-wasm.js');
  },
  get nsfwjs() {
    return require('nsfwjs');
  },
};

await tf.setBackend('cpu');

for await (const line of createInterface({input: process.stdin})) {
  const result = await run(libraries, JSON.parse(line));
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

// What a job left pending must not keep the process alive.
process.exit(0);
