"""What the commands print: tables for people, plain data for ``--json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from dsd_ort.cli.numbers import format_column, format_metrics, format_value, heading
from dsd_ort.cli.progress import duration
from dsd_ort.notes import Note
from dsd_ort.recipe.names import PERCENTAGES
from dsd_ort.run.journal import AS_IT_CAME, Event

if TYPE_CHECKING:  # what is shown is imported by what makes it
    from dsd_ort.api.comparison.answer import Row
    from dsd_ort.api.comparison.document import Rung
    from dsd_ort.api.progress import Status
    from dsd_ort.graph.program import Program
    from dsd_ort.proof import Report
    from dsd_ort.recipe import Recipe, Schedule
    from dsd_ort.ship.verify import Verdict as Verified
    from dsd_ort.statistics import Paired


WIDTH = 132
"""Columns of a table that nobody's terminal limits."""


def show(title: str, columns: dict[str, str], rows: list[list[str]], *, stderr: bool = False) -> None:
    """A table on standard output, or error; *columns* maps a heading to ``left`` or ``right``."""
    table = Table(title=title or None, title_justify="left", title_style="bold")
    for name, side in columns.items():
        table.add_column(name, justify="right" if side == "right" else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(soft_wrap=False, emoji=False, markup=False, stderr=stderr)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table)


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
    found = ", ".join(f"{count} {verdict}" for verdict, count in report.counts.items() if count)
    answer = "trains" if report.ok else "is NOT proven to train"
    if report.ok and report.proven < 1:
        answer += f", by {100 * report.proven:.0f} % of its gradients"
    click.echo(f"{Path(report.model).name} {answer}: {found} gradients, {report.seconds:.0f} s")


def show_notes(notes: Sequence[Note], *, verbose: bool = False) -> None:
    """How many nodes are rewritten in which way, or, if *verbose*, which; then what else there is to tell."""
    rewrites = [note for note in notes if note.kind == "rewrite"]
    if verbose:
        lines = [f"{note.node}: {note.words}" for note in rewrites]
    else:
        nodes = Counter(note.words for note in rewrites)
        lines = [f"{count} {'node' if count == 1 else 'nodes'}: {words}" for words, count in nodes.items()]
    for line in lines:
        click.echo(f"  for training, {line}")
    for note in notes:
        if note.kind != "rewrite":
            click.echo(f"  note: {note.words}")


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
        "losses": [[loss.name, output] for loss, output in zip(program.recipe.losses, manifest.outputs, strict=False)],
        "notes": msgspec.to_builtins(program.notes),
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
    for name, output in data["losses"]:
        click.echo(f"  loss {name} at output {output!r}")
    show_notes(program.notes)
    show_plan(program.recipe)


PLAN_COLUMNS = {"phase": "left", "sparsity": "right", "length": "right", "learning rate": "left"}


def show_plan(recipe: Recipe) -> None:
    """What training will do."""
    rows = [
        [
            f"{number} {phase.kind}",
            "" if phase.sparsity is None else f"{100 * phase.sparsity:g} %",
            f"{phase.epochs:g} epochs" if phase.epochs is not None else f"{phase.steps:,} updates",
            _rate(phase.schedule) + (", without the suspects" if phase.drop_suspects else ""),
        ]
        for number, phase in enumerate(recipe.phase, 1)
    ]
    show(f"What train will do: {_optimizer(recipe)}, batches of {recipe.batch_size}", PLAN_COLUMNS, rows)


def _optimizer(recipe: Recipe) -> str:
    chosen = recipe.optimizer
    decay = f", weight decay {chosen.weight_decay:g}" if chosen.weight_decay else ""
    momentum = f", momentum {chosen.momentum:g}" if chosen.name == "sgd" and chosen.momentum else ""
    return f"{chosen.name}{momentum}{decay}"


def _rate(schedule: Schedule) -> str:
    text = f"{schedule.initial:g}"
    if schedule.schedule == "step":
        text += f", times {schedule.factor:g} every {schedule.every:g} epochs"
    if schedule.schedule == "cosine":
        text += f" to {schedule.final:g}, cosine"
    return text + (f", {schedule.warmup} updates of warmup" if schedule.warmup else "")


