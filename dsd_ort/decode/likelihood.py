"""Log probabilities of classes, from whatever a model gives for them.

With scores x over the last axis, the classes::

    log p_c = x_c - log Σ_k exp(x_k)      x are logits; nothing changes where they are log probabilities
    log p_c = log x_c                     x are a distribution: none negative, and they sum to 1

So a model that ends in Softmax or LogSoftmax means what the same model without it means.  Logits are not taken for
probabilities by chance: all that are given at once would have to be positive and sum to 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[Any]
"""Floating point, ``[…, C]``."""
LogProbabilities = npt.NDArray[np.float64]

SUM_TOLERANCE = 1e-2
"""How far from 1 probabilities may sum: those of a large vocabulary are rounded in float16."""


class Hypothesis(NamedTuple):
    """What a beam search found: class numbers, and what they were ranked by."""

    labels: list[int]
    score: float
    """A log probability, with what the search was told to add to it or to divide it by."""


def log_probabilities(scores: Scores, labels: npt.NDArray[np.integer] | None = None) -> LogProbabilities:
    """The log p, f64 of the shape of *scores*, or for *labels* i64[…] only theirs, f64[…].

    NaN where the scores have no meaning (NaN, or +infinity among them); -infinity where a class is impossible.
    """
    chosen = (scores if labels is None else np.take_along_axis(scores, labels[..., None], -1)).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found: LogProbabilities = np.log(chosen) if is_distribution(scores) else chosen - _log_sum_exp(scores)
    return found if labels is None else found[..., 0]


def is_distribution(scores: Scores) -> bool:
    """Whether all of *scores* are probabilities already."""
    if not scores.size or not scores.min() >= 0:  # so for NaN, too
        return False
    return bool(np.all(np.abs(scores.sum(-1, dtype=np.float64) - 1) <= SUM_TOLERANCE))


def best_of(values: LogProbabilities, count: int) -> npt.NDArray[np.intp]:
    """Where the *count* greatest of f64[M] stand, the greatest first; impossible ones (-infinity) are left out."""
    count = min(count, values.size)
    found = np.argpartition(-values, count - 1)[:count] if count else np.empty(0, np.intp)
    found = found[np.argsort(-values[found], kind="stable")]
    return found[values[found] > -np.inf]


def _log_sum_exp(scores: Scores) -> LogProbabilities:
    """The log Σ exp, f64[…, 1]: terms in the scores' own precision, but float32 at least, and their sum in double."""
    wide = scores.astype(np.promote_types(scores.dtype, np.float32), copy=False)
    peak = wide.max(-1, keepdims=True)
    logarithm: LogProbabilities = np.log(np.exp(wide - peak).sum(-1, dtype=np.float64, keepdims=True))
    logarithm += peak
    return logarithm
