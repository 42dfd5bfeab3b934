"""What an experiment will take, before it begins: a measured step, times all that is to be trained; and the disk."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dsd_ort.api.comparison.training import is_complete, phases_taken_over
from dsd_ort.data import Dataset
from dsd_ort.graph.program import Program
from dsd_ort.run import outlook
from dsd_ort.run.arena import Arena
from dsd_ort.run.engine import Engine
from dsd_ort.run.epoch import batches_left, updates_of_phase
from dsd_ort.run.execution import Execution
from dsd_ort.run.journal import Event, read
from dsd_ort.run.position import Position

STEPS = 5
"""That are measured, behind one that warms up."""

EARLY = 0.02
"""The share of all updates up to which the time left is the one that was measured beforehand."""


@dataclass(frozen=True)
class Cost:
    """About what is left to do."""

    runs: int
    updates: int
    seconds: float
    bytes: int
    """On disk, of all runs that are not there yet."""

    def event(self) -> Event:
        """As a listener is told it."""
        return {"event": "cost", "runs": self.runs, "seconds": self.seconds, "bytes": self.bytes}

    def counting(self, listener: Callable[[Event], None]) -> Callable[[Event], None]:
        """*listener*, who is also told which training it is that begins, and what share of all updates is done."""
        began, trainings, updates = time.monotonic(), 0, 0

        def left() -> float:
            share = updates / max(1, self.updates)
            seconds = (1 - share) * ((time.monotonic() - began) / share if share > EARLY else self.seconds)
            return max(0.0, seconds)

        def tell(event: Event) -> None:
            nonlocal trainings, updates
            if event["event"] == "training":
                trainings += 1
                event = {**event, "number": trainings, "of": self.runs, "left": left()}
            listener(event)
            if event["event"] == "tick":
                updates += event.get("updates", 1)
                listener({"event": "overall", "done": updates, "of": self.updates, "left": left()})

        return tell


def cost(
    seeds: Sequence[Mapping[str, Program]], data: Dataset, execution: Execution, *, per_evaluation: float, jobs: int = 1
) -> Cost:
    """Of all trainings of each seed.

    Args:
        seeds: the runs by name; the same in all.
        data: that they are trained on.
        execution: on what a step is measured.
        per_evaluation: seconds that the selection data take once.
        jobs: how many runs go on at a time.
    """
    left = [program for runs in seeds for program in runs.values() if not is_complete(program)]
    if not left:
        return Cost(0, 0, 0.0, 0)
    updates, evaluations = 0, 0.0
    for runs in seeds:
        programs = list(runs.values())
        for program, shared in zip(programs, phases_taken_over(programs), strict=True):
            done = sum(event["event"] == "phase-end" for event in read(program.folder))
            for phase in program.recipe.phase[max(shared, done) :]:
                updates += updates_of_phase(program.recipe, data, phase, Position())
                evaluations += phase.epochs or 1
    seconds = updates * seconds_per_update(left[0], data, execution) + evaluations * per_evaluation
    return Cost(len(left), updates, seconds / jobs, sum(map(_bytes, left)))


def seconds_per_update(program: Program, data: Dataset, execution: Execution) -> float:
    """The median of some updates, from the model's own weights; nothing of the run changes."""
    arena, accumulate = Arena.of(program), program.recipe.optimizer.accumulate
    arena.fill_from(program.source())
    engine = Engine(program, arena, execution)
    engine.upload()
    found: list[float] = []
    batches = itertools.islice(batches_left(program.recipe, data, Position()), STEPS + 1)
    for batch in batches:
        began = time.perf_counter()
        engine.queue(batch, sparse=False, seed=0)
        engine.losses()
        stepped = time.perf_counter()
        engine.update(0.0, 1)
        found.append((stepped - began) * accumulate + time.perf_counter() - stepped)
    return statistics.median(found[1:] or found)


def _bytes(program: Program) -> int:
    """What a complete run takes: its copy of the model, the checkpoint, each phase's weights at its end and best."""
    copies = sum(file.stat().st_size for file in (program.folder / "source").rglob("*") if file.is_file())
    return copies + outlook.disk(program)
