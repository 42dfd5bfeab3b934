"""What the commands print: tables for people, plain data for ``--json``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from dsd_ort.cli.progress import format_metrics
from dsd_ort.graph.program import Program
from dsd_ort.graph.source import Source
from dsd_ort.graph.verify import Verdict
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


def inspection_data(source: Source) -> dict[str, Any]:
    total = sum(p.size for p in source.parameters)
    return {
        "model": str(source.path),
        "digest": source.digest,
        "parameters": total,
        "prunable": sum(p.size for p in source.parameters if p.prunable),
        "tensors": [
            {
                "name": p.name,
                "shape": list(p.shape),
                "role": p.role,
                "layer": p.layer,
                "storage": p.storage,
                "share": p.size / total if total else 0.0,
                "prunable": p.prunable and not p.first_conv,
                "aliases": list(p.aliases),
            }
            for p in (*source.parameters, *source.statistics)
        ],
    }


def show_inspection(source: Source) -> None:
    data = inspection_data(source)
    rows = [
        [
            tensor["name"],
            "×".join(map(str, tensor["shape"])) or "scalar",
            tensor["role"],
            tensor["layer"],
            "" if tensor["role"] == "statistic" else f"{100 * tensor['share']:.1f} %",
            "yes" if tensor["prunable"] else "",
        ]
        for tensor in data["tensors"]
    ]
    columns = {
        "parameter": "left",
        "shape": "left",
        "role": "left",
        "layer": "left",
        "share": "right",
        "pruned": "left",
    }
    show(f"{source.path.name}: {data['parameters']:,} parameters", columns, rows)


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
    rewrites = Counter(note.partition(": ")[2] for note in data["notes"])
    for rewrite, nodes in rewrites.items():
        click.echo(f"  for training, {nodes} {'node' if nodes == 1 else 'nodes'}: {rewrite}")
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


def show_verdict(verdict: Verdict, final: Path) -> None:
    if not verdict.same:
        click.echo(f"{final} is not the same graph:")
        for reason in verdict.reasons:
            click.echo(f"  {reason}")
        return
    changed = [tensor for tensor in verdict.changed if tensor.share > 0]
    click.echo(f"{final} is the same graph: {len(changed)} tensors have other values, and nothing else differs")
    for name in verdict.initialized:
        click.echo(f"  {name}: its ConstantOfShape node became an initializer")
