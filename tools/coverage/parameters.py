"""Measures which weights dsd-ort finds, against PyTorch's truth; writes docs/parameters.json and docs/parameters.md.

    python -m tools.coverage.parameters                      all that is not measured yet, by both exporters
    python -m tools.coverage.parameters --only 'timm/vit*'   some, anew
    python -m tools.coverage.parameters --page               only the page, from what is measured

The truth of a network (:mod:`tools.coverage.architectures`) is what PyTorch's autograd says: the ``named_parameters``
that a gradient of the output reaches.  A tensor of the file is one of these if it holds the same numbers, in whatever
order: exporters rename, transpose, reshape, and put several into one; or if a second export has other numbers when
these have moved.  *Recall*: of those that the file holds, how many are trained.  *Precision*: of what is trained, how
much is such a parameter.

Needs PyTorch, torchvision, timm and transformers beside dsd-ort.
"""

from __future__ import annotations

import argparse
import fnmatch
import io
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import onnx
import onnx.external_data_helper
import onnx.numpy_helper
import torch
from torch import nn

import dsd_ort
from dsd_ort.model import source as source_files
from tools.coverage import corpus
from tools.coverage.architectures import Architecture, architectures
from tools.coverage.matching import NOTHING, Array, Matcher, numbers_of

DOCS = Path(__file__).resolve().parents[2] / "docs"
LIMIT = 300
"""Seconds for one network by one exporter."""


