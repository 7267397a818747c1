// Runs the model of a page in this browser: loads it as a page would, counts what comes
// over the network, and predicts. Texts of the model go into the page as text only.

const run = document.getElementById("run");
const job = run && JSON.parse(run.dataset.job);

let model;
let isFirst = true; // prediction, for which a backend compiles

// Building the page

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "boolean") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function choice(texts) {
  const options = Object.entries(texts).map(([value, text]) =>
    element("option", { value }, text),
  );
  return element("select", {}, ...options);
}

function labelled(text, field, id) {
  field.id = id;
  return element("div", {}, element("label", { for: id }, text), field);
}

function addCopyButtons() {
  if (!navigator.clipboard) return; // browsers offer it on secure origins only
  for (const block of document.querySelectorAll("pre")) {
    const button = element("button", { type: "button", class: "copy" }, "Copy");
    const text = block.textContent;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
    block.after(button);
  }
}

const start = element("button", { type: "button", class: "main" }, "Load the model");
const status = element("span", { role: "status" });
const progress = element("progress", { max: "1", "aria-label": "Loaded", hidden: true });
const failure = element("p", { class: "failure", role: "alert" });
const figures = element("dl", { hidden: true });
const form = element("form", { hidden: true });
const outputs = element("div", { class: "outputs" });

function fail(error, reason) {
  failure.textContent = [error.message, reason].filter(Boolean).join(" — ");
  say("failed", "");
}

function say(state, text) {
  run.dataset.state = state;
  status.textContent = text;
}

function tell(term, text) {
  figures.append(element("div", {}, element("dt", {}, term), element("dd", {}, text)));
}

// Loading

function loadScript(src, integrity) {
  return new Promise((resolve, reject) => {
    const attributes = integrity ? { src, integrity, crossorigin: "anonymous" } : { src };
    const script = element("script", attributes);
    script.addEventListener("load", resolve);
    script.addEventListener("error", () =>
      reject(new Error(`${src} did not load; without internet, TFJS_SCRIPT can name a copy`)),
    );
    document.head.append(script);
  });
}

// The bytes of the weights as they arrive, which is more telling than TensorFlow.js'
// own count of files.
function countingFetch(seen) {
  let bytes = 0;
  return async (url, init) => {
    const answer = await fetch(url, init);
    const isJSON = answer.headers.get("content-type")?.startsWith("application/json");
    if (isJSON || !answer.ok || !answer.body) return answer;
    const count = new TransformStream({
      transform(chunk, controller) {
        bytes += chunk.byteLength;
        seen(bytes);
        controller.enqueue(chunk);
      },
    });
    return new Response(answer.body.pipeThrough(count), answer);
  };
}

async function loadModel(seen) {
  const options = { fetchFunc: countingFetch(seen) };
  if (job.kind === "layers-model") return tf.loadLayersModel(job.url, options);
  if (job.kind === "graph-model") return tf.loadGraphModel(job.url, options);
  const answer = await fetch(job.url);
  if (!answer.ok) throw new Error(`${job.url}: ${answer.status}`);
  const found = await answer.json();
  const groups = Array.isArray(found) ? found : found.weightsManifest;
  return tf.io.loadWeights(groups, job.url.replace(/\/[^/]*$/, ""));
}

// TensorFlow.js tells the status alone; the server says why.
async function reason() {
  try {
    const answer = await fetch(job.url);
    return answer.ok ? "" : (await answer.json()).error;
  } catch {
    return "The server does not answer.";
  }
}

