"""A learning-rate range test (Smith 2017, arXiv 1506.01186): how far a few updates lower the loss, rate by rate.

::

    rates      1e-5, 3.2e-5, 1e-4, … 1
    at each    the same weights, pruned where the first phase is sparse, the same UPDATES batches
    measured   the loss on examples of the training data that are held back
    chosen     the rate with the lowest

Smith raises the rate as the training goes on; starting anew tells what each rate does to the model as it came.  A model
that was trained already has seen the examples that are held back too.  That makes the choice careful: where training on
the others makes it forget them, the loss rises with the rate, and the lowest one is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dsd_ort.data import Dataset, counted, with_last
from dsd_ort.data.subset import Split, split
from dsd_ort.errors import DataError, DivergedError
from dsd_ort.graph.program import Program
from dsd_ort.run.arena import Arena
from dsd_ort.run.calibration import norms
from dsd_ort.run.engine import Engine
from dsd_ort.run.epoch import batches_left
from dsd_ort.run.evaluate import Evaluator
from dsd_ort.run.execution import Execution
from dsd_ort.run.position import Position
from dsd_ort.run.prune import Pruner
from dsd_ort.run.schedule import sparsity

RATES = tuple(float(f"{10 ** (exponent / 2):.2g}") for exponent in range(-10, 1))
UPDATES = 32
"""At each rate."""
HELD_BACK = 0.1
"""Of the training data, but no more than MOST examples."""
MOST = 1000
HOPELESS = 4.0
"""After a loss of so many times the lowest so far, no higher rate is tried."""


class UntestableError(DataError):
    """The data is sound, but nothing of it can be held back."""


class Point(NamedTuple):
    """What came of a rate."""

    rate: float
    loss: float
    """On the examples held back; infinite where it is not finite."""


class Curve(NamedTuple):
    """What the test found."""

    came: float
    """The loss of the model as it came, on the examples held back."""
    start: float
    """… and as the first phase begins: pruned, where that is sparse."""
    points: tuple[Point, ...]
    """By rising rates."""
    held_back: int
    """How many examples."""

    @property
    def best(self) -> Point:
        """The rate with the lowest loss."""
        return min(self.points, key=lambda point: point.loss)


def measure(
    program: Program, data: Dataset, execution: Execution, listener: Callable[[Point], None] = lambda point: None
) -> Curve:
    """Tests the optimizer of *program* on what its first phase trains, from its model's own weights.

    At most ``len(RATES) * UPDATES`` updates, and nothing of them is kept.

    Args:
        program: a prepared run.
        data: to train on.
        execution: on what.
        listener: is told each point.

    Raises:
        UntestableError: *data* is a stream or too small.
        DataError: an example cannot be read.
        DivergedError: the loss of the model as it came is not finite, or no rate's is.
    """
    parts = _parts(data, program.recipe.batch_size)
    test = _Test(program, parts, execution)
    came = test.loss()
    if not math.isfinite(came):
        raise _not_finite("of the model as it came", data.where)
    start = lowest = test.begin()
    points: list[Point] = []
    for rate in RATES:
        points.append(Point(rate, test.after(rate)))
        listener(points[-1])
        lowest = min(lowest, points[-1].loss)
        if points[-1].loss > HOPELESS * lowest:
            break
    curve = Curve(came, start, tuple(points), parts.part.examples)
    if not math.isfinite(curve.best.loss):
        raise _not_finite(f"after {UPDATES} updates at a learning rate of {RATES[0]:g}", data.where)
    return curve


def _parts(data: Dataset, batch_size: int) -> Split:
    """What is trained on, and what is held back: whole batches, as the model may fix their size."""
    try:
        whole = counted(data)
    except DataError as error:
        raise UntestableError(error.what, where=error.where, fix=error.fix) from error
    if whole.examples < 2 * batch_size:
        raise UntestableError(
            f"{whole.examples} examples are too few to test learning rates on, with a batch of {batch_size} held back",
            where=data.where,
            fix="give a smaller batch_size, or more data, or learning rates of your own",
        )
    batches = max(1, round(min(HELD_BACK * whole.examples, MOST) / batch_size))
    return split(whole, batches * batch_size / whole.examples, seed=0)


class _Test:
    """The first phase's beginning, to go back to."""

    def __init__(self, program: Program, parts: Split, execution: Execution) -> None:
        self.program, self.recipe, self.parts = program, program.recipe, parts
        self.arena = Arena.of(program)
        self.engine = Engine(program, self.arena, execution)
        self.arena.fill_from(program.source())
        self.engine.upload()
        self.evaluator = Evaluator.of_program(
            program, self.engine.values(), execution=execution, memory=self.engine.memory
        )
        self.pruner = Pruner(
            self.recipe.prune,
            self.recipe.seed,
            program.source,
            lambda: norms(self.evaluator, program.manifest.prunable, parts.rest),
        )

    def loss(self) -> float:
        """On the examples held back; infinite where it is not finite."""
        with np.errstate(all="ignore"):
            loss = self.evaluator(self.parts.part)["loss"]
        return loss if math.isfinite(loss) else math.inf

    def begin(self) -> float:
        """Prunes where the first phase is sparse, as far as it will; the loss then."""
        phase = self.recipe.phase[0]
        if self.pruner.is_masked(phase):
            self.pruner.prune(self.arena, phase, sparsity(phase, UPDATES, steps=UPDATES))
            self.engine.upload()
        self.weights, self.statistics = self.arena.weights.copy(), self.arena.statistics.copy()
        return self.loss()

    def after(self, rate: float) -> float:
        """The loss after the updates at *rate*, from the beginning."""
        self.arena.weights[...], self.arena.statistics[...] = self.weights, self.statistics
        for slot in self.arena.slots.values():
            slot[...] = 0
        self.engine.upload()
        self.engine.updates.restore({}, 0)
        position = Position()
        while position.step < UPDATES:
            position = self._epoch(rate, position)
        return self.loss() if all(map(math.isfinite, self.engine.losses())) else math.inf

    def _epoch(self, rate: float, position: Position) -> Position:
        """The batches of an epoch, or as many as are wanted."""
        sparse, accumulate = self.pruner.is_masked(self.recipe.phase[0]), self.recipe.optimizer.accumulate
        for batch, last in with_last(batches_left(self.recipe, self.parts.rest, position)):
            self.engine.queue(batch, sparse=sparse, seed=position.step)
            position = position.after_batch()
            if position.batch % accumulate and not last:
                continue
            self.engine.update(rate, position.step + 1)
            position = position.after_update()
            if position.step == UPDATES:
                break
        return position.after_epoch()


def _not_finite(when: str, where: str) -> DivergedError:
    return DivergedError(
        f"the loss {when} is not finite, so there is no learning rate to choose",
        where=where,
        fix="dsd-ort evaluate shows what the model measures as it came; are the data and the loss right?",
    )