class Row(msgspec.Struct):
    """A network by one of the exporters."""

    name: str
    exporter: str
    true: int = 0
    """Parameters that a gradient reaches."""
    trained: int = 0
    """Of these, those that are trained, by themselves or in a tensor that an exporter made of them."""
    missed: list[tuple[str, str]] = []
    """Stored, and not trained: name, and why."""
    numbers: list[str] = []
    """Single numbers, which are listed and not trained unless the recipe includes them."""
    absent: list[str] = []
    """What the exporter has folded into other numbers, so that the file does not hold it."""
    wrong: list[tuple[str, str]] = []
    """Trained, and no such parameter: the file's name, and what it is."""
    refused: str = ""
    """Why dsd-ort does not train the file, where it does not."""
    failed: str = ""
    """Why there is no file to measure."""
    seconds: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Whether it was measured, and recall and precision are 100 %."""
        return not (self.missed or self.wrong or self.failed or self.refused)


class Rows(msgspec.Struct):
    """The content of docs/parameters.json."""

    versions: dict[str, str] = {}
    rows: list[Row] = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=None, metavar="GLOB", help="measure these anew")
    parser.add_argument("--exceptions", action="store_true", help="measure anew what is not 100 %% of those measured")
    parser.add_argument("--exporter", choices=[*corpus.EXPORTERS], default=None, help="by this one only")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--keep", type=Path, default=None, metavar="FOLDER", help="keep the exported files there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = DOCS / "parameters.json"
    rows = msgspec.json.decode(path.read_bytes(), type=Rows) if path.exists() else Rows()
    exporters = [arguments.exporter] if arguments.exporter else corpus.EXPORTERS
    wanted = [] if arguments.page else [(a, exporter) for exporter in exporters for a in architectures()]
    for architecture, exporter in wanted:
        known = [r for r in rows.rows if (r.name, r.exporter) == (architecture.name, exporter)]
        fits = fnmatch.fnmatch(architecture.name, arguments.only or "*")
        asked = bool(known) and not known[0].is_whole if arguments.exceptions else arguments.only or not known
        if not (fits and asked):
            continue
        row = measured(architecture, exporter, arguments.keep)
        rows.rows = [r for r in rows.rows if r not in known] + [row]
        rows.versions = _versions()
        path.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n")
        print(_line(row), flush=True)
    (DOCS / "parameters.md").write_text(page(rows))


def measured(architecture: Architecture, exporter: str, keep: Path | None = None) -> Row:
    """One network by one exporter."""
    row, begun = Row(architecture.name, exporter), time.monotonic()
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(LIMIT)
    try:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            network, example = _exported(architecture, exporter, path)
            if keep is not None:
                place = keep / f"{architecture.name.replace('/', '_')}.{exporter}.onnx"
                onnx.save(onnx.load(path), place)

            def again() -> Mapping[str, Array]:
                _write(network, example, other := Path(folder) / "moved.onnx", exporter)
                return _stored(other)

            judge(row, network, example, path, again)
    except Exception as error:  # whatever an exporter raises is part of the answer
        row.failed = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    finally:
        signal.alarm(0)
    row.seconds = round(time.monotonic() - begun, 1)
    return row


def _too_long(*_: object) -> None:
    raise TimeoutError(f"more than {LIMIT} s")


def _write(network: nn.Module, example: tuple[torch.Tensor, ...], path: Path, exporter: str) -> None:
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        corpus.write(network, example, path, exporter)


def _exported(architecture: Architecture, exporter: str, path: Path) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    network, example = architecture.make()
    _write(network, example, path, exporter)
    return network, example


def judge(
    row: Row,
    network: nn.Module,
    example: Sequence[torch.Tensor],
    path: Path,
    again: Callable[[], Mapping[str, Array]] = dict,
) -> None:
    """Compares what dsd-ort finds in the file at *path* with what reaches *network*'s parameters; fills *row*.

    Exporters compute with parameters too.  What matches none of them is made of them nevertheless if its numbers are in
    no tensor of *again*, another export, when nothing but the parameters has moved.
    """
    output = network(*example)
    (output * torch.randn(output.shape)).sum().backward()
    parameters = {name: p.detach().numpy() for name, p in network.named_parameters() if p.is_floating_point()}
    true = {name for name, p in network.named_parameters() if p.grad is not None and name in parameters}
    buffers = {name: b.numpy() for name, b in network.named_buffers() if b.is_floating_point()}
    tensors = _stored(path)
    source = source_files.load(path)
    found = dsd_ort.inspect(path)
    row.refused = "" if found.trainable else found.refusals[0].what
    matcher = Matcher(parameters, buffers)
    covered: set[str] = set()
    folded: set[str] = set()
    for p in source.parameters:
        names = matcher.of(tensors[p.name])
        good = [name for name in names if name in true]
        covered.update(good)
        if good and len(p.shape) > 1 and np.isin(tensors[p.name], parameters[good[0]]).mean() < 0.5:
            folded.add(p.layer)
        if not good and not (not names and p.layer in folded):  # the bias of a convolution that has a batch norm in it
            row.wrong.append((p.name, matcher.what(names, tensors[p.name], true)))
    held = {name for value in tensors.values() for name in matcher.of(value)}
    constants = [c for c in source.constants if c.parameter.name in tensors]  # others are computed: ConstantOfShape
    why = {name: c.why for c in constants for name in matcher.of(tensors[c.parameter.name])}
    row.true, row.trained = len(true), len(covered)
    for name in sorted(true - covered):
        if name not in held:
            row.absent.append(name)
        elif parameters[name].size == 1:
            row.numbers.append(name)
        else:
            row.missed.append((name, why.get(name, "no gradient arrives")))
    # Last, as the matcher sees the numbers that move here.
    if any(what.startswith(NOTHING) for _, what in row.wrong):
        _move(p for name, p in network.named_parameters() if name in true)
        still = {numbers_of(value) for value in again().values()}
        row.wrong = [(name, what) for name, what in row.wrong if not still or numbers_of(tensors[name]) in still]


def _move(parameters: Iterable[nn.Parameter]) -> None:
    """Each entry by some hundredths of its size, in place."""
    with torch.no_grad():
        for p in parameters:
            p.add_(0.03 * (p.abs() + 0.03) * torch.randn(p.shape))


def _stored(path: Path) -> dict[str, Array]:
    """Every floating-point tensor of the file, by the value that it is stored for."""
    graph = onnx.load(path).graph
    found = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            found[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return {name: value for name, value in found.items() if value.dtype.kind == "f"}


ABOUT = """\
# Which weights are found