async function load() {
  start.disabled = true;
  failure.textContent = "";
  progress.hidden = false;
  progress.removeAttribute("value");
  try {
    say("loading", "Loading TensorFlow.js …");
    // tf.min.js asks for this name, and where there is none makes it by eval(), which
    // the policy of this page forbids.
    window.regeneratorRuntime ??= undefined;
    if (!window.tf) await loadScript(job.script, job.integrity);
    if (job.layers) await loadScript(job.layers);
    await tf.ready();
    say("loading", "Loading the model …");
    performance.clearResourceTimings();
    performance.setResourceTimingBufferSize(1e6); // browsers keep 250, unless told
    const begun = performance.now();
    model = await loadModel((bytes) => (progress.value = bytes / job.bytes));
    showFigures(performance.now() - begun);
  } catch (error) {
    fail(error, await reason());
    start.disabled = false;
    return;
  } finally {
    progress.hidden = true;
  }
  start.hidden = true;
  say("loaded", "Loaded");
  await offerPrediction();
}

function showFigures(time) {
  const folder = new URL(job.url, location).href.replace(/[^/]*$/, "");
  const entries = performance
    .getEntriesByType("resource")
    .filter(({ name }) => name.startsWith(folder));
  const sum = (key) => entries.reduce((total, entry) => total + entry[key], 0);
  const kept = entries.filter(({ transferSize }) => transferSize === 0).length;
  tell("Time to load", duration(time));
  tell("Over the network", bytes(sum("transferSize")));
  tell("Requests", `${entries.length - kept}${kept ? `, ${kept} from the cache` : ""}`);
  tell("Backend", tf.getBackend());
  figures.hidden = false;
}

function duration(time) {
  if (time >= 10000) return `${(time / 1000).toFixed(1)} s`;
  return `${time < 10 ? time.toFixed(1) : Math.round(time)} ms`;
}

function bytes(count) {
  if (count < 1000) return `${count} B`;
  return count < 1e6 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

// Inputs

async function offerPrediction() {
  if (!model.inputs) {
    say("loaded", `Loaded ${Object.keys(model).length} tensors`);
    return; // weights alone predict nothing
  }
  const inputs = model.inputs.map((input, i) => inputFields(input, i));
  const predictButton = element("button", { class: "main" }, "Predict");
  form.replaceChildren(...inputs.map(({ fields }) => fields), predictButton);
  form.hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    predict(inputs, predictButton);
  });
  if (inputs.every(({ isKnown }) => isKnown)) await predict(inputs, predictButton);
}

// The fields for one input, and what makes a tensor of them.
function inputFields({ name, shape, dtype }, index) {
  const sizes = knownSizes(shape, index);
  const isKnown = Boolean(sizes) && dtype !== "string";
  const isImage = !sizes || (sizes.length === 4 && [1, 3, 4, null].includes(sizes[3]));
  const kind = choice({
    random: "Random values",
    zeros: "Zeros",
    json: "JSON of your own",
    ...(isImage && { image: "An image" }),
  });
  const size = element("input", {
    value: (sizes ?? []).map((size, i) => size ?? openSize(sizes, i)).join(", "),
    inputmode: "numeric",
    placeholder: "1, 224, 224, 3",
  });
  const json = element("textarea", { spellcheck: "false", placeholder: "[[0.1, 0.2, …]]" });
  const file = element("input", { type: "file", accept: "image/*" });
  const range = choice({ unit: "0 to 1", byte: "0 to 255", signed: "−1 to 1" });

  const id = `input-${index}`;
  const only = {
    json: [labelled("JSON", json, `${id}-json`)],
    image: [
      labelled("Image", file, `${id}-image`),
      labelled("Values of it", range, `${id}-range`),
    ],
  };
  const showFields = () => {
    for (const [value, fields] of Object.entries(only))
      for (const field of fields) field.hidden = kind.value !== value;
  };
  kind.addEventListener("change", showFields);
  showFields();
  const fields = element(
    "fieldset",
    {},
    element("legend", {}, name || `Input ${index + 1}`),
    labelled("Input", kind, `${id}-kind`),
    labelled(`Shape, ${dtype}`, size, `${id}-shape`),
    ...Object.values(only).flat(),
  );

  async function tensor() {
    const wanted = readShape(size.value);
    if (kind.value === "json") return ownValues(json.value, wanted, dtype);
    if (kind.value === "image") return image(file.files[0], wanted, range.value, dtype);
    return kind.value === "zeros" ? tf.zeros(wanted, dtype) : randomValues(wanted, dtype);
  }
  return { fields, tensor, isKnown };
}

