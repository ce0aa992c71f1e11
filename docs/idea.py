# %% [markdown]
# # The idea
#
# [中文](idea_zh.py)
#
# A convolution makes an image smaller. A *transposed convolution* goes the other
# way: it makes an image larger, with a kernel that can be learned. This page
# shows what it computes. The numbers of the first sections are so small that you
# can check every sum by hand. The page is a program: all numbers and figures
# below are its output, and the `assert` lines are checked whenever the page is
# made.

# %% setup
import figures
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tconv


def conv(x, w, strides=1):
  """The convolution of an [H, W] image with a [K, K] kernel, not padded."""
  y = tconv.conv(jnp.float32(x)[None, :, :, None],
                 jnp.float32(w)[:, :, None, None], strides, 'VALID')
  return np.asarray(y)[0, :, :, 0]


def conv_transpose(y, w, strides=1):
  """The transpose of `conv`: from a coarse image back to a fine one."""
  x = tconv.conv_transpose(jnp.float32(y)[None, :, :, None],
                           jnp.float32(w)[:, :, None, None], strides, 'VALID')
  return np.asarray(x)[0, :, :, 0]


# %% [markdown]
# ## A convolution: 4x4 by 3x3 gives 2x2
#
# A 3x3 kernel `w` slides over a 4x4 image `x`. There are 2x2 places for it. At
# each place, the nine numbers under the kernel are multiplied by its nine taps
# and added up. Nine numbers become one.

# %% convolution
x = np.array([[1, 0, 2, 1],
              [0, 1, 0, 2],
              [1, 2, 1, 0],
              [0, 1, 0, 1]])
w = np.array([[1, 2, 3],
              [4, 5, 6],
              [7, 8, 9]])
y = conv(x, w)
assert y[0, 0] == np.sum(x[:3, :3] * w)
assert y[1, 1] == np.sum(x[1:, 1:] * w)
print(y)

# %% [markdown]
# ## The same as a matrix: C is 4x16
#
# Write the image as one column of 16 numbers, row after row ("flattening").
# Each of the four outputs is a weighted sum of these 16 numbers. So the
# convolution is a matrix `C` with 4 rows and 16 columns. Each row has the nine
# taps where the kernel lies, and zeros elsewhere. Flattened, the output is
# `C @ x`.

# %% matrix
c = np.asarray(tconv.conv_matrix(jnp.float32(w)[:, :, None, None], (4, 4), 1, 0))
assert c.shape == (4, 16)
assert np.all(np.count_nonzero(c, axis=1) == 9)
assert np.array_equal(c @ x.ravel(), y.ravel())
figures.matrix(x, w, c, y)

# %% [markdown]
# The red frames show the first output, the nine pixels it comes from, and the
# row of C that computes it.
#
# ## The other way: C transposed
#
# C takes 16 numbers to 4. Its transpose, Cᵀ, is a 16x4 matrix and takes 4
# numbers to 16: from a coarse 2x2 grid up to a fine 4x4 grid. Multiplying by Cᵀ
# *is* the transposed convolution. It needs no matrix, as a convolution needs
# none; the matrix only shows what happens.

# %% transpose
coarse = np.array([[1, 2],
                   [3, 4]])
fine = conv_transpose(coarse, w)
assert np.array_equal(fine.ravel(), c.T @ coarse.ravel())
print(fine)

# %% [markdown]
# ## One to nine
#
# The convolution gathers nine fine numbers into one coarse number. The
# transposed convolution follows the same connections backwards: each coarse
# number goes to nine fine positions. In other words, it *stamps* the kernel,
# multiplied by its value, onto the fine grid. Where stamps overlap, they add up.

# %% one_to_nine
stamps = coarse.reshape(4, 1, 1) * c.reshape(4, 4, 4)
assert np.all(np.count_nonzero(stamps, axis=(1, 2)) == 9)
assert np.array_equal(stamps.sum(axis=0), fine)
figures.one_to_nine(coarse, stamps, fine)

