/* The calls of the padding calculator: their arguments, how they are written,
 * and how they express a given padding of the forward convolution.
 */
(() => {
  'use strict';

  const {Arguments, literal, python, short} = tconvPadding;

  const SIZES = {input: 'input size', kernel: 'kernel size'};
  const DEFAULTS = {input: '', kernel: '', stride: '1', autoPad: 'NOTSET',
                    extra: '0', size: '', dilation: '1'};
  const ALWAYS = ['kernel', 'stride', 'padding'];  // Written if not empty.

  const each = (axes, value) => python(short(axes.map(value)));
  const padding = axes => each(axes, ({low, high}) => [low, high]);

  /** How to crop the result without padding; '' where that is too small. */
  function cropping(axes, channelsFirst) {
    if (axes.some(({low, high}) => low < 0 || high < 0)) return '';
    const slices = [':', ...channelsFirst ? [':'] : [],
                    ...axes.map(({low, size}) => `${low}:${low + size}`)];
    return ` The same call without padding has these values at `
        + `[${slices.join(', ')}].`;
  }

  /**
   * The calls. `fields` names their arguments in the order in which they are
   * written; a name of two words is no argument. `lists` are the fields for
   * which the call takes no single int. `offers` are the ways to express axes,
   * the simplest first, and `reason` says why none of them does.
   */
  const CALLS = {
    torch: {
      title: 'PyTorch', form: 'nn.ConvTranspose1d, 2d and 3d',
      fields: {...SIZES, kernel: 'kernel_size', stride: 'stride',
               padding: 'padding', extra: 'output_padding',
               dilation: 'dilation', size: 'output_size'},
      defaults: {...DEFAULTS, padding: '0'},
      write(numAxes, args) {
        const [size] = args.filter(arg => arg.startsWith('output_size'));
        const layer = args.filter(arg => arg !== size).join(', ');
        return `nn.ConvTranspose${numAxes}d(in_channels, out_channels, `
            + `${layer})${size ? `(x, ${size})` : ''}`;
      },
      offers: axes => [{padding: each(axes, ({low}) => low),
                        extra: each(axes, ({low, high}) => low - high)}],
      reason(axes) {
        const limit = ({s, d}) => Math.max(s, d);
        const at = axes.findIndex(axis => axis.low < 0 || axis.high > axis.low
            || axis.low - axis.high >= limit(axis));
        const {low, high} = axes[at];
        const why = low < 0 ? `padding cannot be negative`
            : high > low ? 'padding crops both ends alike, and output_padding '
                + 'cannot crop the high end further'
            : `output_padding must be smaller than max(stride, dilation), `
                + `which is ${limit(axes[at])}`;
        return `Axis ${at} has the padding (${low}, ${high}), but ${why}.`
            + cropping(axes, true);
      },
    },

    onnx: {
      title: 'ONNX', form: 'ConvTranspose',
      fields: {...SIZES, kernel: 'kernel_shape', stride: 'strides',
               autoPad: 'auto_pad', padding: 'pads', extra: 'output_padding',
               size: 'output_shape', dilation: 'dilations'},
      defaults: {...DEFAULTS, padding: ''},
      lists: ['kernel', 'stride', 'padding', 'extra', 'size', 'dilation'],
      brackets: '[]',
      write: (numAxes, args) => "onnx.helper.make_node('ConvTranspose', "
          + `['X', 'W'], ['Y'], ${args.join(', ')})`,
      offers(axes) {
        const extra = less => each(
            axes, ({low, high}) => Math.max(low - high - less, 0));
        const size = each(axes, axis => axis.size);
        return [
          {padding: python(short([...axes.map(({low}) => low), ...axes.map(
              ({high}) => Math.max(high, 0))])),
           extra: each(axes, ({high}) => Math.max(-high, 0))},
          {size, extra: extra(0), autoPad: 'SAME_UPPER'},
          {size, extra: extra(1)}];
      },
      reason: axes => 'pads cannot be negative, output_padding must be smaller '
          + 'than max(strides, dilations), and output_shape halves the sum of '
          + `low and high. This call has (low, high) = ${padding(axes)}.`,
    },

    keras: {
      title: 'Keras', form: 'layers.Conv1DTranspose, 2D and 3D',
      fields: {...SIZES, kernel: 'kernel_size', stride: 'strides',
               padding: 'padding', extra: 'output_padding',
               dilation: 'dilation_rate'},
      defaults: {...DEFAULTS, padding: 'valid', extra: ''},
      write: (numAxes, args) =>
          `keras.layers.Conv${numAxes}DTranspose(filters, ${args.join(', ')})`,
      offers: axes => [
        {padding: 'same'}, {padding: 'valid'},
        {padding: 'valid', extra: each(axes, ({high}) => -high)},
        {padding: 'same', extra: each(
            axes, ({e, low, high}) => e - e % 2 - low - high)}],
      reason(axes) {
        if (axes.some(({s}) => s > 1) && axes.some(({d}) => d > 1)) {
          return 'The layers refuse strides above 1 together with a '
              + 'dilation_rate above 1.';
        }
        const [same, valid] = ['SAME', 'VALID'].map(name => padding(
            axes.map(axis => tconvPadding.named(name, axis))));
        return `Keras has only 'same', here ${same}, and 'valid', here `
            + `${valid}, and an output_padding below strides. This call has `
            + `(low, high) = ${padding(axes)}.${cropping(axes, false)}`;
      },
    },

    flax: {
      title: 'Flax', form: 'nnx.ConvTranspose',
      fields: {...SIZES, kernel: 'kernel_size', stride: 'strides',
               padding: 'padding', dilation: 'kernel_dilation'},
      defaults: {...DEFAULTS, padding: 'SAME'},
      lists: ['kernel'],
      write: (numAxes, args) => 'nnx.ConvTranspose(in_features, out_features, '
          + `${args.join(', ')}, rngs=rngs)`,
      offers: axes => [
        {padding: 'SAME'}, {padding: 'VALID'},
        {padding: each(axes, ({e, low, high}) => low === high ? e - 1 - low
            : [e - 1 - low, e - 1 - high])}],
    },

    lax: {
      title: 'lax', form: 'lax.conv_transpose',
      fields: {...SIZES, stride: 'strides', padding: 'padding',
               dilation: 'rhs_dilation'},
      defaults: {...DEFAULTS, padding: ''},
      lists: ['stride', 'dilation'],
      write: (numAxes, args) =>
          `lax.conv_transpose(x, kernel, ${args.join(', ')})`,
      offers: axes => [
        {padding: 'SAME'}, {padding: 'VALID'},
        {padding: each(axes, ({e, low, high}) => [e - 1 - low, e - 1 - high])}],
    },

    tconv: {
      title: 'tconv', form: 'tconv.conv_transpose',
      fields: {...SIZES, stride: 'strides', padding: 'padding',
               extra: 'output_padding', size: 'output_size',
               dilation: 'kernel_dilation'},
      defaults: {...DEFAULTS, padding: 'SAME'},
      write: (numAxes, args) =>
          `tconv.conv_transpose(x, kernel, ${args.join(', ')})`,
      offers: axes => [
        {padding: 'SAME'}, {padding: 'VALID'},
        {padding: each(axes, ({low, high}) => low === high ? low
            : [low, high])}],
    },
  };

  /** Writes a valid state as source code, without arguments at a default. */
  function source(state) {
    const call = CALLS[state.call];
    const args = new Arguments(state, call, Infinity);
    const written = [];
    for (const [field, name] of Object.entries(call.fields)) {
      const text = args.text(field);
      let value = short(literal(text) ?? text);
      if (name.includes(' ') || text === '' || !ALWAYS.includes(field)
          && String(value) === call.defaults[field]) {
        continue;
      }
      if (call.lists?.includes(field) && !Array.isArray(value)) {
        const count = args.numAxes * (field === 'padding' ? 2 : 1);
        value = Array(count).fill(value);
      }
      written.push(`${name}=${python(value, call.brackets)}`);
    }
    return call.write(args.numAxes, written);
  }

  Object.assign(tconvPadding, {CALLS, source});
})();