// A graph's own node may leave open what its signature says.
function knownSizes(shape, index) {
  const stated = job.inputs.length === model.inputs.length ? job.inputs[index] : null;
  return (shape ?? stated)?.map((size, i) => (size > 0 ? size : (stated?.[i] ?? null)));
}

// One example at a time; the sides of an image where a model leaves them open.
function openSize(sizes, index) {
  if (index === 0) return 1;
  return sizes.length === 4 ? (index === 3 ? 3 : 224) : 8;
}

function readShape(text) {
  const sizes = text.split(/[\s,×x]+/).filter(Boolean).map(Number);
  if (sizes.every((size) => Number.isInteger(size) && size >= 0)) return sizes;
  throw new Error(`“${text}” is no shape; write whole numbers, such as 1, 28, 28, 1`);
}

function randomValues(shape, dtype) {
  if (dtype === "bool") return tf.tidy(() => tf.randomUniform(shape).greater(0.5));
  if (dtype === "int32") return tf.randomUniform(shape, 0, 10, "int32");
  if (dtype === "string") throw new Error("There are no random strings; give your own");
  return tf.randomUniform(shape);
}

function ownValues(text, shape, dtype) {
  let values;
  try {
    values = JSON.parse(text);
  } catch (error) {
    throw new Error(`The values are no JSON: ${error.message}`);
  }
  const own = shapeOf(values, dtype === "string" ? ["string"] : ["number", "boolean"]);
  return tf.tensor(values, own.length === 1 ? shape : own, dtype);
}

// TensorFlow.js looks at the first of the rows alone, and takes anything for a number.
function shapeOf(values, types) {
  if (!Array.isArray(values)) {
    if (types.includes(typeof values)) return [];
    throw new Error(`${JSON.stringify(values)} is no ${types[0]}`);
  }
  const shapes = values.map((value) => shapeOf(value, types));
  if (shapes.some((shape) => `${shape}` !== `${shapes[0]}`))
    throw new Error("The rows of the values are not of one length");
  return [values.length, ...(shapes[0] ?? [])];
}

async function image(file, shape, range, dtype) {
  if (!file) throw new Error("Choose an image first");
  if (shape.length !== 4) throw new Error("An image needs a shape such as 1, 224, 224, 3");
  const [, height, width, channels] = shape;
  const canvas = element("canvas", { width: `${width}`, height: `${height}` });
  const bitmap = await createImageBitmap(file);
  canvas.getContext("2d").drawImage(bitmap, 0, 0, width, height);
  return tf.tidy(() => {
    const pixels = tf.browser.fromPixels(canvas, channels).expandDims();
    if (dtype === "int32") return pixels;
    const [scale, offset] = { unit: [255, 0], byte: [1, 0], signed: [127.5, 1] }[range];
    return pixels.toFloat().div(scale).sub(offset);
  });
}

// Predicting

async function predict(inputs, button) {
  failure.textContent = "";
  button.disabled = true;
  say("predicting", "Predicting …");
  const tensors = [];
  let results = [];
  try {
    for (const input of inputs) tensors.push(await input.tensor());
    const begun = performance.now();
    results = named(await execute(tensors));
    const values = await Promise.all(results.map(([, tensor]) => tensor.data()));
    const time = duration(performance.now() - begun);
    outputs.replaceChildren(
      ...results.map(([name, tensor], i) => outputSection(name, tensor, values[i])),
    );
    const compiled = isFirst ? ", the first time, which compiles too" : "";
    isFirst = false;
    say("predicted", `Predicted in ${time}${compiled}`);
  } catch (error) {
    fail(error);
    outputs.replaceChildren();
  } finally {
    tf.dispose([tensors, results.map(([, tensor]) => tensor)]);
    button.disabled = false;
  }
}

