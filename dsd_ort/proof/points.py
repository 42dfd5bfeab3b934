"""Points to check gradients at: the weights of the file, and some beside them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dsd_ort.errors import DataError
from dsd_ort.proof import gradients
from dsd_ort.proof.compared import Point
from dsd_ort.proof.wide_step import Step
from dsd_ort.run.arena import view
from dsd_ort.run.engine import Engine

Arrays = dict[str, npt.NDArray[Any]]

BESIDE = 1e-2
"""How far from the weights of the file, relative to their size, a point off their kinks is looked for."""
SEED = 7


class StepError(Exception):
    """A training step does not run."""


class Points:
    """The points of one *engine*, all on the same *batch*.

    Args:
        engine: what trains.
        batch: inputs and labels.
        mode: see :class:`~dsd_ort.proof.slopes.Point`.
        limit: seconds that a step in float64 may take; without a limit, any.
        still: see :func:`dsd_ort.proof.reference.looked_up`.
    """

    def __init__(
        self,
        engine: Engine,
        batch: Arrays,
        mode: Literal["inference", "training"],
        *,
        limit: float = math.inf,
        still: Collection[str] = (),
    ) -> None:
        self.engine, self.batch, self.mode, self.limit, self.still = engine, batch, mode, limit, still

    def here(self) -> Point:
        """At the weights that the engine has.

        Raises:
            StepError: a step does not run.
        """
        arena = self.engine.arena
        moving = {name: value.copy() for name, value in arena.moving().items()}
        inputs = arena.frozen | moving | self.batch
        loss = step(self.engine, self.batch)
        found = {piece.name: view(arena.gradients, piece).copy() for piece in arena.trained}
        # Weights one rounding away: what changes in the gradients is noise.
        before = arena.weights.copy()
        arena.weights *= gradients.rounding(np.random.default_rng(0), before.shape)
        step(self.engine, self.batch)
        noise = {
            p.name: float(np.linalg.norm((view(arena.gradients, p) - found[p.name]).astype(np.float64)))
            for p in arena.trained
        }
        arena.weights[...] = before
        narrow: Callable[[], Arrays] = partial(self._again, inputs)
        return Point(inputs, loss, found, noise, self.mode, self._wide(inputs), narrow)

    def beside(self) -> Point:
        """The engine's weights moved by up to a hundredth of their size."""
        random, arena = np.random.default_rng(2), self.engine.arena
        before = arena.weights.copy()
        for piece in arena.trained:
            weights = view(arena.weights, piece)
            weights += BESIDE * gradients.size(weights) * random.uniform(-1, 1, piece.shape).astype(np.float32)
        moved = self.here()
        arena.weights[...] = before
        return moved

    @cached_property
    def _step_in_double(self) -> Step | None:
        with contextlib.suppress(Exception):  # an operator that the evaluator does not have, as in rare graphs
            return Step(self.engine.program, double=True, still=self.still)
        return None

    def _wide(self, inputs: Arrays) -> Arrays | None:
        if self._step_in_double is None:
            return None
        try:
            found = self._step_in_double(inputs, limit=self.limit)
        except Exception:  # too slow, or not as the evaluator wants it
            self._step_in_double = None
            return None
        return found if all(np.isfinite(array).all() for array in found.values()) else None

    def _again(self, inputs: Arrays) -> Arrays:
        """The gradients in float32 by NumPy; none where it cannot."""
        with contextlib.suppress(Exception):
            return Step(self.engine.program, double=False)(inputs, limit=self.limit)
        return {}


def step(engine: Engine, batch: Arrays, *, sparse: bool = False) -> float:
    """The loss of one step, whose gradients are in the engine's arena then.

    Raises:
        StepError: it does not run.
    """
    try:
        return engine.step(batch, sparse=sparse, seed=SEED)
    except DataError as error:
        raise StepError(error.what) from error