# %% [markdown]
# ## The shape comes back, the values do not
#
# Go down with C and up again with Cᵀ. The result is 4x4 again, but it is not
# the image we started from. No map could promise that: 4 numbers cannot hold
# what 16 do. Here is another image with the same four outputs. This is why
# "deconvolution", an older name of the operation, is misleading: it does not
# undo a convolution.

# %% not_an_inverse
twin = np.array([[1, 0, 2, 1],
                 [0, 0, 1, 2],
                 [1, 3, 0, 0],
                 [0, 1, 0, 1]])
assert np.array_equal(conv(twin, w), y) and not np.array_equal(twin, x)
back = conv_transpose(y, w)
assert back.shape == x.shape and not np.array_equal(back, x)
print(back)

# %% [markdown]
# ## The kernel is learned
#
# So far, the kernel was that of a convolution. In a network it need not be: the
# taps of a transposed convolution are weights of their own, and training finds
# them. No convolution has to come before, and where one does (as in an
# autoencoder) the two kernels usually differ. What is transposed is only the
# *pattern of connections*: which coarse position is connected to which fine one.
#
# Training needs the gradient of a loss with respect to the kernel, which
# `jax.grad` gives. Here, gradient descent finds the kernel from one pair of
# images: the input, and the output that the kernel made of it.

# %% learned
target = conv_transpose(coarse, w)


def loss(kernel):
  output = tconv.conv_transpose(jnp.float32(coarse)[None, :, :, None],
                                kernel, 1, 'VALID')
  return jnp.mean((output[0, :, :, 0] - target)**2)


kernel = jnp.zeros((3, 3, 1, 1))
step = jax.jit(lambda kernel: kernel - .2 * jax.grad(loss)(kernel))
for _ in range(1000):
  kernel = step(kernel)
assert np.allclose(kernel[:, :, 0, 0], w, atol=.01)
print(np.round(kernel[:, :, 0, 0], 2))

# %% [markdown]
# ## Strides, and inserted zeros
#
# To enlarge an image by 2, not just by a border, use stride 2. The convolution
# then moves its kernel in steps of 2, and the transposed convolution places its
# stamps 2 apart: 2x2 becomes 5x5.
#
# Textbooks often compute the same with an ordinary convolution. Write one zero
# between neighboring inputs and two around them, turn the kernel by 180 degrees,
# and slide it in steps of 1. Hence the name "fractionally strided convolution".

# %% zero_insertion
strided = conv_transpose(coarse, w, strides=2)
among_zeros = np.zeros((7, 7))
among_zeros[2:5:2, 2:5:2] = coarse
turned = w[::-1, ::-1]
assert np.array_equal(strided, conv(among_zeros, turned))
figures.zero_insertion(coarse, among_zeros, turned, strided)

# %% [markdown]
# The picture is right, but as an algorithm it wastes work: most products have a
# zero as a factor. Stamping needs none of them. With stride s on n axes, the
# computation with zeros has sⁿ times the useful products, away from borders.

# %% cost
windows = np.lib.stride_tricks.sliding_window_view(among_zeros, (3, 3))
assert (windows.size, np.count_nonzero(windows)) == (225, 36)
for stride, size in (2, 128), (3, 128), (4, 128):
  outputs = stride * (size - 1) + 3
  with_zeros, stamping = (outputs * 3)**2, (size * 3)**2
  assert abs(with_zeros / stamping / stride**2 - 1) < .01
  print(f'stride {stride}: {with_zeros / stamping:.1f} times the products')

# %% [markdown]
# This is why, by default, tconv inserts no zeros on CPUs and GPUs. (On a TPU they
# cost nothing.) In training, it is faster than `jax.lax` on all 28 layers that
# were measured on a CPU; forward, on all but two. [Speed](speed.md) has the
# numbers.
#
# ## Several sizes
#
# A strided convolution may map several sizes (s of them at stride s, on each
# axis) to the same one: with a 3x3 kernel at stride 2, both 5x5 and 6x6 become
# 2x2. So the transpose has a choice, and `output_size` makes it.
# [Which padding?](padding.md) computes sizes for you.

