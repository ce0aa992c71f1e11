"""One matmul for every patch, then the overlapping patches are added up."""

import jax
from jax import lax
import jax.numpy as jnp

from tconv.forms import patches
from tconv.geometry import Geometry


def conv_transpose(y: jax.Array, kernel: jax.Array, geometry: Geometry, *,
                   precision=None, preferred_element_type=None) -> jax.Array:
  """Transposes a convolution by stamping the kernel at every coarse position.

  Each coarse position scales the whole kernel by its value, which gives a patch
  of the fine grid; where patches overlap, they add. The scaling of all patches
  is one matmul of [N * coarse, O] by [O, K * C]; `patches.overlap` adds them
  (together known as GEMM and col2im). No product is with an inserted zero.

  Args:
    y: [N, *coarse, O] array.
    kernel: [*K, C / groups, O] kernel of the forward convolution.
    geometry: sizes that relate the two grids.
    precision: as in `jax.lax.dot_general`.
    preferred_element_type: dtype to accumulate in and to return.

  Returns:
    [N, *fine, C] array.
  """
  groups = geometry.feature_group_count
  n = geometry.num_axes
  y = y.reshape(*y.shape[:-1], groups, y.shape[-1] // groups)
  kernel = kernel.reshape(
      *kernel.shape[:-1], groups, kernel.shape[-1] // groups)
  # [groups, N, *coarse, *K, C / groups]
  stamps = lax.dot_general(
      y, kernel, (((n + 2,), (n + 2,)), ((n + 1,), (n + 1,))),
      precision=precision, preferred_element_type=preferred_element_type)
  stamps = jnp.moveaxis(stamps, 0, -2)
  stamps = stamps.reshape(*stamps.shape[:-2], groups * stamps.shape[-1])
  return patches.overlap(stamps, geometry)
