"""The steps of an update's batches: one after the other, or by several ranks at the same time, a round of them after
the other.

Batch b of an update is that of rank b mod n.  Behind each round the ranks tell each other what they left, and whether
somebody asked to stop; from then on all go on alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dsd_ort.recipe import Recipe
from dsd_ort.run.memory import Sent
from dsd_ort.run.position import Position
from dsd_ort.run.ranks import Ranks
from dsd_ort.run.state import State


class Wish(NamedTuple):
    """What a rank wants when the update is done."""

    stop: bool = False
    save: bool = False


class _Left(NamedTuple):
    """What a rank's batch left, beside gradients and statistics."""

    loss: float
    weight: float
    examples: int
    culprit: str = ""
    """The first tensor that is not finite, where the loss is not."""


class Rounds:
    """Steps through batches.

    Args:
        state: what they change.
        ranks: who shares them.
        recipe: with the batches that there are.
        wish: what this rank wants now.
    """

    def __init__(self, state: State, ranks: Ranks, recipe: Recipe, wish: Callable[[], Wish]) -> None:
        self.state, self.engine, self.ranks, self.ask = state, state.engine, ranks, wish
        self.seed, self.accumulate = recipe.seed, recipe.optimizer.accumulate
        self._left: _Left | None = None
        self._wish = Wish()

    def mine(self, number: int) -> bool:
        """Whether batch *number* of an epoch is this rank's."""
        return number % self.accumulate % self.ranks.size == self.ranks.rank

    def take(self, batch: Sent | None, *, sparse: bool, last: bool) -> bool:
        """Forward and backward of the next batch, None where it is another rank's; whether its update can be done."""
        at = self.state.position
        number = at.batch % self.accumulate
        complete = last or number + 1 == self.accumulate
        if self.ranks.size == 1:
            assert batch is not None
            self._alone(batch, sparse, at)
        elif batch is not None:
            self._left = self._step(batch, sparse, at)
        self.state.position = at.after_batch()
        if self.ranks.size > 1 and (complete or (number + 1) % self.ranks.size == 0):
            self._exchange(number % self.ranks.size + 1, at)
        return complete

    def wish(self) -> Wish:
        """What is to be done now that the update is: the same on all ranks."""
        return self.ask() if self.ranks.size == 1 else self._wish

    def _alone(self, batch: Sent, sparse: bool, at: Position) -> None:
        seed = self._seed_of(at)
        self.engine.queue(batch, sparse=sparse, seed=seed)
        self.state.pending.add(_examples(batch), at.step + 1)
        if self.engine.execution.on_cpu:
            self.state.collect(lambda: self.engine.first_bad_tensor(batch.arrays, seed=seed))

    def _step(self, batch: Sent, sparse: bool, at: Position) -> _Left:
        seed = self._seed_of(at)
        loss, weight = self.engine.leave(batch, sparse=sparse, seed=seed)
        bad = not math.isfinite(loss) and self.engine.execution.on_cpu and not self.engine.execution.mixed
        culprit = self.engine.first_bad_tensor(batch.arrays, seed=seed) if bad else ""
        return _Left(loss, weight, _examples(batch), culprit)

    def _exchange(self, count: int, at: Position) -> None:
        """The end of a round of *count* batches."""
        told = self.ranks.gather((self._left, self.ask()))
        done = [left for left, _ in told[:count] if left is not None]
        self._left = None
        self._wish = Wish(any(wish.stop for _, wish in told), told[0][1].save)
        self.engine.put_together([(left.loss, left.weight) for left in done])
        for left in done:
            self.state.pending.add(left.examples, at.step + 1)
        culprit = next((left.culprit for left in done if left.culprit), "")
        self.state.collect((lambda: culprit) if culprit else None)

    def _seed_of(self, at: Position) -> int:
        """Of the dropout masks of a batch."""
        return int(np.random.SeedSequence([self.seed, at.epochs, at.batch]).generate_state(1)[0] >> 1)


def _examples(batch: Sent) -> int:
    return next(len(array) for array in batch.arrays.values() if array.ndim)
