"""Folders of images: found, cropped, shrunk; bad files named and left out."""

import contextlib
import io
import pathlib
import tempfile

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from PIL import Image

from experiments.data import folder as folder_lib
from experiments.harness import workdir as workdir_lib


class FolderTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(
        self.enter_context(tempfile.TemporaryDirectory()))

  def save(self, name, pixels):
    path = self.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)

  def pet(self, name, classes, size=(8, 6)):
    self.save(f'images/{name}.jpg', np.full((*size, 3), 200))
    self.save(f'annotations/trimaps/{name}.png', classes)

  def test_the_middle_square_is_shrunk_by_means(self):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3))
    self.save('b/c.png', pixels)
    self.save('a.PNG', np.zeros((4, 4)))
    self.save('notes.txt.png', np.full((5, 4), 255))
    (self.folder / 'readme.txt').write_text('no image')
    with contextlib.redirect_stdout(io.StringIO()) as screen:
      found = folder_lib.images(str(self.folder), 4, 3)
    self.assertEmpty(screen.getvalue())
    self.assertEqual((found.shape, found.dtype), ((3, 4, 4, 3), np.float32))
    np.testing.assert_array_equal(found[0], 0)
    square = pixels[:, 2:10].reshape(4, 2, 4, 2, 3).mean((1, 3)) / 255
    np.testing.assert_allclose(found[1], square, atol=1e-6)  # float32
    np.testing.assert_array_equal(found[2], 1)

  def test_luminance_and_colours(self):
    self.save('grey.png', np.full((3, 3), 51))
    self.save('red.png', np.broadcast_to([255, 0, 0], (3, 3, 3)))
    grey = folder_lib.images(str(self.folder), 3, 1)
    np.testing.assert_allclose(grey[:, 0, 0, 0], [.2, .2126], atol=1e-6)
    colours = folder_lib.images(str(self.folder), 3, 3)
    np.testing.assert_allclose(
        colours[:, 0, 0], [[.2, .2, .2], [1, 0, 0]], atol=1e-6)

  def test_bad_files_are_counted_and_five_are_named(self):
    self.save('good.png', np.zeros((4, 4)))
    whole = (self.folder / 'good.png').read_bytes()
    for i in range(7):
      (self.folder / f'bad{i}.png').write_bytes(whole[:40 + i])
    with contextlib.redirect_stdout(io.StringIO()) as screen:
      self.assertLen(folder_lib.images(str(self.folder), 4, 1), 1)
    line = screen.getvalue()
    self.assertStartsWith(line, 'warning: 7 of 8 images are left out: ')
    self.assertEqual(line.count('bad'), 5)
    self.assertIn(f'{self.folder}/bad4.png: ', line)
    self.assertEndsWith(line, '; and 2 more\n')

  @parameterized.parameters('', 'missing')
  def test_none_is_an_error(self, name):
    path = str(self.folder / name)
    for read in folder_lib.images, folder_lib.images_and_masks:
      args = (path, 4) if read is folder_lib.images_and_masks else (path, 4, 1)
      with self.assertRaisesRegex(
          workdir_lib.RunError, f'no image that can be read in {path}'):
        read(*args)

  def test_masks_stay_with_their_images(self):
    classes = np.repeat([[1, 1, 3, 3, 2, 2]], 8, 0)
    self.pet('b', classes)
    self.pet('a', np.full((8, 6), 2))
    self.pet('c', np.repeat([[1, 3, 1, 3, 1, 3]], 8, 0))
    images, masks = folder_lib.images_and_masks(str(self.folder), 3)
    self.assertEqual((images.shape, images.dtype), ((3, 3, 3, 3), np.float32))
    np.testing.assert_allclose(images, 200 / 255, atol=.01)  # JPEG
    self.assertEqual(masks.dtype, np.int32)
    np.testing.assert_array_equal(masks[0], 1)
    np.testing.assert_array_equal(masks[1], [[0, 2, 1]] * 3)
    # Classes are not mixed.
    self.assertLessEqual(set(masks[2].ravel().tolist()), {0, 2})

  def test_images_without_their_masks_are_left_out(self):
    self.pet('a', np.ones((8, 6)))
    self.pet('other size', np.ones((6, 6)))
    self.pet('other values', np.full((8, 6), 4))
    self.pet('zeros', np.zeros((8, 6)))
    self.pet('no mask', np.ones((8, 6)))
    (self.folder / 'annotations/trimaps/no mask.png').unlink()
    with contextlib.redirect_stdout(io.StringIO()) as screen:
      images, masks = folder_lib.images_and_masks(str(self.folder), 4)
    self.assertLen(images, 1)
    self.assertLen(masks, 1)
    for reason in ('no mask.jpg: No such file', 'other size.jpg: its mask has',
                   'other values.jpg: its mask has other values', 'zeros.jpg'):
      self.assertIn(reason, screen.getvalue())

  def test_path_of_a_name(self):
    for name, path in (('folder:a/b', 'a/b'), ('folder:folder:', 'folder:'),
                       ('folder:', None), ('my folder:a', None), ('', None)):
      self.assertEqual(folder_lib.path_of(name), path)


if __name__ == '__main__':
  absltest.main()
