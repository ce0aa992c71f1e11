"""Recordings: what they decide, when they count, how they are kept."""

import dataclasses
import itertools
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
    self.enter_context(mock.patch.object(
        dispatch, 'choose', return_value='overlap_add'))


class ChoiceTest(RecordingsTest):

  def test_the_recorded_form_is_the_one_that_runs(self):
    self.assertEqual(program(), program('overlap_add'))
    for form in dispatch.FORMS:
      tuning_cache.write(recording(form))
      self.assertEqual(program(), program(form))

  def test_a_symbolic_batch_has_no_recording(self):
    tuning_cache.write(recording())
    y = jax.ShapeDtypeStruct(export.symbolic_shape('b, 3, 4, 5'), FLOAT32)
    exported = export.export(upsample())(y, W)
    self.assertIn('dot_general', exported.mlir_module())
    np.testing.assert_array_equal(exported.call(Y, W), upsample()(Y, W))

  def test_other_platforms_and_several_processes_follow_the_rule(self):
    expected = program(platform='cuda')
    tuning_cache.write(recording())
    self.assertNotEqual(program(), program('overlap_add'))
    self.assertEqual(program(platform='cuda'), expected)

    with mock.patch.object(jax, 'process_count', return_value=2):
      self.assertEqual(program(), program('overlap_add'))

  def test_recordings_are_of_the_default_backend(self):
    tuning_cache.write(recording())
    for backend, platform in itertools.product(('cpu', 'gpu'), ('cpu', 'cuda')):
      with mock.patch.object(jax, 'default_backend', return_value=backend):
        self.assertEqual(
            tuning_cache.form(CONTRACTION, platform),
            'polyphase' if (backend == 'cpu') == (platform == 'cpu') else None)


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

  def test_another_jaxlib_device_or_user_has_its_own(self):
    tuning_cache.write(recording())
    with mock.patch.object(tuning_cache.jaxlib, '__version__', '99.0'):
      self.assertIsNone(tuning_cache.read(CONTRACTION))
    with mock.patch.object(tuning_cache, '_device', return_value='NVIDIA-H200'):
      self.assertIsNone(tuning_cache.read(CONTRACTION))
      self.assertIn('NVIDIA-H200', str(recording().file))
    self.assertIn(pathlib.Path(self.cache, 'tconv'), recording().file.parents)
    with mock.patch.dict(os.environ, HOME='/home/me', XDG_CACHE_HOME=''):
      self.assertIn(pathlib.Path('/home/me/.cache/tconv'),
                    recording().file.parents)


class FileTest(RecordingsTest):

  def setUp(self):
    super().setUp()
    tuning_cache.write(recording())
    self.file = recording().file
    self.content = json.loads(self.file.read_text())

  def test_what_is_no_recording(self):
    text = json.dumps(self.content)
    broken = ['', '{', 'null', '[]', '[' * 100_000, '9' * 10_000,
              text[:len(text) // 2]]
    changes = [
        dict(form='fastest'), dict(form=None), dict(form=['lax']),
        dict(rule='no'), dict(milliseconds=[1, 2]), dict(milliseconds=None),
        dict(milliseconds={'lax': 'fast'}), dict(milliseconds={'lax': 10**400}),
        dict(milliseconds={'no': 1}), dict(contraction={}), dict(contraction=3)]
    foreign = [json.dumps(self.content | change) for change in changes] + [
        json.dumps({k: v for k, v in self.content.items() if k != name})
        for name in self.content]
    for content in *broken, *foreign, b'\xff\xfe\x00':
      self.file.write_bytes(
          content if isinstance(content, bytes) else content.encode())
      with self.subTest(content[:200]):
        self.assert_the_rule_decides('Delete it, or tune again')

  def assert_the_rule_decides(self, message):
    """One warning that names the file, however often it is met."""
    tuning_cache._warn_once.cache_clear()
    with self.assertWarnsRegex(UserWarning, f'{self.file}.*{message}'):
      self.assertIsNone(tuning_cache.read(CONTRACTION))
    self.assertEqual(program(), program('overlap_add'))

  def test_a_file_of_another_contraction(self):
    other = dataclasses.replace(CONTRACTION, precision='highest')
    tuning_cache.write(recording('lax', other))
    os.replace(recording('lax', other).file, self.file)
    self.assert_the_rule_decides('another contraction')

  def test_a_folder_that_cannot_be_written(self):
    denied = PermissionError(13, 'Permission denied')
    with mock.patch.object(os, 'replace', side_effect=denied):
      with self.assertWarnsRegex(UserWarning, 'not kept.*Permission denied'):
        tuning_cache.write(recording('lax'))
      tuning_cache.write(recording('lax'))  # Says so once.
    self.assertEqual(tuning_cache.read(CONTRACTION), recording())
    self.assertEqual(list(self.file.parent.iterdir()), [self.file])

  def test_a_folder_that_cannot_be_made(self):
    with mock.patch.dict(os.environ, {'XDG_CACHE_HOME': str(self.file)}):
      with self.assertWarnsRegex(UserWarning, f'not kept.*{self.file}'):
        tuning_cache.write(recording())
      self.assert_the_rule_decides('cannot be read')


class ManyProcessesTest(RecordingsTest):

  def test_files_are_always_whole(self):
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
    self.assertLen(list(recording().file.parent.iterdir()), 1)


def write_often(form, start):
  warnings.simplefilter('error')
  start.wait()
  for _ in range(100):
    tuning_cache.write(recording(form))


if __name__ == '__main__':
  absltest.main()
