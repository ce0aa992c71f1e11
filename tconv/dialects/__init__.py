"""Transposed convolution as others have it, argument names and all."""

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
