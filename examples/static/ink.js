// Turns pen strokes into what the model was trained on: NIST's handwritten
// digits, normalised to bitmaps of 32 x 32 pixels and counted in 4 x 4 blocks.
// A stroke is an array of [x, y] in units of any size.

const BITMAP = 32;
const BLOCK = 4;
const SIDE = BITMAP / BLOCK;

// NIST scaled each digit to 20 x 32 pixels and evened out its pen until it
// covered about three tenths of the bitmap.
const BOX = { width: 20, height: 32 };
const INK = 0.3 * BITMAP * BITMAP;
const PENS = { thinnest: 3, thickest: 10, step: 0.5 };
// Stretching a bare upright line to the full width would magnify the tremor
// of the hand.
const WIDEST = 1.25;

const bitmap = document.createElement("canvas");
bitmap.width = bitmap.height = BITMAP;
const raster = bitmap.getContext("2d", { willReadFrequently: true });

export function trace(context, strokes, pen) {
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = pen;
  context.beginPath();
  for (const stroke of strokes) {
    context.moveTo(...stroke[0]);
    // Through the middles, so that fast hands draw curves, not polygons.
    stroke.slice(1).forEach((point, i) => {
      context.quadraticCurveTo(...stroke[i], ...middle(stroke[i], point));
    });
    context.lineTo(...stroke.at(-1));
  }
  context.stroke();
}

/** The 64 numbers, 0 to 16 and row by row, of some strokes. */
export function countInk(strokes) {
  const upright = straighten(strokes);
  let pixels;
  for (let pen = PENS.thinnest; pen <= PENS.thickest; pen += PENS.step) {
    pixels = rasterise(fit(upright, pen), pen);
    if (pixels.filter(Boolean).length >= INK) break;
  }
  return countBlocks(pixels);
}

// NIST sheared each digit until its leftmost pixel of the top row was above
// the one of the bottom row.
function straighten(strokes) {
  const { top, height } = bounds(strokes);
  const row = height / BITMAP;
  const points = strokes.flat();
  const leftmost = (inRow) => Math.min(...points.filter(inRow).map(([x]) => x));
  const lean =
    leftmost(([, y]) => y >= top + height - row) - leftmost(([, y]) => y <= top + row);
  return map(strokes, ([x, y]) => [x - (lean * (y - top)) / (height || 1), y]);
}

function fit(strokes, pen) {
  const { left, top, width, height } = bounds(strokes);
  const scaleY = (BOX.height - pen) / (height || 1);
  const scaleX = Math.min((BOX.width - pen) / (width || 1), WIDEST * scaleY);
  return map(strokes, ([x, y]) => [
    BITMAP / 2 + (x - left - width / 2) * scaleX,
    BITMAP / 2 + (y - top - height / 2) * scaleY,
  ]);
}

function rasterise(strokes, pen) {
  raster.clearRect(0, 0, BITMAP, BITMAP);
  trace(raster, strokes, pen);
  const { data } = raster.getImageData(0, 0, BITMAP, BITMAP);
  return Array.from({ length: BITMAP * BITMAP }, (_, i) => data[4 * i + 3] > 127);
}

function countBlocks(pixels) {
  const counts = new Array(SIDE * SIDE).fill(0);
  pixels.forEach((inked, i) => {
    const row = Math.floor(i / BITMAP / BLOCK);
    const column = Math.floor((i % BITMAP) / BLOCK);
    counts[row * SIDE + column] += inked;
  });
  return counts;
}

function bounds(strokes) {
  const xs = strokes.flat().map(([x]) => x);
  const ys = strokes.flat().map(([, y]) => y);
  const left = Math.min(...xs);
  const top = Math.min(...ys);
  return { left, top, width: Math.max(...xs) - left, height: Math.max(...ys) - top };
}

function map(strokes, place) {
  return strokes.map((stroke) => stroke.map(place));
}

function middle([x0, y0], [x1, y1]) {
  return [(x0 + x1) / 2, (y0 + y1) / 2];
}
