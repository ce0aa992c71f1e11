"""The colors of all figures.

References:
  Okabe and Ito, `Color universal design <https://jfly.uni-koeln.de/color/>`_,
  2008.
"""

BLUE, ORANGE, SKY, VERMILION, GREEN, PINK, YELLOW, BLACK = (
    '#0072b2', '#e69f00', '#56b4e9', '#d55e00', '#009e73', '#cc79a7',
    '#f0e442', '#000000')
# In this order, neighbors differ most.
LINES = (BLUE, VERMILION, GREEN, PINK, BLACK, ORANGE, SKY)
CLASSES = (BLUE, ORANGE, GREEN, PINK, SKY, VERMILION, YELLOW, BLACK)
# Combined with the colors, for more lines and points than there are colors. The
# lengths have no common divisor with that of LINES: 28 and 35 combinations.
DASHES = ('-', '--', ':', '-.')
MARKERS = ('o', 's', '^', 'D', 'v')
GREY, PALE = '#666666', '#eeeeee'
