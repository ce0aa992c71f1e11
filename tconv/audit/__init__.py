"""Finds the upsamplers of trained models that paint checkerboards.

    tconv audit model.onnx --inputs 'photos/*.png' --html report.html
    tconv audit weights.safetensors --layer up.0.weight:2
    tconv repair model.onnx -o repaired.onnx --inputs 'photos/*.png'
    tconv measure 'outputs/*.png' --period 2

In Python, `inspect` audits a JAX function. An audit reads a model
(`model.Model`), runs it on probes, and compares the pattern that each kernel
predicts with what is measured in the activations and in the output.
docs/audit.md explains the results. `tconv measure` needs no model: it measures
patterns in images.
"""

from collections.abc import Callable
from typing import Any


def inspect(fn: Callable[..., Any], *args: Any) -> dict[str, Any]:
  """Audits a JAX function: which of its upsamplers paint checkerboards?

  The function runs on flat fields and on the last argument. Each upsampler's
  kernel predicts a pattern from the means of its inputs, which is compared with
  the one that is measured. Then each layer in turn is made clean, to see which
  part of the final pattern goes away.

  Args:
    fn: function that JAX can trace. It must not change its arguments: pass a
      model of `flax.nnx` after `model.eval()`.
    *args: its arguments. The last one is the [N, *size, C] input, and the
      others are fixed. A `jax.ShapeDtypeStruct` stands for any input.

  Returns:
    The report, a dict of plain values that `tconv/audit/schema.json` describes.
    `tconv.audit.report` writes it as a table or as JSON.

  Raises:
    ValueError: `fn` is not a function, or `args` do not end with an array.
    AuditError: the function cannot be traced, or does not run on the probes.

  Example:
    >>> kernel = jnp.array([1., 5., 2.]).reshape(3, 1, 1)
    >>> signal = jax.random.uniform(jax.random.key(0), (1, 64, 1))
    >>> report = tconv.audit.inspect(
    ...     lambda x: tconv.conv_transpose(x, kernel, 2), signal)
    >>> [layer] = report['upsamplers']
    >>> layer['op'], layer['period'], layer['verdict']
    ('ConvTranspose', [2], 'error')
  """
  from tconv.audit import findings
  from tconv.audit import jax_model
  from tconv.audit import probe
  model = jax_model.JaxModel(fn, *args)
  probes = probe.probes(model)
  given = probe.from_array(model, args[-1])
  if given is not None:
    probes = [one for one in probes if one.kind == 'flat'] + [given]
  return findings.audit(model, probes).report
