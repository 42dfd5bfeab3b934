"""Dense-sparse-dense beside the same budget spent dense only: a gain is one only against that.

::

    FOLDER/dsd/         the run of the recipe
    FOLDER/dense-only/  that of its dense_only(): the same seeds, batches and learning rates, and nothing pruned
    FOLDER/final.onnx   the model with the weights at the end of the recipe
    FOLDER/report.json  what was measured

The folder is all the state there is: what stands in it is not done again, so the same call goes on after a stop.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from dsd_ort import runtime
from dsd_ort.api.models import verify
from dsd_ort.api.runs import evaluate, export, phases, train
from dsd_ort.errors import DsdError, RecipeError, RunError
from dsd_ort.graph.prepare import prepare
from dsd_ort.graph.program import Program, open_program
from dsd_ort.model import artifacts
from dsd_ort.model import source as source_files
from dsd_ort.recipe import Recipe
from dsd_ort.run import checkpoint
from dsd_ort.run.execution import Precision
from dsd_ort.run.fork import fork, shared_phases
from dsd_ort.run.journal import Event, read
from dsd_ort.run.lock import locked
from dsd_ort.ship.verify import Verdict

DSD, DENSE_ONLY, AS_IT_CAME = "DSD", "dense only", "as it came"
FOLDERS = {DSD: "dsd", DENSE_ONLY: "dense-only"}
FINAL, REPORT = "final.onnx", "report.json"

Listener = Callable[[Event], None]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The model at the end of a phase."""

    training: str
    """``DSD``, ``dense only``, or ``as it came``: before any training."""
    phase: int
    """From 1; 0 for the model as it came."""
    kind: str
    metrics: dict[str, float]
    """On the evaluation data."""
    density: float
    """The share of weights that are not zero, of those that may be pruned."""
    seconds: float


class _Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``report.json`` holds; it is complete when the final model was measured."""

    rows: tuple[Row, ...] = ()
    metrics: dict[str, float] | None = None


class _Runs(NamedTuple):
    dsd: Program
    dense_only: Program


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

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        rows = [msgspec.to_builtins(row) for row in self.rows]
        return {"final": str(self.final), "same": self.verdict.same, "metrics": self.metrics, "rows": rows}


def compare(
    model: str | Path,
    folder: str | Path,
    recipe: Recipe,
    data: Any,
    eval_data: Any,
    *,
    device: str = "auto",
    threads: int = 0,
    precision: Precision | None = None,
    cuda_graphs: bool = True,
    deterministic: bool = False,
    checkpoint_seconds: float = 300.0,
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
        device: see :func:`train`.
        threads: see :func:`train`.
        precision: see :func:`train`.
        cuda_graphs: see :func:`train`.
        deterministic: see :func:`train`.
        checkpoint_seconds: see :func:`train`.
        listener: is told all events, also where a training begins or goes on, and what the model as it came measured.
        stop: see :func:`train`.

    Raises:
        RecipeError: the recipe has no sparse phase, or does not fit the model.
        RunError: *folder* holds a comparison of another model or recipe, or files of others under its names.
        ModelError, DataError, DivergedError, InstallationError: see :func:`prepare` and :func:`train`.
    """
    runtime.require_runtime()
    runtime.choose_device(device)  # refuses one that is not there before anything is made
    _refuse_dense(recipe)
    folder = Path(folder)
    training = partial(train, data=data, eval_data=eval_data, device=device, threads=threads)
    training = partial(training, precision=precision, cuda_graphs=cuda_graphs, deterministic=deterministic)
    training = partial(training, checkpoint_seconds=checkpoint_seconds, listener=_once(listener), stop=stop)
    with _held(folder):
        runs = _prepared(folder, model, recipe)
        measure = partial(evaluate, data=eval_data, recipe=runs.dsd.recipe, device=device, threads=threads)
        report, final = _read(folder), folder / FINAL
        if report.metrics is None or not final.exists():
            came = _as_it_came(folder, runs.dsd, measure, listener)
            _train(runs, training, listener)
            export(runs.dsd.folder, final)
            report = _Report(rows=(*came, *_rows(runs)), metrics=measure(final))
            _write(folder, report)
    return Comparison(final, report.rows, report.metrics or {}, verify(runs.dsd.source_path, final))


def _refuse_dense(recipe: Recipe) -> None:
    if all(phase.kind == "dense" for phase in recipe.phase):
        raise RecipeError(
            "the recipe has no sparse phase, so there is nothing to compare dense only with",
            fix='give a phase kind = "sparse" and a sparsity, or train it alone: dsd-ort prepare, dsd-ort train',
        )


def _prepared(folder: Path, model: str | Path, recipe: Recipe) -> _Runs:
    """Both run folders, new or as an earlier call left them."""
    dsd, dense_only = (folder / name for name in FOLDERS.values())
    for file in (folder / FINAL, folder / REPORT):
        if file.exists() and not dsd.exists():
            raise RunError(
                "a file is there that the comparison would replace", where=str(file), fix="choose another folder"
            )
    return _Runs(_program(dsd, model, recipe), _program(dense_only, model, recipe.dense_only()))


