"""Transposed convolutions and kernels of PyTorch, ONNX, Keras, lax and Flax.

Each function has the argument names, the defaults and the values of its
original. The converters translate kernels to tconv's layout and back.
"""

from tconv.dialects.keras import keras_conv_transpose
from tconv.dialects.keras import kernel_from_keras
from tconv.dialects.keras import kernel_to_keras
from tconv.dialects.lax import kernel_from_flax
from tconv.dialects.lax import kernel_to_flax
from tconv.dialects.lax import lax_conv_transpose
from tconv.dialects.onnx import kernel_from_onnx
from tconv.dialects.onnx import kernel_to_onnx
from tconv.dialects.onnx import onnx_conv_transpose
from tconv.dialects.torch import kernel_from_torch
from tconv.dialects.torch import kernel_to_torch
from tconv.dialects.torch import torch_conv_transpose
