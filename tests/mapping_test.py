"""Every convolution of lax as an operation, against lax itself."""

import collections

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from tconv.programs import mapping

# How many of ws, ld and rd are not 1 on some axis decides on the role.
FIXED = {'conv': 'ld', 'conv_transpose': 'ws',
         'kernel gradient of conv_transpose': 'rd',
         'kernel gradient of conv': 'ld'}


def draw(rng, role):
  """Parameters and operands of a convolution that may have a role."""
  n = int(rng.integers(0, 3))
  ints = lambda low, high: tuple(int(v) for v in rng.integers(low, high, n))
  steps = {name: ints(1, 4) for name in ('ws', 'ld', 'rd')}
  steps[FIXED[role]] = (1,) * n
  groups = int(rng.integers(1, 4))
  feature_groups, batch_groups = (
      (groups, 1) if rng.integers(2) else (1, groups))
  batch, channels, features = (int(v) for v in rng.integers(1, 3, 3))
  # The result of a kernel gradient is smaller than lax's kernel.
  image, taps = ints(2, 6), ints(1, 4)
  if role.startswith('kernel'):
    taps = ints(4, 7)
  specs = [tuple(int(v) for v in rng.permutation(n + 2)) for _ in range(3)]
  shapes = ((batch * batch_groups, channels * feature_groups, *image),
            (features * groups, channels, *taps))
  arrays = [
      rng.integers(-4, 5, [shape[spec.index(a)] for a in range(n + 2)]
                   ).astype(np.float32)
      for shape, spec in zip(shapes, specs)]
  params = dict(
      window_strides=steps['ws'], lhs_dilation=steps['ld'],
      rhs_dilation=steps['rd'],
      padding=tuple((int(lo), int(hi)) for lo, hi in rng.integers(
          -2, 5, (n, 2))),
      dimension_numbers=lax.ConvDimensionNumbers(*specs),
      feature_group_count=feature_groups, batch_group_count=batch_groups)
  return params, arrays


def read(params, arrays):
  """The mapping; None if the result is empty."""
  program = jax.make_jaxpr(
      lambda *arrays: lax.conv_general_dilated(*arrays, **params))(*arrays)
  eqn, = program.eqns
  out = eqn.outvars[0].aval
  if 0 not in out.shape:
    return mapping.read(*(v.aval for v in eqn.invars), out, eqn.params)


class MappingTest(parameterized.TestCase):

  @parameterized.parameters(*FIXED)
  def test_values(self, role):
    rng = np.random.default_rng(0)
    cases, roles = [], collections.Counter()
    while len(cases) < 6 or not roles[role]:
      params, arrays = draw(rng, role)
      try:
        found = read(params, arrays)
      except ValueError:  # lax refuses it, or it is none of the operations.
        continue
      if found:
        cases.append((params, arrays, found))
        roles[found.role] += 1
    ours, theirs = jax.jit(lambda operands: (
        [found.apply(*arrays) for (_, _, found), arrays in zip(
            cases, operands)],
        [lax.conv_general_dilated(*arrays, **params)
         for (params, _, _), arrays in zip(cases, operands)]))(
             [arrays for _, arrays, _ in cases])
    # Small whole numbers, of which the sums are exact.
    for a, b, (params, _, found) in zip(ours, theirs, cases):
      np.testing.assert_array_equal(a, b, f'{found.role} {params}')

  @parameterized.parameters(
      (dict(window_strides=(2,), lhs_dilation=(2,), rhs_dilation=(3,)),
       'float32', 'at once'),
      ({}, 'int32', 'int32'),
      ({}, 'float8_e4m3fn', 'float8'),
  )
  def test_reasons(self, steps, dtype, reason):
    params = dict(
        window_strides=(1,), padding=((6, 6),),
        dimension_numbers=lax.ConvDimensionNumbers(*[(0, 1, 2)] * 3)) | steps
    arrays = [jnp.ones((1, 1, 4), dtype), jnp.ones((1, 1, 3), dtype)]
    with self.assertRaisesRegex(mapping.NotMappable, reason):
      read(params, arrays)


if __name__ == '__main__':
  absltest.main()
