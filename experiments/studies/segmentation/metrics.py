"""What the segmentation study measures of masks and of logits.

References:
  Long, Shelhamer and Darrell, `Fully convolutional networks for semantic
  segmentation <https://arxiv.org/abs/1411.4038>`_, 2015: the mean intersection
  over union.
  Csurka, Larlus and Perronnin, `What is a good evaluation measure for semantic
  segmentation? <https://doi.org/10.5244/C.27.32>`_, 2013: the same image by
  image, and the boundary F-score.
"""

import functools
import math
from typing import Any
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from experiments.studies.segmentation import model
import tconv

# Pixels left out of logits where grids are measured: at the border,
# transposed convolutions fade.
BORDER = 8
_TOLERANCE = .0075  # Of a boundary, as a part of the image's diagonal.


class Seen(NamedTuple):
  """What a network makes of images.

  Attributes:
    logits: [N, H, W, classes].
    masks: [N, H, W] int32.
    resized: [N, H, W] int32, the masks if bilinear interpolation enlarges the
      same coarse scores.
  """
  logits: np.ndarray
  masks: np.ndarray
  resized: np.ndarray


def counts(masks: np.ndarray, truth: np.ndarray,
           classes: int) -> tuple[np.ndarray, np.ndarray]:
  """Counts pixels of each class.

  Args:
    masks: [N, H, W] classes.
    truth: [N, H, W] classes.
    classes: number of classes.

  Returns:
    [N, classes] numbers of pixels that have the class in both, and in either.
  """
  one, other = (_one_hot(x, classes) for x in (masks, truth))
  return (one & other).sum((2, 3)), (one | other).sum((2, 3))


def mean_iou(both: np.ndarray, either: np.ndarray) -> np.ndarray:
  """Averages intersection over union over classes.

  Args:
    both: [..., classes] numbers from `counts`, or sums of them.
    either: [..., classes] numbers.

  Returns:
    [...] means, without classes that are in neither.
  """
  return np.mean(both / np.maximum(either, 1), -1, where=either > 0)


def tolerance(size: int) -> int:
  """Tolerance of a boundary in a square image of `size` pixels a side.

  It is .0075 of the diagonal, rounded up, in pixels.
  """
  return math.ceil(_TOLERANCE * math.hypot(size, size))


def boundary_f(masks: np.ndarray, truth: np.ndarray,
               classes: int) -> np.ndarray:
  """Computes the boundary F-score of each image, a mean over classes.

  The boundary of a class consists of its pixels with a pixel of another class
  above, below, left or right. Precision is the share of the mask's boundary
  that is within `tolerance` of the truth's, recall the reverse; F is their
  harmonic mean.

  Args:
    masks: [N, H, W] classes.
    truth: [N, H, W] classes.
    classes: number of classes.

  Returns:
    [N] scores in [0, 1], without classes that have no boundary in either; 1 if
    no class has.
  """
  reach = tolerance(truth.shape[-1])
  disc = np.hypot(*np.indices((2 * reach + 1,) * 2) - reach) <= reach
  one, other = (_boundaries(_one_hot(x, classes)) for x in (masks, truth))
  precision, recall = (
      (edge & ndimage.binary_dilation(target, disc[None, None])).sum((2, 3))
      / np.maximum(edge.sum((2, 3)), 1)
      for edge, target in ((one, other), (other, one)))
  score = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
  seen = (one | other).any((2, 3))
  number = seen.sum(1)
  return np.where(number > 0, (score * seen).sum(1) / np.maximum(number, 1), 1.)


def _one_hot(masks: np.ndarray, classes: int) -> np.ndarray:
  """[N, classes, H, W] booleans."""
  return masks[:, None] == np.arange(classes)[:, None, None]


def _boundaries(regions: np.ndarray) -> np.ndarray:
  """Pixels of [N, classes, H, W] regions that are next to other pixels."""
  cross = ndimage.generate_binary_structure(2, 1)[None, None]
  return regions & ~ndimage.binary_erosion(regions, cross, border_value=1)


def grid_levels(images: np.ndarray, head: int) -> dict[str, np.ndarray]:
  """Measures the patterns of a decoder, without `BORDER`.

  Args:
    images: [N, H, W, classes] logits, or one-hot masks.
    head: one of `model.HEADS`.

  Returns:
    [N] means over classes by name: 'grid_level_db', at the decoder's period;
    and 'grid_level_2_db', at period 2.
  """
  inner = images[:, BORDER:-BORDER, BORDER:-BORDER]
  return {name: np.asarray(_grid_level(inner, period)).mean(-1)
          for name, period in (('grid_level_db', head),
                               ('grid_level_2_db', 2))}


_grid_level = jax.jit(tconv.grid_level, static_argnums=1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _logits(graph, head, state, images):
  network = nnx.merge(graph, state)
  scores = network.coarse(images)
  return network.decoder(scores), tconv.upsample(scores, head)


def see(network: model.Segmenter, head: int, images: np.ndarray) -> Seen:
  """Applies a network in evaluation mode to [N, H, W, C] images."""
  graph, state = nnx.split(network)
  logits, resized = map(np.asarray, _logits(
      graph, head, state, jnp.asarray(images)))
  return Seen(logits, *(x.argmax(-1).astype(np.int32)
                        for x in (logits, resized)))


def examine(network: model.Segmenter, head: int, data: dict[str, np.ndarray],
            classes: int) -> tuple[list[dict[str, Any]], Seen]:
  """Measures a network in evaluation mode.

  Args:
    network: the network.
    head: head of the network.
    data: 'image', [N, H, W, C], and 'mask', [N, H, W].
    classes: number of classes.

  Returns:
    A row of metrics for each image, and what the network made of the images.
    'pooled_iou', of all pixels together, and 'phase_nonuniformity', of the
    decoder, are the same in all rows. 'resized_iou' is 'iou' with the coarse
    scores resized.
  """
  truth, seen = data['mask'], see(network, head, data['image'])
  both, either = counts(seen.masks, truth, classes)
  kernel = tconv.equivalent_kernel(network.decoder, (head, head), classes)
  of_image = {
      'iou': mean_iou(both, either),
      'resized_iou': mean_iou(*counts(seen.resized, truth, classes)),
      'boundary_f': boundary_f(seen.masks, truth, classes),
      'accuracy': (seen.masks == truth).mean((1, 2)),
      **grid_levels(seen.logits, head),
      **{f'truth_{name}': level for name, level in grid_levels(
          np.eye(classes, dtype=np.float32)[truth], head).items()}}
  of_network = {
      'pooled_iou': float(mean_iou(both.sum(0), either.sum(0))),
      'phase_nonuniformity': float(
          tconv.phase_nonuniformity(kernel, (head, head)))}
  return [{'image': i, **{name: float(values[i])
                          for name, values in of_image.items()}, **of_network}
          for i in range(len(truth))], seen
