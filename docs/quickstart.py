# %% [markdown]
# # Install and quickstart
#
# tconv needs Python 3.11 and jax 0.10.2 or newer. In a checkout of the
# repository:
#
#     pip install .               # the library
#     pip install '.[audit]'      # and the command `tconv`, for trained models
#
# ## A transposed convolution

# %% first
import jax
import jax.numpy as jnp
import tconv

y = jnp.ones((8, 16, 16, 256))           # [N, H, W, O]: the coarse grid
kernel = jnp.ones((4, 4, 128, 256))      # [*K, C, O]: the kernel of the convolution
x = tconv.conv_transpose(y, kernel, strides=2, padding='SAME')
assert x.shape == (8, 32, 32, 128)       # [N, H, W, C]: the fine grid

# %% [markdown]
# The kernel has the axes of the *forward* convolution, the one that would go from
# `x` back to `y`. One kernel serves both directions:

# %% both
assert tconv.conv(x, kernel, strides=2, padding='SAME').shape == y.shape

# %% [markdown]
# Gradients need nothing special, and are computed by tconv as well:

# %% gradient
gradient = jax.grad(
    lambda k: (tconv.conv_transpose(y, k, 2)**2).sum())(kernel)
assert gradient.shape == kernel.shape

# %% [markdown]
# ## Output sizes
#
# Several sizes may shrink to the same one. `output_size` chooses among them:

# %% sizes
odd = tconv.conv(jnp.ones((1, 39, 39, 128)), kernel, 2)
assert odd.shape[1:3] == (20, 20)
up = tconv.conv_transpose(odd, kernel, 2, output_size=39)
assert up.shape[1:3] == (39, 39)

# %% [markdown]
# ## A layer
#
# The layers have the arguments, parameters, initial values and results of Flax's,
# so that checkpoints load in both directions. They add groups, output sizes and
# equal phases. A *phase* is the set of output positions with the same remainder
# by the stride. If the taps have the same sum for each phase, the layer cannot
# paint a [checkerboard](checkerboards.py).

# %% layer
from flax import nnx

layer = tconv.nnx.ConvTranspose(256, 128, (4, 4), 2, rngs=nnx.Rngs(0),
                                feature_group_count=2, equal_phases=True)
assert layer(y).shape == (8, 32, 32, 128)
assert layer(y, output_size=(31, 31)).shape == (8, 31, 31, 128)
layer.fold()    # After training: writes the equalized kernel into the parameters.

# %% [markdown]
# ## Your model, as it is
#
# `accelerate` finds the transposed convolutions and the slow gradients of a
# program and computes them by tconv. The model may be in Flax, Haiku, Equinox or
# Keras, and does not change. [Existing models](accelerate.md) has more.

# %% accelerate
def loss(weights, image):
  return (jax.lax.conv_transpose(image, weights, (2, 2), 'SAME')**2).mean()


weights, image = jnp.ones((4, 4, 8, 8)), jnp.ones((2, 8, 8, 8))
step = jax.jit(tconv.accelerate(jax.value_and_grad(loss)))
value, gradients = step(weights, image)
print(tconv.explain(jax.grad(loss), weights, image))

# %% [markdown]
# ## Five things to know
#
# - **Padding.** The `padding` of functions is that of the *forward* convolution, as
#   in PyTorch, and 'SAME' by default. Layers count as Flax's do: with 4 taps and
#   stride 2, `padding=1` maps 8 pixels to 16 in a function and to 14 in a layer.
#   Layers with `use_consistent_padding=True` count as functions do.
#   [Which padding?](padding.md) computes it for every library.
# - **Kernels.** Functions take [*K, out, in] for y -> x. Layers have Flax's
#   kernel by default, [*K, in, out] and flipped. For a kernel from PyTorch, use
#   `tconv.dialects.kernel_from_torch(weight)` and, in a layer,
#   `transpose_kernel=True`: see [Porting](porting.md).
# - **Layout.** Arrays are channels last; `dimension_numbers` selects any other.
# - **Dtypes** are not promoted: input and kernel must have the same dtype.
# - **Method.** `method='auto'` chooses how an operation is computed.
#   Gradients are always computed by 'auto'.
#
# The operations work in float16 to complex128, under `jit`, `grad`, `vmap`,
# `jax.export`, `shard_map`, and automatic or explicit sharding.
