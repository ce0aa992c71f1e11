/* The page of the checkerboard explorer: reads the controls, draws what
 * explorer.js computes, and keeps the settings in the link. */
(() => {
  'use strict';

  const explorer = window.tconvExplorer, data = window.tconvExplorerData;
  const form = document.getElementById('explorer');
  const element = (name) => document.getElementById(`explorer-${name}`);
  const CROP = 24;  // Side of the part of the flat field that is shown.
  const MARGIN = 6;  // Bins beyond the highest frequency, which repeat.
  const ZOOM = 3;  // Canvas pixels for each bin, so that circles are round.
  const RANGE = 60;  // Of the spectra, in dB.

  const number = (x, digits = 3) => {
    const rounded = Number(x.toPrecision(digits));
    return String(Math.abs(rounded) < 1e-12 ? 0 : rounded);
  };
  const decibels = (level) =>
    level === null ? 'not defined' : `${level.toFixed(1)} dB`;

  /* What the user chose, for controls that show what the kernel fixes. */
  const wanted = {};

  function settings() {
    const chosen = {};
    for (const {name, type, value, checked} of form.elements) {
      if (type === 'range') chosen[name] = Number(wanted[name] ?? value);
      if (type === 'select-one' || checked) chosen[name] = value;
    }
    return chosen;
  }

  /* Disables what the kernel fixes, shows all values, and says why. */
  function fix(kernel, {original, stride, dilation}) {
    const learned = Object.hasOwn(data.kernels, kernel);
    const fixed = kernel === 'bilinear' || learned ?
      {size: original.length, dilation} : {};
    if (learned) fixed.stride = stride;
    for (const name of ['size', 'stride', 'dilation']) {
      const control = form.elements[name];
      const chosen = wanted[name] ?? control.value;
      control.disabled = name in fixed;
      control.value = fixed[name] ?? chosen;
      if (control.disabled) wanted[name] = chosen;
      else delete wanted[name];
    }
    form.elements.seed.disabled = kernel !== 'random';
    for (const control of form.querySelectorAll('input[type=range]')) {
      control.parentNode.querySelector('b').textContent = control.value;
    }
    return learned ? 'This kernel was trained at this size and stride.' :
      kernel === 'bilinear' ? 'The stride determines the size of this kernel.' :
      '';
  }

  /* Draws rows of numbers in grey, `low` black and `high` white. */
  function draw(canvas, rows, low, high) {
    canvas.width = canvas.height = rows.length;
    const pixels = new ImageData(rows.length, rows.length);
    rows.flat().forEach((x, i) => {
      const grey = high > low ? 255 * (x - low) / (high - low) : 128;
      pixels.data.set([grey, grey, grey, 255], 4 * i);
    });
    canvas.getContext('2d').putImageData(pixels, 0, 0);
  }

  /* Draws a spectrum in dB with a circle around each grid bin. */
  function drawSpectrum(canvas, {power, rounding}, period) {
    const n = power.length, side = n + 2 * MARGIN, middle = side / 2;
    const bins = Array.from(
        {length: side}, (_, i) => (i - middle + 2 * n) % n);
    const level = bins.map((k) => bins.map(
        (l) => 10 * Math.log10(power[k][l] + rounding)));
    const highest = Math.max(...level.flat());
    const plain = document.createElement('canvas');
    draw(plain, level, highest - RANGE, highest);
    canvas.width = canvas.height = ZOOM * side;
    const context = canvas.getContext('2d');
    context.imageSmoothingEnabled = false;
    context.drawImage(plain, 0, 0, canvas.width, canvas.height);
    for (let k = -period; k <= period; k++) {
      for (let l = -period; l <= period; l++) {
        if (k % period === 0 && l % period === 0) continue;
        for (const [width, colour] of [[5, 'black'], [2.5, 'orange']]) {
          context.beginPath();
          context.arc(...[k, l].map(
              (f) => ZOOM * (f * n / period + middle + .5)), 10, 0, 7);
          context.lineWidth = width;
          context.strokeStyle = colour;
          context.stroke();
        }
      }
    }
  }

  /* Fills a table; cells with larger numbers have more colour. */
  function fill(table, rows) {
    const all = rows.flat(), low = Math.min(...all), high = Math.max(...all);
    const differ = high - low > 1e-9 * Math.max(high, -low);
    table.replaceChildren(...rows.map((row) => {
      const line = document.createElement('tr');
      for (const x of row) {
        const cell = line.insertCell();
        cell.textContent = number(x, 4);
        cell.style.setProperty(
            '--share', differ ? (x - low) / (high - low) : 0);
      }
      return line;
    }));
  }

  function summary(cure, found) {
    const {original, stride, counts, gains, levels} = found;
    if (stride === 1) return 'Stride 1 has a single phase, and so no pattern.';
    const range = (rows) => [Math.min(...rows.flat()),
                             Math.max(...rows.flat())].map((x) => number(x, 4));
    const [least, most] = range(counts), [low, high] = range(gains);
    const overlap = least === most ? `${most} on every phase` :
      `${least} to ${most}`;
    const subject = found.impossible ?
      'One phase has no taps, so gains cannot be equalized; they' :
      {none: 'The gains', equalized: 'After equalizing, the gains',
       hold: 'After the hold, the gains'}[cure];
    const equal = found.nonuniformity < 1e-12 ? `are all ${high}` :
      `range from ${low} to ${high}`;
    return `Size ${original.length}, stride ${stride}: overlapping taps: ${
      overlap}. ${subject} ${equal}. Grid level: ${
      decibels(levels.flat)} in the flat field, ${
      decibels(levels.photo)} in the photograph.`;
  }

  function show() {
    const chosen = settings();
    const found = explorer.explore(chosen, data);
    const {kernel, stride, pictures, spectra, levels, uncured, gain} = found;
    element('note').textContent = fix(chosen.kernel, found);
    element('summary').textContent = summary(chosen.cure, found);
    const taps = kernel.flat(), share = number(100 * found.nonuniformity);
    const low = Math.min(...taps), high = Math.max(...taps);
    draw(element('kernel'), kernel, low, high - low > 1e-9 ? high : low);
    fill(element('counts'), found.counts);
    fill(element('gains'), found.gains);
    element('rho').textContent = `${share} %`;

    const average = explorer.mean(uncured);
    const contrast = Math.max(
        ...uncured.flat().map((x) => Math.abs(x - average)));
    const start = (explorer.SIZE - CROP) / 2, end = start + CROP;
    const black = average - contrast, white = average + contrast;
    draw(element('flat'), pictures.flat.slice(start, end).map(
        (row) => row.slice(start, end)), black, white);
    element('contrast').textContent =
      `black is ${number(black)} and white is ${number(white)}`;
    draw(element('photo'), pictures.photo.map(
        (row) => row.map((x) => x / (gain || 1))), 0, 1);
    const pattern = stride > 1 ? `${share} % of the power of a constant is a ` +
      `pattern of period ${stride}` : 'no pattern';
    const shown = {
      kernel: `Kernel of ${kernel.length} by ${kernel.length} taps, from ${
        number(low)} to ${number(high)}`,
      flat: `Enlarged flat field: ${pattern}`,
      photo: `Enlarged photograph of a cat: ${pattern}`,
    };
    const names = {flat: 'flat field', photo: 'photograph'};
    for (const [name, input] of Object.entries(names)) {
      drawSpectrum(element(`${name}-spectrum`), spectra[name], stride);
      element(`${name}-level`).textContent = decibels(levels[name]);
      shown[`${name}-spectrum`] =
        `Spectrum of the ${input}: ${stride**2 - 1} grid bins are marked; ` +
        `grid level ${decibels(levels[name])}`;
    }
    for (const [name, text] of Object.entries(shown)) {
      element(name).setAttribute('aria-label', text);
    }
  }

  /* Sets the controls; what the link lacks, or has wrong, gets its default. */
  function read() {
    const link = new URLSearchParams(location.hash.slice(1));
    for (const control of form.elements) {
      const {name, type, min, max, step, defaultValue} = control;
      const value = link.get(name);
      if (type === 'range') {
        const x = value?.trim() ? Number(value) : NaN;
        const steps = Math.round((x - min) / step);
        const near = Math.abs(Number(min) + steps * step - x) < 1e-9;
        control.value = near && x >= min && x <= max ? value : defaultValue;
        delete wanted[name];
      } else if (type === 'radio') {
        control.checked = control.defaultChecked;
      } else if (type === 'select-one') {
        const known = [...control.options].map((option) => option.value);
        control.value = known.includes(value) ? value : 'ones';
      }
    }
    const cures = [...form.elements.cure];
    const cure = cures.find(({value}) => value === link.get('cure'));
    if (cure) cure.checked = true;
    show();
  }

  let frame = 0, timer = 0;
  form.addEventListener('input', ({target}) => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(show);
    // Browsers limit how often a script may change the link.
    clearTimeout(timer);
    timer = setTimeout(() => history.replaceState(
        null, '', `#${new URLSearchParams(settings())}`), 200);
  });
  form.addEventListener('submit', (event) => event.preventDefault());
  window.addEventListener('hashchange', () => {
    if (document.querySelector(':target')) return;  // A heading of the page.
    clearTimeout(timer);
    read();
  });
  form.hidden = false;
  read();
})();
