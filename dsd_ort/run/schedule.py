"""Learning rates over the updates of one phase."""

from __future__ import annotations

import math

from dsd_ort.recipe import Schedule


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
