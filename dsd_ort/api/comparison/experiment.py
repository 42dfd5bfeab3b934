"""An experiment on somebody's model and data: does DSD help here, by how much, and which file is the best."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from dsd_ort import runtime
from dsd_ort.api.comparison import answer, document, ladder, measuring
from dsd_ort.api.comparison.arms import USUAL, arms
from dsd_ort.api.comparison.cost import cost
from dsd_ort.api.comparison.document import Document, Measured, Rung
from dsd_ort.api.comparison.folder import RECIPE, fitted, held
from dsd_ort.api.comparison.jobs import Opening, opened, side_by_side
from dsd_ort.api.comparison.lab import FINAL, MADE, Book, Lab
from dsd_ort.api.comparison.training import Listener, once
from dsd_ort.errors import ModelError, RecipeError, RunError
from dsd_ort.graph.inference import write_inference_form
from dsd_ort.model import artifacts, usage
from dsd_ort.model import source as source_files
from dsd_ort.recipe import MetricName, Recipe
from dsd_ort.recipe.tables import Experiment as Wish
from dsd_ort.run.evaluate import Evaluator
from dsd_ort.run.execution import Precision
from dsd_ort.run.journal import AS_IT_CAME
from dsd_ort.run.metrics import better
from dsd_ort.ship import export as export_files
from dsd_ort.ship import verify as verify_files
from dsd_ort.ship.verify import Verdict

SELECTION = "selection"
"""What the file of the scores is called that the model as it came has on the data that choose."""


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
        listener: is told all events: also the cost beforehand, and where a training begins or goes on.
        stop: see :func:`train`.

    Raises:
        RecipeError: no sparse phase; an arm, sparsity or number of seeds that is none.
        RunError: *folder* holds an experiment with another model, recipe or data.
        ModelError, DataError, DivergedError, InstallationError: see :func:`prepare` and :func:`train`.
    """
    runtime.require_runtime()
    runtime.choose_device(device)
    wish = recipe.experiment
    recipe = msgspec.structs.replace(recipe, experiment=Wish())
    sparsities = wish.sparsity if sparsities is None else sparsities
    seeds = wish.seeds if seeds is None else seeds
    select = wish.select if select is None and select_data is None else select
    kinds = wish.arms or USUAL if kinds is None else kinds
    _refuse(model, seeds, keep, jobs)
    given = () if isinstance(sparsities, str) else tuple(sparsities)
    arms(recipe, kinds, given)  # refuses what is none
    recipe = Recipe.from_dict(recipe.to_dict() | {"monitor": monitor or answer.deciding(recipe)})
    opening = Opening(
        model=Path(model),
        folder=Path(folder),
        recipe=recipe,
        data=data,
        eval_data=eval_data,
        select=select,
        select_data=select_data,
        device=device,
        threads=threads if threads or jobs == 1 else max(1, (os.cpu_count() or 1) // jobs),
        options={
            "precision": precision,
            "cuda_graphs": cuda_graphs,
            "deterministic": deterministic,
            "checkpoint_seconds": checkpoint_seconds,
        },
    )
    with held(opening.folder, (*MADE, RECIPE), lambda: document.is_begun(opening.folder)):
        _refuse_files_of_others(opening.folder)
        if fit:
            found = fitted(opening.folder, model, recipe, data, listener, device=device, threads=threads)
            opening = replace(opening, recipe=found)
        lab, evaluator = opened(opening, stop)
        doc, seconds = _begun(lab, evaluator)
        listener({"event": "measured", "name": AS_IT_CAME, "metrics": doc.came.evaluation})
        _say_what_chooses(lab, doc, listener)
        wanted = lab.sets.recipe
        if "drop-suspects" in kinds and lab.sets.training.examples is None:
            kinds = [kind for kind in kinds if kind != "drop-suspects"]
            listener(
                {"event": "note", "text": "a stream's examples have no numbers: the arm drop-suspects is left out"}
            )
        if sparsities == "auto" and any(arm.prunes for arm in arms(wanted, kinds, given)):
            doc = _climb(lab, doc, listener, seconds)
            given, wanted = (ladder.top(doc.ladder, doc.monitor).sparsity,), ladder.sparing(wanted)
        plan = arms(wanted, kinds, given)
        groups = lab.groups(doc, plan, seeds)
        expected = cost(lab.by_seed(groups), lab.sets.training, lab.execution, per_evaluation=seconds, jobs=jobs)
        if expected.runs:
            listener(expected.event())
        book = Book(lab, doc, plan, keep=keep == "all", listener=once(expected.counting(listener)))
        if jobs == 1:
            for group in groups:
                lab.train(group, book.tell)
        else:
            side_by_side(opening, groups, jobs, book.tell, stop)
        there = answer.known(book.doc, plan)
        doc = _finished(lab, book.doc, there)
    final = lab.folder / FINAL
    table = tuple(answer.table(doc, there, lab.folder))
    return Experiment(final, doc, table, verify_files.verify(lab.source.path, final))


def _refuse(model: str | Path, seeds: int, keep: str, jobs: int) -> None:
    if jobs < 1:
        raise RecipeError(f"{jobs} jobs train nothing", fix="give 1 or more; as many as there are cores, at most")
    if seeds < 1:
        raise RecipeError(f"{seeds} seeds are no experiment", fix="give 1 or more; from 3 on there are intervals")
    if keep not in ("all", "final"):
        raise RecipeError(f"keep = {keep!r} is none", fix='give "all" or "final"')
    if artifacts.find(model) is not None:
        raise RecipeError(
            "an experiment takes an inference model, and this is an exported training graph",
            where=str(model),
            fix="give the inference model, or compare with one seed and one sparsity",
        )


def _refuse_files_of_others(folder: Path) -> None:
    for file in (folder / FINAL, usage.beside(folder / FINAL)):
        if file.exists() and not (folder / document.FILE).exists():
            raise RunError(
                "a file is there that the experiment would replace", where=str(file), fix="choose another folder"
            )


def _begun(lab: Lab, evaluator: Evaluator) -> tuple[Document, float]:
    """What the experiment has measured so far, of a new one the model as it came; and how long selection takes."""
    began, sets, recipe = time.perf_counter(), lab.sets, lab.sets.recipe
    selected = evaluator(sets.selection)
    seconds = time.perf_counter() - began
    there = document.read(lab.folder)
    section = msgspec.structs.replace(recipe.data, without=None)  # what counts is who is left, not where the list was
    wanted = Document(
        source_digest=lab.source.digest,
        recipe=msgspec.structs.replace(recipe, data=section, monitor="loss").to_dict(),
        monitor=lab.monitor,
        data=sets.training.digest,
        selection=sets.selection.digest,
        evaluation=sets.evaluation.digest,
        came=Measured(selection=measuring.finite(selected), evaluation={}),
    )
    if there is not None:
        document.refuse_another(lab.folder, there, wanted)
        return there, seconds
    for data, name in ((sets.evaluation, AS_IT_CAME), (sets.selection, SELECTION)):
        measuring.write_scores(evaluator, data, answer.scores_file(lab.folder, name, 0))
    came = Measured(selection=wanted.came.selection, evaluation=measuring.finite(evaluator(sets.evaluation)))
    if lab.monitor not in came.selection or lab.monitor not in came.evaluation:
        raise ModelError(
            f"the model's {lab.monitor} is not finite as it came, so there is nothing to compare with",
            where=str(lab.source.path),
            fix="look whether data and model fit, with dsd-ort evaluate; or choose by another metric with --by",
        )
    new = msgspec.structs.replace(wanted, came=came)
    document.write(lab.folder, new)
    return new, seconds


def _say_what_chooses(lab: Lab, doc: Document, listener: Listener) -> None:
    """How many examples choose and measure, and whether the model seems to have been trained on those that choose."""
    counts = [data.examples for data in (lab.sets.selection, lab.sets.evaluation)]
    if None not in counts:
        text = f"{counts[0]:,} examples choose, {counts[1]:,} measure; nobody trains on them"
        listener({"event": "note", "text": text})
    monitor, came = doc.monitor, doc.came
    files = [answer.scores_file(lab.folder, name, 0) for name in (SELECTION, AS_IT_CAME)]
    chooses, measures = (measuring.scores(file, monitor) for file in files)
    if chooses is None or measures is None or not better(monitor, came.selection[monitor], came.evaluation[monitor]):
        return
    if measuring.told_apart(chooses, measures):
        text = (
            "the model as it came does far better on what chooses than on what measures: it was probably trained on "
            "it, and then what is trained here cannot win; give --select-data that the model has not seen, or neither "
            "--select nor --select-data"
        )
        listener({"event": "note", "text": text})


def _climb(lab: Lab, doc: Document, listener: Listener, per_evaluation: float) -> Document:
    """With the ladder of sparsities, found now or by an earlier call."""
    if doc.ladder:
        return doc
    measure = partial(lab.short_phases, listener=listener, per_evaluation=per_evaluation)
    examples = lab.sets.selection.examples
    found = ladder.climb(ladder.sparing(lab.sets.recipe), measure, doc.monitor, examples)
    doc = msgspec.structs.replace(doc, ladder=found)
    document.write(lab.folder, doc)
    shutil.rmtree(lab.folder / "ladder", ignore_errors=True)
    return doc


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
