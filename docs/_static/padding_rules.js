/* What padding means in each framework.
 *
 * These are the rules of tconv/geometry.py and tconv/dialects; tests/docs
 * compares them.
 */
(() => {
  'use strict';

  const {python} = tconvPadding;
  const FULL = '(n - 1) * s + d * (k - 1) + 1';  // The size without padding.

  /** 'SAME' and 'VALID', without an output size, in Keras, lax and tconv. */
  function named(name, {s, e}) {
    if (name === 'VALID') {
      return {low: 0, high: Math.min(e - s, 0),
              formula: '(n - 1) * s + max(d * (k - 1) + 1, s)'};
    }
    const low = Math.floor(Math.max(e - s, 0) / 2);
    return {low, high: e - s - low, formula: 'n * s'};
  }

  /**
   * By call. Each rule takes the axes {n, k, s, d, e, full} and the arguments.
   * For each axis it returns the padding (low, high) of the forward
   * convolution, a formula of the size, and the values to write into it. e is
   * the extent of the dilated kernel, and full the size without padding.
   */
  const rules = {
    torch(axes, args) {
      const padding = args.ints('padding', 0);
      const smallest = axes.map(({full}, i) => full - 2 * padding[i]);
      const sizes = args.text('size') && args.sizes(axes, smallest);
      // With an output_size, PyTorch does not read output_padding.
      const extra = sizes ? sizes.map((size, i) => size - smallest[i])
          : args.extra(axes);
      return padding.map((p, i) => ({
        low: p, high: p - extra[i], values: {p, a: extra[i]},
        formula: '(n - 1) * s - 2 * p + d * (k - 1) + a + 1'}));
    },

    onnx(axes, args) {
      const extra = args.extra(axes);
      const auto = args.text('autoPad');
      if (!['NOTSET', 'SAME_UPPER', 'SAME_LOWER', 'VALID'].includes(auto)) {
        args.fail('autoPad', 'NOTSET, SAME_UPPER, SAME_LOWER or VALID');
      }
      if (auto !== 'NOTSET' && args.text('padding')) {
        args.fail('padding', `empty, because auto_pad is ${auto}`);
      }
      const pads = args.text('padding')
          ? args.ints('padding', 0, 2 * axes.length)
          : Array(2 * axes.length).fill(0);
      const sizes = args.text('size') ? args.ints('size', 1)
          : auto.startsWith('SAME') ? axes.map(({n, s}) => n * s) : undefined;
      return axes.map(({full}, i) => {
        const a = extra[i];
        if (!sizes) {
          const [begin, end] = [pads[i], pads[i + axes.length]];
          return {low: begin, high: end - a, values: {a, begin, end},
                  formula: `${FULL} + a - begin - end`};
        }
        const total = full + a - sizes[i];
        const half = Math.floor(total / 2);
        const begin = auto === 'SAME_UPPER' ? half : total - half;
        return args.text('size')
            ? {low: begin, high: total - begin - a, formula: 'output_shape',
               values: {output_shape: sizes[i]}}
            : {low: begin, high: total - begin - a, formula: 'n * s'};
      });
    },

    keras(axes, args) {
      if (axes.some(({s}) => s > 1) && axes.some(({d}) => d > 1)) {
        args.fail('dilation', '1 with strides above 1');
      }
      const name = args.text('padding').toUpperCase();
      if (!['SAME', 'VALID'].includes(name)) {
        args.fail('padding', "'same' or 'valid'");
      }
      if (!args.text('extra')) return axes.map(axis => named(name, axis));
      const beyond = args.ints('extra', 0);
      if (beyond.some((a, i) => a >= axes[i].s)) {
        args.fail('extra', 'smaller than strides, '
            + axes.map(({s}) => s).join(', '));
      }
      return axes.map(({e}, i) => {
        const a = beyond[i];
        if (name === 'VALID') {
          return {low: 0, high: -a, values: {a}, formula: `${FULL} + a`};
        }
        const total = e - e % 2 - a;
        const low = Math.max(Math.floor(total / 2), 0);
        return {low, high: total - low, values: {a},
                formula: '(n - 1) * s + (d * (k - 1) + 1) % 2 + a'};
      });
    },

    flax(axes, args, onlyPairs = false) {
      const name = args.text('padding');
      if (['SAME', 'VALID'].includes(name)) {
        return axes.map(axis => named(name, axis));
      }
      const pairs = args.pairs(onlyPairs);
      if (!pairs) {
        args.fail('padding', `'SAME', 'VALID'${onlyPairs ? '' : ', an int'}`
            + ` or a (low, high) pair for each axis, as in `
            + python(axes.map(() => [1, 2])));
      }
      return axes.map(({e}, i) => {
        const [low, high] = pairs[i];  // Zeros around the dilated input.
        return {low: e - 1 - low, high: e - 1 - high, values: {low, high},
                formula: '(n - 1) * s + 1 + low + high - d * (k - 1)'};
      });
    },

    lax: (axes, args) => rules.flax(axes, args, true),

    tconv(axes, args) {
      const upper = args.text('padding').toUpperCase();
      const name = ['SAME', 'VALID'].includes(upper) ? upper : '';
      const pairs = name ? axes.map(() => [0, 0]) : args.pairs();
      if (!pairs) {
        args.fail('padding', `'SAME', 'VALID', an int, or a (low, high) pair `
            + `for each axis, as in ${python(axes.map(() => [1, 2]))}`);
      }
      const given = args.text('size');
      const extra = args.extra(axes);
      if (extra.some(a => a > 0) && (name || given)) {
        args.fail('extra', '0 unless padding is in numbers and output_size is '
            + 'empty');
      }
      if (!given) {
        return axes.map((axis, i) => {
          if (name) return named(name, axis);
          const [low, high] = pairs[i];
          return {low, high: high - extra[i], values: {low, high, a: extra[i]},
                  formula: `${FULL} - low - high + a`};
        });
      }
      const smallest = axes.map(({n, s, full}, i) => name === 'SAME'
          ? (n - 1) * s + 1 : full - pairs[i][0] - pairs[i][1]);
      return args.sizes(axes, smallest).map((size, i) => {
        const same = Math.floor(Math.max(axes[i].full - size, 0) / 2);
        const low = name === 'SAME' ? same : pairs[i][0];
        return {low, high: axes[i].full - size - low, formula: 'output_size',
                values: {output_size: size}};
      });
    },
  };

  Object.assign(tconvPadding, {named, rules});
})();
