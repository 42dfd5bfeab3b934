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
from typing import NamedTuple

import msgspec

from dsd_ort.api.comparison import answer, document, measuring
from dsd_ort.api.comparison.arms import Arm
from dsd_ort.api.comparison.cost import cost
from dsd_ort.api.comparison.document import Diverged, Document, Result
from dsd_ort.api.comparison.folder import program_of
from dsd_ort.api.comparison.selection import Sets
from dsd_ort.api.comparison.training import Listener, Trainings, once
from dsd_ort.data import Dataset, counted, split, without
from dsd_ort.errors import DivergedError
from dsd_ort.graph.program import Program, open_program
from dsd_ort.model import fresh
from dsd_ort.model.source import Source
from dsd_ort.recipe import Recipe
from dsd_ort.run.execution import Execution
from dsd_ort.run.fork import shared_phases
from dsd_ort.run.journal import Event
from dsd_ort.ship import export as export_files

FINAL = "final.onnx"
MADE = ("runs", "arms", "scores", "drawn", "ladder", "left-out.csv", document.FILE, document.TABLE)
"""What an experiment makes in its folder before it is done."""
FIT_EXAMPLES = 2000
"""On so many training examples, at most, the fit of a short sparse phase is measured."""


class Group(NamedTuple):
    """Arms of one seed whose trainings have something in common: they go one behind the other."""

    seed: int
    arms: tuple[Arm, ...]
    of_several: bool
    """Whether there are other seeds."""

    def title(self, run: str) -> str:
        """What a training is called."""
        title = next(arm.title for arm in self.arms if arm.run == run)
        return f"{title}, seed {self.seed}" if self.of_several else title


@dataclass(frozen=True)
class Lab:
    """An experiment's folder, model, data and execution."""

    folder: Path
    source: Source
    sets: Sets
    execution: Execution
    training: Callable[..., object]
    """Trains a run folder on the sets: :func:`dsd_ort.train` but for the run, ``resume``, ``until``, ``listener``."""

    @property
    def monitor(self) -> str:
        """What chooses."""
        return self.sets.recipe.monitor

    def short_phases(
        self, recipes: Mapping[str, Recipe], listener: Listener, per_evaluation: float
    ) -> dict[str, tuple[dict[str, float], float | None]]:
        """Trains *recipes*: what each measures at its end on the selection data, and how it fits what it was given."""
        runs: dict[str, Program] = {}
        for name, recipe in recipes.items():
            like = next(iter(runs.values()), None)
            runs[name] = program_of(self.folder / "ladder" / "seed-0" / name, self.source.path, recipe, like)
        expected = cost([runs], self.sets.training, self.execution, per_evaluation=per_evaluation)
        tell = once(expected.counting(listener))
        titles = {f"a short phase at sparsity {name}": run for name, run in runs.items()}
        ruined: list[str] = []
        training = partial(self.training, listener=tell)
        Trainings(titles, training, tell, diverged=lambda name, error: ruined.append(name))()
        sample, found = self._sample(), {}
        for title, run in titles.items():
            if title not in ruined:
                last = measuring.at_end(run)
                arena = measuring.weights(run, last)
                fit = None if sample is None else measuring.fit(run, arena, sample, self.execution)
                found[run.folder.name] = (measuring.finite(last.selection), fit)
        return found

    def _sample(self) -> Dataset | None:
        """Of the examples that are trained on; None of a stream."""
        if self.sets.training.examples is None:
            return None
        whole, recipe = counted(self.sets.training), self.sets.recipe
        trained = whole if recipe.data.without is None else without(whole, recipe.data.without)
        share = FIT_EXAMPLES / trained.examples
        return trained if share >= 1 else split(trained, share, recipe.seed).part

    def groups(self, doc: Document | None, plan: Sequence[Arm], seeds: int) -> list[Group]:
        """What *doc* does not have yet, seed by seed; without one, all."""
        known: tuple[Result | Diverged, ...] = () if doc is None else (*doc.results, *doc.diverged)
        there = {(found.arm, found.seed) for found in known}
        found = []
        for seed in range(seeds):
            apart: list[list[Arm]] = []
            for arm in (arm for arm in plan if (arm.name, seed) not in there):
                near = next((g for g in apart if arm.run == g[0].run or _begin_alike(arm, g[0])), None)
                apart.append([arm]) if near is None else near.append(arm)
            found += [Group(seed, tuple(each), seeds > 1) for each in apart]
        return found

    def by_seed(self, groups: Sequence[Group]) -> list[dict[str, Program]]:
        """The run folders of *groups*, those of each seed together."""
        found: dict[int, dict[str, Program]] = {}
        for group in groups:
            found.setdefault(group.seed, {}).update(self.programs(group))
        return list(found.values())

    def programs(self, group: Group) -> dict[str, Program]:
        """The run folders of a group, by the name of the training; made where they are not there."""
        found: dict[str, Program] = {}
        for arm in group.arms:
            if arm.run not in found:
                like = None if arm.fresh else self._like(group.seed)
                folder = self.folder / "runs" / f"seed-{group.seed}" / arm.run
                model = self._drawn(group.seed) if arm.fresh else self.source.path
                found[arm.run] = program_of(folder, model, arm.of_seed(group.seed), like)
        return found

    def _like(self, seed: int) -> Program | None:
        """A run folder of the same model, if there is one."""
        there = sorted(path for path in self.folder.glob("runs/*/*/manifest.json") if path.parent.name != "fresh")
        return open_program(there[0].parent) if there else None

    def _drawn(self, seed: int) -> Path:
        """The model with weights drawn anew."""
        path = self.folder / "drawn" / f"seed-{seed}" / self.source.path.name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            values = dict(fresh.drawn(self.source, self.sets.recipe.seed + seed))
            export_files.write_weights(self.source, values, path)
        return path

    def train(self, group: Group, tell: Listener) -> None:
        """Trains a group, and tells each result as soon as it is there."""
        programs = self.programs(group)
        runs = {group.title(run): run for run in programs}

        def ended(title: str) -> None:
            program = programs[runs[title]]
            for arm in group.arms:
                if arm.run == runs[title]:
                    file = answer.scores_file(self.folder, arm.name, group.seed)
                    result = measuring.result(
                        arm, group.seed, program, sets=self.sets, scores=file, execution=self.execution
                    )
                    if self.monitor in result.measured.selection and self.monitor in result.measured.evaluation:
                        tell({"event": "result", **msgspec.to_builtins(result)})
                    else:
                        why = f"its {self.monitor} is not finite"
                        tell({"event": "diverged", "arm": arm.name, "seed": group.seed, "why": why})
            tell({"event": "measured-run", "run": str(program.folder)})

        def diverged(title: str, error: DivergedError) -> None:
            for arm in group.arms:
                if arm.run == runs[title]:
                    tell({"event": "diverged", "arm": arm.name, "seed": group.seed, "why": error.what})

        named = {group.title(run): program for run, program in programs.items()}
        Trainings(named, partial(self.training, listener=tell), tell, ended, diverged)()

    def best_file(self, arm: str) -> Path:
        """Where the best seed of an arm is."""
        return self.folder / "arms" / arm / FINAL


