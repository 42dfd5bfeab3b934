"""What evaluation reports: loss, top-1, top-5, mean error, as means over examples.

Each metric is a function of one batch's output and label that gives (sum, count), so that a data set of any length and
batches of any size add up exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dsd_ort.recipe import DEFAULT_METRICS, Loss

Values = npt.NDArray[Any]

HIGHER_IS_BETTER = {"loss": False, "top-1": True, "top-5": True, "mean-error": False}


def top(k: int) -> Callable[[Values, Values, Loss], tuple[float, int]]:
    """Counts labels among the *k* highest of C scores: scores f32[N, C, …], labels i64[N, …].

    A label that is scored no better than k others is not counted, whatever the order of equal scores: a constant output
    has top-1 of zero, not of chance, and so has one of NaN.  Labels equal to ``ignore_index`` do not count at all.
    """

    def count(scores: Values, labels: Values, loss: Loss) -> tuple[float, int]:
        valid = np.ones(labels.shape, bool) if loss.ignore_index is None else labels != loss.ignore_index
        safe = np.where(valid, labels, 0)
        own = np.take_along_axis(scores, np.expand_dims(safe, 1), axis=1)
        rank = np.count_nonzero(scores >= own, axis=1)
        return float(np.count_nonzero((rank >= 1) & (rank <= k) & valid)), int(np.count_nonzero(valid))

    return count


def mean_error(values: Values, targets: Values, loss: Loss) -> tuple[float, int]:
    """Σ |value − target| and the number of values."""
    return float(np.abs(values.astype(np.float64) - targets).sum()), values.size


METRICS: dict[str, Callable[[Values, Values, Loss], tuple[float, int]]] = {
    "top-1": top(1),
    "top-5": top(5),
    "mean-error": mean_error,
}


def default_metrics(losses: Sequence[Loss]) -> list[str]:
    """All that fit the first loss."""
    return list(DEFAULT_METRICS[losses[0].name])


def better(name: str, new: float, old: float | None) -> bool:
    """Whether *new* improves on *old* (None: nothing yet, as good as NaN)."""
    if old is None or math.isnan(old):
        return True
    return new > old if HIGHER_IS_BETTER[name] else new < old


class Meter:
    """Adds batches up; the first loss of the recipe is the one that the metrics are of."""

    def __init__(self, names: Sequence[str], loss: Loss) -> None:
        self.names, self.loss = list(names), loss
        self.sums = dict.fromkeys(self.names, 0.0)
        self.counts = dict.fromkeys(self.names, 0)

    def add(self, output: Values, label: Values, loss: float) -> None:
        for name in self.names:
            value, count = (
                (loss * len(label), len(label)) if name == "loss" else METRICS[name](output, label, self.loss)
            )
            self.sums[name] += value
            self.counts[name] += count

    def result(self) -> dict[str, float]:
        return {name: self.sums[name] / self.counts[name] for name in self.names if self.counts[name]}
