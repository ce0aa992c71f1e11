"""Small ONNX models, and what a transposed convolution gives, in NumPy."""

import tempfile

from absl.testing import parameterized
import numpy as np
import onnx
from onnx import helper
from onnx import numpy_helper

from tconv.audit import onnx_model

FLOAT = onnx.TensorProto.FLOAT
node = helper.make_node


def tensor(name, array):
  return numpy_helper.from_array(np.asarray(array), name)


def constant(name, array):
  """A node that gives an array."""
  return node('Constant', [], [name], value=tensor('', array))


def model(nodes, shape, constants=None, *, outputs=('y',), opset=22,
          ir_version=10, dtype=FLOAT, **others):
  """A model of input x, with initializers."""
  constants = constants or {}
  graph = helper.make_graph(
      nodes, 'graph', [helper.make_tensor_value_info('x', dtype, shape)],
      [onnx.ValueInfoProto(name=name) for name in outputs],
      [tensor(name, array) for name, array in constants.items()])
  made = helper.make_model(
      graph, ir_version=ir_version,
      opset_imports=[helper.make_opsetid(domain, version) for domain, version
                     in (('', opset), ('own', 1), ('com.microsoft', 1))],
      **others)
  if not others:  # The checker wants a type and shape of each output.
    inferred = onnx.shape_inference.infer_shapes(made).graph.output
    made.graph.ClearField('output')
    made.graph.output.extend(inferred)
  return made


def load(folder, *args, **kwargs):
  """Saves a model and loads it."""
  path = f'{folder}/model.onnx'
  onnx.save(model(*args, **kwargs), path)
  return onnx_model.load(path)


def transposed(upsampler, weights, x, size):
  """What `Upsampler` promises of the result, from its input x."""
  groups = upsampler.groups
  n = len(upsampler.strides)
  fine = weights.kernel.shape[-2]
  full = [(m - 1) * s + (k - 1) * d + 1 for m, s, k, d in zip(
      x.shape[1:], upsampler.strides, weights.kernel.shape,
      upsampler.kernel_dilation)]
  y = np.zeros((len(x), *(max(f, o + m) for f, o, m in zip(
      full, upsampler.offset, size)), fine * groups))
  for tap in np.ndindex(weights.kernel.shape[:n]):
    at = tuple(
        slice(p * d, p * d + (m - 1) * s + 1, s) for p, d, m, s in zip(
            tap, upsampler.kernel_dilation, x.shape[1:], upsampler.strides))
    for group in range(groups):
      inputs = x.shape[-1] // groups
      o = slice(group * inputs, (group + 1) * inputs)
      c = slice(group * fine, (group + 1) * fine)
      y[(slice(None), *at, c)] += x[..., o] @ weights.kernel[tap][:, o].T
  y = y[(slice(None), *(slice(o, o + m) for o, m in zip(
      upsampler.offset, size)))]
  if weights.bias is not None:
    phases = np.ix_(*((np.arange(m) + o) % s for m, o, s in zip(
        size, upsampler.offset, upsampler.strides)))
    y = y + weights.bias[phases]
  return y


def check(found, feeds=None, weights=None):
  """Checks the results of all upsamplers with weights; returns activations."""
  if feeds is None:
    feeds = {i.name: np.random.default_rng(0).integers(
        -4, 5, [4 if n is None else n for n in i.shape]).astype(i.dtype)
             for i in found.inputs}
  activations = found.run(feeds)
  names = {u.name for u in found.upsamplers if u.weights is not None}
  assert names == set(activations.before) == set(activations.after)
  for each in found.upsamplers:
    if each.weights is not None and each.is_exact:
      after = activations.after[each.name]
      np.testing.assert_array_equal(after, transposed(
          each, (weights or {}).get(each.name, each.weights),
          activations.before[each.name], after.shape[1:-1]))
  return activations


class FolderTest(parameterized.TestCase):
  """Tests with a folder of their own, in which models are saved and loaded."""

  def setUp(self):
    super().setUp()
    self.folder = self.enter_context(tempfile.TemporaryDirectory())

  def load(self, *args, **kwargs):
    return load(self.folder, *args, **kwargs)
