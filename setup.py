"""Installs the tconv package; experiments and configs run from a checkout."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent

# The command `tconv`, and `tconv.audit`.
AUDIT = [
    'imagecodecs', 'jinja2', 'matplotlib', 'onnx', 'onnxruntime',
    'pillow', 'rich', 'safetensors', 'tifffile',
]
# The examples, studies and benchmarks: `make run`, `make bench`.
EXPERIMENTS = [
    'absl-py', 'grain', 'imagecodecs', 'jinja2', 'matplotlib', 'ml_collections',
    'mlxtend', 'optax', 'orbax-checkpoint', 'pillow', 'rich', 'scikit-image',
    'scikit-learn', 'tensorboardX', 'tifffile',
]
# Further baselines of the benchmark, beside lax and flax. The tests do without
# torch, which is large: they keep arrays that it computed.
PEERS = ['onnx', 'onnxruntime', 'torch']
TEST = [
    *EXPERIMENTS, *AUDIT, 'chex', 'flatbuffers', 'hypothesis', 'jsonschema',
    'keras', 'playwright', 'pytest', 'pytest-xdist', 'setuptools>=77',
]
# What compiling for an absent GPU or TPU needs beside the compilers, which
# `make codegen` installs in the versions that match jax.
CODEGEN = ['absl-py', 'jinja2', 'ml_collections', 'pytest', 'rich']
# The documentation site: `make docs`.
DOCS = [
    'furo', 'jupytext', 'latex2mathml', 'matplotlib', 'myst-nb',
    'scikit-image', 'sphinx', 'sphinx-copybutton', 'sphinx-design',
]
DEV = [*TEST, *DOCS, 'pyrefly', 'ruff']

setuptools.setup(
    name='tconv',
    version=re.search(
        r"__version__ = '(.+)'",
        (ROOT / 'tconv/__init__.py').read_text(encoding='utf-8')).group(1),
    description='Transposed convolution for JAX',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license_expression='Apache-2.0',
    author='The tconv authors',
    keywords=[
        'checkerboard artifacts', 'convolution', 'deconvolution',
        'deep learning', 'jax', 'transposed convolution', 'upsampling',
    ],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3 :: Only',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Processing',
        'Typing :: Typed',
    ],
    packages=setuptools.find_packages(include=['tconv', 'tconv.*']),
    package_data={'tconv': ['py.typed', 'audit/*.j2', 'audit/*.json']},
    entry_points={'console_scripts': ['tconv = tconv.audit.cli:main']},
    python_requires='>=3.11',
    install_requires=['flax', 'jax>=0.10.2', 'numpy'],
    extras_require={
        'audit': AUDIT, 'experiments': EXPERIMENTS, 'peers': PEERS,
        'test': TEST, 'docs': DOCS, 'dev': DEV, 'codegen': CODEGEN},
)
