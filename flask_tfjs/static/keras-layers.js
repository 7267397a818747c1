// Layers of Keras that TensorFlow.js lacks, or computes otherwise, for models that
// `flask tfjs convert` wrote. Load it after TensorFlow.js and before the model:
//
//   <script src="tf.min.js"></script>
//   <script src="/models/-/static/keras-layers.js"></script>
//
// or, where TensorFlow.js is part of a bundle:
//
//   import {register} from '/models/-/static/keras-layers.mjs';
//   register(tf);
//
// No class has a name that TensorFlow.js has: without this file a model that needs it
// does not load, rather than compute something else.
(() => {
  'use strict';

  // Lists, and shapes: the sizes of axes, null where not known before the data.

  const range = (start, stop) =>
    Array.from({length: Math.max(stop - start, 0)}, (_, i) => start + i);
  const toList = (value) => [].concat(value);
  const without = (list, others) => list.filter((one) => !others.includes(one));
  const inBoth = (list, other) => list.filter((one) => other.includes(one));
  const inserted = (list, index, value) =>
    [...list.slice(0, index), value, ...list.slice(index)];
  const changed = (list, index, value) =>
    list.map((one, i) => (i === index ? value : one));

  const toShapes = (shape) => (Array.isArray(shape[0]) ? shape : [shape]);
  const axisOf = (axis, rank) => (axis < 0 ? axis + rank : axis);
  const axesOf = (axes, rank) =>
    axes == null ? range(0, rank) : toList(axes).map((axis) => axisOf(axis, rank));

  /** The shape of a number, or of nested lists of numbers. */
  const shapeOf = (value) =>
    Array.isArray(value) ? [value.length, ...shapeOf(value[0])] : [];

  const commonSize = (sizes) => {
    const long = sizes.find((size) => size !== null && size !== 1);
    return long !== undefined ? long : sizes.includes(null) ? null : 1;
  };

  const broadcast = (shapes) => {
    const rank = Math.max(...shapes.map((shape) => shape.length));
    const ones = (shape) => Array(rank - shape.length).fill(1);
    const aligned = shapes.map((shape) => [...ones(shape), ...shape]);
    return range(0, rank).map((axis) => commonSize(aligned.map((one) => one[axis])));
  };

  const reducedShape = ([shape], {axis, keepdims}) => {
    const axes = axesOf(axis, shape.length);
    return keepdims
      ? shape.map((size, i) => (axes.includes(i) ? 1 : size))
      : shape.filter((_, i) => !axes.includes(i));
  };

  // Indices along an axis. In the key of x[key] are numbers, {start, stop, step}, null
  // for a new axis, and 'ellipsis'.

  /** The key with an entry for every axis. */
  const fullKey = (key, rank) => {
    const taken = key.filter((entry) => entry !== null && entry !== 'ellipsis').length;
    const at = key.includes('ellipsis') ? key.indexOf('ellipsis') : key.length;
    return [...key.slice(0, at), ...Array(rank - taken).fill({}), ...key.slice(at + 1)];
  };

  /** What an entry takes, as Python's slice.indices(). */
  const takenIndices = (entry, size) => {
    if (typeof entry === 'number') {
      return [axisOf(entry, size)];
    }
    const step = entry.step == null ? 1 : entry.step;
    const [lowest, highest] = step > 0 ? [0, size] : [-1, size - 1];
    const limited = (i) => (i < 0 ? Math.max(i + size, lowest) : Math.min(i, highest));
    const ends = step > 0 ? [lowest, highest] : [highest, lowest];
    const [start, stop] = [entry.start, entry.stop].map((given, i) =>
      given == null ? ends[i] : limited(given),
    );
    return range(0, Math.ceil((stop - start) / step)).map((i) => start + i * step);
  };

  /** The shape once each entry has taken what it takes. */
  const itemShape = (shape, key) => {
    const sizes = shape.slice();
    return fullKey(key, shape.length).flatMap((entry) => {
      if (entry === null) {
        return [1];
      }
      const size = sizes.shift();
      return typeof entry === 'number' ? [] : [size];
    });
  };

  /** An axis between two mirrors, at the centres of its ends or at their edges. */
  const mirroredIndices = (size, [before, after], mode) => {
    const edge = mode === 'symmetric' ? 1 : 0;
    const last = size - 1;
    return range(-before, size + after).map((i) =>
      i < 0 ? -i - edge : i > last ? 2 * last - i + edge : i,
    );
  };

  /** How much of each point is in those interpolated between the centres of points. */
  const interpolation = (size, factor) => {
    const rows = range(0, size).map(() => Array(size * factor).fill(0));
    range(0, size * factor).forEach((i) => {
      const position = Math.max((i + 0.5) / factor - 0.5, 0);
      const before = Math.floor(position);
      rows[before][i] += 1 - (position - before);
      rows[Math.min(before + 1, size - 1)][i] += position - before;
    });
    return rows;
  };

  // Labels of axes, as in 'abc,cd->abd'.

  /** {inputs, output, sizes: {label: size}}, what '...' stands for in capitals. */
  const labelled = (equation, shapes) => {
    const [left, right] = equation.split('->');
    const operands = left.split(',');
    const elided = operands.map((labels, i) =>
      labels.includes('...') ? shapes[i].length - (labels.length - 3) : 0,
    );
    const spelled = (labels, count) =>
      [...labels.replace('...', 'ABCDEF'.slice(6 - count))];
    const inputs = operands.map((labels, i) => spelled(labels, elided[i]));
    const sizes = {};
    inputs.forEach((labels, i) => labels.forEach((label, axis) => {
      const size = shapes[i][axis];
      sizes[label] = label in sizes ? commonSize([sizes[label], size]) : size;
    }));
    return {inputs, output: spelled(right, Math.max(...elided)), sizes};
  };

  const einsumShape = (equation, shapes) => {
    const {output, sizes} = labelled(equation, shapes);
    return output.map((label) => sizes[label]);
  };

  const matmulEquation = ([left, right]) => {
    const [a, row] = left.length > 1 ? ['...ik', 'i'] : ['k', ''];
    const [b, column] = right.length > 1 ? ['...kj', 'j'] : ['k', ''];
    return `${a},${b}->${row || column ? '...' : ''}${row}${column}`;
  };

  // Functions on tensors that TensorFlow.js lacks, or has no right gradient for.

  const defineFunctions = (tf) => {
    const toFloat = (x) => tf.cast(x, 'float32');
    const permuted = (x, order) =>
      order.every((axis, i) => axis === i) ? x : tf.transpose(x, order);
    const spread = (x, shape) =>
      tf.util.arraysEqual(x.shape, shape) ? x : tf.add(x, tf.zeros(shape));

    /** f as numbers whose gradient is 0, where tfjs has none. */
    const stepwise = (f) => (...xs) =>
      tf.customGrad((...args) => ({
        value: toFloat(f(...args.slice(0, xs.length))),
        gradFunc: () => xs.map((x) => tf.zerosLike(x)),
      }))(...xs);

    /** What is at these indices of an axis. */
    const pick = (x, axis, indices) => {
      const [first] = indices;
      if (!indices.every((index, i) => index === first + i)) {
        return tf.gather(x, tf.tensor1d(indices, 'int32'), axis);
      }
      const begin = x.shape.map((_, i) => (i === axis ? first : 0));
      return indices.length === x.shape[axis]
        ? x
        : tf.slice(x, begin, changed(x.shape, axis, indices.length));
    };

    /** Of two tensors, as one product of matrices. */
    const einsum = (equation, a, b) => {
      const {inputs, output, sizes} = labelled(equation, [a.shape, b.shape]);
      const [left, right] = inputs;
      const shared = inBoth(left, right);
      const batch = inBoth(shared, output);
      const summed = without(shared, output);
      const rows = without(inBoth(left, output), right);
      const columns = without(inBoth(right, output), left);

      const sizesOf = (labels) => labels.map((label) => sizes[label]);
      const matrices = (x, labels, groups) => {
        const order = groups.flat();
        const vain = without(labels, order);
        const used = without(labels, vain);
        const axes = vain.map((label) => labels.indexOf(label));
        const reduced = vain.length > 0 ? tf.sum(x, axes) : x;
        const ordered = permuted(reduced, order.map((label) => used.indexOf(label)));
        const counts = groups.map((group) => tf.util.sizeFromShape(sizesOf(group)));
        return tf.reshape(spread(ordered, sizesOf(order)), counts);
      };
      const product = tf.matMul(
        matrices(a, left, [batch, rows, summed]),
        matrices(b, right, [batch, summed, columns]),
      );
      const order = [...batch, ...rows, ...columns];
      const axes = output.map((label) => order.indexOf(label));
      return permuted(tf.reshape(product, sizesOf(order)), axes);
    };

    return {toFloat, permuted, spread, stepwise, pick, einsum};
  };

  // The operations of KerasOperation, by name: what each makes of its tensors, and the
  // shape of that.

  const defineOperations = (tf, functions) => {
    const {toFloat, permuted, spread, stepwise, pick, einsum} = functions;

    const all = (kind, table) =>
      Object.fromEntries(Object.entries(table).map(([name, f]) => [name, kind(f)]));
    const elementwise = (f) => ({
      shape: broadcast,
      call: (tensors, options) => f(...tensors.map(toFloat), options),
    });
    const truth = (f) => ({
      shape: broadcast,
      call: (tensors) => stepwise(f)(...tensors.map(toFloat)),
    });
    const reduction = (f) => ({
      shape: reducedShape,
      call: ([x], {axis, keepdims}) =>
        f(toFloat(x), axesOf(axis, x.shape.length), keepdims === true),
    });
    const reshaping = (shape) => ({
      shape: ([known], options) => shape(known, options),
      call: ([x], options) => tf.reshape(x, shape(x.shape, options)),
    });
    // indices(size, axis, options, rank): what is taken along an axis.
    const taking = (indices) => ({
      shape: ([shape], options) =>
        shape.map((size, axis) =>
          size === null ? null : indices(size, axis, options, shape.length).length),
      call: ([x], options) =>
        x.shape.reduce((y, size, axis) =>
          pick(y, axis, indices(size, axis, options, x.shape.length)), x),
    });

    const isTrue = stepwise((x) => tf.notEqual(x, 0));
    const isAbove = (x, threshold) => stepwise((y) => tf.greater(y, threshold))(x);
    const choice = (test, a, b) => tf.where(tf.cast(test, 'bool'), a, b);

    const belowMaximum = (x, axis) => tf.sub(x, tf.max(x, axis, true));
    const softmax = (x, {axis = -1}) => {
      const powers = tf.exp(belowMaximum(x, axis));
      return tf.div(powers, tf.sum(powers, axis, true));
    };
    const logSoftmax = (x, {axis = -1}) => {
      const exponents = belowMaximum(x, axis);
      return tf.sub(exponents, tf.log(tf.sum(tf.exp(exponents), axis, true)));
    };
    // Cut off before the exponential, whose gradient would be infinite.
    const celu = (x, {alpha = 1}) =>
      tf.add(tf.relu(x), tf.mul(alpha, tf.expm1(tf.div(tf.minimum(x, 0), alpha))));
    const elu = (x, {alpha = 1}) =>
      tf.add(tf.relu(x), tf.mul(alpha, tf.expm1(tf.minimum(x, 0))));
    const sparsePlus = (x) => {
      const bend = tf.square(tf.add(tf.clipByValue(x, -1, 1), 1));
      return tf.add(tf.div(bend, 4), tf.relu(tf.sub(x, 1)));
    };
    // The approximation by tanh; the exact one is an activation of tfjs.
    const gelu = (x) => {
      const cubic = tf.add(x, tf.mul(0.044715, tf.mul(x, tf.square(x))));
      const bend = tf.tanh(tf.mul(Math.sqrt(2 / Math.PI), cubic));
      return tf.mul(tf.div(x, 2), tf.add(bend, 1));
    };
    const squarePlus = (x, {b = 4}) =>
      tf.div(tf.add(x, tf.sqrt(tf.add(tf.square(x), b))), 2);
    const round = (x, {decimals = 0}) =>
      tf.div(tf.round(tf.mul(x, 10 ** decimals)), 10 ** decimals);

    const together = (f) => (a, b) => {
      const shape = broadcast([a.shape, b.shape]);
      return f(spread(a, shape), spread(b, shape));
    };
    const cumsum = (x, {axis}) => {
      const last = x.shape.length - 1;
      const at = axisOf(axis, last + 1);
      const order = changed(changed(range(0, last + 1), at, last), last, at);
      return permuted(tf.cumsum(permuted(x, order), last), order);
    };
    const variance = (x, axes, keepdims) => tf.moments(x, axes, keepdims).variance;
    const indexOf = (f) => (x, [axis], keepdims) =>
      keepdims ? tf.expandDims(f(x, axis), axis) : f(x, axis);

    const items = taking((size, axis, {key}, rank) => {
      const entries = fullKey(key, rank).filter((entry) => entry !== null);
      return takenIndices(entries[axis], size);
    });
    const mirrored = taking((size, axis, {padWidth, mode}) =>
      mirroredIndices(size, padWidth[axis], mode));
    // tf.pad fails for 5 axes on WebGL.
    const padded = (x, axis, [before, after], value) => {
      const side = (size) =>
        (size > 0 ? [tf.fill(changed(x.shape, axis, size), value, x.dtype)] : []);
      return tf.concat([...side(before), x, ...side(after)], axis);
    };
    const repeated = (x, axis, times) => {
      const copies = tf.stack(Array(times).fill(x), axis + 1);
      return tf.reshape(copies, changed(x.shape, axis, x.shape[axis] * times));
    };

    return {
      ...all(elementwise, {
        // Of one tensor.
        absolute: tf.abs, arccos: tf.acos, arccosh: tf.acosh, arcsin: tf.asin,
        arcsinh: tf.asinh, arctan: tf.atan, arctanh: tf.atanh, ceil: tf.ceil, celu,
        clip: (x, {xMin, xMax}) => tf.clipByValue(x, xMin, xMax),
        cos: tf.cos, cosh: tf.cosh, cumsum, elu, erf: tf.erf, exp: tf.exp,
        exp2: (x) => tf.exp(tf.mul(x, Math.LN2)), expm1: tf.expm1, floor: tf.floor,
        gelu,
        hardShrink: (x, {threshold = 0.5}) => tf.mul(x, isAbove(tf.abs(x), threshold)),
        log: tf.log, log10: (x) => tf.div(tf.log(x), Math.LN10), log1p: tf.log1p,
        log2: (x) => tf.div(tf.log(x), Math.LN2), logSoftmax, onesLike: tf.onesLike,
        reciprocal: tf.reciprocal, round, rsqrt: tf.rsqrt, sign: tf.sign, sin: tf.sin,
        sinh: tf.sinh, softmax, sparsePlus, sqrt: tf.sqrt, squarePlus,
        softShrink: (x, {threshold = 0.5}) =>
          tf.sub(x, tf.clipByValue(x, -threshold, threshold)),
        sparseSigmoid: (x) => tf.clipByValue(tf.div(tf.add(x, 1), 2), 0, 1),
        tan: tf.tan, zerosLike: tf.zerosLike,
        threshold: (x, {threshold, defaultValue}) =>
          choice(isAbove(x, threshold), x, tf.scalar(defaultValue)),
        trunc: (x) => tf.mul(tf.sign(x), tf.floor(tf.abs(x))),
        // Of two or three.
        add: tf.add, arctan2: tf.atan2, divide: tf.div,
        floorDivide: (a, b) => tf.floor(tf.div(a, b)),
        maximum: together(tf.maximum), minimum: together(tf.minimum), mod: tf.mod,
        multiply: tf.mul, power: tf.pow, squaredDifference: tf.squaredDifference,
        subtract: tf.sub, where: (test, a, b) => choice(isTrue(test), a, b),
      }),
      ...all(truth, {
        equal: tf.equal, greater: tf.greater, greaterEqual: tf.greaterEqual,
        isfinite: tf.isFinite, isnan: tf.isNaN, less: tf.less, lessEqual: tf.lessEqual,
        logicalAnd: (a, b) => tf.mul(isTrue(a), isTrue(b)),
        logicalNot: (x) => tf.equal(x, 0),
        logicalOr: (a, b) => tf.maximum(isTrue(a), isTrue(b)),
        logicalXor: (a, b) => tf.notEqual(isTrue(a), isTrue(b)),
        notEqual: tf.notEqual,
      }),
      ...all(reduction, {
        all: (x, ...along) => tf.min(isTrue(x), ...along),
        any: (x, ...along) => tf.max(isTrue(x), ...along),
        argmax: indexOf(tf.argMax), argmin: indexOf(tf.argMin),
        logsumexp: tf.logSumExp, max: tf.max, mean: tf.mean, min: tf.min, prod: tf.prod,
        std: (x, ...along) => tf.sqrt(variance(x, ...along)), sum: tf.sum,
        var: variance,
      }),

      einsum: {
        shape: (shapes, {subscripts}) => einsumShape(subscripts, shapes),
        call: (tensors, {subscripts}) => {
          const [a, b] = tensors.map(toFloat);
          return b === undefined
            ? einsum(subscripts.replace('->', ',->'), a, tf.scalar(1))
            : einsum(subscripts, a, b);
        },
      },
      matmul: {
        shape: (shapes) => einsumShape(matmulEquation(shapes), shapes),
        call: (tensors) =>
          einsum(matmulEquation(tensors.map((x) => x.shape)), ...tensors.map(toFloat)),
      },
      glu: {
        shape: ([shape], {axis = -1}) =>
          shape.map((size, i) =>
            size !== null && i === axisOf(axis, shape.length) ? size / 2 : size),
        call: ([x], {axis = -1}) => {
          const [value, gate] = tf.split(toFloat(x), 2, axisOf(axis, x.shape.length));
          return tf.mul(value, tf.sigmoid(gate));
        },
      },

      // The same values, all or some, elsewhere.
      identity: {shape: ([shape]) => shape, call: ([x]) => x},
      cast: {
        shape: ([shape]) => shape,
        call: ([x], {dtype}) => (dtype === 'bool' ? isTrue(x) : tf.cast(x, dtype)),
      },
      flip: {shape: ([shape]) => shape, call: ([x], {axis}) => tf.reverse(x, axis)},
      crop: taking((size, axis, {cropping}) =>
        range(cropping[axis][0], size - cropping[axis][1])),
      getItem: {
        shape: (shapes, {key}) => itemShape(items.shape(shapes, {key}), key),
        call: (tensors, {key}) => {
          const picked = items.call(tensors, {key});
          return tf.reshape(picked, itemShape(picked.shape, key));
        },
      },
      pad: {
        shape: ([shape], {padWidth}) =>
          shape.map((size, axis) =>
            size === null ? null : padWidth[axis][0] + size + padWidth[axis][1]),
        call: ([x], {padWidth, mode, constantValues = 0}) =>
          mode === 'reflect' || mode === 'symmetric'
            ? mirrored.call([x], {padWidth, mode})
            : padWidth.reduce((y, widths, axis) =>
              padded(y, axis, widths, constantValues), x),
      },
      upsample: {
        shape: ([shape], {size}) =>
          shape.map((known, axis) => (known === null ? null : known * size[axis])),
        call: ([x], {size}) =>
          size.reduce((y, times, axis) =>
            (times === 1 ? y : repeated(y, axis, times)), x),
      },
      stack: {
        shape: (shapes, {axis}) =>
          inserted(shapes[0], axisOf(axis, shapes[0].length + 1), shapes.length),
        call: (tensors, {axis}) =>
          tf.stack(tensors.map(toFloat), axisOf(axis, tensors[0].shape.length + 1)),
      },
      ...all(reshaping, {
        expandDims: (shape, {axis}) =>
          axesOf(axis, shape.length + toList(axis).length)
            .sort((a, b) => a - b)
            .reduce((sizes, at) => inserted(sizes, at, 1), shape),
        squeeze: (shape, {axis}) => {
          const axes = axesOf(axis, shape.length);
          return shape.filter((_, i) => !axes.includes(i));
        },
      }),
      oneHot: {
        shape: ([shape], {numClasses}) => [...shape, numClasses],
        call: ([x], {numClasses}) =>
          toFloat(tf.oneHot(tf.cast(x, 'int32'), numClasses)),
      },
    };
  };

  const defineLayers = (tf, classes) => {
    const functions = defineFunctions(tf);
    const {einsum, stepwise} = functions;
    const operations = defineOperations(tf, functions);
    const only = (inputs) => toList(inputs)[0];

    // tfjs calls all layers of a model with the same arguments, and never takes a mask
    // from there again: it would be that of the next layer without one.
    const withOwnMask = (Base) => class extends Base {
      apply(inputs, kwargs) {
        const own = {...kwargs};
        if (kwargs) {
          delete kwargs.mask;
        }
        return super.apply(inputs, own);
      }
    };

    /** A step of a GRU whose reset gate comes after the product with the state. */
    class KerasGRUCell extends classes.GRUCell {
      constructor(args) {
        super({recurrentActivation: 'sigmoid', ...args, resetAfter: false});
      }

      build(inputShape) {
        const {useBias} = this;
        this.useBias = false;
        super.build(inputShape);
        this.useBias = useBias;
        if (useBias) {
          this.bias = this.addWeight(
            'bias', [2, 3 * this.units], 'float32', this.biasInitializer,
            this.biasRegularizer, true, this.biasConstraint,
          );
        }
      }

      call([input, state], {training}) {
        return tf.tidy(() => {
          const x = training ? this.dropped(input, 'dropout') : input;
          const h = training ? this.dropped(state, 'recurrentDropout') : state;
          const biases = this.bias ? tf.unstack(this.bias.read()) : [];
          const gates = (values, kernel, bias) => {
            const product = tf.matMul(values, kernel.read());
            return tf.split(bias ? tf.add(product, bias) : product, 3, 1);
          };
          const [xUpdate, xReset, xNew] = gates(x, this.kernel, biases[0]);
          const [hUpdate, hReset, hNew] = gates(h, this.recurrentKernel, biases[1]);

          const update = this.recurrentActivation.apply(tf.add(xUpdate, hUpdate));
          const reset = this.recurrentActivation.apply(tf.add(xReset, hReset));
          const fresh = this.activation.apply(tf.add(xNew, tf.mul(reset, hNew)));
          const output = tf.add(fresh, tf.mul(update, tf.sub(state, fresh)));
          return [output, output];
        });
      }

      /** In all steps of a sequence the same; GRU forgets the mask before the next. */
      dropped(x, rate) {
        if (!(this[rate] > 0 && this[rate] < 1)) {
          return x;
        }
        const mask = `${rate}Mask`;
        this[mask] = this[mask] || tf.keep(tf.dropout(tf.onesLike(x), this[rate]));
        return tf.mul(x, this[mask]);
      }

      getConfig() {
        return {...super.getConfig(), resetAfter: true};
      }
    }

    class KerasGRU extends withOwnMask(classes.GRU) {
      constructor(args) {
        super({recurrentActivation: 'sigmoid', ...args, resetAfter: false});
        this.cell = new KerasGRUCell(args);
      }
    }

    /** Bilinear between the centres of pixels. */
    class KerasUpSampling2D extends withOwnMask(classes.UpSampling2D) {
      constructor(args) {
        super(args);
        if (args.interpolation !== 'bilinear' || this.dataFormat !== 'channelsLast') {
          throw new Error('KerasUpSampling2D is bilinear, with the channels last.');
        }
      }

      call(inputs) {
        const [vertical, horizontal] = this.size;
        return tf.tidy(() => tf.customGrad((x) => {
          const [, height, width] = x.shape;
          const size = [height * vertical, width * horizontal];
          return {
            value: tf.image.resizeBilinear(x, size, false, true),
            // That of resizeBilinear is one between the corners.
            gradFunc: (dy) => {
              const columns = tf.tensor2d(interpolation(width, horizontal));
              const rows = tf.tensor2d(interpolation(height, vertical));
              const across = einsum('bijc,wj->biwc', dy, columns);
              return einsum('biwc,hi->bhwc', across, rows);
            },
          };
        })(only(inputs)));
      }
    }

    class KerasGroupNormalization extends withOwnMask(classes.LayerNormalization) {
      constructor(args) {
        super(args);
        this.groups = args.groups == null ? 32 : args.groups;
      }

      build(inputShape) {
        const channels = inputShape[axisOf(this.axis, inputShape.length)];
        const add = (name) => this.addWeight(
          name, [channels], 'float32', this[`${name}Initializer`],
          this[`${name}Regularizer`], true,
        );
        this.gamma = this.scale ? add('gamma') : null;
        this.beta = this.center ? add('beta') : null;
        this.built = true;
      }

      call(inputs) {
        return tf.tidy(() => {
          const x = only(inputs);
          const axis = axisOf(this.axis, x.shape.length);
          const channels = x.shape[axis];
          const groups = this.groups === -1 ? channels : this.groups;
          const within = changed(x.shape, axis, channels / groups);
          const grouped = tf.reshape(x, inserted(within, axis, groups));
          const axes = without(range(1, grouped.shape.length), [axis]);
          const {mean, variance} = tf.moments(grouped, axes, true);
          const deviation = tf.sqrt(tf.add(variance, this.epsilon));
          const normal = tf.reshape(tf.div(tf.sub(grouped, mean), deviation), x.shape);

          const along = x.shape.map((_, i) => (i === axis ? channels : 1));
          const [gamma, beta] = [this.gamma, this.beta].map((weight) =>
            weight && tf.reshape(weight.read(), along));
          const scaled = gamma ? tf.mul(normal, gamma) : normal;
          return beta ? tf.add(scaled, beta) : scaled;
        });
      }

      getConfig() {
        return {...super.getConfig(), groups: this.groups};
      }
    }

    class KerasUnitNormalization extends withOwnMask(tf.layers.Layer) {
      constructor(args) {
        super(args);
        this.axis = args.axis == null ? -1 : args.axis;
        this.supportsMasking = true;
      }

      call(inputs) {
        return tf.tidy(() => {
          const x = only(inputs);
          const square = tf.sum(tf.square(x), axesOf(this.axis, x.shape.length), true);
          return tf.div(x, tf.sqrt(tf.maximum(square, 1e-24)));
        });
      }

      getConfig() {
        return {...super.getConfig(), axis: this.axis};
      }
    }

    class KerasRMSNormalization extends withOwnMask(tf.layers.Layer) {
      constructor(args) {
        super(args);
        this.axis = args.axis == null ? -1 : args.axis;
        this.epsilon = args.epsilon == null ? 1e-6 : args.epsilon;
      }

      build(inputShape) {
        const axes = axesOf(this.axis, inputShape.length).sort((a, b) => a - b);
        const shape = axes.map((axis) => inputShape[axis]);
        const ones = tf.initializers.ones();
        this.scale = this.addWeight('scale', shape, 'float32', ones, null, true);
        this.built = true;
      }

      call(inputs) {
        return tf.tidy(() => {
          const x = only(inputs);
          const square = tf.mean(tf.square(x), axesOf(this.axis, x.shape.length), true);
          const normal = tf.div(x, tf.sqrt(tf.add(square, this.epsilon)));
          return tf.mul(normal, this.scale.read());
        });
      }

      getConfig() {
        return {...super.getConfig(), axis: this.axis, epsilon: this.epsilon};
      }
    }

    /** What a Dense is, but for its shapes. */
    class KerasEinsumDense extends withOwnMask(classes.Dense) {
      constructor(args) {
        super({...args, units: 1});
        this.equation = args.equation;
        this.partialShape = args.outputShape;
        this.biasAxes = args.biasAxes;
        this.supportsMasking = false;
      }

      /** The labels of the kernel and the output, and {label: size}. */
      labelled(inputShape) {
        const [left, right] = this.equation.split('->');
        const [input, kernel] = left.split(',');
        const {output, sizes} = labelled(`${input}->${right}`, [inputShape]);
        const batch = right.startsWith('...') ? 0 : 1;
        const given = [...right.replace('...', '')].slice(batch).map((label, i) =>
          [label, toList(this.partialShape)[i]]);
        return {kernel, output, sizes: {...Object.fromEntries(given), ...sizes}};
      }

      build(inputShape) {
        const {kernel, output, sizes} = this.labelled(inputShape);
        const biased = (label) => (this.biasAxes || '').includes(label);
        this.kernel = this.addWeight(
          'kernel', [...kernel].map((label) => sizes[label]), 'float32',
          this.kernelInitializer, this.kernelRegularizer, true, this.kernelConstraint,
        );
        if (this.biasAxes) {
          const axes = output.slice(output.findIndex(biased));
          this.bias = this.addWeight(
            'bias', axes.map((label) => (biased(label) ? sizes[label] : 1)), 'float32',
            this.biasInitializer, this.biasRegularizer, true, this.biasConstraint,
          );
        }
        this.built = true;
      }

      computeOutputShape(inputShape) {
        const {output, sizes} = this.labelled(inputShape);
        return output.map((label) => sizes[label]);
      }

      call(inputs) {
        return tf.tidy(() => {
          const product = einsum(this.equation, only(inputs), this.kernel.read());
          const sum = this.bias ? tf.add(product, this.bias.read()) : product;
          return this.activation.apply(sum);
        });
      }

      getConfig() {
        const {units, useBias, ...config} = super.getConfig();
        const {equation, partialShape, biasAxes} = this;
        return {...config, equation, outputShape: partialShape, biasAxes};
      }
    }

    /** Scores of attention [..., query, key], far lower where the key comes later. */
    class KerasCausalMask extends withOwnMask(tf.layers.Layer) {
      call(inputs) {
        return tf.tidy(() => {
          const scores = only(inputs);
          const [rows, columns] = scores.shape.slice(-2);
          const row = tf.reshape(tf.range(0, rows), [rows, 1]);
          const later = stepwise(tf.greater)(tf.range(0, columns), row);
          return tf.add(scores, tf.mul(later, -1e9));
        });
      }
    }

    /** Its first input, with a mask: the second says 1 for each step that counts. */
    class KerasMask extends withOwnMask(tf.layers.Layer) {
      constructor(args) {
        super(args);
        this.supportsMasking = true;
      }

      computeOutputShape([shape]) {
        return shape;
      }

      call([x]) {
        return x.clone();
      }

      computeMask([, counted]) {
        return tf.cast(counted, 'bool');
      }
    }

    /** 0 at each masked step, as what a Bidirectional returns has in Keras. */
    class KerasZeroMasked extends withOwnMask(tf.layers.Layer) {
      constructor(args) {
        super(args);
        this.supportsMasking = true;
      }

      call(inputs, {mask}) {
        return tf.tidy(() => {
          const x = only(inputs);
          const kept = mask && tf.cast(mask, 'float32');
          const shape = x.shape.map((size, axis) => (axis < 2 ? size : 1));
          return kept ? tf.mul(x, tf.reshape(kept, shape)) : x;
        });
      }
    }

    /** A function of keras.ops, of tensors and of constants between them. */
    class KerasOperation extends withOwnMask(tf.layers.Layer) {
      constructor(args) {
        super(args);
        this.operation = args.operation;
        this.options = args.options || {};
        this.constants = args.constants || [];
        this.supportsMasking = args.masking === true;
        if (!(this.operation in operations)) {
          throw new Error(`KerasOperation has no operation '${this.operation}'.`);
        }
      }

      /** All arguments: those that are given, and constants in their places. */
      complete(given, toArgument) {
        const rest = given.slice();
        const placed = this.constants.map((value) =>
          value === null ? rest.shift() : toArgument(value));
        return [...placed, ...rest];
      }

      computeOutputShape(inputShape) {
        const shapes = this.complete(toShapes(inputShape), shapeOf);
        return operations[this.operation].shape(shapes, this.options);
      }

      call(inputs) {
        return tf.tidy(() => {
          const tensors = this.complete(toList(inputs), (value) => tf.tensor(value));
          return operations[this.operation].call(tensors, this.options);
        });
      }

      getConfig() {
        const {operation, options, constants, supportsMasking: masking} = this;
        return {...super.getConfig(), operation, options, constants, masking};
      }
    }

    return {
      KerasCausalMask, KerasEinsumDense, KerasGRU, KerasGRUCell,
      KerasGroupNormalization, KerasMask, KerasOperation, KerasRMSNormalization,
      KerasUnitNormalization, KerasUpSampling2D, KerasZeroMasked,
    };
  };

  const hasLayers = (tf) =>
    Boolean(tf && tf.matMul && tf.serialization && tf.layers && tf.layers.Layer);

  /**
   * Let TensorFlow.js load models with these layers.
   * @throws {Error} if tf is something else, or has no layers.
   */
  const register = (tf) => {
    if (!hasLayers(tf)) {
      throw new Error('kerasLayers.register(tf) takes TensorFlow.js with its layers.');
    }
    const known = tf.serialization.SerializationMap.getMap().classNameMap;
    if ('KerasGRU' in known) {
      return;
    }
    const {Dense, GRU, GRUCell, LayerNormalization, UpSampling2D} =
      Object.fromEntries(Object.entries(known).map(([name, [layer]]) => [name, layer]));
    const bases = {Dense, GRU, GRUCell, LayerNormalization, UpSampling2D};
    for (const [name, layer] of Object.entries(defineLayers(tf, bases))) {
      layer.className = name;
      tf.serialization.registerClass(layer);
    }
  };

  globalThis.kerasLayers = {register};
  if (hasLayers(globalThis.tf)) {
    register(globalThis.tf);
  }
})();
