/* Reads the arguments of the padding calculator, which are texts of a form.
 *
 * A state holds these texts by field: call, axes, input, kernel, stride,
 * padding, autoPad, extra (output padding), size (output size) and dilation.
 */
(() => {
  'use strict';

  class ArgumentError extends Error {
    constructor(argument, valid, text) {
      super(`${argument} must be ${valid}; got ${text || 'nothing'}.`);
      this.argument = argument;
    }
  }

  /** Reads ints in Python's notation: 3, '3, 4' or '((0, 1), (0, 1))'. */
  function literal(text) {
    const list = text.replace(/\s/g, '').replace(/\(/g, '[')
        .replace(/\)/g, ']');
    if (!/^[-\d,[\]]+$/.test(list)) return undefined;
    try {
      const values = JSON.parse(`[${list.replace(/,(?=]|$)/g, '')}]`);
      return values.length === 1 && !list.endsWith(',') ? values[0] : values;
    } catch {
      return undefined;
    }
  }

  /** Writes a number, a name or a list in Python's notation. */
  function python(value, brackets = '()') {
    if (typeof value === 'string') return `'${value}'`;
    if (!Array.isArray(value)) return String(value);
    const comma = value.length === 1 && brackets === '()' ? ',' : '';
    const items = value.map(item => python(item)).join(', ');
    return brackets[0] + items + comma + brackets[1];
  }

  /** One number instead of a list of equal ones. */
  function short(value) {
    return Array.isArray(value) && typeof value[0] === 'number'
        && value.every(number => number === value[0]) ? value[0] : value;
  }

  /** The arguments of a state, which a framework's rule reads. */
  class Arguments {
    constructor(state, call, limit) {
      Object.assign(this, {state, call, limit, numAxes: Number(state.axes)});
    }

    text(field) {
      return (this.call.fields[field] && this.state[field] || '').trim()
          || this.call.defaults[field];
    }

    fail(field, valid) {
      throw new ArgumentError(
          this.call.fields[field], valid, this.text(field));
    }

    isInt(value) {
      return Number.isInteger(value) && Math.abs(value) <= this.limit;
    }

    /** One int for all axes, or one for each. */
    ints(field, minimum, count = this.numAxes) {
      const value = literal(this.text(field));
      const values = Array.isArray(value) ? value : Array(count).fill(value);
      if (values.length !== count
          || !values.every(v => this.isInt(v) && v >= minimum)) {
        this.fail(field, `one int from ${minimum} to ${this.limit}`
            + (count > 1 ? `, or ${count} of them with commas between` : ''));
      }
      return values;
    }

    /** (low, high) pairs, one for each axis, or undefined. */
    pairs(onlyPairs = false) {
      const value = literal(this.text('padding'));
      const each = Array.isArray(value) ? value
          : Array(this.numAxes).fill(value);
      const pairs = each.map(
          pad => Array.isArray(pad) || onlyPairs ? pad : [pad, pad]);
      const valid = pairs.length === this.numAxes && pairs.every(
          pair => Array.isArray(pair) && pair.length === 2
              && pair.every(v => this.isInt(v)));
      return valid ? pairs : undefined;
    }

    /** Output padding: below max(stride, dilation). */
    extra(axes) {
      const extra = this.ints('extra', 0);
      const limits = axes.map(({s, d}) => Math.max(s, d));
      if (extra.some((a, i) => a >= limits[i])) {
        this.fail('extra', 'smaller than max(stride, dilation), which is '
            + limits.join(', '));
      }
      return extra;
    }

    /** Sizes of the result: those that the convolution takes to the input. */
    sizes(axes, smallest) {
      const sizes = this.ints('size', 1);
      const ends = axes.map(({s}, i) => smallest[i] + s - 1);
      if (sizes.some((size, i) => size < smallest[i] || size > ends[i])) {
        this.fail('size', axes.map((_, i) => `from ${Math.max(smallest[i], 1)} `
            + `to ${ends[i]} on axis ${i}`).join(', '));
      }
      return sizes;
    }
  }

  window.tconvPadding = {ArgumentError, Arguments, literal, python, short};
})();
