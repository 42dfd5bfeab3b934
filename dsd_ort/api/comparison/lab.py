"""Where an experiment is carried out: the folder, the model, the data, and how arms are trained and measured there.

::

    FOLDER/experiment.json, .csv    what was measured
    FOLDER/final.onnx               the best file on the selection data
    FOLDER/arms/ARM/final.onnx      the best seed of each arm
    FOLDER/runs/seed-N/ARM/         run folders; with keep = "final" until they are measured
    FOLDER/scores/                  how each test example came out
    FOLDER/left-out.csv             the examples that choose, and that nobody trains on
    FOLDER/drawn/, FOLDER/ladder/   weights drawn anew; short phases of the search for a sparsity
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from dsd_ort.api.comparison import answer, document, ladder, measuring
from dsd_ort.api.comparison.arms import Arm
from dsd_ort.api.comparison.cost import cost
from dsd_ort.api.comparison.document import Diverged, Document, Result
from dsd_ort.api.comparison.folder import program_of
from dsd_ort.api.comparison.selection import Sets
from dsd_ort.api.comparison.training import Trainings, once
from dsd_ort.data import Dataset, counted, split, without
from dsd_ort.errors import DivergedError
from dsd_ort.graph.program import Program
from dsd_ort.model import fresh
from dsd_ort.model.source import Source
from dsd_ort.recipe import Recipe
from dsd_ort.run.execution import Execution
from dsd_ort.run.journal import Event
from dsd_ort.run.metrics import better
from dsd_ort.ship import export as export_files

FINAL = "final.onnx"
MADE = ("runs", "arms", "scores", "drawn", "ladder", "left-out.csv", document.FILE, document.TABLE)
"""What an experiment makes in its folder before it is done."""
BEGUN = "*/*/*/checkpoint.safetensors"
FIT_EXAMPLES = 2000
"""On so many training examples, at most, the fit of a short sparse phase is measured."""


@dataclass(frozen=True)
class Lab:
    """An experiment's folder, model, data and execution."""

    folder: Path
    source: Source
    sets: Sets
    monitor: str
    execution: Execution
    training: Callable[..., object]
    """Trains a run folder on the sets: :func:`dsd_ort.train` but for the run, ``resume``, ``until``, ``listener``."""
    listener: Callable[[Event], None]
    keep: bool
    """Whether run folders stay."""
    per_evaluation: float
    """Seconds that the selection data take once."""

    def climb(self, doc: Document) -> Document:
        """With the ladder of sparsities, found now or by an earlier call."""
        if doc.ladder:
            return doc
        recipe = ladder.sparing(self.sets.recipe)
        rungs = ladder.climb(recipe, partial(self._short_phases, sample=self._sample()), self.monitor)
        doc = msgspec.structs.replace(doc, ladder=rungs)
        document.write(self.folder, doc)
        shutil.rmtree(self.folder / "ladder", ignore_errors=True)
        return doc

    def _sample(self) -> Dataset:
        """Of the examples that are trained on."""
        whole, recipe = counted(self.sets.training), self.sets.recipe
        trained = whole if recipe.data.without is None else without(whole, recipe.data.without)
        share = FIT_EXAMPLES / trained.examples
        return trained if share >= 1 else split(trained, share, recipe.seed).part

    def _short_phases(
        self, recipes: Mapping[str, Recipe], sample: Dataset
    ) -> dict[str, tuple[dict[str, float], float | None]]:
        runs: dict[str, Program] = {}
        for name, recipe in recipes.items():
            like = next(iter(runs.values()), None)
            runs[name] = program_of(self.folder / "ladder" / "seed-0" / name, self.source.path, recipe, like)
        titles = {f"a short phase at sparsity {name}": run for name, run in runs.items()}
        Trainings(titles, partial(self.training, listener=once(self.listener)), self.listener)()
        found = {}
        for name, run in runs.items():
            last = measuring.at_end(run)
            fit = measuring.fit(run, measuring.weights(run, last), sample, self.execution)
            found[name] = (last.selection, fit)
        return found

    def run(self, doc: Document, plan: Sequence[Arm], seeds: int) -> Document:
        """Trains and measures all arms that *doc* does not have yet, seed by seed; *doc* with what came out."""
        there = {(r.arm, r.seed) for r in doc.results} | {(d.arm, d.seed) for d in doc.diverged}
        missing = [[arm for arm in plan if (arm.name, seed) not in there] for seed in range(seeds)]
        programs = [self._programs(wanted, seed) for seed, wanted in enumerate(missing)]
        expected = cost(programs, self.sets.training, self.execution, per_evaluation=self.per_evaluation)
        if expected.runs:
            self.listener(expected.event())
        listener = expected.counting(self.listener)
        training = partial(self.training, listener=once(listener))
        for seed, (wanted, runs) in enumerate(zip(missing, programs, strict=True)):
            titles = {run: _title(run, wanted, seed, seeds) for run in runs}
            record = _Record(self, doc, wanted, seed, {title: run for run, title in titles.items()}, runs)
            named = {titles[run]: program for run, program in runs.items()}
            Trainings(named, training, listener, record.ended, record.diverged)()
            doc = record.doc
        return doc

    def _programs(self, wanted: Sequence[Arm], seed: int) -> dict[str, Program]:
        """The run folders of the arms *wanted* of a seed, by the name of the training."""
        found: dict[str, Program] = {}
        for arm in wanted:
            if arm.run not in found:
                like = None if arm.fresh else next(iter(found.values()), None)
                folder = self.folder / "runs" / f"seed-{seed}" / arm.run
                model = self._drawn(seed) if arm.fresh else self.source.path
                found[arm.run] = program_of(folder, model, arm.of_seed(seed), like)
        return found

    def _drawn(self, seed: int) -> Path:
        """The model with weights drawn anew."""
        path = self.folder / "drawn" / f"seed-{seed}" / self.source.path.name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            values = dict(fresh.drawn(self.source, self.sets.recipe.seed + seed))
            export_files.write_weights(self.source, values, path)
        return path

    def best_file(self, arm: str) -> Path:
        """Where the best seed of an arm is."""
        return self.folder / "arms" / arm / FINAL

    def keep_best(self, doc: Document, arm: Arm, result: Result, run: Program) -> None:
        """Exports *result* where it is the best of its arm so far, on the selection data."""
        value = result.measured.selection[self.monitor]
        others = [each.measured.selection[self.monitor] for each in answer.of_arm(doc, arm.name).values()]
        if all(better(self.monitor, value, other) for other in others):
            values = measuring.weights(run, measuring.chosen(arm, run, self.monitor)).values()
            self.best_file(arm.name).parent.mkdir(parents=True, exist_ok=True)
            export_files.write_weights(self.source, values, self.best_file(arm.name))


