"""Compares what kernels predict with what a model does on probes.

Three questions are asked of each upsampler. Could its kernel paint a grid:
`rho`, of the kernel alone, which says little, because training balances the
channels at the means that occur. Does it: the pattern in its result, predicted
from the kernel and measured. Does it matter: the part of the final pattern that
goes away when the layer alone is made clean.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import math
from typing import Any

from tconv.audit import evidence
from tconv.audit import metrics
from tconv.audit import model as model_lib
from tconv.audit import outputs
from tconv.audit import probe as probe_lib
from tconv.audit import verdicts


@dataclasses.dataclass
class Audit:
  """The result of an audit, with what a repair and a page need of it.

  Attributes:
    report: the report, as `tconv/audit/schema.json` describes it.
    layers: what was found about each upsampler.
    probes: the probes.
    output: name of the main output, or None if none has spatial axes.
    white: value of white in the main output.
  """
  report: dict[str, Any]
  layers: list[evidence.Layer]
  probes: Sequence[probe_lib.Probe]
  output: str | None
  white: float


def audit(model: model_lib.Model, probes: Sequence[probe_lib.Probe],
          progress: Callable[[str], None] = lambda text: None) -> Audit:
  """Audits a model.

  Args:
    model: the model.
    probes: what to run it on, from `probe.probes`.
    progress: function that is told what is being done.

  Returns:
    The audit.

  Raises:
    AuditError: the model does not run on a probe.
  """
  layers = [evidence.Layer(layer) for layer in model.upsamplers]
  by_name = {found.layer.name: found for found in layers}
  output, seen = None, []
  for one in probes:
    progress(f'running on {one.name}')
    run = model.run(one.feeds)
    if output is None and run.outputs:
      output = max(run.outputs, key=lambda n, run=run: run.outputs[n].size)
    final = run.outputs.get(output) if output else None
    seen.append(final)
    for name, before in run.before.items():
      evidence.look(by_name[name], before, run.after[name], final, one.kind)
  white = outputs.white_of([x for x, one in zip(seen, probes) if x is not None
                  and (one.kind != 'noise' or len(probes) == 1)])
  levels = metrics.LEVELS / white
  period = outputs.common_period(found.period for found in layers)

  flat = [i for i, one in enumerate(probes) if one.kind == 'flat']
  powers = {i: outputs.power(seen[i], period) for i in flat}
  for found in layers:
    if not found.period:
      continue
    equal, without = found.clean, None
    if equal is not None:
      progress(f'knocking out {found.layer.name}')
      without = model.replaced({found.layer.name: equal})
      _knock_out(found, without, probes, powers, output, period, levels)
    for one, final in zip(probes, seen):
      if output and one.reference is not None and final is not None:
        found.lines += outputs.lines(
            final, one.reference, found.period, white,
            without.run(one.feeds).outputs[output] if without else None)

  report = verdicts.report_of(
      model.name, layers, model.unknown,
      [verdicts.probe_row(one, final, period, white)
       for one, final in zip(probes, seen)], model.versions)
  return Audit(report, layers, probes, output, white)


def of_kernels(name: str, upsamplers: Sequence[model_lib.Upsampler],
               versions: Mapping[str, str]) -> dict[str, Any]:
  """The report on kernels without a model: only what they could do.

  Args:
    name: what to call the file that they are from.
    upsamplers: layers with weights, whose obstacle tells that there is no
      model.
    versions: version of each format and library that matters, by name.

  Returns:
    The report.
  """
  layers = [evidence.Layer(each) for each in upsamplers]
  return verdicts.report_of(name, layers, (), [], versions)


def _knock_out(found, without, probes, powers, output, period, levels):
  """Measures the final pattern on flat fields without one layer's part."""
  best = 0.
  for i, power in powers.items():
    final = without.run(probes[i].feeds).outputs[output]
    gone = max(0., power - outputs.power(final, period))
    found.parts.append(levels * math.sqrt(gone))
    if gone >= best and power > 0:
      best, found.share = gone, min(1., gone / power)
