"""Six ways to compute a transposed convolution, one file each.

A form is a module with a function `conv_transpose(y, kernel, geometry, *,
precision, preferred_element_type)`. All arrays are channels last. A form may
also have its own `conv` and `conv_kernel_grad`; where it has none, `dispatch`
takes the transpose of its `conv_transpose`.
"""
