"""Recordings: what they decide, when they count, how they are kept."""

import dataclasses
import functools
import json
import multiprocessing
import os
import pathlib
import tempfile
from unittest import mock
import warnings

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax import export
import jax.numpy as jnp
import numpy as np

import tconv
from tconv import dispatch
from tconv import geometry as geometry_lib
from tconv import tuning_cache
from tests.references import integers

Y, W = integers(0, (2, 3, 4, 5)), integers(1, (4, 4, 2, 5))
FLOAT32 = np.dtype('float32')
CONTRACTION = tuning_cache.Contraction(
    'conv_transpose', (Y.shape, W.shape), (FLOAT32, FLOAT32),
    geometry_lib.conv_transpose_geometry(
        (3, 4), (4, 4), (2, 2), 'SAME', (1, 1)), None, FLOAT32)


def recording(form='polyphase', contraction=CONTRACTION):
  return tuning_cache.Recording(
      contraction, form, 'overlap_add', {'overlap_add': 2., 'polyphase': 1.5})


def upsample(method='auto'):
  """A function that was never compiled."""
  return jax.jit(lambda y, w: tconv.conv_transpose(y, w, 2, method=method))


def program(method='auto', platform='cpu'):
  lowered = upsample(method).trace(Y, W).lower(lowering_platforms=(platform,))
  return lowered.as_text()


class RecordingsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.cache = self.enter_context(tempfile.TemporaryDirectory())
    self.enter_context(
        mock.patch.dict(os.environ, {'XDG_CACHE_HOME': self.cache}))
    tuning_cache._warn_once.cache_clear()

  def assert_the_rule_decides(self, message, file):
    """One warning that names the file, however often it is met."""
    with self.assertWarnsRegex(UserWarning, message) as caught:
      self.assertEqual(program(), program('overlap_add'))
    self.assertIn(str(file), str(caught.warning))
    self.assertIsNone(tuning_cache.read(CONTRACTION))


class ChoiceTest(RecordingsTest):

  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.object(
        dispatch, 'choose', return_value='overlap_add'))

  @parameterized.parameters(*dispatch.FORMS)
  def test_the_recorded_form_is_the_one_that_runs(self, form):
    expected = upsample()(Y, W)
    self.assertEqual(program(), program('overlap_add'))
    tuning_cache.write(recording(form))
    self.assertEqual(program(), program(form))
    # Small integers: every form's sums are exact.
    np.testing.assert_array_equal(upsample()(Y, W), expected)

  def test_each_derivative_has_its_own(self):
    def convolutions():
      step = jax.grad(lambda y, w: (upsample()(y, w)**2).sum(), (0, 1))
      return jax.jit(step).lower(Y, W).as_text().count('stablehlo.convolution')

    counts = [convolutions()]  # All three are matmuls.
    x = (2, 6, 8, 2)
    for operation, shapes in (
        ('conv', (x, W.shape)), ('conv_kernel_grad', (x, Y.shape))):
      tuning_cache.write(recording('vjp', dataclasses.replace(
          CONTRACTION, operation=operation, shapes=shapes)))
      counts.append(convolutions())
    self.assertEqual(counts[0], 0)
    self.assertLess(counts[0], counts[1])
    self.assertLess(counts[1], counts[2])

  @parameterized.parameters(
      dict(precision='highest'), dict(preferred_element_type='float64'))
  def test_options_count(self, **options):
    tuning_cache.write(recording())
    with jax.enable_x64(True):
      text, expected = (
          jax.jit(functools.partial(
              tconv.conv_transpose, strides=2, method=method, **options)
          ).lower(Y, W).as_text() for method in ('auto', 'overlap_add'))
    self.assertEqual(text, expected)

  def test_a_symbolic_batch_has_no_recording(self):
    tuning_cache.write(recording())
    y = jax.ShapeDtypeStruct(export.symbolic_shape('b, 3, 4, 5'), FLOAT32)
    exported = export.export(upsample())(y, W)
    self.assertIn('dot_general', exported.mlir_module())
    np.testing.assert_array_equal(exported.call(Y, W), upsample()(Y, W))

  @parameterized.parameters('cuda', 'tpu')
  def test_other_platforms_follow_the_rule(self, platform):
    expected = program(platform=platform)
    tuning_cache.write(recording())
    self.assertNotEqual(program(), program('overlap_add'))
    self.assertEqual(program(platform=platform), expected)

  def test_several_processes_follow_the_rule(self):
    tuning_cache.write(recording())
    with mock.patch.object(jax, 'process_count', return_value=2):
      self.assertEqual(program(), program('overlap_add'))

  @parameterized.parameters('cpu', 'cuda', 'tpu')
  def test_recordings_are_of_the_default_backend(self, platform):
    tuning_cache.write(recording())
    for backend, found in (('cpu', platform == 'cpu'),
                           ('gpu', platform != 'cpu')):
      with mock.patch.object(jax, 'default_backend', return_value=backend):
        self.assertEqual(tuning_cache.form(CONTRACTION, platform),
                         'polyphase' if found else None)


