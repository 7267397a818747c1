// What a graph model makes of one image of noise, the same for each of its copies.

import {readFile} from 'node:fs/promises';

async function load(tf, path) {
  const document = JSON.parse(await readFile(`${path}/model.json`));
  const [{paths, weights}] = document.weightsManifest;
  const shards = await Promise.all(paths.map((name) => readFile(`${path}/${name}`)));
  const weightData = new Uint8Array(Buffer.concat(shards)).buffer;
  const artifacts = {...document, weightSpecs: weights, weightData};
  return tf.loadGraphModel({load: async () => artifacts});
}

/**
 * One job -> one result that JSON can carry.
 *
 * job: {path, seed}
 *   path  of a directory with a model.json
 *   seed  of the noise, from 0 to 1
 * result: [{name, values}, …]
 */
export async function run({tf}, {path, seed}) {
  const model = await load(tf, path);
  const shape = model.inputs[0].shape.map((size) => (size > 0 ? size : 1));
  const image = tf.randomUniform(shape, 0, 1, 'float32', seed);
  const outputs = [await model.executeAsync(image)].flat();
  return Promise.all(
    outputs.map(async (one, index) => ({
      name: model.outputs[index].name,
      values: Array.from(await one.data()),
    })),
  );
}
