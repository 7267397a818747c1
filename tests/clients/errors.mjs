// What a client says of code that users write: the same in Node and in a browser.

const AsyncFunction = (async () => {}).constructor;

/**
 * {code, names} -> {error}, which is null if there is none.
 *
 * The code knows the libraries that it speaks of, and the values of these names.
 */
export async function run(libraries, {code, names}) {
  const known = {tf: libraries.tf, ...names};
  if (code.includes('faceapi')) {
    known.faceapi = libraries.faceapi;
  }
  try {
    await new AsyncFunction(...Object.keys(known), code)(...Object.values(known));
    return {error: null};
  } catch (error) {
    return {error: String(error?.message ?? error)};
  }
}