# %% sizes
assert conv(np.ones((5, 5)), w, 2).shape == conv(np.ones((6, 6)), w, 2).shape
values = jnp.float32(coarse)[None, :, :, None]
taps = jnp.float32(w)[:, :, None, None]
for size in 5, 6:
  result = tconv.conv_transpose(values, taps, 2, 'VALID', output_size=size)
  print(result.shape[1:3])

# %% [markdown]
# ## Interpolation, or learned?
#
# Nearest, bilinear and bicubic interpolation enlarge images, too. They are
# transposed convolutions with *fixed* kernels (their borders apart):

# %% fixed
for method in 'nearest', 'bilinear', 'bicubic':
  fixed = tconv.interpolation_kernel([2], method=method)
  print(f'{method:8}', np.round(fixed, 3))

# %% [markdown]
# Fixed kernels are the same for all images. A learned one adapts to its task.
# Here the task is to enlarge a photograph of a cat by 2. The kernel starts as
# bilinear interpolation and is trained on the left half of the picture. The
# error is measured on the right half, which it has never seen.

# %% enlarge
from skimage import color
from skimage import data

cat = color.rgb2gray(data.chelsea())[:256, 100:356].astype(np.float32)
small = cat.reshape(128, 2, 128, 2).mean(axis=(1, 3))  # Means of 2x2 pixels.
batch = jnp.asarray(small)[None, :, :, None]


def enlarge(kernel):
  return tconv.conv_transpose(batch, kernel, 2, 'SAME')[0, :, :, 0]


def error(image, columns):
  """The mean squared error of an image, without its border."""
  inside = slice(8, -8)
  return jnp.mean((image - cat)[inside, columns]**2)


LEFT, RIGHT = slice(8, 120), slice(136, -8)
bilinear = tconv.interpolation_kernel([2, 2], method='bilinear')  # 4x4
start = jnp.float32(np.pad(bilinear, 2))[:, :, None, None]        # 8x8
optimizer = optax.sgd(1., momentum=.9)


@jax.jit
def train(kernel, state):
  gradient = jax.grad(lambda k: error(enlarge(k), LEFT))(kernel)
  update, state = optimizer.update(gradient, state)
  return kernel + update, state


learned, state = start, optimizer.init(start)
for _ in range(300):
  learned, state = train(learned, state)

enlarged = {method: tconv.upsample(batch, 2, method=method)[0, :, :, 0]
            for method in ('nearest', 'bilinear', 'bicubic')}
enlarged['learned'] = enlarge(learned)
psnr = {name: -10 * np.log10(error(image, RIGHT))
        for name, image in enlarged.items()}
assert max(psnr, key=psnr.get) == 'learned'
for name, value in psnr.items():
  print(f'{name:8} {value:.2f} dB')
crop = slice(80, 144), slice(180, 244)
figures.images({'original': cat[crop], **{
    name: image[crop] for name, image in enlarged.items()}}, columns=5)

# %% [markdown]
# PSNR measures how close an image is to the original; higher is closer.
#
# ## Where it is used
#
# **Generators.** A DCGAN makes an image from a vector of random numbers. The
# first layer makes 4x4 pixels of it. Each further layer is a transposed
# convolution with stride 2, which doubles the sides and (mostly) halves the
# channels:

# %% dcgan
def shape(size, channels_in, channels_out, taps, strides, padding):
  """The side of the output of one layer."""
  return jax.eval_shape(
      lambda y, w: tconv.conv_transpose(y, w, strides, padding),
      jax.ShapeDtypeStruct((1, size, size, channels_in), jnp.float32),
      jax.ShapeDtypeStruct((taps, taps, channels_out, channels_in), jnp.float32),
  ).shape[1]