class KeyTest(RecordingsTest):

  @parameterized.parameters(
      dict(operation='conv'),
      dict(shapes=((3, 3, 4, 5), W.shape)),
      dict(dtypes=(FLOAT32, np.dtype('float16'))),
      dict(precision=jax.lax.Precision.HIGHEST),
      dict(precision=(None, jax.lax.Precision.HIGHEST)),
      dict(result_dtype=jnp.dtype('bfloat16')),
      dict(geometry=geometry_lib.conv_transpose_geometry(
          (3, 4), (4, 4), (2, 2), ((1, 1), (2, 0)), (1, 1))))
  def test_every_part_counts(self, **changed):
    tuning_cache.write(recording())
    other = dataclasses.replace(CONTRACTION, **changed)
    self.assertIsNone(tuning_cache.read(other))
    tuning_cache.write(recording('lax', other))
    self.assertEqual(tuning_cache.read(other), recording('lax', other))
    self.assertEqual(tuning_cache.read(CONTRACTION), recording())

  def test_another_jaxlib_has_its_own(self):
    tuning_cache.write(recording())
    with mock.patch.object(tuning_cache.jaxlib, '__version__', '99.0'):
      self.assertIsNone(tuning_cache.read(CONTRACTION))
    self.assertIsNotNone(tuning_cache.read(CONTRACTION))

  def test_another_device_has_its_own(self):
    tuning_cache.write(recording())
    with mock.patch.object(tuning_cache, '_device', return_value='NVIDIA-H200'):
      self.assertIsNone(tuning_cache.read(CONTRACTION))
      self.assertIn('NVIDIA-H200', str(recording().file))

  def test_a_cpu_is_told_from_others(self):
    with mock.patch.object(tuning_cache, 'processor', return_value='A/B (R) C'):
      name = tuning_cache._device.__wrapped__()
    self.assertRegex(name, r'^cpu-\w+-A-B-R-C-\d+-cores$')
    with mock.patch.object(pathlib.Path, 'read_text', side_effect=OSError):
      name = tuning_cache._device.__wrapped__()
      self.assertRegex(name, r'^cpu-[-\w]+-cores$')

  def test_cores_are_those_that_may_be_used(self):
    with mock.patch('os.sched_getaffinity', lambda _: {3, 4, 7}, create=True):
      self.assertEqual(tuning_cache.cores(), 3)

  def test_an_accelerator_goes_by_its_name(self):
    gpu = mock.Mock(device_kind='NVIDIA H200', platform='gpu')
    with mock.patch.object(jax, 'local_devices', return_value=[gpu]):
      self.assertEqual(tuning_cache._device.__wrapped__(), 'NVIDIA-H200')

  def test_the_folder_is_that_of_the_user(self):
    folder = pathlib.Path(self.cache)
    self.assertIn(folder / 'tconv', recording().file.parents)
    for unset in ({}, {'XDG_CACHE_HOME': ''}):
      with mock.patch.dict(os.environ, {'HOME': '/home/me', **unset}):
        if not unset:
          del os.environ['XDG_CACHE_HOME']
        self.assertIn(pathlib.Path('/home/me/.cache/tconv'),
                      recording().file.parents)


