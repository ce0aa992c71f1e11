"""The networks of study 2: shapes, classes, and the updates of two players."""

from absl.testing import absltest
from absl.testing import parameterized
import chex
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.studies.generator import model
from experiments.studies.generator import training

LATENTS, BATCH = 5, 6


def generator(*stages, classes=3, colors=1, **options):
  return model.Generator(
      stages, latents=LATENTS, features=4, colors=colors, classes=classes,
      rngs=nnx.Rngs(0), **options)


def discriminator(downsampler='strided k4', size=16, classes=3, colors=1):
  return model.Discriminator(
      downsampler, size=size, features=4, colors=colors, classes=classes,
      rngs=nnx.Rngs(1))


def values(seed=0):
  return jax.random.normal(jax.random.key(seed), (BATCH, LATENTS))


LABELS = jnp.arange(BATCH) % 3


class GeneratorTest(parameterized.TestCase):

  @parameterized.parameters(1, 2, 3)
  def test_each_stage_doubles_the_size_and_halves_the_channels(self, number):
    def shapes():
      net = generator(*['transposed k3'] * number, colors=3)
      self.assertEqual([norm.num_features for norm in net.norms],
                       [4 * 2**i for i in reversed(range(number))])
      return net.features(values(), LABELS), net(values(), LABELS)

    features, images = nnx.eval_shape(shapes)
    size = 4 * 2**number
    chex.assert_shape(features, (BATCH, size // 2, size // 2, 4))
    chex.assert_shape(images, (BATCH, size, size, 3))

  def test_stages_are_the_named_ones_in_their_order(self):
    net = nnx.eval_shape(lambda: generator('transposed k5', 'nearest+conv'))
    self.assertEqual([stage.kernel.shape[:2] for stage in net.stages],
                     [(5, 5), (3, 3)])

  def test_only_the_last_stage_has_a_bias(self):
    net = nnx.eval_shape(lambda: generator('transposed k4', 'transposed k4'))
    self.assertEqual([stage.bias is None for stage in net.stages],
                     [True, False])
    self.assertIsNone(net.dense.bias)

  def test_images_are_tanh_of_what_is_painted(self):
    net = generator('transposed k4')
    net.eval()
    painted = net.paint(net.features(values(), LABELS))
    np.testing.assert_array_equal(net(values(), LABELS), jnp.tanh(painted))

  def test_features_are_normalized_and_rectified(self):
    net = generator('transposed k4')
    features = net.features(10 * values(), LABELS)
    self.assertEqual(features.min(), 0)
    # .4 is the mean of what is positive of a normal distribution.
    self.assertBetween(features.mean(), .3, .5)

  def test_the_class_matters_and_may_be_missing(self):
    net = generator('transposed k4')
    net.eval()
    self.assertGreater(
        jnp.abs(net(values(), LABELS) - net(values(), 2 - LABELS)).max(), .01)
    net = generator('transposed k4', classes=0)
    self.assertEqual(net.dense.in_features, LATENTS)
    chex.assert_shape(net(values(), None), (BATCH, 8, 8, 1))

  def test_layers_of_flax_can_take_the_place(self):
    ours, theirs = generator('transposed k3'), generator(
        'transposed k3', conv_transpose=nnx.ConvTranspose)
    self.assertIs(type(theirs.stages[0]), nnx.ConvTranspose)
    # Sums of some hundred products in another order.
    np.testing.assert_allclose(
        ours(values(), LABELS), theirs(values(), LABELS), atol=1e-5)

  @parameterized.parameters(
      (('a',) * 3, '3 x a'), (('a', 'b'), 'a, b'),
      (('a', 'a', 'b', 'a'), '2 x a, b, a'))
  def test_stacks_have_names(self, stages, name):
    self.assertEqual(model.stack_name(stages), name)


class DiscriminatorTest(parameterized.TestCase):

  @parameterized.product(downsampler=['strided k3', 'strided k4', 'conv+pool'],
                         size=[16, 32])
  def test_shapes(self, downsampler, size):
    number = {16: 2, 32: 3}[size]

    def logits():
      net = discriminator(downsampler, size, colors=3)
      self.assertLen(net.stages, number)
      self.assertLen(net.norms, number - 1)
      self.assertEqual(net.dense.in_features, 16 * 4 * 2**(number - 1))
      return net(jnp.zeros((BATCH, size, size, 3)), LABELS)

    chex.assert_shape(nnx.eval_shape(logits), (BATCH,))

  def test_pooling_is_the_mean_of_four(self):
    stage = discriminator('conv+pool', size=8).stages[0]
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    fine = np.asarray(stage.conv(images))
    self.assertEqual(fine.shape, (2, 8, 8, 4))
    # Rounding of a sum of four.
    np.testing.assert_allclose(
        stage(images), fine.reshape(2, 4, 2, 4, 2, 4).mean((2, 4)), atol=1e-6)

  def test_classes_are_compared_with_what_comes_out(self):
    net = discriminator(size=8)
    images = jax.random.normal(jax.random.key(0), (BATCH, 8, 8, 1))
    net.eval()
    same = net(images, LABELS)
    np.testing.assert_array_equal(same, net(images, 2 - LABELS))
    net.classes.embedding[...] = net.classes.embedding[...].at[1].set(1)
    changed = net(images, LABELS) != same
    np.testing.assert_array_equal(changed, LABELS == 1)

  def test_without_classes(self):
    net = discriminator(size=8, classes=0)
    self.assertIsNone(net.classes)
    chex.assert_shape(net(jnp.zeros((BATCH, 8, 8, 1)), None), (BATCH,))

  @parameterized.parameters(
      ('strided k3', True), ('strided k16', True), ('conv+pool', True),
      ('strided k17', False), ('strided k0', False), ('strided', False),
      ('transposed k4', False), (4, False))
  def test_names(self, name, known):
    self.assertEqual(model.is_downsampler(name), known)


class AdversarialTest(absltest.TestCase):

  def test_updates_are_those_of_the_definition(self):
    painter, critic = generator('transposed k4', 'transposed k4'), (
        discriminator())
    step, state = training.adversarial(
        painter, critic, latents=LATENTS, learning_rate=.01, seed=7)
    step = jax.jit(step)
    optimizer = optax.adam(.01, b1=.5)
    moments = {net: jax.jit(optimizer.init)(nnx.state(net, nnx.Param))
               for net in (painter, critic)}

    @jax.jit
    def updated(params, gradient, moments):
      updates, moments = optimizer.update(gradient, moments)
      return optax.apply_updates(params, updates), moments

    def update(net, gradient):
      params, moments[net] = updated(
          nnx.state(net, nnx.Param), gradient, moments[net])
      nnx.update(net, params)

    @nnx.jit
    @nnx.value_and_grad
    def criticize(net, real, fake):
      return (-jax.nn.log_sigmoid(net(real, LABELS)).mean()
              - jax.nn.log_sigmoid(-net(fake, LABELS)).mean())

    @nnx.jit
    @nnx.value_and_grad
    def fail(net, critic, z):
      return -jax.nn.log_sigmoid(critic(net(z, LABELS), LABELS)).mean()

    draw = nnx.jit(lambda net, z: net(z, LABELS))
    for number in range(2):
      batch = {'label': LABELS, 'image': jnp.tanh(jax.random.normal(
          jax.random.key(number), (BATCH, 16, 16, 1)))}
      state, metrics = step(state, batch)
      z = jax.random.normal(
          jax.random.fold_in(jax.random.key(7), number), (BATCH, LATENTS))
      fake = draw(nnx.clone(painter), z)
      loss, gradient = criticize(critic, batch['image'], fake)
      self.assertAlmostEqual(metrics['discriminator'], loss, delta=1e-5)
      update(critic, gradient)

      loss, gradient = fail(painter, nnx.clone(critic), z)
      self.assertAlmostEqual(metrics['generator'], loss, delta=1e-5)
      update(painter, gradient)
    self.assertEqual(state['step'], 2)
    for name, net in ('generator', painter), ('discriminator', critic):
      found = training.trained(net, state[name])
      # Adam divides by gradients, and so raises what rounding leaves of small
      # ones; a step is .01.
      chex.assert_trees_all_close(
          nnx.state(found), nnx.state(net), atol=2e-4)

  def test_the_start_is_kept(self):
    painter, critic = generator('transposed k4'), discriminator(size=8)
    before = nnx.state(nnx.clone(painter))
    step, state = training.adversarial(
        painter, critic, latents=LATENTS, learning_rate=.01, seed=0)
    state, _ = jax.jit(step, donate_argnums=0)(
        state, {'image': jnp.zeros((BATCH, 8, 8, 1)), 'label': LABELS})
    after = training.trained(painter, state['generator'])
    chex.assert_trees_all_equal(nnx.state(painter), before)
    self.assertGreater(jnp.abs(after.dense.kernel[...]
                               - painter.dense.kernel[...]).max(), 1e-3)
    # Trained networks do not look at the rest of the batch.
    np.testing.assert_allclose(
        after(values(), LABELS)[:1], after(values()[:1], LABELS[:1]), atol=1e-6)


class ClassifierTest(absltest.TestCase):

  def test_it_learns(self):
    labels = jnp.arange(8) % 2
    images = jnp.where(labels[:, None, None, None], 1., -1.) * jnp.ones(
        (8, 8, 8, 1))
    net = model.Classifier(size=8, colors=1, classes=2, rngs=nnx.Rngs(0))
    chex.assert_shape(net.features(images), (8, 64))
    step, state = training.supervised(net, learning_rate=.01, num_steps=20)
    step = jax.jit(step)
    losses = []
    for _ in range(20):
      before = state
      state, metrics = step(state, {'image': images, 'label': labels})
      losses.append(metrics['cross entropy'].item())
    logits = net(images)
    self.assertAlmostEqual(losses[0], -jax.nn.log_softmax(logits)[
        jnp.arange(8), labels].mean(), delta=1e-5)
    self.assertLess(losses[-1], .05 * losses[0])
    # The last rate is .01 * (1 + cos(.95 pi)) / 2 = 6e-5, and Adam's steps are
    # about as long as the rate.
    chex.assert_trees_all_close(state[0], before[0], atol=2e-4)


if __name__ == '__main__':
  absltest.main()
