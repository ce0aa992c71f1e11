"""The forms: nine ways to compute the three operations, one module each.

Seven forms are general: `vjp` (the definition), `matrix` (C^T written out),
`lax` (the platform's own transposed convolution), `zero_insertion` (the
textbook picture), `polyphase`, `overlap_add` and `taps`. Two are for particular
compilers: `cudnn` makes XLA call the convolutions of that library, and
`residues` avoids dilated kernels.

Every form keeps one contract, so that `dispatch` can choose any of them. It has
the first of these functions, and may have the other two::

    conv_transpose(y, kernel, geometry, *, precision, preferred_element_type)
    conv(x, kernel, geometry, *, precision, preferred_element_type)
    conv_kernel_grad(x, y, geometry, *, precision, preferred_element_type)

Here, x is [N, *fine, C], y is [N, *coarse, O], and the kernel is that of the
forward convolution, [*K, C / groups, O]. `geometry` has the sizes that relate
the two grids, with 0 <= padding < k_eff. `precision` is that of the products,
as in `jax.lax.dot_general`. `preferred_element_type` is the dtype of the
accumulation and of the result; None stands for the dtype of the first array.
Some forms have further options, which their module docstrings describe.

`dispatch` derives a missing function by transposing `conv_transpose`, which is
linear in both of its arrays.
"""