class Book:
    """Writes down what a lab tells, passes the rest on, and removes what is no longer wanted.

    Args:
        lab: whose folder it is.
        doc: what was written so far.
        plan: all arms.
        keep: whether run folders stay.
        listener: is told what is for people.
    """

    def __init__(self, lab: Lab, doc: Document, plan: Sequence[Arm], *, keep: bool, listener: Listener) -> None:
        self.lab, self.doc, self.keep, self.listener = lab, doc, keep, listener
        self.arms = {arm.name: arm for arm in plan}

    def tell(self, event: Event) -> None:
        """Takes what happened."""
        content = {key: value for key, value in event.items() if key != "event"}
        if event["event"] == "result":
            result = msgspec.convert(content, Result)
            self._keep_best(result)
            self._write(msgspec.structs.replace(self.doc, results=(*self.doc.results, result)))
        elif event["event"] == "diverged":
            new = msgspec.convert(content, Diverged)
            self._write(msgspec.structs.replace(self.doc, diverged=(*self.doc.diverged, new)))
        elif event["event"] == "measured-run":
            if not self.keep:
                shutil.rmtree(event["run"])
            return
        self.listener(event)

    def _keep_best(self, result: Result) -> None:
        """Exports *result* where it is the best of its arm so far, on the selection data."""
        monitor, arm, file = self.lab.monitor, self.arms[result.arm], self.lab.best_file(result.arm)
        if answer.top([*answer.of_arm(self.doc, arm.name).values(), result], monitor).seed == result.seed:
            run = open_program(self.lab.folder / "runs" / f"seed-{result.seed}" / arm.run)
            values = measuring.weights(run, measuring.chosen(arm, run, monitor)).moving()
            file.parent.mkdir(parents=True, exist_ok=True)
            export_files.write_weights(self.lab.source, values, file, recipe=self.lab.sets.recipe)

    def _write(self, doc: Document) -> None:
        """In the plan's order, seed by seed, whatever came first."""
        order = {name: number for number, name in enumerate(self.arms)}
        results = sorted(doc.results, key=lambda result: (result.seed, order.get(result.arm, len(order))))
        self.doc = msgspec.structs.replace(doc, results=tuple(results), final=None, verdict=())
        document.write(self.lab.folder, self.doc)


def _begin_alike(arm: Arm, other: Arm) -> bool:
    return arm.fresh == other.fresh and shared_phases(arm.recipe, other.recipe) > 0
