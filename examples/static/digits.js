import { countInk, trace } from "./ink.js";

const PEN = 0.065;

const { body } = document;
const pad = document.getElementById("pad");
const seen = document.getElementById("seen");
const hint = document.getElementById("hint");
const prediction = document.getElementById("prediction");
const certainty = document.getElementById("certainty");
const shares = document.querySelectorAll("#shares li");

// Points are in widths of the pad, so that a drawing survives a resize.
let strokes = [];
let model;
let frame;

async function load() {
  try {
    // A model this small is done before a GPU has its shaders compiled.
    await tf.setBackend("cpu");
  } catch (error) {
    const { src } = document.querySelector("script:not([type])");
    return fail("TensorFlow.js did not load.", error, `It should come from ${src}`);
  }
  try {
    model = await tf.loadLayersModel(body.dataset.model);
  } catch (error) {
    return fail("The model did not load.", error, await reason());
  }
  body.dataset.state = "ready";
  refresh();
}

// TensorFlow.js tells the status alone; the server says why.
async function reason() {
  try {
    const answer = await fetch(body.dataset.model);
    return answer.ok ? "" : (await answer.json()).error;
  } catch {
    return "The server does not answer.";
  }
}

function fail(what, error, advice) {
  const failure = document.getElementById("failure");
  [what, error.message, advice].forEach((text, i) => {
    failure.children[i].textContent = text;
  });
  failure.hidden = false;
  certainty.textContent = "";
  body.dataset.state = "failed";
}

function refresh() {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(render);
}

function render() {
  const drawn = strokes.length > 0;
  const counts = drawn ? countInk(strokes) : [];
  hint.hidden = drawn;
  showInk();
  showCounts(counts);
  if (!model) return;
  if (drawn) showPrediction(predict(counts));
  else showNothing();
}

function predict(counts) {
  return tf.tidy(() => model.predict(tf.tensor2d([counts])).dataSync());
}

function showInk() {
  pad.width = pad.height = Math.round(pad.clientWidth * devicePixelRatio);
  const context = pad.getContext("2d");
  context.scale(pad.width, pad.height);
  context.strokeStyle = getComputedStyle(pad).color;
  trace(context, strokes, PEN);
}

function showCounts(counts) {
  const context = seen.getContext("2d");
  context.clearRect(0, 0, 8, 8);
  context.fillStyle = getComputedStyle(seen).color;
  counts.forEach((count, i) => {
    context.globalAlpha = count / 16;
    context.fillRect(i % 8, Math.floor(i / 8), 1, 1);
  });
}

function showPrediction(probabilities) {
  const best = probabilities.indexOf(Math.max(...probabilities));
  announce(best);
  certainty.textContent = `${percent(probabilities[best])} sure`;
  showShares(probabilities, best);
}

function showNothing() {
  announce("");
  certainty.textContent = "Ready";
  showShares(new Array(shares.length).fill(0));
}

function showShares(probabilities, best) {
  shares.forEach((share, digit) => {
    share.style.setProperty("--share", probabilities[digit]);
    share.classList.toggle("best", digit === best);
    share.lastElementChild.textContent = percent(probabilities[digit]);
  });
}

// Screen readers read out every assignment, of the same digit too.
function announce(digit) {
  if (prediction.value !== String(digit)) prediction.value = digit;
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

function listenToPen() {
  // Is part of the drawing from its second point on: a mere tap leaves nothing.
  let stroke;
  pad.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0) return;
    pad.setPointerCapture(event.pointerId);
    stroke = [place(event)];
  });
  pad.addEventListener("pointermove", (event) => {
    if (!pad.hasPointerCapture(event.pointerId)) return;
    // Browsers offer the moves between two frames on secure origins only.
    const moves = event.getCoalescedEvents?.() ?? [event];
    if (stroke.length === 1) strokes = [...strokes, stroke];
    stroke.push(...moves.map(place));
    refresh();
  });
}

function place({ clientX, clientY }) {
  const { left, top, width } = pad.getBoundingClientRect();
  return [(clientX - left) / width, (clientY - top) / width];
}

// Writes a sample as a hand would, until something else is drawn.
async function write(paths) {
  const atOnce = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const sample = (strokes = []);
  for (const path of paths) {
    const [start, ...points] = walk(path);
    const stroke = [start];
    for (const point of points) {
      if (strokes !== sample) return;
      if (stroke.push(point) === 2) sample.push(stroke);
      refresh();
      if (!atOnce) await new Promise(requestAnimationFrame);
    }
  }
}

// The points of a path in a box of 100 x 100.
function walk(path) {
  const length = path.getTotalLength();
  const steps = Math.ceil(length / 5);
  return Array.from({ length: steps + 1 }, (_, i) => {
    const { x, y } = path.getPointAtLength((length * i) / steps);
    return [x / 100, y / 100];
  });
}

listenToPen();
for (const button of document.querySelectorAll(".samples button")) {
  button.addEventListener("click", () => write(button.querySelectorAll("path")));
}
document.getElementById("clear").addEventListener("click", () => {
  strokes = [];
  refresh();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh);
new ResizeObserver(refresh).observe(pad);
load();
