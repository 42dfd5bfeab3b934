"""How an experiment begins, in the call that carries it out and in those that train a part of it: the folder, what the
model measures as it came, the sparsity where it is looked for, and the arms.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from dsd_ort.api.comparison import answer, document, ladder, measuring
from dsd_ort.api.comparison.arms import USUAL, Arm, arms
from dsd_ort.api.comparison.document import Document, Measured
from dsd_ort.api.comparison.folder import RECIPE, fitted, held
from dsd_ort.api.comparison.jobs import Opening, opened
from dsd_ort.api.comparison.lab import FINAL, MADE, Lab
from dsd_ort.api.comparison.training import Listener
from dsd_ort.errors import ModelError, RecipeError, RunError
from dsd_ort.model import artifacts, usage
from dsd_ort.recipe import Recipe
from dsd_ort.recipe.tables import Experiment as Wish
from dsd_ort.run.evaluate import Evaluator
from dsd_ort.run.journal import AS_IT_CAME
from dsd_ort.run.metrics import better

SELECTION = "selection"
"""What the file of the scores is called that the model as it came has on the data that choose."""


@dataclass(frozen=True)
class Begun:
    """An experiment that can be carried out."""

    lab: Lab
    doc: Document
    plan: list[Arm]
    seeds: int
    seconds: float
    """What an evaluation on the selection data takes."""
    opening: Opening


@dataclass(frozen=True)
class Beginning:
    """What an experiment was asked to be."""

    opening: Opening
    kinds: Sequence[str]
    sparsities: Sequence[float] | str
    seeds: int
    fit: bool

    @contextmanager
    def begun(self, listener: Listener, stop: Callable[[], bool]) -> Iterator[Begun]:
        """Holds the folder meanwhile.

        Raises:
            RunError: another call holds it, or it holds another experiment.
        """
        opening, kinds = self.opening, self.kinds
        given = () if isinstance(self.sparsities, str) else tuple(self.sparsities)
        with held(opening.folder, (*MADE, RECIPE), lambda: document.is_begun(opening.folder)):
            _refuse_files_of_others(opening.folder)
            if self.fit:
                chosen = {"device": opening.device, "threads": opening.threads}
                found = fitted(opening.folder, opening.model, opening.recipe, opening.data, listener, **chosen)
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
            if self.sparsities == "auto" and any(arm.prunes for arm in arms(wanted, kinds, given)):
                doc = _climb(lab, doc, listener, seconds)
                given, wanted = (ladder.top(doc.ladder, doc.monitor).sparsity,), ladder.sparing(wanted)
            yield Begun(lab, doc, list(arms(wanted, kinds, given)), self.seeds, seconds, opening)


def beginning_of(
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
    monitor: str | None = None,
    fit: bool = False,
    device: str = "auto",
    threads: int = 0,
    **options: Any,
) -> Beginning:
    """The experiment of these arguments, those of :func:`dsd_ort.experiment`.

    Raises:
        RecipeError: no sparse phase; an arm, sparsity or number of seeds that is none; or a training graph for a model.
    """
    wish = recipe.experiment
    recipe = msgspec.structs.replace(recipe, experiment=Wish())
    sparsities = wish.sparsity if sparsities is None else sparsities
    seeds = wish.seeds if seeds is None else seeds
    select = wish.select if select is None and select_data is None else select
    kinds = wish.arms or USUAL if kinds is None else kinds
    _refuse(model, seeds)
    arms(recipe, kinds, () if isinstance(sparsities, str) else tuple(sparsities))  # refuses what is none
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
        threads=threads,
        options=options,
    )
    return Beginning(opening, kinds, sparsities, seeds, fit)


def _refuse(model: str | Path, seeds: int) -> None:
    if seeds < 1:
        raise RecipeError(f"{seeds} seeds are no experiment", fix="give 1 or more; from 3 on there are intervals")
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
