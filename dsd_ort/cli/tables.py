"""What the commands print: tables for people, plain data for ``--json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from dsd_ort.api.numbers import duration, format_column, format_difference, format_metrics, format_value, heading
from dsd_ort.cli.columns import show
from dsd_ort.cli.say import say
from dsd_ort.notes import Note
from dsd_ort.recipe import Rise
from dsd_ort.run.journal import AS_IT_CAME, Event

if TYPE_CHECKING:  # what is shown is imported by what makes it
    from dsd_ort.api.comparison.answer import Row as Arm
    from dsd_ort.api.comparison.document import Rung
    from dsd_ort.api.progress import Status
    from dsd_ort.api.shipping import Shipped
    from dsd_ort.graph.program import Program
    from dsd_ort.recipe import Phase, Recipe, Schedule
    from dsd_ort.ship.verify import Verdict as Verified


def show_notes(notes: Sequence[Note], *, verbose: bool = False) -> None:
    """How many nodes are rewritten in which way, or, if *verbose*, which; then what else there is to tell."""
    rewrites = [note for note in notes if note.kind == "rewrite"]
    if verbose:
        lines = [f"{note.node}: {note.words}" for note in rewrites]
    else:
        nodes = Counter(note.words for note in rewrites)
        lines = [f"{count} {'node' if count == 1 else 'nodes'}: {words}" for words, count in nodes.items()]
    for line in lines:
        say(f"  for training, {line}")
    for note in notes:
        if note.kind != "rewrite":
            say(f"  note: {note.words}")


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
    say(f"prepared {program.manifest.model} in {program.folder}")
    say(f"  {data['parameters']:,} parameters, {data['trained']:,} trained, {data['prunable']:,} of them may be pruned")
    for kind in ("inputs", "labels"):
        for name, (dtype, shape) in data[kind].items():
            sizes = ", ".join("?" if size is None else str(size) for size in shape)
            say(f"  {'label' if kind == 'labels' else 'input'} {name!r}: {dtype} [{sizes}]")
    for name, output in data["losses"]:
        say(f"  loss {name} at output {output!r}")
    show_notes(program.notes)
    show_plan(program.recipe)


PLAN_COLUMNS = {"phase": "left", "sparsity": "right", "length": "right", "learning rate": "left"}


def show_plan(recipe: Recipe) -> None:
    """What training will do."""
    rows = [
        [
            f"{number} {phase.kind}",
            _sparsity(phase),
            f"{phase.epochs:g} epochs" if phase.epochs is not None else f"{phase.steps:,} updates",
            _rate(phase.schedule) + (", without the suspects" if phase.drop_suspects else ""),
        ]
        for number, phase in enumerate(recipe.phase, 1)
    ]
    show(f"What train will do: {_optimizer(recipe)}, batches of {recipe.batch_size}", PLAN_COLUMNS, rows)


def _sparsity(phase: Phase) -> str:
    if isinstance(phase.sparsity, Rise):
        return f"{100 * phase.sparsity.initial:g} to {100 * phase.sparsity.final:g} %, {phase.sparsity.schedule}"
    return "" if phase.sparsity is None else f"{100 * phase.sparsity:g} %"


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
        say(f"loss {found.loss:.4g}, learning rate {found.learning_rate:g}, {found.examples_per_second:g} examples/s")
    if found.seconds_left is not None:
        say(f"about {duration(found.seconds_left)} of training left")
    if (since := found.since_checkpoint) is not None:
        say(f"saved {duration(since)} ago")
    for text in found.remarks:
        say(f"note: {text}")
    again = {"new": "", "stopped": " --resume"}
    if found.state in again:
        say(f"next: dsd-ort train {found.run} --data DATA{again[found.state]}")
    elif found.state == "complete":
        say(f"next: dsd-ort export {found.run} -o final.onnx")


def phase_columns(rows: Sequence[Event]) -> tuple[dict[str, str], list[list[str]]]:
    """Columns of what was measured at the ends of phases, and cells: metrics, the best marked, density, seconds."""
    metrics = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    measured = [format_column(name, [row["metrics"].get(name) for row in rows]) for name in metrics]
    measured = measured or [["(no evaluation data)"] * len(rows)]
    density = [f"{100 * row['density']:.1f} %" if "density" in row else "" for row in rows]
    seconds = [f"{row['seconds']:.1f}" if row.get("seconds") else "" for row in rows]
    names = [heading(name) for name in metrics] or ["at its end"]
    columns = dict.fromkeys([*names, "non-zero weights", "seconds"], "right")
    skipped = [str(row.get("skipped", "")) for row in rows]
    if any(skipped):  # updates that were left out
        return {**columns, "skipped": "right"}, [[*c] for c in zip(*measured, density, seconds, skipped, strict=True)]
    return columns, [[*cells] for cells in zip(*measured, density, seconds, strict=True)]


def show_phases(events: list[Event], came: dict[str, float]) -> None:
    """The phases of a run, under what the model measured as it came, if it was measured."""
    first: list[Event] = [{"metrics": came}] if came else []
    columns, cells = phase_columns([*first, *events])
    names = [AS_IT_CAME] * len(first) + [f"{event['phase']} {event['kind']}" for event in events]
    show("", {"phase": "left", **columns}, [[name, *row] for name, row in zip(names, cells, strict=True)])


def show_metrics(metrics: dict[str, float]) -> None:
    say(format_metrics(metrics))


def show_verdict(verdict: Verified, final: Path) -> None:
    if not verdict.same:
        say(f"{final} is not the same graph:")
        for reason in verdict.reasons:
            say(f"  {reason}")
        return
    changed = [tensor for tensor in verdict.changed if tensor.share > 0]
    say(f"{final} is the same graph: {len(changed)} tensors have other values, and nothing else differs")
    for name in verdict.initialized:
        say(f"  {name}: its ConstantOfShape node became an initializer")
    for name in verdict.data:
        also = ", which the model it was made from reads too" if name in verdict.shared else ""
        say(f"  it goes together with {name}{also}")


def show_shipped(found: Shipped) -> None:
    """How sparse a file is, and what that brings."""
    file, came = found.file, found.came
    layers = ", ".join(f"{name} {100 * (1 - density):.1f} %" for name, density in list(found.density.items())[:4])
    more = ", …" if len(found.density) > 4 else ""
    say(f"{100 * found.sparsity:.1f} % of the {found.weights:,} weights that may be pruned are zero: {layers}{more}")
    saved = 1 - file.compressed / came.compressed
    say(
        f"compressed by zlib {file.compressed:,} bytes, as it came {came.compressed:,} ({100 * saved:.0f} % less); "
        f"as a file {file.bytes:,} bytes, zeros and all"
    )
    if file.milliseconds is None or came.milliseconds is None or found.faster is None:
        say("its time in ONNX Runtime is not measured: no made-up input runs")
        return
    verdict = (
        "ONNX Runtime multiplies zeros like other numbers" if abs(found.faster - 1) < SAME_TIME else "on this machine"
    )
    say(
        f"in ONNX Runtime {file.milliseconds:.3g} ms a run on made-up input, as it came {came.milliseconds:.3g} ms: "
        f"{found.faster:.2f} times as fast; {verdict}"
    )


SAME_TIME = 0.1
"""Two times that differ by less are the same: so much comes and goes on a machine that does other things."""


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


def show_arms(rows: Sequence[Arm], monitor: str, title: str, *, density: bool = False) -> None:
    """What the arms of an experiment measure; with *density* also how many weights that may be pruned are not zero."""
    shown = [name for name in dict.fromkeys((monitor, "loss")) if name in rows[0].evaluation]
    measured = [format_column(name, [row.evaluation.get(name) for row in rows]) for name in shown]
    columns = {
        "arm": "left",
        "seeds": "right",
        f"{heading(monitor)} chosen by": "right",
        **dict.fromkeys(map(heading, shown), "right"),
        "less dense only's (95 %)": "left",
        **({"non-zero": "right"} if density else {}),
        "seconds": "right",
    }
    cells = zip(
        [row.title for row in rows],
        [str(row.seeds or "") + (f" ({row.diverged} diverged)" if row.diverged else "") for row in rows],
        format_column(monitor, [row.selection.get(monitor) for row in rows]),
        *measured,
        ["" if row.against is None else format_difference(row.against, monitor) for row in rows],
        *([["" if row.density is None else f"{100 * row.density:.1f} %" for row in rows]] if density else []),
        ["" if row.seconds is None else f"{row.seconds:.1f}" for row in rows],
        strict=True,
    )
    show(title, columns, [[*row] for row in cells])
