"""What an arm ends with: which epoch's weights, what they measure, and how each test example comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsd_ort.api.comparison.arms import Arm
from dsd_ort.api.comparison.document import Measured, Result
from dsd_ort.api.comparison.selection import Sets
from dsd_ort.data import Dataset
from dsd_ort.file.payload import Floats
from dsd_ort.graph.program import Program
from dsd_ort.run import checkpoint, keeping, memory
from dsd_ort.run.arena import Arena
from dsd_ort.run.evaluate import Evaluator
from dsd_ort.run.execution import Execution
from dsd_ort.run.journal import read
from dsd_ort.run.metrics import better
from dsd_ort.run.scoring import score


@dataclass(frozen=True)
class Chosen:
    """Some weights of a run."""

    phase: int
    """From 1."""
    best: bool
    """Of its best epoch, or at its end where no epoch was measured."""
    selection: dict[str, float]


def chosen(arm: Arm, program: Program, monitor: str) -> Chosen:
    """The weights that *arm* takes from a complete run: those that are best on the selection data.

    Raises:
        RunError: a file of weights is missing or damaged.
    """
    last = len(program.recipe.phase)
    found = _of_phase(program, last)
    for phase in range(1, last) if arm.any_phase else ():
        other = _of_phase(program, phase)
        if better(monitor, other.selection[monitor], found.selection[monitor]):
            found = other
    return found


def _of_phase(program: Program, phase: int) -> Chosen:
    """Of its best epoch; of its end where it had none."""
    best = _file(program, phase, best=True).exists()
    return Chosen(phase, best, _metrics(program, phase, best))


def at_end(program: Program) -> Chosen:
    """The weights at the very end of a complete run."""
    last = len(program.recipe.phase)
    return Chosen(last, False, _metrics(program, last, False))


def _metrics(program: Program, phase: int, best: bool) -> dict[str, float]:
    record = checkpoint.read_record(_file(program, phase, best=best), program)
    found: dict[str, float] = record.get("metrics", {})
    return found


def weights(program: Program, of: Chosen) -> Arena:
    """An arena with the chosen weights.

    Raises:
        RunError: see :func:`chosen`.
    """
    arena = Arena.of(program)
    checkpoint.load(_file(program, of.phase, best=of.best), arena, program)
    return arena


def result(arm: Arm, seed: int, program: Program, *, sets: Sets, scores: Path, execution: Execution) -> Result:
    """Measures what *arm* ends with, and writes the scores of each example to *scores*.

    Raises:
        RunError: see :func:`chosen`.
    """
    of = chosen(arm, program, program.recipe.monitor)
    arena, place = weights(program, of), memory.of(execution.device)
    evaluator = Evaluator.of_program(program, place.place(arena.values()), execution=execution, memory=place)
    evaluation = evaluator(sets.evaluation)
    write_scores(evaluator, sets.evaluation, scores)
    events = read(program.folder)
    ends = [e for e in events if e["event"] == "phase-end" and e["phase"] <= of.phase]
    best = [e["epoch"] for e in events if e["event"] == "epoch" and e["phase"] == of.phase and e["best"]]
    return Result(
        arm=arm.name,
        title=arm.title,
        seed=seed,
        sparsity=arm.sparsity,
        phase=of.phase,
        epoch=best[-1] if of.best and best else 0,
        prunes=arm.prunes,
        measured=Measured(selection=finite(of.selection), evaluation=finite(evaluation)),
        density=float(arena.density()),
        seconds=round(sum(e["seconds"] for e in ends), 3),
        skipped=ends[-1].get("skipped", 0),
    )


def write_scores(evaluator: Evaluator, data: Dataset, path: Path) -> None:
    """Writes what becomes of each example of *data*: ``loss`` and ``right``, the share of its labels, f32[N] each."""
    scored = score(evaluator, data)
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp.npz")
    loss, right = scored.loss.astype(np.float32), np.zeros(0) if scored.agreed is None else scored.agreed
    np.savez(temporary, loss=loss, right=right.astype(np.float32))
    temporary.replace(path)


def scores(path: Path, metric: str) -> Floats | None:
    """Those that *metric* is the mean of, f32[N]; None where it is no mean over examples, or the file is gone."""
    name = {"top-1": "right", "loss": "loss"}.get(metric)
    if name is None or not path.exists():
        return None
    with np.load(path) as arrays:
        found: Floats = arrays[name]
    return found if found.size else None


def finite(metrics: dict[str, float]) -> dict[str, float]:
    """*metrics* but those that are NaN or infinite, which JSON does not have."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def told_apart(one: Floats, other: Floats) -> bool:
    """Whether the means of two sets of scores, f32[N] and f32[M], differ by more than four standard errors."""
    sets = [values[np.isfinite(values)].astype(np.float64) for values in (one, other)]
    error = math.sqrt(sum(values.var() / max(1, len(values)) for values in sets))
    return bool(abs(sets[0].mean() - sets[1].mean()) > 4 * error)


def fit(program: Program, arena: Arena, data: Dataset, execution: Execution) -> float | None:
    """The share of the labels of *data*, as given, that these weights give; None for losses on values."""
    place = memory.of(execution.device)
    evaluator = Evaluator.of_program(program, place.place(arena.values()), execution=execution, memory=place)
    agreed = score(evaluator, data).agreed
    return None if agreed is None else float(np.nanmean(agreed))


def _file(program: Program, phase: int, *, best: bool) -> Path:
    kind = program.recipe.phase[phase - 1].kind
    return keeping.weights_file(program.folder, phase - 1, kind, best=best)