channels = (100, 1024, 512, 256, 128, 3)
sides = [1]
for index in range(5):
  sides.append(shape(sides[-1], channels[index], channels[index + 1], 4,
                     1 if index == 0 else 2, 'VALID' if index == 0 else 1))
assert sides == [1, 4, 8, 16, 32, 64]
figures.stack(list(zip(sides, channels)))

# %% [markdown]
# **Segmentation.** A fully convolutional network (FCN) finds the class of every
# pixel. Convolutions shrink a 512x512 image to 16x16 scores for each of 21
# classes. Transposed convolutions bring the scores back, by 2, by 2 and by 8.
# All start as bilinear interpolation. The first two are trained further; the
# last one stays as it is:

# %% fcn
sides = [16]
for factor in 2, 2, 8:
  sides.append(shape(sides[-1], 21, 21, 2 * factor, factor, factor // 2))
assert sides == [16, 32, 64, 512]
figures.stack([(side, 21) for side in sides])

# %% [markdown]
# ## A caution: checkerboards
#
# Count how many stamps land on each fine position, at stride 2. With 3x3 taps,
# the counts alternate between 4, 2 and 1. With 4x4 taps, they are equal away
# from the border.

# %% overlap
counts = {k: conv_transpose(np.ones((5, 5)), np.ones((k, k)), 2) for k in (3, 4)}
assert np.array_equal(np.unique(counts[3][2:-2, 2:-2]), [1, 2, 4])
assert np.all(counts[4][3:-3, 3:-3] == 4)
figures.overlap(counts, 2)

# %% [markdown]
# A kernel size that is a multiple of the stride avoids uneven counts. But the
# taps are learned, and their sums can still differ: at stride 2, the even and the
# odd positions of each axis are reached by different taps (a *phase* each). Two
# cures remove the pattern: *resize-convolution*, which interpolates first and
# then convolves with stride 1, and kernels whose phases have equal sums of taps
# (`tconv.equalize_phases`). Below, a flat gray field is enlarged with random
# kernels.

# %% checkerboard
keys = iter(jax.random.split(jax.random.key(0), 3))
gray = jnp.full((1, 16, 16, 1), .5)
random = lambda taps: (1 + .5 * jax.random.normal(
    next(keys), (taps, taps, 1, 1))) / taps**2
four = random(4)
painted = {
    'k = 3': tconv.conv_transpose(gray, 4 * random(3), 2),
    'k = 4': tconv.conv_transpose(gray, 4 * four, 2),
    'equal phases': tconv.conv_transpose(
        gray, 4 * tconv.equalize_phases(four, 2), 2),
    'resize-convolution': tconv.resize_conv(gray, random(3), 2)}
inside = {name: image[0, 4:-4, 4:-4, 0] for name, image in painted.items()}
assert np.ptp(inside['k = 3']) > .1 and np.ptp(inside['k = 4']) > .01
assert np.ptp(inside['equal phases']) < 1e-6
assert np.ptp(inside['resize-convolution']) < 1e-6
figures.images(inside)

# %% [markdown]
# [Checkerboards](checkerboards.py) explains the cause, how to measure the
# pattern in an image, and which cure suits which network.
#
# ## References
#
# - Dumoulin and Visin,
#   [A guide to convolution arithmetic for deep learning](https://arxiv.org/abs/1603.07285),
#   2016.
# - Radford, Metz and Chintala,
#   [Unsupervised representation learning with deep convolutional generative adversarial networks](https://arxiv.org/abs/1511.06434),
#   2015.
# - Long, Shelhamer and Darrell,
#   [Fully convolutional networks for semantic segmentation](https://arxiv.org/abs/1411.4038),
#   2014.
# - Odena, Dumoulin and Olah,
#   [Deconvolution and checkerboard artifacts](https://doi.org/10.23915/distill.00003),
#   2016.