def show_status(found: Status) -> None:
    """How far a run is."""
    rows = [
        [
            f"{phase.number} {phase.kind}",
            "" if phase.sparsity is None else f"{100 * phase.sparsity:g} %",
            "complete" if phase.complete else "" if not phase.of else f"{phase.done:,} of {phase.of:,} updates",
            format_metrics(phase.metrics),
        ]
        for phase in found.phases
    ]
    columns = {"phase": "left", "sparsity": "right", "done": "left", "last evaluation": "left"}
    show(f"{found.model} in {found.run}: {found.state}", columns, rows)
    if found.loss is not None and found.state != "complete":
        click.echo(
            f"loss {found.loss:.4g}, learning rate {found.learning_rate:g}, {found.examples_per_second:g} examples/s"
        )
    if found.seconds_left is not None:
        click.echo(f"about {duration(found.seconds_left)} of training left")
    if (since := found.since_checkpoint) is not None:
        click.echo(f"saved {duration(since)} ago")
    for text in found.remarks:
        click.echo(f"note: {text}")
    again = {"new": "", "stopped": " --resume"}
    if found.state in again:
        click.echo(f"next: dsd-ort train {found.run} --data DATA{again[found.state]}")
    elif found.state == "complete":
        click.echo(f"next: dsd-ort export {found.run} -o final.onnx")


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


def show_phases(events: list[Event], came: dict[str, float]) -> None:
    """The phases of a run, under what the model measured as it came, if it was measured."""
    first = [[AS_IT_CAME, format_metrics(came), "", ""]] if came else []
    rows, columns = first + phase_rows(events), PHASE_COLUMNS
    if skipped := [str(event["skipped"]) for event in events if "skipped" in event]:
        columns = {**columns, "skipped": "right"}
        counts = [""] * (len(rows) - len(skipped)) + skipped
        rows = [[*row, count] for row, count in zip(rows, counts, strict=True)]
    show("", columns, rows)


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
    for name in verdict.data:
        also = ", which the model it was made from reads too" if name in verdict.shared else ""
        click.echo(f"  it goes together with {name}{also}")


def show_ladder(ladder: Sequence[Rung], best: Rung, monitor: str) -> None:
    """What short sparse phases gave."""
    rows = [
        [
            ("dense" if not rung.sparsity else f"{100 * rung.sparsity:g} %") + (" *" if rung == best else ""),
            format_value(monitor, rung.selection[monitor]) if monitor in rung.selection else "not finite",
            "" if rung.fit is None else f"{100 * rung.fit:.1f} %",
        ]
        for rung in ladder
    ]
    columns = {"sparsity": "left", f"{monitor}, selection": "right", "fits the training labels": "right"}
    show("Short sparse phases", columns, rows)


def show_arms(rows: Sequence[Row], monitor: str, title: str) -> None:
    """What the arms of an experiment measure; the best of a column is marked."""
    shown = [name for name in dict.fromkeys((monitor, "loss")) if name in rows[0].evaluation]
    measured = [format_column(name, [row.evaluation.get(name) for row in rows]) for name in shown]
    columns = {
        "arm": "left",
        "seeds": "right",
        f"{heading(monitor)} chosen by": "right",
        **dict.fromkeys(map(heading, shown), "right"),
        "less dense only's (95 %)": "left",
        "seconds": "right",
    }
    cells = zip(
        [row.title for row in rows],
        [str(row.seeds or "") + (f" ({row.diverged} diverged)" if row.diverged else "") for row in rows],
        format_column(monitor, [row.selection.get(monitor) for row in rows]),
        *measured,
        ["" if row.against is None else _difference(row.against, monitor) for row in rows],
        ["" if row.seconds is None else f"{row.seconds:.1f}" for row in rows],
        strict=True,
    )
    show(title, columns, [[*row] for row in cells])


def _difference(paired: Paired, monitor: str) -> str:
    """The mean, and its 95 % interval."""
    scale, digits = (100, ".2f") if monitor in PERCENTAGES else (1, ".4f")
    mean = f"{scale * paired.mean:+{digits}}"
    if paired.interval is None:
        return mean
    low, high = (f"{scale * end:+{digits}}" for end in paired.interval)
    return f"{mean} ({low} … {high})"
