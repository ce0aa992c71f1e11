"""Nine ways to compute a transposed convolution, one file each.

Seven of them are good to know: `vjp` (the definition), `matrix` (C^T written
out), `lax` (the platform's own), `zero_insertion` (the textbook picture),
`polyphase`, `overlap_add` and `taps`. Two more say the same to particular
compilers: `cudnn` asks XLA for the calls of that library, and `residues` does
without dilated kernels.

A form is a module with a function `conv_transpose(y, kernel, geometry, *,
precision, preferred_element_type)`:

  y: [N, *coarse, O] array.
  kernel: [*K, C / groups, O] kernel of the forward convolution.
  geometry: sizes that relate the two grids, with 0 <= padding < k_eff.
  precision: precision of products, as in `jax.lax.dot_general`.
  preferred_element_type: dtype to accumulate in and to return.

It returns an [N, *fine, C] array. A form may also have its own `conv(x, kernel,
...)`, which returns [N, *coarse, O], and `conv_kernel_grad(x, y, ...)`, which
returns [*K, C / groups, O]; where it has none, `dispatch` takes the transpose
of its `conv_transpose`.
"""
