/* The arithmetic of the checkerboard explorer, in double precision.
 *
 * The functions do what those of tconv with the same names do, for one channel,
 * square images and kernels, and the same stride and dilation on both axes.
 * tests/docs/explorer_numbers_test.py compares them with tconv. Images and kernels are
 * arrays of rows. */
window.tconvExplorer = (() => {
  'use strict';

  const SIZE = 96;  // Of all enlarged images: a multiple of each stride.
  const NOISE = .01;  // Standard deviation in the flat field.
  const SPREAD = .5;  // Standard deviation of the taps of a random kernel.

  const list = (size, value) => Array.from({length: size}, (_, i) => value(i));
  const square = (size, value) =>
    list(size, (i) => list(size, (j) => value(i, j)));
  const zeros = (size) => square(size, () => 0);
  const sum = (rows) => rows.flat().reduce((a, b) => a + b, 0);
  const mean = (rows) => sum(rows) / rows.length**2;

  /* A function that draws normal numbers: Box and Muller's transform of
   * Marsaglia's xorshift generator (Xorshift RNGs, 2003). */
  function normals(seed) {
    let bits = Math.imul(seed + 1, 0x9e3779b1) | 1;
    const uniform = () => {
      bits ^= bits << 13;
      bits ^= bits >>> 17;
      bits ^= bits << 5;
      return (bits >>> 0) / 2**32;
    };
    for (let i = 0; i < 16; i++) uniform();  // The first are much alike.
    return () => Math.sqrt(-2 * Math.log(uniform())) *
        Math.cos(2 * Math.PI * uniform());
  }

  /* The kernel whose transposed convolution is bilinear interpolation. */
  function bilinear(stride) {
    const size = 2 * stride - stride % 2;
    const tap = (i) => 1 - Math.abs(i + .5 - size / 2) / stride;
    return square(size, (i, j) => tap(i) * tap(j));
  }

  /* Each value of `coarse` adds the kernel, times itself, to the result. */
  function convTranspose(coarse, kernel, stride, dilation) {
    const reach = (kernel.length - 1) * dilation + 1;
    const fine = zeros(
        (coarse.length - 1) * stride + Math.max(reach, stride));
    coarse.forEach((values, i) => kernel.forEach((taps, k) => {
      const row = fine[i * stride + k * dilation];
      for (let j = 0; j < values.length; j++) {
        for (let l = 0; l < taps.length; l++) {
          row[j * stride + l * dilation] += values[j] * taps[l];
        }
      }
    }));
    return fine;
  }

  /* Enlarges an image to stride times its size. Its edge is repeated, so that
   * the border has as many overlaps as the rest. Pixel 0 is of phase 0. */
  function enlarge(coarse, kernel, stride, dilation) {
    const n = coarse.length, extent = (kernel.length - 1) * dilation;
    const margin = Math.ceil(extent / stride);
    const inside = (i) => Math.min(Math.max(i - margin, 0), n - 1);
    const padded = square(
        n + 2 * margin, (i, j) => coarse[inside(i)][inside(j)]);
    // In coarse pixels: half of how much larger the kernel is than the stride.
    const shift = Math.round((extent - stride + 1) / (2 * stride));
    const start = (margin + shift) * stride, end = start + n * stride;
    return convTranspose(padded, kernel, stride, dilation)
        .slice(start, end).map((row) => row.slice(start, end));
  }

  /* Sums over the taps of each phase: position times dilation modulo stride. */
  function phaseGains(kernel, stride, dilation) {
    const gains = zeros(stride);
    kernel.forEach((taps, i) => taps.forEach((tap, j) => {
      gains[i * dilation % stride][j * dilation % stride] += tap;
    }));
    return gains;
  }

  const overlapCount = (size, stride, dilation) =>
    phaseGains(square(size, () => 1), stride, dilation);

  /* The periodic share of the output's power for a constant input. */
  function phaseNonuniformity(kernel, stride, dilation) {
    const gains = phaseGains(kernel, stride, dilation), average = mean(gains);
    const power = mean(gains.map((row) => row.map((g) => g * g)));
    const variance = mean(gains.map(
        (row) => row.map((g) => (g - average)**2)));
    return power ? variance / power : 0;
  }

  /* The nearest kernel with equal phase gains; null if a phase has no taps. */
  function equalizePhases(kernel, stride, dilation) {
    const counts = overlapCount(kernel.length, stride, dilation);
    if (counts.flat().includes(0)) return null;
    const gains = phaseGains(kernel, stride, dilation), average = mean(gains);
    return kernel.map((taps, i) => taps.map((tap, j) => {
      const a = i * dilation % stride, b = j * dilation % stride;
      return tap - (gains[a][b] - average) / counts[a][b];
    }));
  }

  /* Averages over windows of one period; at the border, over what is inside. */
  function zeroOrderHold(image, period) {
    const transposed = (rows) => rows.map((_, i) => rows.map((row) => row[i]));
    const average = (row) => row.map((_, i) => {
      const part = row.slice(Math.max(i - Math.floor((period - 1) / 2), 0),
                             i + Math.floor(period / 2) + 1);
      return part.reduce((a, b) => a + b) / part.length;
    });
    return transposed(transposed(image.map(average)).map(average));
  }

  /* The kernel, without dilation, of an enlargement that is then averaged. */
  function heldKernel(kernel, stride, dilation) {
    const taps = convTranspose([[1]], kernel, 1, dilation);
    return convTranspose(square(stride, () => stride**-2), taps, 1, 1);
  }

  /* Fourier transforms of the rows, transposed: twice is that of an image. */
  function transform(real, imaginary) {
    const n = real.length, a = zeros(n), b = zeros(n);
    const cos = list(n, (i) => Math.cos(2 * Math.PI * i / n));
    const sin = list(n, (i) => Math.sin(2 * Math.PI * i / n));
    for (let i = 0; i < n; i++) {
      const re = real[i], im = imaginary[i];
      for (let f = 0; f < n; f++) {
        let x = 0, y = 0;
        for (let j = 0, t = 0; j < n; j++, t = (t + f) % n) {
          x += re[j] * cos[t] + im[j] * sin[t];
          y += im[j] * cos[t] - re[j] * sin[t];
        }
        a[f][i] = x;
        b[f][i] = y;
      }
    }
    return [a, b];
  }

  /* Power under a Hann window, without the mean; and that of its rounding. */
  function powerSpectrum(image) {
    const n = image.length, largest = Math.max(...image.flat().map(Math.abs));
    const scale = 2**Math.max(Math.floor(Math.log2(largest)), 0);
    const hann = (i) => .5 - .5 * Math.cos(2 * Math.PI * i / n);
    const weighted = (rows) => rows.map(
        (row, i) => row.map((x, j) => x * hann(i) * hann(j)));
    const scaled = image.map((row) => row.map((x) => x / scale));
    const average = sum(weighted(scaled)) / sum(weighted(square(n, () => 1)));
    const centred = scaled.map((row) => row.map((x) => x - average));
    const [real, imaginary] = transform(
        ...transform(weighted(centred), zeros(n)));
    return {
      power: square(n, (i, j) => real[i][j]**2 + imaginary[i][j]**2),
      rounding: Number.EPSILON**2 *
          sum(weighted(scaled).map((row) => row.map((x) => x * x))) +
          2**-1022 / Number.EPSILON,
    };
  }

  /* Power at the grid bins over that of their neighbours, in dB: those at a
   * distance of 2 to 5 bins that are not next to another grid bin. */
  function gridLevel({power, rounding}, period) {
    const n = power.length, spacing = n / period;
    const distance = (i) => Math.min(i % spacing, spacing - i % spacing);
    const around = (i) => [...new Set(list(
        11, (step) => (i * spacing + step - 5 + n) % n))];
    let lines = 0, floor = 0;
    square(period, (k, l) => {
      if (!k && !l) return;  // The mean is no part of the pattern.
      const near = around(k).flatMap((i) => around(l)
          .filter((j) => Math.max(distance(i), distance(j)) >= 2)
          .map((j) => power[i][j]));
      lines += power[k * spacing][l * spacing];
      floor += near.reduce((a, b) => a + b) / near.length;
    });
    return 10 * Math.log10((lines + rounding) / (floor + rounding));
  }

  /* A kernel and what fixes it: { taps, stride, dilation }. */
  function kernelOf({kernel, size, stride, dilation, seed}, {kernels}) {
    if (Object.hasOwn(kernels, kernel)) {
      return {taps: kernels[kernel], stride: 2, dilation: 1};
    }
    if (kernel === 'bilinear') {
      return {taps: bilinear(stride), stride, dilation: 1};
    }
    const normal = kernel === 'random' ? normals(seed) : () => 0;
    return {taps: square(size, () => 1 + SPREAD * normal()), stride, dilation};
  }

  /* A flat field with noise, and a photograph, each SIZE / stride pixels. */
  function inputs(average, stride, photograph) {
    const bytes = Uint8Array.from(atob(photograph), (c) => c.charCodeAt(0));
    const normal = normals(0), size = SIZE / stride;
    const pixel = (i, j) => bytes[i * SIZE + j] / 255;
    const block = (i, j) => mean(square(
        stride, (a, b) => pixel(i * stride + a, j * stride + b)));
    return {flat: square(size, () => average + NOISE * normal()),
            photo: square(size, block)};
  }

  /* All that the page shows for its settings, and the pictures without cure. */
  function explore(settings, data) {
    const {taps, stride, dilation} = kernelOf(settings, data);
    const equal = settings.cure === 'equalized' ?
        equalizePhases(taps, stride, dilation) : null;
    const hold = settings.cure === 'hold';
    const input = inputs(settings.mean, stride, data.photograph);
    const shown = equal || taps;
    const cured = (image) => {
      const fine = enlarge(image, shown, stride, dilation);
      return hold ? zeroOrderHold(fine, stride) : fine;
    };
    const pictures = {flat: cured(input.flat), photo: cured(input.photo)};
    const spectra = {flat: powerSpectrum(pictures.flat),
                     photo: powerSpectrum(pictures.photo)};
    const level = (name) =>
      stride > 1 ? gridLevel(spectra[name], stride) : null;
    const whole = hold ? [heldKernel(taps, stride, dilation), stride, 1] :
        [shown, stride, dilation];
    return {
      kernel: shown, original: taps, stride, dilation, input, pictures, spectra,
      impossible: settings.cure === 'equalized' && !equal,
      counts: overlapCount(taps.length, stride, dilation),
      gains: phaseGains(...whole), nonuniformity: phaseNonuniformity(...whole),
      levels: {flat: level('flat'), photo: level('photo')},
      uncured: enlarge(input.flat, taps, stride, dilation),
      gain: sum(taps) / stride**2,
    };
  }

  return {
    SIZE, normals, bilinear, convTranspose, enlarge, overlapCount, phaseGains,
    phaseNonuniformity, equalizePhases, zeroOrderHold, heldKernel,
    powerSpectrum, gridLevel, explore, mean,
  };
})();
