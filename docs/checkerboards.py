# %% [markdown]
# # Checkerboards
#
# Learned upsamplers paint grids: faint patterns that repeat every few pixels, in
# flat areas most visibly. This page explains where they come from, how to measure
# them, and how to remove them. The [explorer](explorer.md) lets you try every
# combination of kernel size and stride.
#
# ## The cause: phases with different sums
#
# At stride 2, the output pixels at even positions see other taps of the kernel
# than those at odd positions. The taps that share a remainder are a *phase*. On
# one axis, a kernel with 3 taps has a phase of two taps and a phase of one:

# %% count
import figures
import jax
import jax.numpy as jnp
import numpy as np
import tconv

print('3 taps:', tconv.overlap_count(3, 2))
print('4 taps:', tconv.overlap_count(4, 2))

# %% [markdown]
# If the taps of the phases have different *sums*, a constant input gives an output
# that alternates. The sums are the *phase gains*. With 4 taps, both phases
# have two, but the taps are learned, and nothing makes their sums equal:

# %% gains
kernel = (1 + .5 * jax.random.normal(jax.random.key(0), (4, 4, 1, 1))) / 4
gains = tconv.phase_gains(kernel, strides=2)[..., 0, 0]
print(np.round(gains, 2))

flat = jnp.full((1, 16, 16, 1), .5)
painted = tconv.conv_transpose(flat, kernel, 2)[0, :, :, 0]
# With this padding, phase 0 is at the odd pixels.
assert np.allclose(painted[5:7, 5:7], .5 * gains, atol=1e-6)
figures.images({'flat input': flat[0, :, :, 0], 'output': painted[4:-4, 4:-4]})

# %% [markdown]
# This is exact, and not only for flat inputs. Let $\mu_o$ be the mean of input
# channel $o$, and let $w$ be the kernel. Away from borders, the mean of output
# channel $c$ over phase $a$ is the gain
#
# $$g_a = \sum_j h_{a + s j}, \qquad h = \sum_o \mu_o w_{c o},$$
#
# plus the bias. So the lines of the output's spectrum at the multiples of $1/s$
# depend on the channel means of the input and on nothing else. Their energy is the
# variance of the gains:
#
# $$\mathrm{Var}_a(g_a) = s^{-2n} \sum_{k \neq 0} |H(k / s)|^2 .$$
#
# There are no lines for any input if and only if the gains of every pair of
# channels are equal. `phase_nonuniformity` is 0 exactly then:

# %% nonuniformity
for taps in 2, 3, 4, 5, 6:
  ones = jnp.ones((taps, taps, 1, 1))
  random = 1 + .5 * jax.random.normal(jax.random.key(taps), ones.shape)
  print(f'{taps} taps: ones {tconv.phase_nonuniformity(ones, 2):.3f}, '
        f'random {tconv.phase_nonuniformity(random, 2):.3f}')

# %% [markdown]
# ## The symptom: a line in the spectrum
#
# In the spectrum of an image, a pattern of period 2 is a single bright point at
# half the sampling rate. `grid_level` says how far that point stands out of its
# neighborhood, in dB: about 0 without a pattern. It finds patterns that the eye
# does not, and needs no reference image. `grid_test` gives the significance.

# %% level
from skimage import color
from skimage import data

cat = jnp.float32(color.rgb2gray(data.chelsea()))[:256, 100:356]
smaller = cat.reshape(128, 2, 128, 2).mean(axis=(1, 3))[None, :, :, None]
enlarge = lambda kernel: tconv.conv_transpose(smaller, kernel, 2)[0, :, :, 0]
level = lambda image: tconv.grid_level(image[None, ..., None], period=2).item()

dirty = enlarge(kernel)
print(f'photograph {level(cat):.0f} dB, enlarged {level(dirty):.0f} dB')
assert level(dirty) > 20 > level(cat)

# %% [markdown]
# ## The cures
#
# `equalize_phases` gives all phases the same sum and changes the kernel as little
# as possible. Such a kernel cannot paint a grid, whatever its input.
# `zero_order_hold` is a moving average over one period: it cancels the
# pattern of any kernel, and blurs a little.

# %% cures
clean = enlarge(tconv.equalize_phases(kernel, 2))
held = tconv.zero_order_hold(dirty[None, ..., None], 2)[0, :, :, 0]
crop = slice(90, 154), slice(60, 124)
pictures = {'as it is': dirty, 'equal phases': clean, 'hold': held}
for name, image in pictures.items():
  print(f'{name}: {level(image):.0f} dB')
assert level(clean) < 3 and level(held) < 3
figures.images({name: image[crop] for name, image in pictures.items()}, columns=3)

# %% [markdown]
# ### Which cure, and when?
#
# | you have | use | what it costs |
# |---|---|---|
# | a network to be trained, kernel at least twice the stride | `ConvTranspose(..., equal_phases=True)` | at most .03 dB of PSNR |
# | a network to be trained, smaller kernel | `zero_order_hold` after the layer, or a kernel of twice the stride | nothing for `zero_order_hold` (-.04 to +.01 dB, for 4 taps at strides 3 and 4) |
# | a trained network and some of its inputs | `equalize_phases(kernel, strides, inputs=...)`, or `tconv repair` for an ONNX file | at most .04 dB if the kernel is at least twice the stride |
# | a trained network, no inputs | `equalize_phases(kernel, strides)` | .1 to .5 dB if the kernel is at least twice the stride; up to about 1 dB if it is smaller, and 2 dB and more at k = s |
# | a trained network with one tap for each phase (k = s) | `tconv repair --filter`, a moving average after the layer | a little sharpness |
# | a sub-pixel convolution (pixel shuffle) | `equalize_sub_pixel` | not measured in study 1 |
# | free choice of the layer | nearest or bilinear resize, then a convolution | a convolution on the fine grid: s² times the work |
#
# The figures are those of [study 1](upsampling.md). ICNR, the usual advice for
# sub-pixel convolutions, only starts without a grid; training brings it back. A
# kernel size that is a multiple of the stride is not a cure, as shown above.
# `checkerboard_penalty` adds the variance of the gains to the loss; it
# costs as much as equal phases and removes less.
#
# To find out whether a trained model paints grids, and which of its layers does,
# see [Audit](audit.md).
#
# ## References
#
# - Odena, Dumoulin and Olah,
#   [Deconvolution and checkerboard artifacts](https://doi.org/10.23915/distill.00003),
#   2016.
# - Aitken and others,
#   [Checkerboard artifact free sub-pixel convolution](https://arxiv.org/abs/1707.02937),
#   2017: ICNR.
# - Harada, Muramatsu and Kiya, *Multidimensional multirate filter without
#   checkerboard effects*, EUSIPCO 1998.
# - Kinoshita and Kiya,
#   [Fixed smooth convolutional layer for avoiding checkerboard artifacts in CNNs](https://arxiv.org/abs/2002.02117),
#   2020: the moving average.