async function execute(tensors) {
  if (job.kind === "layers-model") return model.predict(tensors);
  try {
    return model.execute(tensors);
  } catch (error) {
    if (!error.message.includes("executeAsync")) throw error;
    return model.executeAsync(tensors); // control flow, or an output of unknown size
  }
}

function named(result) {
  const tensors = Array.isArray(result) ? result : [result];
  const names = model.outputNames ?? model.outputNodes ?? [];
  return tensors.map((tensor, i) => [names[i] ?? `Output ${i + 1}`, tensor]);
}

function outputSection(name, { shape, dtype }, values) {
  const title = `${name}: ${dtype} [${shape.join(", ")}]`;
  const section = element("div", { class: "output" }, element("h3", {}, title));
  if (!values.length) section.append(element("p", {}, "It is empty."));
  else if (dtype === "string" || dtype === "bool") section.append(firstOf(values));
  else section.append(summary(values), ranked(shape, values));
  return section;
}

function summary(values) {
  let [least, greatest, sum, wrong] = [Infinity, -Infinity, 0, 0];
  for (const value of values) {
    if (!Number.isFinite(value)) wrong += 1;
    else {
      least = Math.min(least, value);
      greatest = Math.max(greatest, value);
      sum += value;
    }
  }
  const right = values.length - wrong;
  const texts = right
    ? [`least ${number(least)}`, `mean ${number(sum / right)}`, `greatest ${number(greatest)}`]
    : [];
  if (wrong) texts.push(`${wrong} of ${values.length} are NaN or infinite`);
  return element("p", {}, texts.join(", "));
}

// The largest of a row of scores; of anything else the first values.
function ranked(shape, values) {
  const isRow = shape.length > 0 && shape.at(-1) === values.length && values.length > 1;
  if (!isRow || values.length > 20000) return firstOf(values);
  const order = [...values.keys()].sort((a, b) => values[b] - values[a]).slice(0, 10);
  const top = Math.max(values[order[0]], Number.MIN_VALUE);
  const rows = order.map((i) =>
    element(
      "tr",
      {},
      element("th", { scope: "row", class: "number" }, `${i}`),
      element("td", { class: "number" }, number(values[i])),
      element("td", {}, bar(Math.max(values[i], 0) / top)),
    ),
  );
  const head = element(
    "tr",
    {},
    element("th", { scope: "col", class: "number" }, "Index"),
    element("th", { scope: "col", class: "number" }, "Value"),
    element("td"),
  );
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
  if (values.length > rows.length)
    table.prepend(element("caption", {}, `The ${rows.length} greatest of ${values.length}`));
  return table;
}

function firstOf(values) {
  const shown = Array.from(values.slice(0, 20), (value) =>
    typeof value === "number" ? number(value) : `${value}`,
  );
  return element("p", {}, `${shown.join(", ")}${values.length > 20 ? ", …" : ""}`);
}

function bar(share) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const rect = document.createElementNS(space, "rect");
  for (const [key, value] of Object.entries({
    class: "share",
    viewBox: "0 0 100 10",
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  }))
    svg.setAttribute(key, value);
  rect.setAttribute("width", `${Number.isFinite(share) ? 100 * share : 0}`);
  rect.setAttribute("height", "10");
  svg.append(rect);
  return svg;
}

function number(value) {
  if (!Number.isFinite(value)) return `${value}`.replace("-", "−");
  return `${Number(value.toPrecision(4))}`.replace("-", "−");
}

addCopyButtons();
if (run) {
  start.addEventListener("click", load);
  const line = element("div", { class: "status" }, start, status, progress);
  run.append(line, failure, figures, form, outputs);
}
