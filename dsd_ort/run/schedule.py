"""Learning rates and sparsities over the updates of one phase."""

from __future__ import annotations

import math
from collections.abc import Callable

from dsd_ort.recipe import Phase, Rise, Schedule

SHARES: dict[str, Callable[[float, Rise], float]] = {
    "linear": lambda t, rise: t,
    "cubic": lambda t, rise: 1 - (1 - t) ** 3,
    "steps": lambda t, rise: math.floor(t * rise.stairs) / rise.stairs,
}
"""Schedule → the share of its rise that is done at t in [0, 1]."""


def sparsity(phase: Phase, step: int, *, steps: int) -> float:
    """That of update *step*, counted from 0, of a sparse phase of *steps* updates.

    A sparsity that rises keeps each of its values for ``every`` updates, and is at its end after the share ``over`` of
    the phase, and in any case at its last update.
    """
    rise = phase.sparsity
    if not isinstance(rise, Rise):
        return rise or 0.0
    length = min(math.floor(rise.over * steps), steps - 1)
    if step >= length:
        return rise.final
    t = (step - step % rise.every) / length
    return rise.initial + (rise.final - rise.initial) * SHARES[rise.schedule](t, rise)


def learning_rate(schedule: Schedule, step: int, *, steps: int, steps_per_epoch: int) -> float:
    """The rate of update *step*, counted from 0 in the phase.

    ``cosine``: final + (initial − final) · (1 + cos(π t)) / 2 with t = step / steps (Loshchilov and Hutter 2017).
    During the first ``warmup`` updates the result is scaled by (step + 1) / warmup (Goyal et al. 2017).

    Args:
        schedule: from the recipe.
        step: in [0, steps).
        steps: the updates of the whole phase.
        steps_per_epoch: the updates of one epoch.
    """
    rate = schedule.initial
    if schedule.schedule == "step":
        passed = int(step / (schedule.every * steps_per_epoch))
        rate *= schedule.factor**passed
    elif schedule.schedule == "cosine":
        rate = schedule.final + (rate - schedule.final) * (1 + math.cos(math.pi * step / max(steps, 1))) / 2
    if step < schedule.warmup:
        rate *= (step + 1) / schedule.warmup
    return rate
