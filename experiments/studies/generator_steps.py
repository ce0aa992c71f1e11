"""How study 2 trains: two networks against each other, and a judge."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import optax

from experiments import training
from experiments.studies import generator_models as models

Step = Callable[[Any, Any], tuple[Any, training.Metrics]]

_BETA1 = .5  # Of Adam, after Radford et al.


class Player(NamedTuple):
  """What changes of a network while it is trained."""
  params: Any
  stats: Any
  moments: optax.OptState


def adversarial(generator: models.Generator,
                discriminator: models.Discriminator, *, latents: int,
                learning_rate: float, seed: int) -> tuple[Step, Any]:
  """Makes the step that trains both, and the state that it begins with.

  The discriminator is updated first. Then the generator is, on the same images,
  by what the new discriminator says of them, to raise the logarithm of the
  probability that they are real. Batch norm sees real images and generated ones
  apart.

  Args:
    generator: as it is before; not changed.
    discriminator: as it is before; not changed.
    latents: number of random values.
    learning_rate: of Adam.
    seed: for random values.

  Returns:
    A step as `training.train` takes it, whose batches have 'image' and, if
    there are classes, 'label', and whose metrics are the mean losses in nats;
    and its state: 'step', the number of steps taken, and a `Player` each for
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

  # Training gives its start up.
  return step, {'step': jnp.zeros((), jnp.int32),
                **jax.tree.map(jnp.copy, start)}


def _play(graph, params, stats, *inputs):
  """Calls a network, and gives the batch statistics that follow."""
  network = nnx.merge(graph, params, stats, copy=True)
  return network(*inputs), nnx.state(network, nnx.BatchStat)


def trained(network: nnx.Module, player: Player) -> Any:
  """Gives a network as it is after training.

  Args:
    network: as it was before; not changed.
    player: of the last state.

  Returns:
    The network, which uses the running averages of batch norm.
  """
  network = nnx.clone(network)
  nnx.update(network, player.params, player.stats)
  network.eval()
  return network


def supervised(classifier: models.Classifier, *, learning_rate: float,
               num_steps: int) -> tuple[Step, Any]:
  """Makes the step that trains a classifier, and the state that it begins with.

  Args:
    classifier: as it is before; not changed.
    learning_rate: of Adam at the start; it goes to zero along a cosine.
    num_steps: until then.

  Returns:
    A step as `training.train` takes it, whose batches have 'image' and 'label',
    and whose metric is the mean cross entropy in nats; and its state,
    parameters and moments.
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
