// keras-layers.js as a module: import {register}, and call it with the TensorFlow.js
// that the page has. It is called already with a global `tf`.
import './keras-layers.js';

export const {register} = globalThis.kerasLayers;
