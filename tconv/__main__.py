"""Runs the command `tconv`: `python -m tconv audit model.onnx`."""

import sys

from tconv.audit import cli

if __name__ == '__main__':
  sys.exit(cli.main())
