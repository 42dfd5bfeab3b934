"""Both trainings of a comparison to their ends, and what came out: the final model, and what each phase measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dsd_ort import runtime
from dsd_ort.api.comparison import report
from dsd_ort.api.comparison.arms import require_sparse_phase
from dsd_ort.api.comparison.folder import FINAL, FOLDERS, RECIPE, Runs, fitted, held, prepared
from dsd_ort.api.comparison.report import Report, Row
from dsd_ort.api.comparison.training import Trainings, once
from dsd_ort.api.evaluation import evaluate
from dsd_ort.api.models import verify
from dsd_ort.api.runs import export, phases, train
from dsd_ort.graph.program import Program
from dsd_ort.recipe import Recipe
from dsd_ort.run import keeping
from dsd_ort.run.execution import OnNaN, Precision
from dsd_ort.run.journal import AS_IT_CAME, Event
from dsd_ort.run.metrics import better
from dsd_ort.ship.verify import Verdict

Listener = Callable[[Event], None]


@dataclass(frozen=True)
class Comparison:
    """What came out of :func:`compare`."""

    final: Path
    """The model with the weights at the end of DSD."""
    rows: tuple[Row, ...]
    """As it came where the recipe starts sparse, then each phase of DSD, then each of dense only."""
    metrics: dict[str, float]
    """Of *final* in plain inference."""
    verdict: Verdict
    """The proof that *final* is the model with other weights."""
    came: dict[str, float]
    """What the model measured as it came; empty where an earlier version did not."""
    worse: bool
    """Whether *final* is worse than that, by the recipe's monitor."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        rows = [msgspec.to_builtins(row) for row in self.rows]
        measured = {"metrics": self.metrics, "came": self.came, "worse": self.worse}
        return {"final": str(self.final), "same": self.verdict.same, **measured, "rows": rows}


def compare(
    model: str | Path,
    folder: str | Path,
    recipe: Recipe,
    data: Any,
    eval_data: Any,
    *,
    fit: bool = False,
    device: str = "auto",
    threads: int = 0,
    precision: Precision | None = None,
    cuda_graphs: bool = True,
    deterministic: bool = False,
    checkpoint_seconds: float = 300.0,
    keep_checkpoints: int = 1,
    on_nan: OnNaN | None = None,
    listener: Listener = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
) -> Comparison:
    """Trains *recipe*, and beside it the same budget dense only, and exports what the former ends with.

    Called again, it goes on where it was stopped or killed and ends with the same bytes; when all is there, it only
    reads it.  The dense phases that a recipe starts with are the same in both trainings, and trained once.

    Args:
        model: an ONNX file, or a training graph of ONNX Runtime's.
        folder: is made, or holds what an earlier call with the same model, recipe and data left.
        recipe: has a sparse phase.
        data: see :func:`train`.
        eval_data: likewise; what both are measured on.
        fit: whether the recipe's rates are replaced by those of :func:`fit_rates`, which ``FOLDER/recipe.toml`` keeps.
        device: see :func:`train`.
        threads: see :func:`train`.
        precision: see :func:`train`.
        cuda_graphs: see :func:`train`.
        deterministic: see :func:`train`.
        checkpoint_seconds: see :func:`train`.
        keep_checkpoints: see :func:`train`.
        on_nan: see :func:`train`; updates that are left out are told.
        listener: is told all events, also where a training begins or goes on, and what the model as it came measured.
        stop: see :func:`train`.

    Raises:
        RecipeError: the recipe has no sparse phase, or does not fit the model.
        RunError: *folder* holds a comparison of another model or recipe, or files of others under its names.
        ModelError, DataError, DivergedError, InstallationError: see :func:`prepare` and :func:`train`.
    """
    runtime.require_runtime()
    runtime.choose_device(device)  # refuses one that is not there before anything is made
    require_sparse_phase(recipe)
    folder = Path(folder)
    training = partial(train, data=data, eval_data=eval_data, device=device, threads=threads)
    training = partial(training, precision=precision, cuda_graphs=cuda_graphs, deterministic=deterministic)
    training = partial(training, checkpoint_seconds=checkpoint_seconds, keep_checkpoints=keep_checkpoints)
    training = partial(training, on_nan=on_nan, listener=once(listener), stop=stop)
    training = partial(training, measure_first=False)  # that is done once for both
    with held(
        folder, (*FOLDERS.values(), report.REPORT, RECIPE), (folder / FOLDERS[report.DSD] / keeping.CHECKPOINT).exists
    ):
        if fit:
            recipe = fitted(folder, model, recipe, data, listener, device=device, threads=threads)
        runs = prepared(folder, model, recipe)
        measure = partial(evaluate, data=eval_data, recipe=runs.dsd.recipe, device=device, threads=threads)
        found, final = report.read(folder), folder / FINAL
        if found.metrics is None or not final.exists():
            came = _as_it_came(folder, runs.dsd, measure, listener)
            Trainings(dict(zip(FOLDERS, runs, strict=True)), training, listener)()
            export(runs.dsd.folder, final)
            rows = (*_first_row(runs.dsd, came), *_rows(runs))
            found = Report(rows=rows, metrics=measure(final), came=came)
            report.write(folder, found)
    metrics, before, monitor = found.metrics or {}, found.came or {}, runs.dsd.recipe.monitor
    worse = monitor in metrics and monitor in before and better(monitor, before[monitor], metrics[monitor])
    return Comparison(final, found.rows, metrics, verify(runs.dsd.source_path, final), before, worse)


def _as_it_came(
    folder: Path, program: Program, measure: Callable[[Path], dict[str, float]], listener: Listener
) -> dict[str, float]:
    """What the model measures before training.

    First of all, as it shows whether data and recipe are right, and kept for later calls.
    """
    if (metrics := report.read(folder).came) is None:
        metrics = measure(program.source_path)
        report.write(folder, Report(came=metrics))
    listener({"event": "measured", "name": AS_IT_CAME, "metrics": metrics})
    return metrics


def _first_row(program: Program, came: dict[str, float]) -> list[Row]:
    """The model before training, where it is trained already: the recipe starts sparse."""
    if program.recipe.phase[0].kind == "dense":
        return []
    source, prunable = program.source(), program.manifest.prunable
    kept = sum(int(np.count_nonzero(source.value(p.name))) for p in prunable)
    density = kept / sum(p.size for p in prunable)
    return [Row(training=AS_IT_CAME, phase=0, kind="", metrics=came, density=density, seconds=0.0)]


def _rows(runs: Runs) -> list[Row]:
    return [
        msgspec.convert({"training": name, **event}, Row)
        for name, program in zip(FOLDERS, runs, strict=True)
        for event in phases(program.folder)
    ]
