"""The training steps of the generator study."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import optax

from experiments.harness import loop
from experiments.studies.generator import model

Step = Callable[[Any, Any], tuple[Any, loop.Metrics]]

_BETA1 = .5  # Of Adam, after Radford et al.


class Player(NamedTuple):
  """The part of a network that changes during training."""
  params: Any
  stats: Any
  moments: optax.OptState


def adversarial(generator: model.Generator,
                discriminator: model.Discriminator, *, latents: int,
                learning_rate: float, seed: int) -> tuple[Step, Any]:
  """Makes the step that trains both networks, and the state to start from.

  The discriminator is updated first. Then the generator is updated on the same
  generated images, to raise the logarithm of the probability that the new
  discriminator takes them for real. Batch norm sees real and generated images
  separately.

  Args:
    generator: generator before training; not changed.
    discriminator: discriminator before training; not changed.
    latents: number of latent values.
    learning_rate: learning rate of Adam.
    seed: random seed for the latent values.

  Returns:
    The step, as `loop.train` takes it, and the state. Batches have 'image' and,
    if there are classes, 'label'; metrics are the mean losses in nats. The
    state has 'step', the number of steps taken, and a `Player` each for
    'generator' and 'discriminator'.
  """
  optimizer = optax.adam(learning_rate, b1=_BETA1)
  of_generator, params, stats = nnx.split(
      generator, nnx.Param, nnx.BatchStat)
  start = {'generator': Player(params, stats, optimizer.init(params))}
  of_discriminator, params, stats = nnx.split(
      discriminator, nnx.Param, nnx.BatchStat)
  start['discriminator'] = Player(params, stats, optimizer.init(params))

  def update(player, gradient, stats):
    updates, moments = optimizer.update(gradient, player.moments)
    return Player(optax.apply_updates(player.params, updates), stats, moments)

  def step(state, batch):
    painter, critic = state['generator'], state['discriminator']
    real, classes = batch['image'], batch.get('label')
    key = jax.random.fold_in(jax.random.key(seed), state['step'])
    values = jax.random.normal(key, (len(real), latents))
    generated, pull_back, stats = jax.vjp(
        lambda params: _play(of_generator, params, painter.stats, values,
                             classes), painter.params, has_aux=True)

    def criticism(params):
      logits, stats = _play(
          of_discriminator, params, critic.stats, real, classes)
      fake_logits, stats = _play(
          of_discriminator, params, stats, generated, classes)
      return (jax.nn.softplus(-logits) + jax.nn.softplus(fake_logits)
              ).mean(), stats

    (criticized, critic_stats), gradient = jax.value_and_grad(
        criticism, has_aux=True)(critic.params)
    critic = update(critic, gradient, critic_stats)

    def failure(images):
      logits, _ = _play(
          of_discriminator, critic.params, critic.stats, images, classes)
      return jax.nn.softplus(-logits).mean()

    failed, gradient = jax.value_and_grad(failure)(generated)
    [gradient] = pull_back(gradient)
    painter = update(painter, gradient, stats)
    state = {'step': state['step'] + 1, 'generator': painter,
             'discriminator': critic}
    return state, {'generator': failed, 'discriminator': criticized}

  # Training donates its state.
  return step, {'step': jnp.zeros((), jnp.int32),
                **jax.tree.map(jnp.copy, start)}


def _play(graph, params, stats, *inputs):
  """Calls a network; returns its result and the new batch statistics."""
  network = nnx.merge(graph, params, stats, copy=True)
  return network(*inputs), nnx.state(network, nnx.BatchStat)


def trained(network: nnx.Module, player: Player) -> Any:
  """Puts the state after training into a network.

  Args:
    network: network before training; not changed.
    player: its part of the last state.

  Returns:
    The trained network, which uses the running averages of batch norm.
  """
  network = nnx.clone(network)
  nnx.update(network, player.params, player.stats)
  network.eval()
  return network


def supervised(classifier: model.Classifier, *, learning_rate: float,
               num_steps: int) -> tuple[Step, Any]:
  """Makes the step that trains a classifier, and the state to start from.

  Args:
    classifier: classifier before training; not changed.
    learning_rate: initial learning rate of Adam, which decays along a cosine.
    num_steps: number of steps until it is zero.

  Returns:
    The step, as `loop.train` takes it, and the state: parameters and the
    optimizer's state. Batches have 'image' and 'label'; the metric is the mean
    cross entropy in nats.
  """
  graph, params = nnx.split(classifier)
  optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))

  def loss(params, batch):
    logits = nnx.merge(graph, params)(batch['image'])
    return optax.softmax_cross_entropy_with_integer_labels(
        logits, batch['label']).mean()

  def step(state, batch):
    params, moments = state
    value, gradient = jax.value_and_grad(loss)(params, batch)
    updates, moments = optimizer.update(gradient, moments)
    return (optax.apply_updates(params, updates), moments), {
        'cross entropy': value}

  params = jax.tree.map(jnp.copy, params)
  return step, (params, optimizer.init(params))
