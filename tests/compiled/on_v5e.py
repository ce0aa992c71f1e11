"""What XLA makes of tconv for a TPU v5e, compiled here and not run.

    .venv-codegen/bin/python -m pytest -o addopts= tests/compiled/on_v5e.py

As `on_h100.py`, but few: a program takes seconds to compile.
"""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from experiments.compiled import facts
from experiments.compiled import hlo
from experiments.compiled import limits
from experiments.compiled import programs
from experiments.compiled import targets
from experiments.timing import layers
from experiments.timing import through_jax

# As in `on_h100.LAYERS`.
LAYERS = {name: layers.Layer(name, 'tests', *numbers) for name, numbers in {
    'k4s2': (8, (16, 16), 128, 128, 4, 2, 1),
    '3-D k3s2': (1, (8, 8, 8), 64, 32, 3, 2, 1, 1),
    'grouped': (4, (32, 32), 64, 64, 4, 2, 1, 0, 1, 4),
    'depthwise': (4, (32, 32), 64, 64, 3, 2, 1, 1, 1, 64),
}.items()}


class CompiledTest(parameterized.TestCase):

  @parameterized.parameters(
      ('k4s2', 'training'), ('3-D k3s2', 'training'), ('grouped', 'training'),
      ('depthwise', 'forward'))
  def test_no_more_than_lax(self, layer, kind):
    layer = LAYERS[layer]
    tconv, lax = (programs.of_layer('v5e', name, layer, kind, 'bfloat16')
                  for name in ('tconv', 'lax'))
    ratios = limits.on_tpu(tconv, lax)
    self.assertGreater(lax.flops, layer.multiply_adds)
    self.assertLessEqual(ratios['flops'], limits.FLOPS)
    self.assertLessEqual(ratios['bytes'], limits.BYTES)

  def test_a_sharded_batch_is_not_gathered(self):
    function, shapes = through_jax.program('tconv', LAYERS['k4s2'], 'forward')
    mesh = jax.sharding.Mesh(targets.devices('v5e'), ('devices',))
    inputs, kernel = (
        jax.ShapeDtypeStruct(
            shape.shape, jnp.float32,
            sharding=jax.sharding.NamedSharding(mesh, PartitionSpec(*spec)))
        for shape, spec in zip(shapes, (('devices',), ())))
    program = hlo.parse(
        targets.compiled('v5e', function, inputs, kernel).as_text())
    self.assertNotEmpty(list(program.walk()))
    self.assertEmpty(facts.all_gathered(program))


if __name__ == '__main__':
  absltest.main()
