"""Audits and repairs of models whose culprits are known."""

import dataclasses

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

import tconv
from tconv.audit import findings
from tconv.audit import model as model_lib
from tconv.audit import patterns
from tconv.audit import probe
from tconv.audit import repair
from tconv.audit import verdicts
from tests.audit import chain
from tests.audit import samples


class PatternsTest(parameterized.TestCase):

  @parameterized.parameters(
      ((4, 5), (2, 3), (1, 1), 1, (1, 2), (3, 1)),
      ((4, 5), (2, 3), (2, 1), 2, (0, 0), (0, 0)),
      ((7,), (3,), (1,), 1, (2,), (1,)),
      ((2, 3, 4), (1, 2, 2), (1, 1, 1), 1, (0, 1, 1), (0, 0, 1)))
  def test_prediction_is_exact(
      self, size, strides, dilation, groups, low, high):
    draw = np.random.default_rng(0).normal
    kernel = draw(size=(*size, 3, 4)).astype(np.float32)
    before = draw(.3, 1, (2, *(24 + i for i in range(len(size))), 4))
    full = np.asarray(tconv.conv_transpose(
        before.astype(np.float32), kernel, strides, 'VALID',
        kernel_dilation=dilation, feature_group_count=groups))
    bias = draw(size=(*strides, 3 * groups))
    full = full + bias[np.ix_(*(
        np.arange(n) % s for n, s in zip(full.shape[1:-1], strides)))]
    after = full[(slice(None), *(
        slice(a, n - b) for a, b, n in zip(low, high, full.shape[1:-1])))]
    layer = model_lib.Upsampler(
        'up', 'ConvTranspose', strides, size, dilation, groups,
        model_lib.Weights(kernel, bias), low)
    np.testing.assert_allclose(
        patterns.predicted(before, layer, after.shape[1:-1]),
        patterns.measured(after, strides), atol=1e-5)

  def test_slopes_and_waves_are_no_pattern(self):
    slope = np.arange(64.)[None, :, None, None] + np.zeros((1, 64, 64, 1))
    self.assertLess(patterns.rms(patterns.measured(slope, (2, 2)))[0], .003)
    board = (-1)**np.indices((64, 64)).sum(0)[None, ..., None]
    self.assertAlmostEqual(
        patterns.rms(patterns.measured(slope + board, (2, 2)))[0], 1, places=2)


class AuditTest(parameterized.TestCase):

  def test_the_culprit_of_three_is_named_in_20_of_20(self):
    for seed in range(20):
      culprit = seed % 3
      model = chain.random_chain(seed, culprit)
      found = findings.audit(model, probe.probes(model))
      samples.validate(found.report)
      rows = found.report['upsamplers']
      self.assertEqual(
          np.argmax([row['share'] for row in rows]), culprit, f'seed {seed}')
      self.assertGreater(rows[culprit]['share'], .8)
      for row, layer in zip(rows, found.layers):
        np.testing.assert_allclose(layer.predicted, layer.measured, rtol=.02)
        self.assertEqual(row['confidence'], 'high')
    self.assertEqual(rows[0]['period'], [8, 8])
    self.assertEqual(rows[2]['period'], [2, 2])
    self.assertEqual(found.report['verdict'], 'error')

  def test_clean_models(self):
    model = chain.random_chain(0, None)
    report = findings.audit(model, probe.probes(model)).report
    self.assertEqual(report['verdict'], 'info')
    clean = model.replaced({
        layer.name: layer.weights._replace(kernel=np.asarray(
            tconv.equalize_phases(layer.weights.kernel, 2)))
        for layer in model.upsamplers})
    report = findings.audit(clean, probe.probes(clean)).report
    self.assertEqual(report['verdict'], 'clean')

  def test_lines_that_a_layer_does_not_paint_are_not_its(self):
    # Phases of equal gain still differ by a constant on a ramp, which has no
    # lines of its own.
    model = chain.random_chain(0, None)
    clean = model.replaced({
        layer.name: layer.weights._replace(kernel=np.asarray(
            tconv.equalize_phases(layer.weights.kernel, 2)))
        for layer in model.upsamplers})
    ramp = np.add.outer(np.arange(24), np.arange(24)) / 48
    image = ramp[..., None] * [1, .9, .8]
    image = probe.from_array(clean, image[None].astype(np.float32))
    report = findings.audit(clean, [image]).report
    self.assertGreater(
        max(row['line_db'] for row in report['upsamplers']),
        verdicts.WARNING_DB)
    self.assertEqual(report['verdict'], 'clean')
    # Lines are held against the layer that paints them.
    kernel = model.weights[2][0]
    kernel = kernel + .3 * np.random.default_rng(0).normal(
        size=kernel.shape).astype(np.float32)
    found = findings.audit(clean.replaced({
        'up2': clean.upsamplers[2].weights._replace(kernel=kernel)}), [image])
    self.assertEqual([lines for [(_, lines)] in (
        layer.lines for layer in found.layers)], [False, False, True])
    self.assertEqual(found.report['verdict'], 'warning')

  def test_a_grid_that_the_kernel_does_not_predict_is_doubted(self):
    model = chain.random_chain(1, 1)
    # As if the wrong weights had been read.
    model.upsamplers[1] = dataclasses.replace(
        model.upsamplers[1], weights=model_lib.Weights(
            np.roll(model.weights[1][0], 1, 0),
            model.upsamplers[1].weights.bias))
    [_, row, _] = findings.audit(model, probe.probes(model)).report[
        'upsamplers']
    self.assertEqual(row['confidence'], 'low')


class RepairTest(parameterized.TestCase):

  def test_repairs_remove_the_pattern(self):
    model = chain.random_chain(4, 1)
    audit = findings.audit(model, probe.probes(model))
    repaired, decisions = repair.repair(model, audit, min_psnr=0)
    self.assertTrue(decisions[1].is_repaired)
    again = findings.audit(repaired, audit.probes)
    levels = [max(p['output_rms_levels'] for p in a.report['probes']
                  if p['kind'] == 'flat') for a in (audit, again)]
    self.assertLess(levels[1], levels[0] / 1000)

  def test_what_changes_too_much_is_left(self):
    model = chain.random_chain(4, 1)
    audit = findings.audit(model, probe.probes(model))
    repaired, decisions = repair.repair(model, audit, min_psnr=200)
    self.assertIs(repaired, model)
    self.assertRegex(decisions[1].reason, 'Left as it is: .* below 200 dB')

  def test_refusals(self):
    model = chain.random_chain(4, 1, size=2)
    audit = findings.audit(model, probe.probes(model))
    repaired, decisions = repair.repair(model, audit)
    self.assertIs(repaired, model)
    for decision in decisions:
      self.assertIn('with one tap for each phase', decision.reason)
    model = chain.random_chain(4, 1)
    model.upsamplers[1] = dataclasses.replace(
        model.upsamplers[1], obstacle='its weights are quantized')
    audit = findings.audit(model, probe.probes(model))
    _, decisions = repair.repair(model, audit, min_psnr=0)
    self.assertIn('weights are quantized', decisions[1].reason)


if __name__ == '__main__':
  absltest.main()
