// TensorFlow.js loads graph models again and again, some at a time, and says what
// arrived. Nothing of tfjs or of fetch is replaced.

const TIME_LIMIT = 30_000;
const MOST_RUNS = 100;

const sleep = (milliseconds) =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

function runsOf(values) {
  const runs = [];
  let start = 0;
  while (start < values.length && runs.length < MOST_RUNS) {
    let end = start + 1;
    while (end < values.length && values[end] === values[start]) {
      end += 1;
    }
    runs.push([values[start], end - start]);
    start = end;
  }
  return runs;
}

function farAway(url, longest) {
  const base = url.slice(0, url.lastIndexOf('/') + 1);
  const delay = Math.random() * longest;
  const weightUrlConverter = async (path) => {
    await sleep(delay);
    return base + path;
  };
  return {weightUrlConverter};
}

async function load(tf, url, options) {
  const model = await tf.loadGraphModel(url, options);
  const weights = {};
  for (const [name, [tensor]] of Object.entries(model.weights)) {
    weights[name] = runsOf(await tensor.data());
  }
  const document = model.artifacts.userDefinedMetadata.version;
  model.dispose();
  return {document, weights};
}

async function outcome(tf, url, options) {
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(() => resolve({error: 'out of time'}), TIME_LIMIT);
  });
  try {
    return await Promise.race([load(tf, url, options), late]);
  } catch (error) {
    const cause = error?.cause?.message;
    return {error: String(error?.message ?? error) + (cause ? `: ${cause}` : '')};
  } finally {
    clearTimeout(timer);
  }
}

/**
 * job: {urls, loads, lanes, pause, delay}
 *   loads  how many in all, the URLs in turn
 *   lanes  how many at a time
 *   pause  before each load, at random from 0 to so many milliseconds
 *   delay  the same between the JSON and its shards, in every other load, as if the
 *          server were far away
 * report is called for each load with {url, document, weights} or {url, error}
 *   document  userDefinedMetadata.version of the JSON
 *   weights   name -> [value, count] of each run of equal values
 */
export async function loadAll(tf, {urls, loads, lanes, pause, delay}, report) {
  let begun = 0;

  async function lane() {
    while (begun < loads) {
      const url = urls[begun % urls.length];
      // Both of each URL, whatever their number is.
      const near = Math.floor(begun / urls.length) % 2 === 0;
      begun += 1;
      await sleep(Math.random() * pause);
      const options = near ? undefined : farAway(url, delay);
      report({url, ...(await outcome(tf, url, options))});
    }
  }

  await Promise.all(Array.from({length: lanes}, lane));
}
