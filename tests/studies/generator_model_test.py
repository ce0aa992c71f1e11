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

  def test_images_are_tanh_of_rectified_features(self):
    net = generator('transposed k3')
    features = net.features(10 * values(), LABELS)
    self.assertEqual(features.min(), 0)
    # .4 is the mean of what is positive of a normal distribution.
    self.assertBetween(features.mean(), .3, .5)
    theirs = generator('transposed k3', conv_transpose=nnx.ConvTranspose)
    self.assertIs(type(theirs.stages[0]), nnx.ConvTranspose)
    net = generator('transposed k3')
    # Sums of some hundred products in another order.
    np.testing.assert_allclose(
        net(values(), LABELS), theirs(values(), LABELS), atol=1e-5)
    net.eval()
    images = net(values(), LABELS)
    np.testing.assert_array_equal(
        images, jnp.tanh(net.paint(net.features(values(), LABELS))))
    self.assertGreater(jnp.abs(images - net(values(), 2 - LABELS)).max(), .01)

  def test_classes_may_be_missing(self):
    net = nnx.eval_shape(lambda: generator('transposed k4', classes=0))
    self.assertEqual(net.dense.in_features, LATENTS)
    critic = nnx.eval_shape(lambda: discriminator(size=8, classes=0))
    self.assertIsNone(critic.classes)
    shape = nnx.eval_shape(lambda net, critic: critic(
        net(values(), None), None), net, critic).shape
    self.assertEqual(shape, (BATCH,))


class DiscriminatorTest(parameterized.TestCase):

  @parameterized.parameters(('strided k3', 16, 2), ('conv+pool', 32, 3))
  def test_shapes(self, downsampler, size, number):

    def logits():
      net = discriminator(downsampler, size, colors=3)
      self.assertLen(net.stages, number)
      self.assertLen(net.norms, number - 1)
      self.assertEqual(net.dense.in_features, 16 * 4 * 2**(number - 1))
      return net(jnp.zeros((BATCH, size, size, 3)), LABELS)

    chex.assert_shape(nnx.eval_shape(logits), (BATCH,))

  def test_classes_are_compared_with_pooled_features(self):
    net = discriminator('conv+pool', size=8)
    images = jax.random.normal(jax.random.key(0), (BATCH, 8, 8, 1))
    fine = np.asarray(net.stages[0].conv(images))
    # Rounding of a sum of four.
    np.testing.assert_allclose(
        net.stages[0](images),
        fine.reshape(BATCH, 4, 2, 4, 2, 4).mean((2, 4)), atol=1e-6)
    net.eval()
    same = net(images, LABELS)
    np.testing.assert_array_equal(same, net(images, 2 - LABELS))
    net.classes.embedding[...] = net.classes.embedding[...].at[1].set(1)
    changed = net(images, LABELS) != same
    np.testing.assert_array_equal(changed, LABELS == 1)


class AdversarialTest(absltest.TestCase):

  def test_updates_are_those_of_the_definition(self):
    painter, critic = generator('transposed k4', 'transposed k4'), (
        discriminator())
    step, state = training.adversarial(
        painter, critic, latents=LATENTS, learning_rate=.01, seed=7)
    step = jax.jit(step, donate_argnums=0)
    before = nnx.state(nnx.clone(painter))
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
    batches, seen = [], []
    for number in range(2):
      batches.append({'label': LABELS, 'image': jnp.tanh(jax.random.normal(
          jax.random.key(number), (BATCH, 16, 16, 1)))})
      state, metrics = step(state, batches[-1])
      seen.append(metrics)
    self.assertEqual(state['step'], 2)
    # The networks stay as they were drawn.
    chex.assert_trees_all_equal(nnx.state(painter), before)

    for number, (batch, metrics) in enumerate(zip(batches, seen)):
      z = jax.random.normal(
          jax.random.fold_in(jax.random.key(7), number), (BATCH, LATENTS))
      fake = draw(nnx.clone(painter), z)
      loss, gradient = criticize(critic, batch['image'], fake)
      self.assertAlmostEqual(metrics['discriminator'], loss, delta=1e-5)
      update(critic, gradient)

      loss, gradient = fail(painter, nnx.clone(critic), z)
      self.assertAlmostEqual(metrics['generator'], loss, delta=1e-5)
      update(painter, gradient)
    for name, net in ('generator', painter), ('discriminator', critic):
      found = training.trained(net, state[name])
      # Adam divides by gradients, and so raises what rounding leaves of small
      # ones; a step is .01.
      chex.assert_trees_all_close(
          nnx.state(found), nnx.state(net), atol=2e-4)
    # Trained networks do not look at the rest of the batch.
    after = training.trained(painter, state['generator'])
    np.testing.assert_allclose(
        draw(after, values())[1], draw(after, values().at[0].set(9))[1],
        atol=1e-6)


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
