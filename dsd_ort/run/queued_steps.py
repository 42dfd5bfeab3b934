"""Steps that were queued, and whose losses nobody has looked at yet; and how a training ends that went bad."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from dsd_ort.errors import DivergedError
from dsd_ort.run.engine import Engine
from dsd_ort.run.position import Progress

OVERFLOWS = 20
"""Losses in a row that may be infinite while the scale of 16-bit gradients comes down, or where they are skipped."""

_FIX = (
    "the last good checkpoint is kept; use a lower learning rate, warm-up or optimizer.clip_norm; --on-nan skip leaves "
    "out single batches"
)


class _Step(NamedTuple):
    examples: int
    update: int
    """The number of the update that it is for."""


@dataclass
class Pending:
    """The steps of an engine.

    On the CPU a step's loss is looked at before anything else is done; on a GPU when somebody wants to know.
    """

    engine: Engine
    loss: float = math.nan
    """The last one that was looked at."""
    steps: list[_Step] = field(default_factory=list)
    bad: int = 0
    """Losses in a row that were not finite."""

    def add(self, examples: int, update: int) -> None:
        self.steps.append(_Step(examples, update))

    def collect(self, progress: Progress, phase: int, culprit: Callable[[], str] | None = None) -> None:
        """Adds the losses to *progress*.

        Args:
            progress: of the phase.
            phase: its number, from 1, for messages.
            culprit: names the tensor that made the last step's loss not finite.

        Raises:
            DivergedError: a loss is not finite; with 16-bit numbers, or where that is skipped, too many in a row.
        """
        some = self.engine.execution.mixed or self.engine.execution.on_nan == "skip"
        for step, loss in zip(self.steps, self.engine.losses(), strict=True):
            self.loss = loss
            if math.isfinite(loss):
                self.bad = 0
                progress.loss_sum += loss * step.examples
                progress.examples += step.examples
                continue
            self.bad += 1
            if not some or self.bad > OVERFLOWS:
                when = f" {self.bad} times in a row, up to" if some else ", at"
                where = str(self.engine.program.folder)
                if culprit is not None:
                    where = f"the first tensor that is not finite is {culprit()}"
                what = f"the loss became {loss} in phase {phase}{when} update {step.update}"
                raise DivergedError(what, where=where, fix=_FIX)
        self.steps.clear()


def bad_weights(name: str, step: int) -> DivergedError:
    """The weight *name* is not finite after update *step*."""
    return DivergedError(
        f"the weights are no longer finite after update {step}",
        where=f"the first tensor that is not finite is the weight {name!r}",
        fix=_FIX,
    )
