"""Installs the tconv package; experiments and configs run from a checkout."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent

# The examples, studies and benchmarks: `make run`, `make bench`.
EXPERIMENTS = [
    'grain', 'imagecodecs', 'jinja2', 'matplotlib', 'ml_collections', 'mlxtend',
    'orbax-checkpoint', 'pillow', 'rich', 'scikit-image', 'scikit-learn',
    'tensorboardX', 'tifffile',
]
# What is compared with, beside lax and flax. The tests do without torch, which
# is large: they have vectors of it.
PEERS = ['onnx', 'onnxruntime', 'torch']
TEST = [
    *EXPERIMENTS, 'chex', 'flatbuffers', 'hypothesis', 'keras', 'onnx',
    'onnxruntime', 'playwright', 'pytest', 'pytest-xdist', 'safetensors',
]
# What compiles for devices that are not here, beside the compilers themselves:
# `make codegen` installs those of jax's version.
CODEGEN = ['jinja2', 'ml_collections', 'pytest', 'rich']
DEV = [*TEST, 'pyrefly', 'ruff']

setuptools.setup(
    name='tconv',
    version=re.search(
        r"__version__ = '(.+)'",
        (ROOT / 'tconv/__init__.py').read_text(encoding='utf-8')).group(1),
    description='Transposed convolution for JAX',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=setuptools.find_packages(include=['tconv', 'tconv.*']),
    python_requires='>=3.11',
    install_requires=['absl-py', 'flax', 'jax>=0.10', 'optax'],
    extras_require={
        'experiments': EXPERIMENTS, 'peers': PEERS, 'test': TEST, 'dev': DEV,
        'codegen': CODEGEN},
)
