"""Points to check gradients at: the weights of the file, and some beside them."""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Callable, Collection, Mapping
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dsd_ort.errors import DataError
from dsd_ort.graph.program import Program
from dsd_ort.proof import gradients
from dsd_ort.proof.compared import Point, norm, parts
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
    """The points of one *program*, all on the same *batch*.

    Args:
        program: what trains.
        engine: opens one that trains it, with the weights of the file; it is let go of when it has made its steps, as
            its buffers are what takes the memory.
        weights: those of the file, and the statistics.
        batch: inputs and labels.
        mode: see :class:`~dsd_ort.proof.slopes.Point`.
        limit: seconds that a step in float64 may take; without a limit, any.
        still: see :func:`dsd_ort.proof.reference.looked_up`.
    """

    def __init__(
        self,
        program: Program,
        engine: Callable[[], Engine],
        weights: Mapping[str, npt.NDArray[Any]],
        batch: Arrays,
        mode: Literal["inference", "training"],
        *,
        limit: float = math.inf,
        still: Collection[str] = (),
    ) -> None:
        self.program, self.engine, self.batch, self.mode = program, engine, batch, mode
        self.limit, self.still = limit, still
        pieces = (*program.manifest.parameters, *program.manifest.statistics)
        self.weights = {piece.name: weights[piece.name] for piece in pieces}

    def here(self) -> Point:
        """At the weights of the file.

        Raises:
            StepError: a step does not run.
        """
        return self.at(self.weights)

    def beside(self) -> Point:
        """The same with its weights moved by up to a hundredth of their size."""
        random, moved = np.random.default_rng(2), {}
        for piece in self.program.manifest.trained:
            weights = self.weights[piece.name]
            far = BESIDE * gradients.size(weights) * random.uniform(-1, 1, piece.shape).astype(np.float32)
            moved[piece.name] = weights + far
        return self.at(self.weights | moved)

    def at(self, weights: Arrays) -> Point:
        inputs, (loss, found, noise) = weights | self.batch, self._stepped(weights)
        gc.collect()
        narrow: Callable[[], Arrays] = partial(self._again, inputs)
        wide_loss, wide = self._wide(inputs)
        return Point(inputs, loss, found, noise, self.mode, wide, wide_loss, narrow)

    def _stepped(self, weights: Arrays) -> tuple[float, Arrays, dict[str, float]]:
        """The loss, its gradients, and their noise: how they change where weights are one rounding away."""
        engine = self.engine()
        arena = engine.arena
        for piece in arena.trained:
            view(arena.weights, piece)[...] = weights[piece.name]
        loss = step(engine, self.batch)
        found = {piece.name: view(arena.gradients, piece).copy() for piece in arena.trained}
        random = np.random.default_rng(0)
        for part in parts(arena.weights):
            np.multiply(part, gradients.rounding(random, part.shape), out=part)
        step(engine, self.batch)
        return loss, found, {p.name: norm(view(arena.gradients, p) - found[p.name]) for p in arena.trained}

    @cached_property
    def _step_in_double(self) -> Step | None:
        with contextlib.suppress(Exception):  # an operator that the evaluator does not have, as in rare graphs
            return Step(self.program, double=True, still=self.still)
        return None

    def _wide(self, inputs: Arrays) -> tuple[float | None, Arrays | None]:
        """Loss and gradients in float64, or none."""
        if self._step_in_double is None:
            return None, None
        try:
            loss, found = self._step_in_double(inputs, limit=self.limit)
        except Exception:  # too slow, or not as the evaluator wants it
            self._step_in_double = None
            return None, None
        return (loss, found) if all(np.isfinite(array).all() for array in found.values()) else (None, None)

    def _again(self, inputs: Arrays) -> Arrays:
        """The gradients in float32 by NumPy; none where it cannot."""
        with contextlib.suppress(Exception):
            return Step(self.program, double=False)(inputs, limit=self.limit)[1]
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