Measured by `python -m tools.coverage.parameters`, which writes this page; `docs/parameters.json` has every name.

The networks are other people's, small, with random weights that are moved off what they begin with. The truth is
PyTorch's: the `named_parameters` that a gradient of the output reaches. *Recall* is the share of those that the file
holds and dsd-ort trains; *precision* the share of what it trains that is made of them. What is in neither:

- *folded*: numbers that the exporter has computed into others, such as a batch norm's into the convolution in front of
  it, so that the file does not hold them;
- *single numbers*: a temperature, an exponent, a gate. `inspect`, `check` and `prepare` list them, and
  `parameters.include` has them trained.
"""


EXPLAINED = {
    "few numbers again and again": "a learned table that the exporter has looked up for good: its entries are repeated",
    "all ones": "the scale that a norm does not have is written as ones: one that was not trained yet looks the same",
    "rotary_emb.inv_freq": "two numbers, as the small configuration has no more: no rule tells such from learned ones",
    "embeddings.position_embeddings": "a table of zeros that the network does not train: a new one looks the same",
}
"""A part of a name → why a tensor is trained that should not be."""


def page(rows: Rows) -> str:
    """docs/parameters.md."""
    measured = [row for row in rows.rows if not row.failed]
    networks = {row.name for row in measured}
    whole = [row for row in measured if not row.missed and not row.wrong]
    trained, true = sum(r.trained for r in measured), sum(r.trained + len(r.missed) for r in measured)
    wrong = sum(len(r.wrong) for r in measured)
    versions = ", ".join(f"{name} {version}" for name, version in rows.versions.items())
    lines = [
        ABOUT,
        f"{len(networks)} networks, {len(measured)} files ({versions}): {trained:,} of {true:,} parameters are "
        f"trained, and {wrong} tensors that are none; both are 100 % for {len(whole)} files. "
        f"{sum(bool(r.refused) for r in measured)} files are refused as a whole.",
        "",
        "| network | exporter | parameters | recall | precision | folded | single numbers | what is not so |",
        "|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for row in sorted(measured, key=lambda row: (row.name, row.exporter)):
        recall = _percent(row.trained, row.trained + len(row.missed))
        precision = _percent(row.trained, row.trained + len(row.wrong))
        cells = [row.name, row.exporter, f"{row.true}", recall, precision, f"{len(row.absent) or ''}"]
        lines.append(f"| {' | '.join([*cells, f'{len(row.numbers) or chr(32)}'.strip(), _exceptions(row)])} |")
    if failed := [row for row in rows.rows if row.failed]:
        lines += ["", "Not measured, as there is no file, or no answer of PyTorch's:", ""]
        lines += [f"- {row.name}, {row.exporter}: {row.failed[:160]}" for row in failed]
    return "\n".join(lines) + "\n"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.4g} %" if whole else "–"


def _exceptions(row: Row) -> str:
    """What is missed or wrong, a reason each."""
    whys = Counter(why for _, why in row.missed)
    found = [f"{count} not trained: {why}{_explained(why)}" for why, count in whys.items()]
    found += [f"{name}: {what}{_explained(what)}" for name, what in row.wrong[:3]]
    found += [f"refused: {row.refused[:100]}"] if row.refused else []
    return "; ".join(found)


def _explained(what: str) -> str:
    return next((f" ({words})" for name, words in EXPLAINED.items() if name in what), "")


def _line(row: Row) -> str:
    if row.failed:
        return f"{row.name} {row.exporter}: {row.failed} ({row.seconds:.0f} s)"
    parts = f"{row.trained} of {row.true}, {len(row.absent)} folded, {len(row.numbers)} numbers, {len(row.wrong)} wrong"
    return f"{row.name} {row.exporter}: {parts} {_exceptions(row)} ({row.seconds:.0f} s)"


def _versions() -> dict[str, str]:
    """Of the packages that networks and files come from."""
    import timm
    import torchvision
    import transformers

    return {module.__name__: str(module.__version__) for module in (torch, torchvision, timm, transformers, onnx)}


if __name__ == "__main__":
    sys.exit(main())
