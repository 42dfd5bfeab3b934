"""An experiment on somebody's model and data: does DSD help here, by how much, and which file is the best."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from dsd_ort import runtime
from dsd_ort.api.comparison import answer, document, ladder
from dsd_ort.api.comparison.beginning import beginning_of
from dsd_ort.api.comparison.cost import cost
from dsd_ort.api.comparison.document import Document, Rung
from dsd_ort.api.comparison.jobs import side_by_side
from dsd_ort.api.comparison.lab import FINAL, Book, Lab
from dsd_ort.api.comparison.training import Listener, once
from dsd_ort.errors import RecipeError
from dsd_ort.graph.inference import write_inference_form
from dsd_ort.model import source as source_files
from dsd_ort.recipe import MetricName, Recipe
from dsd_ort.run.execution import OnNaN, Precision
from dsd_ort.run.journal import AS_IT_CAME
from dsd_ort.ship import export as export_files
from dsd_ort.ship import verify as verify_files
from dsd_ort.ship.verify import Verdict


@dataclass(frozen=True)
class Experiment:
    """What came out of :func:`experiment`."""

    final: Path
    """The best file on the selection data: an arm's, or the model as it came."""
    document: Document
    """All that was measured."""
    table: tuple[answer.Row, ...]
    """A row for the model as it came and for each arm, over all seeds, on the evaluation data."""
    verdict: Verdict
    """The proof that *final* is the model with other weights, or none."""

    @property
    def best_rung(self) -> Rung | None:
        """The sparsity that was found, where one was looked for."""
        found = self.document
        return ladder.top(found.ladder, found.monitor) if found.ladder else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        table = [row.to_dict() for row in self.table]
        measured: dict[str, Any] = msgspec.to_builtins(self.document)
        return {"final_file": str(self.final), "same": self.verdict.same, "table": table, **measured}


def experiment(
    model: str | Path,
    folder: str | Path,
    recipe: Recipe,
    data: Any,
    eval_data: Any,
    *,
    sparsities: Sequence[float] | str | None = None,
    seeds: int | None = None,
    select: float | None = None,
    select_data: Any = None,
    kinds: Sequence[str] | None = None,
    monitor: MetricName | None = None,
    fit: bool = False,
    keep: str = "all",
    jobs: int = 1,
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
) -> Experiment:
    """Trains *model* in several ways with the same budget, chooses on one set, and measures on another.

    Called again, it goes on where it was stopped or killed and ends with the same bytes; more seeds, sparsities and
    arms may then be asked for.  Arms of one seed have the same order of data, augmentation and learning rates, and
    phases that they have in common are trained once.

    Args:
        model: an ONNX file.
        folder: is made, or holds what an earlier call with the same model, recipe and data left.
        recipe: has a sparse phase; its ``[experiment]`` counts where the arguments do not say.
        data: see :func:`train`.
        eval_data: likewise; each arm is measured on it at its end, and nothing is chosen by it.
        sparsities: of DSD; none means as the recipe has it, and ``"auto"`` that it is looked for.
        seeds: how often everything is repeated.
        select: the share of *data*, of every class the same, that no arm trains on, and that chooses; for a model that
            has not seen *data*.  By default half of *eval_data* choose, and the other half measure.
        select_data: in the place of both, data of their own, which the model has not seen.
        kinds: which arms, of :data:`dsd_ort.api.comparison.arms.KINDS`.
        monitor: what chooses and is compared; by default the recipe's, and for classes top-1 where that is the loss.
        fit: whether the recipe's rates are replaced by those of :func:`fit_rates`, which ``FOLDER/recipe.toml`` keeps.
        keep: ``"final"`` removes run folders as soon as their arms are measured; ``"all"`` keeps them.
        jobs: how many trainings go on at a time, each in a process of its own, with its share of the cores unless
            *threads* says otherwise; *data* and the others are then paths or ``"module:function"``.
        device: see :func:`train`.
        threads: see :func:`train`.
        precision: see :func:`train`.
        cuda_graphs: see :func:`train`.
        deterministic: see :func:`train`.
        checkpoint_seconds: see :func:`train`.
        keep_checkpoints: see :func:`train`.
        on_nan: see :func:`train`; updates that are left out are told.
        listener: is told all events: also the cost beforehand, and where a training begins or goes on.
        stop: see :func:`train`.

    Raises:
        RecipeError: no sparse phase; an arm, sparsity or number of seeds that is none.
        RunError: *folder* holds an experiment with another model, recipe or data.
        ModelError, DataError, DivergedError, InstallationError: see :func:`prepare` and :func:`train`.
    """
    runtime.require_runtime()
    runtime.choose_device(device)
    _refuse(keep, jobs)
    beginning = beginning_of(
        model,
        folder,
        recipe,
        data,
        eval_data,
        sparsities=sparsities,
        seeds=seeds,
        select=select,
        select_data=select_data,
        kinds=kinds,
        monitor=monitor,
        fit=fit,
        device=device,
        threads=threads if threads or jobs == 1 else max(1, (os.cpu_count() or 1) // jobs),
        precision=precision,
        cuda_graphs=cuda_graphs,
        deterministic=deterministic,
        checkpoint_seconds=checkpoint_seconds,
        keep_checkpoints=keep_checkpoints,
        on_nan=on_nan,
    )
    with beginning.begun(listener, stop) as begun:
        lab, doc, plan = begun.lab, begun.doc, begun.plan
        groups = lab.groups(doc, plan, begun.seeds)
        expected = cost(lab.by_seed(groups), lab.sets.training, lab.execution, per_evaluation=begun.seconds, jobs=jobs)
        if expected.runs:
            listener(expected.event())
        book = Book(lab, doc, plan, keep=keep == "all", listener=once(expected.counting(listener)))
        if jobs == 1:
            for group in groups:
                lab.train(group, book.tell)
        else:
            side_by_side(begun.opening, groups, jobs, book.tell, stop)
        there = answer.known(book.doc, plan)
        doc = _finished(lab, book.doc, there)
    final = lab.folder / FINAL
    table = tuple(answer.table(doc, there, lab.folder))
    return Experiment(final, doc, table, verify_files.verify(lab.source.path, final))


def _refuse(keep: str, jobs: int) -> None:
    if jobs < 1:
        raise RecipeError(f"{jobs} jobs train nothing", fix="give 1 or more; as many as there are cores, at most")
    if keep not in ("all", "final"):
        raise RecipeError(f"keep = {keep!r} is none", fix='give "all" or "final"')


def _finished(lab: Lab, doc: Document, plan: Sequence[answer.Known]) -> Document:
    """Chooses and writes the final file, and says what was found."""
    final, path = answer.best(doc, plan), lab.folder / FINAL
    values = {}
    if final.arm != AS_IT_CAME:
        best = source_files.load(lab.best_file(final.arm))
        values = {p.name: best.start(p.name) for p in (*best.parameters, *best.statistics)}
    export_files.write_weights(lab.source, values, path, recipe=lab.sets.recipe)
    if values:
        write_inference_form(path)
    doc = msgspec.structs.replace(doc, final=final)
    doc = msgspec.structs.replace(doc, verdict=tuple(answer.sentences(doc, plan, lab.folder)))
    document.write(lab.folder, doc)
    return doc
