/* Draws one axis of a transposed convolution: inputs above, outputs below.
 *
 * Places are those of the result without padding. The padding of the forward
 * convolution crops places at both ends; they are drawn dashed. Below each
 * output stands the number of inputs that reach it.
 */
(() => {
  'use strict';

  const MOST = 26;  // Places in a picture.
  const CELL = 26;
  const [TOP, BOTTOM] = [8, 96];

  function svg(tag, attributes, text = '') {
    const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes)) {
      element.setAttribute(name, value);
    }
    element.textContent = text;
    return element;
  }

  /** An axis with fewer inputs, so that both of its ends fit the picture. */
  function shortened(axis) {
    const around = axis.e + Math.max(-axis.low, 0) + Math.max(-axis.high, 0);
    const fit = Math.floor((MOST - around) / axis.s) + 1;
    const least = Math.max(
        Math.ceil((axis.low + axis.high + 1 - axis.e) / axis.s) + 1, 2);
    const n = Math.min(axis.n, Math.max(fit, least));
    const full = (n - 1) * axis.s + axis.e;
    return {...axis, n, full, size: full - axis.low - axis.high};
  }

  /** Makes the picture of an axis. */
  function picture(axis) {
    const drawn = shortened(axis);
    const {n, s, e, full, low, size} = drawn;
    const first = Math.min(low, 0);
    const last = Math.max(full, low + size);
    const stop = Math.min(last, first + MOST);
    const x = place => (place - first) * CELL + 4;
    const drawing = svg('svg', {
      role: 'img', width: x(stop) + 4, height: BOTTOM + 2 * CELL,
      'aria-label': `${n} inputs, and the ${size} outputs they reach`});
    const box = (place, y, kind, text) => drawing.append(
        svg('rect', {x: x(place) + 2, y, width: CELL - 4, height: CELL - 4,
                     rx: 3, class: kind}),
        svg('text', {x: x(place) + CELL / 2, y: y + 16}, text));
    const middle = i => i * s + (e - 1) / 2;  // Above the taps of an input.
    const inputs = new Set();
    for (let place = first; place < stop; place++) {
      const isOutput = place >= low && place < low + size;
      const reached = tconvPadding.sources(drawn, place);
      for (const input of reached) {
        drawing.append(svg('line', {
          x1: x(middle(input)) + CELL / 2, y1: TOP + CELL - 4,
          x2: x(place) + CELL / 2, y2: BOTTOM,
          class: isOutput ? 'kept' : 'cropped'}));
        inputs.add(input);
      }
      box(place, BOTTOM, isOutput ? 'output' : 'cropped',
          isOutput ? place - low : '');
      if (isOutput) {
        drawing.append(svg('text', {
          x: x(place) + CELL / 2, y: BOTTOM + CELL + 16, class: 'count'},
                           reached.length));
      }
    }
    const visible = [...inputs].filter(input => middle(input) < stop);
    for (const input of visible) box(middle(input), TOP, 'input', input);

    const caption = document.createElement('figcaption');
    caption.textContent = 'Inputs above, outputs below, and under each output '
        + 'the number of its contributions. Dashed: what the padding crops.'
        + (n < axis.n ? ` Drawn for ${n} inputs instead of ${axis.n}; the `
            + 'middle of the axis repeats.' : '')
        + (stop < last ? ` Only the first ${MOST} places are shown.` : '');
    const scroll = document.createElement('div');
    scroll.className = 'padding-wide';
    scroll.tabIndex = 0;
    scroll.append(drawing);
    const figure = document.createElement('figure');
    figure.append(scroll, caption);
    return figure;
  }

  Object.assign(tconvPadding, {picture});
})();
