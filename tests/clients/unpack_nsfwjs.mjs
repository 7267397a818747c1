// nsfwjs keeps its models inside scripts. Usage: node unpack_nsfwjs.mjs DIRECTORY
// writes each as the ordinary files that it was made of: NAME/model.json and shards.

import {mkdirSync, readdirSync, writeFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {dirname, join} from 'node:path';

const require = createRequire(import.meta.url);
const models = join(dirname(require.resolve('nsfwjs')), '..', 'models');
const destination = process.argv[2];

for (const entry of readdirSync(models, {withFileTypes: true})) {
  if (!entry.isDirectory()) {
    continue;
  }
  const directory = join(destination, entry.name);
  mkdirSync(directory, {recursive: true});
  const model = require(join(models, entry.name, 'model.min.js'));
  writeFileSync(join(directory, 'model.json'), JSON.stringify(model));
  for (const {paths} of model.weightsManifest) {
    for (const path of paths) {
      const base64 = require(join(models, entry.name, `${path}.min.js`));
      writeFileSync(join(directory, path), Buffer.from(base64, 'base64'));
    }
  }
}
