// Redraws an 8 x 8 digit as somebody else might have drawn it.

const SIDE = 8;
const BLOCK = 4;
const BITMAP = SIDE * BLOCK;

// Math.random cannot be seeded; this is mulberry32.
export function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function augment(image, random) {
  const source = distortion(random);
  // Where the interpolated counts pass a level, a pen has been: a low level
  // makes a thick pen.
  const level = between(random, 3, 9);
  const counts = new Array(SIDE * SIDE).fill(0);
  for (let y = 0; y < BITMAP; y++) {
    for (let x = 0; x < BITMAP; x++) {
      if (interpolate(image, ...source(x, y)) > level) {
        counts[Math.floor(y / BLOCK) * SIDE + Math.floor(x / BLOCK)]++;
      }
    }
  }
  return counts;
}

// Maps a pixel of the new bitmap to the place in the old one that it shows.
function distortion(random) {
  const angle = between(random, -0.25, 0.25);
  const slant = between(random, -0.3, 0.3);
  const width = between(random, 0.85, 1.3);
  const height = between(random, 0.92, 1.12);
  const right = between(random, -2, 2);
  const down = between(random, -1.5, 1.5);
  const wobbleX = wave(random);
  const wobbleY = wave(random);
  const cos = Math.cos(angle);
  const sin = Math.sin(angle);
  const middle = (BITMAP - 1) / 2;
  return (x, y) => {
    const u = (x - middle) * width;
    const v = (y - middle) * height;
    return [
      middle + right + u * cos - v * sin + v * slant + wobbleX(y),
      middle + down + u * sin + v * cos + wobbleY(x),
    ];
  };
}

function wave(random) {
  const amplitude = between(random, 0, 2.5);
  const frequency = between(random, 0.1, 0.3);
  const phase = between(random, 0, 2 * Math.PI);
  return (t) => amplitude * Math.sin(frequency * t + phase);
}

// Bilinear, between the centres of the blocks.
function interpolate(image, x, y) {
  const u = (x + 0.5) / BLOCK - 0.5;
  const v = (y + 0.5) / BLOCK - 0.5;
  const left = Math.floor(u);
  const top = Math.floor(v);
  const at = (i, j) => (i < 0 || j < 0 || i >= SIDE || j >= SIDE ? 0 : image[j * SIDE + i]);
  const across = (j) => at(left, j) + (u - left) * (at(left + 1, j) - at(left, j));
  return across(top) + (v - top) * (across(top + 1) - across(top));
}

function between(random, low, high) {
  return low + (high - low) * random();
}
