"""What the commands print: tables for people, plain data for ``--json``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
from rich.console import Console
from rich.table import Table

from dsd_ort.cli.progress import format_metrics
from dsd_ort.errors import merged
from dsd_ort.graph.inspection import Inspection, Tensor, TrainingGraph
from dsd_ort.graph.program import Program
from dsd_ort.graph.verify import Verdict as Verified
from dsd_ort.proof import Report
from dsd_ort.proof.report import Verdict
from dsd_ort.recipe import Optimizer
from dsd_ort.run.journal import Event


def show(title: str, columns: dict[str, str], rows: list[list[str]]) -> None:
    """A table on standard output; *columns* maps a heading to ``left`` or ``right``."""
    table = Table(title=title or None, title_justify="left", title_style="bold")
    for heading, side in columns.items():
        table.add_column(heading, justify="right" if side == "right" else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(soft_wrap=False, emoji=False)
    if not console.is_terminal:
        console.width = 120
    console.print(table, markup=False)


def inspection_data(found: Inspection) -> dict[str, Any]:
    """All that is known, without reading a weight; ``tensors`` are parameters, then statistics."""
    total = sum(p.size for p in found.parameters)
    return {
        "model": str(found.path),
        "trainable": found.trainable,
        "parameters": total,
        "prunable": sum(p.size for p in found.parameters if p.name in found.pruned),
        "ir_version": found.ir_version,
        "opsets": dict(found.opsets),
        "producer": found.producer,
        "inputs": [_tensor_data(tensor) for tensor in found.inputs],
        "outputs": [_tensor_data(tensor) for tensor in found.outputs],
        "constants": [_tensor_data(tensor) for tensor in found.constants],
        "loss": None if found.loss is None else {"name": found.loss.name, "output": found.loss.output},
        "rewrites": [{"node": rewrite.node, "what": rewrite.what} for rewrite in found.rewrites],
        "refusals": [{"what": error.what, "where": error.where, "fix": error.fix} for error in found.refusals],
        "training_graph": None if found.training_graph is None else _training_graph_data(found.training_graph),
        "tensors": [
            {
                "name": p.name,
                "shape": list(p.shape),
                "type": p.dtype,
                "role": p.role,
                "layer": p.layer,
                "storage": p.storage,
                "share": p.size / total if p.role != "statistic" else 0.0,
                "prunable": p.name in found.pruned,
                "aliases": list(p.aliases),
            }
            for p in (*found.parameters, *found.statistics)
        ],
    }


def _training_graph_data(graph: TrainingGraph) -> dict[str, Any]:
    return {
        "labels": list(graph.labels),
        "gradients": sorted(graph.gradients),
        "optimizer": None if graph.optimizer is None else msgspec.to_builtins(graph.optimizer),
    }


def _tensor_data(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "type": tensor.dtype, "shape": None if tensor.shape is None else list(tensor.shape)}


def show_inspection(found: Inspection, *, verbose: bool = False) -> None:
    """The parameters by layer, the signature, and what training makes of it; *verbose* names every node."""
    data = inspection_data(found)
    if data["tensors"]:
        _show_parameters(found, data)
    versions = ", ".join(f"{domain or 'opset'} {version}" for domain, version in data["opsets"].items())
    by = f", made by {found.producer}" if found.producer else ""
    click.echo(f"{found.path.name}: {versions}, IR version {found.ir_version}{by}")
    for kind, tensors in (("input", found.inputs), ("output", found.outputs)):
        for tensor in tensors:
            read = ""
            if kind == "output" and found.training_graph is not None:
                read = "   ← its own loss reads it"
            elif kind == "output" and found.loss is not None and tensor.name == found.loss.output:
                read = f"   ← a loss reads it; {found.loss.name} fits" + _how_to_choose(found)
            click.echo(f"  {kind} {tensor.name!r}: {tensor.dtype} {_sizes(tensor.shape)}{read}")
    if found.training_graph is not None:
        _show_training_graph(found, found.training_graph)
    _show_constants(found, verbose)
    if found.trainable:
        _show_rewrites(found, verbose)
        click.echo(f"next: dsd-ort check {found.path}   proves that it trains")
    else:
        _show_refusals(found)
        if found.rewrites:
            click.echo("what else training rewrites in it:")
            _show_rewrites(found, verbose)


def _show_constants(found: Inspection, verbose: bool) -> None:
    """What is stored and not trained, so that a weight among it does not go unnoticed."""
    sizes = {tensor: math.prod(int(n or 1) for n in tensor.shape or ()) for tensor in found.constants}
    if not sizes:
        return
    largest = sorted(sizes, key=lambda tensor: -sizes[tensor])
    count = f"{len(sizes)} {'tensor' if len(sizes) == 1 else 'tensors'}, {sum(sizes.values()):,} numbers"
    click.echo(f"  stored where no weights sit, and not trained: {count}")
    for tensor in largest if verbose else largest[:3]:
        click.echo(f"    {tensor.name!r}: {tensor.dtype} {_sizes(tensor.shape)}")
    if not verbose and len(largest) > 3:
        click.echo("    … (-v names all)")


def _show_training_graph(found: Inspection, graph: TrainingGraph) -> None:
    """What it brings of its own: loss, optimizer, gradients."""
    without = [p.name for p in found.parameters if p.name not in graph.gradients]
    rest = f"; none for {', '.join(without)}" if without else ""
    click.echo("  it is a training graph of ONNX Runtime's own exporter, which is taken as it stands:")
    click.echo(f"    loss: its own, with {', '.join(map(repr, graph.labels)) or 'no label'}")
    click.echo(f"    gradients: for {len(graph.gradients)} of {len(found.parameters)} parameters{rest}")
    click.echo(f"    optimizer: {_optimizer(graph)}")


def _optimizer(graph: TrainingGraph) -> str:
    if graph.optimizer is None:
        return "none; a recipe says which"
    settings = msgspec.to_builtins(graph.optimizer)
    name = settings.pop("name")
    default = msgspec.to_builtins(Optimizer(name=name))
    return ", ".join([name, *(f"{k} {v}" for k, v in settings.items() if v != default[k])])


def _show_parameters(found: Inspection, data: dict[str, Any]) -> None:
    rows, layer = [], ""
    for tensor in data["tensors"]:
        rows.append(
            [
                tensor["layer"] if tensor["layer"] != layer else "",
                tensor["name"],
                tensor["role"],
                "×".join(map(str, tensor["shape"])) or "scalar",
                tensor["type"] if tensor["type"] != "float" else "",
                "" if tensor["role"] == "statistic" else f"{100 * tensor['share']:.1f} %",
                "yes" if tensor["prunable"] else "",
            ]
        )
        layer = tensor["layer"]
    columns = {
        "layer": "left",
        "parameter": "left",
        "role": "left",
        "shape": "left",
        "type": "left",
        "share": "right",
        "pruned": "left",
    }
    if all(not row[4] for row in rows):
        del columns["type"]
        rows = [row[:4] + row[5:] for row in rows]
    show(f"{found.path.name}: {data['parameters']:,} parameters", columns, rows)
    click.echo(f"{data['prunable']:,} of the {data['parameters']:,} are in tensors that a sparse phase prunes")


def _how_to_choose(found: Inspection) -> str:
    return " (choose another with --output)" if len(found.outputs) > 1 else ""


def _sizes(shape: tuple[int | str | None, ...] | None) -> str:
    if shape is None:
        return "of unknown rank"
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def _show_rewrites(found: Inspection, verbose: bool) -> None:
    if not found.rewrites:
        click.echo("  for training, nothing is rewritten")
    if verbose:
        for rewrite in found.rewrites:
            click.echo(f"  for training, {rewrite.node}: {rewrite.what}")
        return
    show_rewrites(rewrite.what for rewrite in found.rewrites)


def show_rewrites(kinds: Iterable[str]) -> None:
    """How many nodes are rewritten in which way."""
    for kind, nodes in Counter(kinds).items():
        click.echo(f"  for training, {nodes} {'node' if nodes == 1 else 'nodes'}: {kind}")


def _show_refusals(found: Inspection) -> None:
    errors = merged(found.refusals)
    reasons = f"{len(errors)} {'reason' if len(errors) == 1 else 'reasons'}"
    click.echo(f"{found.path.name} cannot be trained as it is, for {reasons}:")
    for error in errors:
        click.echo("\n".join(f"  {line}" for line in str(error).splitlines()))


REPORT_COLUMNS = {
    "gradient": "left",
    "batch norm": "left",
    "tensors": "right",
    "‖gradient‖": "right",
    "error": "right",
    "reference": "left",
    "verdict": "left",
}


def show_report(report: Report) -> None:
    """The table of gradients, the lines behind it, and the answer."""
    rows = [
        [
            row.group,
            "running" if row.mode == "inference" else "of the batch",
            str(len(row.tensors)),
            f"{row.norm:.2e}",
            f"{row.error:.0e}",
            row.reference,
            row.verdict.upper() if row.verdict == "wrong" else row.verdict + (f" ({row.note})" if row.note else ""),
        ]
        for row in report.rows
    ]
    show(f"{Path(report.model).name}: gradients, error relative to ‖gradient‖", REPORT_COLUMNS, rows)
    for line in report.lines:
        click.echo(f"{'ok   ' if line.passed else 'WRONG'} {line.what}: {line.text}")
    inputs = ", ".join(f"{name} {what}" for name, what in report.inputs.items())
    click.echo(f"{report.loss} at output {report.output!r}; {report.data}: {inputs}")
    for note in report.notes:
        click.echo(f"note: {note}")
    counts = {verdict: report.count(verdict) for verdict in get_args(Verdict)}
    found = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    answer = "trains" if report.ok else "is NOT proven to train"
    if report.ok and report.proven < 1:
        answer += f", by {100 * report.proven:.0f} % of its gradients"
    click.echo(f"{Path(report.model).name} {answer}: {found} gradients, {report.seconds:.0f} s")


def program_data(program: Program) -> dict[str, Any]:
    manifest = program.manifest
    return {
        "run": str(program.folder),
        "digest": program.digest,
        "parameters": sum(p.size for p in manifest.parameters),
        "trained": sum(p.size for p in manifest.trained),
        "prunable": sum(p.size for p in manifest.prunable),
        "inputs": {f.name: [f.dtype, list(f.shape)] for f in manifest.inputs},
        "labels": {f.name: [f.dtype, list(f.shape)] for f in manifest.labels},
        "notes": manifest.notes,
    }


def show_program(program: Program) -> None:
    data = program_data(program)
    click.echo(f"prepared {program.manifest.model} in {program.folder}")
    click.echo(
        f"  {data['parameters']:,} parameters, {data['trained']:,} trained, {data['prunable']:,} of them may be pruned"
    )
    for kind in ("inputs", "labels"):
        for name, (dtype, shape) in data[kind].items():
            sizes = ", ".join("?" if size is None else str(size) for size in shape)
            click.echo(f"  {'label' if kind == 'labels' else 'input'} {name!r}: {dtype} [{sizes}]")
    show_rewrites(note.partition(": ")[2] for note in data["notes"])
    click.echo(f"next: dsd-ort train {program.folder} --data DATA")


def phase_rows(events: list[Event]) -> list[list[str]]:
    return [
        [
            f"{event['phase']} {event['kind']}",
            format_metrics(event["metrics"]) or "(no evaluation data)",
            f"{100 * event['density']:.1f} %",
            f"{event['seconds']:.1f}",
        ]
        for event in events
    ]


PHASE_COLUMNS = {"phase": "left", "at its end": "left", "non-zero weights": "right", "seconds": "right"}


def show_phases(events: list[Event]) -> None:
    show("", PHASE_COLUMNS, phase_rows(events))


def show_metrics(metrics: dict[str, float]) -> None:
    click.echo(format_metrics(metrics))


def show_verdict(verdict: Verified, final: Path) -> None:
    if not verdict.same:
        click.echo(f"{final} is not the same graph:")
        for reason in verdict.reasons:
            click.echo(f"  {reason}")
        return
    changed = [tensor for tensor in verdict.changed if tensor.share > 0]
    click.echo(f"{final} is the same graph: {len(changed)} tensors have other values, and nothing else differs")
    for name in verdict.initialized:
        click.echo(f"  {name}: its ConstantOfShape node became an initializer")
