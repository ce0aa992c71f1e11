"""The idea of transposed convolution, with real numbers and pictures.

    python -m experiments.walkthrough --out=runs/walkthrough

A 3x3 kernel on a 4x4 image is a 4x16 matrix C; C^T takes 2x2 back to 4x4. All
numbers are small integers, so that every sum is exact and can be redone by
hand. Every printed claim is checked first. The command stops with an error at
the first claim that does not hold.

References:
  Dumoulin and Visin, `A guide to convolution arithmetic for deep learning
  <https://arxiv.org/abs/1603.07285>`_, 2016.
"""

from collections.abc import Sequence
import pathlib
import sys

from absl import app
from absl import flags
from absl import logging
import jax.numpy as jnp
from matplotlib.figure import Figure
import numpy as np
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Column
from rich.table import Table
from rich.text import Text

from experiments import relations
from experiments.report import walkthrough_figures as draw
import tconv

_OUT = flags.DEFINE_string(
    'out', 'runs/walkthrough', 'Output folder, created if missing.')
flags.register_validator('out', bool, '--out must name a folder')

IMAGE = np.array([[1, 0, 2, 1], [0, 1, 0, 2], [1, 2, 1, 0], [0, 1, 0, 1]])
TWIN = np.array([[1, 0, 2, 1], [0, 0, 1, 2], [1, 3, 0, 0], [0, 1, 0, 1]])
KERNEL = np.arange(1, 10).reshape(3, 3)
COARSE = np.array([[1, 2], [3, 4]])


