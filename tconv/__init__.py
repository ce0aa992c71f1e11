"""tconv: transposed convolution for JAX, complete, equal to everybody's, fast."""

from tconv.operations import conv
from tconv.operations import conv_kernel_grad
from tconv.operations import conv_matrix
from tconv.operations import conv_transpose
