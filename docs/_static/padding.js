/* The padding calculator: what a call means, the equal calls of the other
 * frameworks, and which inputs reach an output.
 *
 * A call means, for each axis, {n, k, s, d, e, low, high, size}: the size of
 * the input, the number of taps, stride, dilation, the extent of the dilated
 * kernel, the padding of the forward convolution and the size of the result.
 * Two calls are equal if these numbers are. Every equal call that is offered
 * has been read back by the rules of its framework.
 */
(() => {
  'use strict';

  const {Arguments, ArgumentError, CALLS, rules, source} = tconvPadding;

  const LIMIT = 10000;  // Larger numbers in the form are typing errors.

  /** Fills numbers into a formula. */
  function fill(formula, values) {
    return formula.replace(/[a-z_]+/g, name => name === 'max' ? name
        : values[name] < 0 ? `(${values[name]})` : values[name]);
  }

  /** Reads a state by the rules of its framework, into axes. */
  function solve(state, limit) {
    if (!Object.hasOwn(CALLS, state.call)) {
      throw new ArgumentError(
          'call', `one of ${Object.keys(CALLS).join(', ')}`, state.call);
    }
    if (!['1', '2', '3'].includes(state.axes)) {
      throw new ArgumentError('axes', '1, 2 or 3', state.axes);
    }
    const args = new Arguments(state, CALLS[state.call], limit);
    const n = args.ints('input', 1);
    const k = args.ints('kernel', 1);
    const s = args.ints('stride', 1);
    const d = args.ints('dilation', 1);
    const axes = n.map((_, i) => {
      const e = (k[i] - 1) * d[i] + 1;
      const full = (n[i] - 1) * s[i] + e;
      return {n: n[i], k: k[i], s: s[i], d: d[i], e, full};
    });
    return rules[state.call](axes, args).map((rule, i) => {
      const {low, high, formula, values} = rule;
      const size = axes[i].full - low - high;
      if (size < 1) {
        args.fail('padding', `such that all sizes are at least 1, and not `
            + `${size} as on axis ${i}`);
      }
      return {...axes[i], low, high, size, formula,
              filled: fill(formula, {...axes[i], ...values})};
    });
  }

  /** The call of another framework that gives the same axes, or the reason. */
  function equalCall(call, given, axes) {
    const {axes: numAxes, input, kernel, stride, dilation} = given;
    for (const offer of CALLS[call].offers(axes)) {
      const state = {
        call, axes: numAxes, input, kernel, stride, dilation, ...offer};
      try {
        const read = solve(state, Number.MAX_SAFE_INTEGER);
        if (read.every(({low, high}, i) =>
          low === axes[i].low && high === axes[i].high)) {
          return {call, state, text: source(state)};
        }
      } catch (error) {
        if (!(error instanceof ArgumentError)) throw error;
      }
    }
    return {call, reason: CALLS[call].reason(axes)};
  }

  /** Solves a state; throws an ArgumentError if the call is illegal. */
  function evaluate(state) {
    const axes = solve(state, LIMIT);
    return {axes, text: source(state), equal: Object.keys(CALLS)
        .filter(name => name !== state.call)
        .map(name => equalCall(name, state, axes))};
  }

  /**
   * The inputs that reach a position, once for each tap.
   *
   * Position p of the result is place p + low of the result without padding,
   * in which tap t of input i is at place i * s + t * d.
   */
  function sources({n, k, s, d}, place) {
    const inputs = [];
    for (let tap = 0; tap < k; tap++) {
      const input = (place - tap * d) / s;
      if (Number.isInteger(input) && input >= 0 && input < n) {
        inputs.push(input);
      }
    }
    return inputs.reverse();
  }

  /** How many taps meet at each phase of the positions, far from the ends. */
  function counts({k, s, d}) {
    const phases = Array(s).fill(0);
    for (let tap = 0; tap < k; tap++) phases[tap * d % s]++;
    return phases;
  }

  Object.assign(tconvPadding, {counts, evaluate, sources});
})();