class Story:
  """Prints text, numbers and claims, and exits at a false claim."""

  def __init__(self, console: Console):
    self.print = console.print

  def chapter(self, title: str, text: str) -> None:
    self.print()
    self.print(Rule(Text(title, style='bold'), align='left', style='dim'))
    self.say(text)

  def say(self, text: str) -> None:
    self.print()
    self.print(Text(' '.join(text.split())))

  def show(self, *parts: str | tuple[str, np.ndarray]) -> None:
    """Prints (name, [rows, columns]) pairs and signs side by side."""
    grid = Table.grid(*(Column(justify='center', vertical='middle')
                        for _ in parts), padding=(0, 1))
    grid.add_row(*('' if isinstance(p, str) else p[0] for p in parts))
    grid.add_row(*(p if isinstance(p, str) else Panel.fit(
        _numbers(p[1]), border_style='dim') for p in parts))
    self.print(Padding(grid, (1, 0, 0, 2)))

  def table(self, header: Sequence[str], rows: Sequence[Sequence]) -> None:
    """Prints a table; text is left-aligned, numbers are right-aligned."""
    table = Table(*(
        Column(name, justify='left' if isinstance(cell, str) else 'right')
        for name, cell in zip(header, rows[0], strict=True)),
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for row in rows:
      table.add_row(*map(str, row))
    self.print(Padding(table, (1, 0, 0, 0)))

  def check(self, claim: str, holds: bool | np.bool) -> None:
    if not holds:
      sys.exit(f'walkthrough: this does not hold: {claim}')
    line = Table.grid(padding=(0, 1))
    line.add_row(Text('  ok', style='bold green'), Text(claim))
    self.print(line)


def _numbers(values: np.ndarray) -> Text:
  """Formats right-aligned numbers, with a dot for zero."""
  cells = [[f'{v:g}' if v else '.' for v in row] for row in values]
  width = max(len(cell) for row in cells for cell in row)
  text = Text('\n'.join(' '.join(c.rjust(width) for c in r) for r in cells))
  text.highlight_regex(r'\d+', 'bold cyan')
  return text


def _down(story: Story) -> tuple[np.ndarray, Figure]:
  """Tells that a convolution is a matrix; returns [4, 16] C and a figure."""
  story.chapter('1. A convolution', '''
      A 3x3 kernel slides over a 4x4 image, without padding. There are 2x2
      places for it. At each place, the nine numbers under it are multiplied by
      the nine taps and added up. (A dot is a zero.)''')
  y = relations.through(tconv.conv, IMAGE, KERNEL)
  story.show(('image x', IMAGE), '*', ('kernel w', KERNEL), '=',
             ('output y', y))
  seen = IMAGE[:3, :3]
  products = ' + '.join(f'{x}*{w}' for x, w in zip(
      seen.flat, KERNEL.flat, strict=True) if x)
  story.check(f'top left, by hand, less the zeros: {products} = {y[0, 0]:g}',
              np.sum(seen * KERNEL) == y[0, 0])
  story.check('the other three come about in the same way',
              np.array_equal(y, relations.slide(IMAGE, KERNEL)))

  story.chapter('2. The same as a matrix', '''
      Write the image as one vector of 16 numbers, row after row. Each output is
      a weighted sum of the 16, so it has a row of weights in a 4x16 matrix C:
      the nine taps stand where the kernel lies, zeros everywhere else.''')
  c = np.asarray(tconv.conv_matrix(
      jnp.asarray(KERNEL, jnp.float32)[..., None, None], IMAGE.shape, 1, 0))
  story.show(('x as 16 numbers', IMAGE.reshape(1, 16)))
  story.show(('C', c), 'x  =', ('y', y.reshape(4, 1)))
  story.check('C x is the output of the convolution, row after row',
              np.array_equal(c @ IMAGE.ravel(), y.ravel()))
  story.check('each row of C holds nine taps: 36 of its 64 places are not zero',
              c.size == 64 and np.all(np.count_nonzero(c, axis=1) == 9))
  return c, draw.matrix(IMAGE, KERNEL, c, y)


def _up(story: Story, c: np.ndarray) -> Figure:
  """Tells what C^T does, one to nine, and what it cannot; draws a figure."""
  story.chapter('3. The other way: C^T', '''
      C takes 16 numbers to 4. Its transpose C^T is a 16x4 matrix and takes 4
      numbers to 16: from a coarse 2x2 grid up to a fine 4x4 one. Multiplying
      with C^T is the transposed convolution.''')
  fine = relations.through(tconv.conv_transpose, COARSE, KERNEL)
  story.show('C^T', ('y', COARSE), '=', ('C^T y', fine))
  story.check('tconv.conv_transpose gives C^T y, its 16 numbers as 4x4',
              np.array_equal(fine.ravel(), c.T @ COARSE.ravel()))
  story.say('''
      One to nine: the convolution gathers nine fine numbers into one coarse
      number, and C^T goes the same ways backwards. Each of the 4 coarse values
      touches nine fine positions: it stamps the kernel, times itself, onto the
      place where the kernel lay. Where stamps meet, they add.''')
  stamps = COARSE.reshape(4, 1, 1) * c.reshape(4, 4, 4)
  parts = [part for y, stamp in zip(COARSE.flat, stamps, strict=True)
           for part in ('+', (f'{y} times w', stamp))]
  story.show(*parts[1:])
  story.check('each of the four stamps touches nine fine positions',
              np.all(np.count_nonzero(stamps, axis=(1, 2)) == 9))
  story.check('the four stamps add up to C^T y',
              np.array_equal(stamps.sum(0), fine))
  story.check('in a corner lies 1 stamp, on an edge 2, in the middle all 4',
              np.array_equal(np.count_nonzero(stamps, axis=0),
                             np.outer([1, 2, 2, 1], [1, 2, 2, 1])))

  story.chapter('4. The shape comes back, the values do not', '''
      Take the image down with C and up again with C^T. The result is 4x4 again,
      but it is not the image. No map from y could promise the image: another
      image has the same y, and nothing in y tells the two apart. The old name
      "deconvolution" promises too much.''')
  y = relations.through(tconv.conv, IMAGE, KERNEL)
  back = relations.through(tconv.conv_transpose, y, KERNEL)
  story.show(('image x', IMAGE), ('y = C x', y), ('C^T y', back),
             ('another image', TWIN))
  story.check('C^T C x has the shape of x and not its values',
              back.shape == IMAGE.shape and not np.array_equal(back, IMAGE))
  story.check('C times the other image is the same y',
              np.array_equal(y, relations.through(tconv.conv, TWIN, KERNEL))
              and not np.array_equal(IMAGE, TWIN))
  return draw.one_to_nine(COARSE, stamps, fine)


def _strides(story: Story) -> Figure:
  """Tells the textbook picture of strides and its cost; draws a figure."""
  story.chapter('5. Strides, and zeros between the inputs', '''
      Let the kernel move in steps of s = 2. Now C takes 5x5 to 2x2, and C^T
      takes 2x2 to 5x5, its stamps 2 apart. The textbook gets the same from an
      ordinary convolution: write s - 1 = 1 zero between neighbours in y and
      k - 1 = 2 zeros around them, turn the kernel by 180 degrees, and slide it
      in steps of 1.''')
  turned = KERNEL[::-1, ::-1]
  padded = np.pad(relations.spread(COARSE, 2), 2)
  fine = relations.through(tconv.conv_transpose, COARSE, KERNEL, 2)
  story.show(('y among zeros', padded), '*', ('w turned', turned), '=',
             ('C^T y', fine))
  story.check('tconv.conv_transpose at strides=2 gives the same 5x5 numbers',
              np.array_equal(fine, relations.slide(padded, turned)))
  products = relations.windows(padded, turned.shape) * turned
  story.check('25 outputs of 9 products each: 225, and only 36 are not zero',
              (products.size, np.count_nonzero(products)) == (225, 36))
  story.check('stamping needs just those 36: 4 coarse values times 9 taps',
              _work(2, 3, 2) == (225, 36))
  story.say('Multiply-adds for a 3x3 kernel, counted from the shapes:')
  rows = [(s, size, s * (size - 1) + 3, *_work(size, 3, s)) for s, size in
          [(2, 2), (2, 8), (2, 32), (2, 128), (3, 128), (4, 128)]]
  story.table(
      ('stride', 'coarse', 'fine', 'with zeros', 'stamps', 'ratio'),
      [(*row, f'{row[-2] / row[-1]:5.2f}') for row in rows])
  story.check('away from borders, zero insertion does s^2 times the work: at '
              'size 128 the ratio is within 1% of s^2', all(
                  abs(row[-2] / row[-1] / row[0]**2 - 1) < 0.01
                  for row in rows if row[1] == 128))
  return draw.zero_insertion(COARSE, padded, turned, fine)


def _work(size, taps, stride):
  """Counts multiply-adds with inserted zeros, and with stamps."""
  fine = stride * (size - 1) + taps
  return (fine * taps)**2, (size * taps)**2


def _overlap(story: Story) -> Figure:
  """Tells where checkerboards come from; draws a figure."""
  story.chapter('6. Overlap, and where checkerboards come from', '''
      How many taps land on each fine position? Let every coarse value and every
      tap be 1, and C^T counts them: here from a 5x5 grid, at stride 2, with 3x3
      and with 4x4 taps.''')
  count = lambda k, s, size: relations.through(
      tconv.conv_transpose, np.ones((size, size)), np.ones((k, k)), s)
  inside = lambda counts, k: counts[(slice(k - 1, len(counts) - k + 1),) * 2]
  counts = {k: count(k, 2, 5) for k in (3, 4)}
  story.show(*((f'k = {k}, s = 2', c) for k, c in counts.items()))
  line = [2, 1, 2, 1, 2, 1, 2]
  story.check('3 taps: 4, 2 and 1 take turns, so flat values under flat taps '
              'come out as a checkerboard',
              np.array_equal(inside(counts[3], 3), np.outer(line, line)))
  story.check('4 taps: 4 everywhere but near the border',
              np.all(inside(counts[4], 4) == 4))
  story.check('away from the border, counts are equal exactly when s divides k '
              '(tried for k up to 6 and s up to 3)', all(
                  (np.ptp(inside(count(k, s, 8), k)) == 0) == (k % s == 0)
                  for k in range(1, 7) for s in range(1, 4)))
  story.say('''
      Equal counts take away the pattern that is built in. Learnt taps can still
      bring it back: each of the s^2 phases of the fine grid has its own
      taps, and flat values stay flat only if all phases have the same sum.''')
  return draw.overlap(counts, 2)


def _relations(story: Story) -> None:
  """Prints and checks the relations of Dumoulin and Visin's guide."""
  story.chapter("7. Dumoulin and Visin's relations", '''
      On each axis: i is the size of the input, o of the output, k of the
      kernel; s is the stride, p the zeros at each end, d the dilation; // is
      division rounded down. Relations and examples are those of
      arXiv:1603.07285. "odd" means that i+2*p-k is no multiple of s: at the
      high end some positions, zeros counted, are out of the kernel's reach.
      "equal" says that tconv.conv has this size o, and the values that NumPy
      gives.''')
  worked = [(r, *relations.work_out(r)) for r in relations.RELATIONS]
  answer = lambda holds: 'yes' if holds else 'NO'
  story.table(
      ('no', 'convolution', 'o', *'ikspdo', 'equal'),
      [(r.numbers[0], r.name, r.output, *(sizes[key] for key in 'ikspdo'),
        answer(there)) for r, sizes, there, _ in worked])
  story.say('''
      The transpose of each goes from i' = o back to o' = i. It is an ordinary
      convolution with the kernel turned, k' = k taps and stride s' = 1, over a
      stretched input of size i~' (s - 1 zeros between neighbours), with p'
      zeros at each end and, for the positions out of reach, a = (i+2*p-k) mod s
      more at the high end. The guide stops short of the dilated one: there
      K = k+(k-1)*(d-1), from the first tap to the last, stands for k. "equal"
      says that tconv.conv_transpose has the size o' = i, and the values that
      this convolution has in NumPy.''')
  keys = ("i'", "i~'", "k'", "s'", "p'", 'a', "o'")
  story.table(
      ('no', 'transpose of', "p'", "o'", *keys, 'equal'),
      [(r.numbers[1], r.name, r.padding, r.transposed,
        *(sizes[key] for key in keys), answer(back))
       for r, sizes, _, back in worked])
  wrong = [r.name for r, _, there, back in worked if not (there and back)]
  claim = f'in all {2 * len(worked)} rows, sizes and values are equal'
  story.check(f'{claim} (but: {", ".join(wrong)})' if wrong else claim,
              not wrong)


def main(argv: Sequence[str]) -> None:
  """Prints all chapters and saves the figures."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  folder = pathlib.Path(_OUT.value)
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    sys.exit(f'error: --out cannot be written: {error}')
  logging.set_verbosity(logging.WARNING)  # JAX reports its search for TPUs.
  console = Console(width=80, highlight=False)
  story = Story(console)
  c, matrix = _down(story)
  figures = dict(matrix=matrix, one_to_nine=_up(story, c),
                 zero_insertion=_strides(story), overlap=_overlap(story))
  _relations(story)
  for name, figure in figures.items():
    figure.savefig(folder / f'{name}.png', dpi=120)
  console.print(f'\nFigures in {folder}: {", ".join(figures)} (.png)',
                soft_wrap=True, markup=False)


if __name__ == '__main__':
  app.run(main)