def _program(run: Path, model: str | Path, recipe: Recipe) -> Program:
    """The run folder, which is made where it is not there.

    Raises:
        RunError: it is there, with another model or recipe.
    """
    if not (run / "manifest.json").exists():
        return prepare(model, run, recipe)
    program = open_program(run)
    if program.artifacts.exists():  # a training graph brings its own
        recipe = msgspec.structs.replace(recipe, loss=program.recipe.loss, metrics=program.recipe.metrics)
    wanted, there = recipe.to_dict(), program.recipe.to_dict()
    differing = [f"the recipe's {key}" for key in wanted if wanted[key] != there[key]]
    if _digest(model) != program.manifest.source_digest:
        differing.insert(0, "the model")
    if differing:
        raise RunError(
            f"the folder holds another comparison: {', '.join(differing)} differ{'s' * (len(differing) == 1)}",
            where=str(run),
            fix="give what it was begun with, or choose another folder",
        )
    return program


def _digest(model: str | Path) -> str:
    files = artifacts.find(model)
    if files is None:
        return source_files.load(model).digest
    with artifacts.shipped_source(files) as source:
        return source.digest


def _as_it_came(
    folder: Path, program: Program, measure: Callable[[Path], dict[str, float]], listener: Listener
) -> list[Row]:
    """The model before training, where that says something: in a recipe that starts sparse, as it is trained already.

    Measured first, as it shows whether data and recipe are right, and kept for later calls.
    """
    if program.recipe.phase[0].kind == "dense":
        return []
    rows = [row for row in _read(folder).rows if row.training == AS_IT_CAME]
    if not rows:
        source, prunable = program.source(), program.manifest.prunable
        kept = sum(int(np.count_nonzero(source.value(p.name))) for p in prunable)
        density = kept / sum(p.size for p in prunable)
        metrics = measure(program.source_path)
        rows = [Row(training=AS_IT_CAME, phase=0, kind="", metrics=metrics, density=density, seconds=0.0)]
        _write(folder, _Report(rows=tuple(rows)))
    listener({"event": "measured", "name": AS_IT_CAME, "metrics": rows[0].metrics})
    return rows


def _train(runs: _Runs, training: Callable[..., object], listener: Listener) -> None:
    """Both trainings to their ends, from wherever they are."""

    def begun(program: Program) -> bool:
        return (program.folder / checkpoint.FILE).exists()

    shared = shared_phases(runs.dsd.recipe, runs.dense_only.recipe)
    for name, program in zip(FOLDERS, runs, strict=True):
        if any(event["event"] == "end" for event in read(program.folder)):
            continue
        taken_over = shared if program is runs.dense_only and begun(program) else 0
        listener({"event": "training", "name": name, "run": str(program.folder), "taken_over": taken_over})
        if shared and program is runs.dsd and not begun(runs.dense_only):
            training(program.folder, resume=begun(program), until=shared)
            fork(program, runs.dense_only)
        training(program.folder, resume=begun(program))


def _rows(runs: _Runs) -> list[Row]:
    return [
        msgspec.convert({"training": name, **event}, Row)
        for name, program in zip(FOLDERS, runs, strict=True)
        for event in phases(program.folder)
    ]


def _once(listener: Listener) -> Listener:
    """Tells notes on the data, and where training goes on, before the first step only: later they say nothing new."""
    begun = False

    def tell(event: Event) -> None:
        nonlocal begun
        begun = begun or event["event"] == "tick"
        if not (begun and event["event"] in ("note", "resume")):
            listener(event)

    return tell


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Makes and locks the folder.

    What is refused before the first step leaves nothing in it, so that the next call may have another recipe.
    """
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"the folder cannot be made: {error.strerror}", where=str(folder), fix="choose another folder"
        ) from error
    with locked(folder):
        made = [folder / name for name in (*FOLDERS.values(), REPORT) if not (folder / name).exists()]
        try:
            yield
        except DsdError:
            if not (folder / FOLDERS[DSD] / checkpoint.FILE).exists():
                for path in made:
                    path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)
                if new:
                    with suppress(OSError):
                        folder.rmdir()
            raise


def _read(folder: Path) -> _Report:
    """The report so far; empty where there is none, or one that cannot be read: it is made again."""
    try:
        return msgspec.json.decode((folder / REPORT).read_bytes(), type=_Report)
    except (FileNotFoundError, msgspec.DecodeError):
        return _Report()


def _write(folder: Path, report: _Report) -> None:
    """Appears complete or not at all."""
    temporary = folder / f".{REPORT}.tmp"
    try:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
        temporary.replace(folder / REPORT)
    except OSError as error:
        raise RunError(
            f"the report cannot be written: {error.strerror}",
            where=str(folder / REPORT),
            fix="make room or permissions, then give the same command again",
        ) from error