@dataclass
class _Record:
    """Measures the trainings of a seed as they end, and writes down what came out at once."""

    lab: Lab
    doc: Document
    wanted: Sequence[Arm]
    seed: int
    names: Mapping[str, str]
    """Title of a training → its name."""
    runs: Mapping[str, Program]

    def ended(self, title: str) -> None:
        lab, program = self.lab, self.runs[self.names[title]]
        for arm in self._arms(title):
            file = answer.scores_file(lab.folder, arm.name, self.seed)
            result = measuring.result(arm, self.seed, program, sets=lab.sets, scores=file, execution=lab.execution)
            lab.keep_best(self.doc, arm, result, program)
            self._write(msgspec.structs.replace(self.doc, results=(*self.doc.results, result)))
            lab.listener({"event": "result", **msgspec.to_builtins(result)})
        if not lab.keep:
            shutil.rmtree(program.folder)

    def diverged(self, title: str, error: DivergedError) -> None:
        new = tuple(Diverged(arm=arm.name, seed=self.seed, why=error.what) for arm in self._arms(title))
        self._write(msgspec.structs.replace(self.doc, diverged=(*self.doc.diverged, *new)))
        self.lab.listener({"event": "note", "text": f"{title} ends without a result: {error.what}"})

    def _arms(self, title: str) -> list[Arm]:
        return [arm for arm in self.wanted if arm.run == self.names[title]]

    def _write(self, doc: Document) -> None:
        self.doc = msgspec.structs.replace(doc, final=None, verdict=())
        document.write(self.lab.folder, self.doc)


def _title(run: str, wanted: Sequence[Arm], seed: int, seeds: int) -> str:
    title = next(arm.title for arm in wanted if arm.run == run)
    return title if seeds == 1 else f"{title}, seed {seed}"