class FileTest(RecordingsTest):

  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.object(
        dispatch, 'choose', return_value='overlap_add'))
    tuning_cache.write(recording())
    self.file = recording().file
    self.content = json.loads(self.file.read_text())

  def test_it_can_be_read_by_people(self):
    self.assertEqual(self.content['form'], 'polyphase')
    self.assertEqual(self.content['milliseconds']['overlap_add'], 2)
    for part in '(2, 3, 4, 5)', 'float32', 'strides=(2, 2)':
      self.assertIn(part, self.file.read_text())
    self.assertStartsWith(self.file.name, 'conv_transpose-')

  def test_it_prints_as_one_line(self):
    line = str(recording())
    self.assertStartsWith(line, (
        'conv_transpose [2, 3, 4, 5] [4, 4, 2, 5], strides [2, 2], '
        'feature_group_count 1: polyphase (rule: overlap_add); '
        'ms: polyphase 1.5, overlap_add 2; '))
    self.assertEndsWith(line, str(self.file))

  @parameterized.parameters(
      b'', b'{', b'null', b'[]', b'"text"', b'{}', b'\xff\xfe\x00',
      b'[' * 100_000, b'9' * 10_000)
  def test_no_recording(self, text):
    self.file.write_bytes(text)
    self.assert_the_rule_decides('Delete it, or tune again', self.file)

  def test_half_a_recording(self):
    text = self.file.read_bytes()
    self.file.write_bytes(text[:len(text) // 2])
    self.assert_the_rule_decides('Delete it, or tune again', self.file)

  @parameterized.parameters(
      dict(form='fastest'), dict(form=None), dict(form=['lax']),
      dict(rule='no'), dict(milliseconds=[1, 2]), dict(milliseconds=None),
      dict(milliseconds={'lax': 'fast'}), dict(milliseconds={'lax': 10**400}),
      dict(milliseconds={'no': 1}), dict(contraction={}), dict(contraction=3))
  def test_a_foreign_recording(self, **changed):
    self.file.write_text(json.dumps({**self.content, **changed}))
    self.assert_the_rule_decides('is not a recording', self.file)

  @parameterized.parameters('contraction', 'form', 'rule', 'milliseconds')
  def test_an_incomplete_recording(self, key):
    del self.content[key]
    self.file.write_text(json.dumps(self.content))
    self.assert_the_rule_decides(f'is not a recording .*{key}', self.file)

  def test_a_file_of_another_contraction(self):
    other = dataclasses.replace(CONTRACTION, precision='highest')
    tuning_cache.write(recording('lax', other))
    os.replace(recording('lax', other).file, self.file)
    self.assert_the_rule_decides('another contraction', self.file)

  def test_a_folder_in_its_place(self):
    self.file.unlink()
    self.file.mkdir()
    self.assert_the_rule_decides('cannot be read', self.file.parent)

  def test_a_folder_that_cannot_be_read(self):
    with mock.patch.object(pathlib.Path, 'read_bytes', side_effect=(
        PermissionError(13, 'Permission denied'))):
      self.assert_the_rule_decides('Permission denied', self.file.parent)

  def test_a_broken_one_is_replaced(self):
    self.file.write_bytes(b'{')
    tuning_cache.write(recording('lax'))
    self.assertEqual(tuning_cache.read(CONTRACTION), recording('lax'))

  @parameterized.parameters('replace', 'mkdir')
  def test_a_folder_that_cannot_be_written(self, function):
    denied = PermissionError(13, 'Permission denied')
    with mock.patch.object(os, function, side_effect=denied):
      with self.assertWarnsRegex(UserWarning, 'not kept.*Permission denied'):
        tuning_cache.write(recording('lax'))
      tuning_cache.write(recording('lax'))  # Says so once.
    self.assertEqual(tuning_cache.read(CONTRACTION), recording())
    self.assertEqual(list(self.file.parent.iterdir()), [self.file])

  def test_a_folder_that_cannot_be_made(self):
    with mock.patch.dict(os.environ, {'XDG_CACHE_HOME': str(self.file)}):
      with self.assertWarnsRegex(UserWarning, f'not kept.*{self.file}'):
        tuning_cache.write(recording())
      self.assert_the_rule_decides('cannot be read', self.file)


class ManyProcessesTest(RecordingsTest):

  def test_files_are_always_whole(self):
    # Two processes write one file again and again, and one of their own each.
    spawn = multiprocessing.get_context('spawn')
    start = spawn.Barrier(3, timeout=60)
    writers = [spawn.Process(target=write_often, args=(form, start))
               for form in ('lax', 'vjp')]
    tuning_cache.write(recording('lax'))
    for writer in writers:
      writer.start()
    start.wait()
    while any(writer.is_alive() for writer in writers):
      # A warning is an error here, and half a file would give one.
      self.assertIn(tuning_cache.read(CONTRACTION).form, ('lax', 'vjp'))
    self.assertEqual([writer.exitcode for writer in writers], [0, 0])
    self.assertLen(list(recording().file.parent.iterdir()), 3)
    for form in 'lax', 'vjp':
      self.assertEqual(tuning_cache.read(own(form)), recording(form, own(form)))


def own(form):
  return dataclasses.replace(CONTRACTION, precision=form)


def write_often(form, start):
  warnings.simplefilter('error')
  start.wait()
  for _ in range(300):
    tuning_cache.write(recording(form))
    tuning_cache.write(recording(form, own(form)))


if __name__ == '__main__':
  absltest.main()
