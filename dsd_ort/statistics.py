"""What measurements say: paired differences with intervals, exact tests, a verdict in words, and how a score ranks.

**Seeds.**  n differences d with mean m and standard deviation s have the 95 % interval m ± q·s/√n, where q is the
0.975 quantile of Student's t with ν = n - 1.  For a whole ν that distribution is a finite sum (Abramowitz & Stegun,
26.7.3 and 26.7.4), with θ = atan(t/√ν)::

    P(|T| ≤ t) = 2/π · (θ + sin θ · cos θ · Σⱼ Πᵢ 2i/(2i+1) · cos²ʲθ)    ν odd,  j < (ν-1)/2, i = 1 … j
    P(|T| ≤ t) = sin θ · Σⱼ Πᵢ (2i-1)/(2i) · cos²ʲθ                       ν even, j < ν/2

**Examples.**  Of one seed only the scatter over test examples is known: the interval of the mean is the bootstrap's,
bias-corrected and accelerated (Efron 1987), with z₀ the normal quantile of the share of resampled means below m::

    the levels of the resampled means are Φ(z₀ + (z₀ + z) / (1 - a·(z₀ + z))),   z = ±1.96,   a = Σd³ / (6·(Σd²)^1.5)

where d are here the deviations from m.

**Counts.**  Under no difference each pair that differs is a fair coin: P(X ≤ k) = Σ_{i ≤ k} C(n, i)/2ⁿ, doubled, is the
sign test, and on right/wrong pairs McNemar's exact test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dsd_ort.errors import DataError

Values = npt.NDArray[np.float64]
Interval = tuple[float, float]

LEVEL = 0.95
"""Of all intervals."""
SEEDS = 3
"""From so many on there is an interval over seeds."""
EXAMPLES = 1000
"""From so many test examples on, one seed may be called better or worse on them.  The interval over examples does not
hold the scatter from seed to seed; on fewer examples either is about as large as a gain."""
RESAMPLES = 4000

_BLOCK = 2**22  # numbers that the bootstrap draws at once


@dataclass(frozen=True)
class Paired:
    """How a new way differs from an old one on the same seeds, or on the same test examples of one seed."""

    over: Literal["seeds", "examples"]
    count: int
    """Of the pairs."""
    mean: float
    """New minus old."""
    interval: Interval | None
    """95 % of ``mean``; None over fewer than three seeds."""
    better: int
    equal: int
    worse: int
    probability: float
    """Of counts at least as one-sided as ``better`` and ``worse``, if there were no difference; two-sided, exact."""
    higher_is_better: bool

    @property
    def visible(self) -> float | None:
        """Half the width of the interval: a mean difference must be larger to be told from none, with this scatter.

        A true difference of this size is seen in every other experiment, and one of twice that in nearly all.
        """
        return None if self.interval is None else (self.interval[1] - self.interval[0]) / 2


def over_seeds(new: npt.ArrayLike, old: npt.ArrayLike, *, higher_is_better: bool) -> Paired:
    """A measurement of both ways for each seed, ``[n]`` each; the interval is Student's.

    Raises:
        DataError: the two differ in length, are empty, or hold NaN or infinity.
    """
    differences = _differences(new, old)
    return _paired("seeds", differences, student_interval(differences), higher_is_better)


def over_examples(
    new: npt.ArrayLike, old: npt.ArrayLike, rng: np.random.Generator, *, higher_is_better: bool
) -> Paired:
    """A loss, or right and wrong as 1 and 0, of both ways for each test example, ``[n]`` each.

    The interval is the bootstrap's; of right and wrong, the probability is that of McNemar's exact test.

    Raises:
        DataError: as :func:`over_seeds`.
    """
    differences = _differences(new, old)
    return _paired("examples", differences, bootstrap_interval(differences, rng), higher_is_better)


def verdict(found: Paired, metric: str, show: Callable[[float], str] = "{:.4g}".format) -> str:
    """What *found* says of *metric*, in a sentence.

    "Better" and "worse" are its words where the interval leaves out 0, and then only over three seeds or more, or of
    one seed over 1000 test examples or more.  A draw says how large a difference would have been seen.

    Args:
        found: the differences.
        metric: its name.
        show: writes a difference with its unit.
    """

    def signed(difference: float) -> str:
        side = "better" if (difference > 0) == found.higher_is_better else "worse"
        return f"{show(abs(difference))} {side}" if difference else "equal"

    pairs = f"{found.count:,} {found.over if found.count > 1 else found.over[:-1]}"
    counts = f"better on {found.better:,}, worse on {found.worse:,} of {pairs}"
    if found.better == found.worse == 0:
        return f"{metric}: equal on all of {pairs}"
    if found.interval is None:
        said = f"{pairs} cannot tell a difference from chance, {SEEDS} could"
        return f"{metric}: {said} ({signed(found.mean)} on average; {counts})"
    low, high = found.interval if found.higher_is_better else reversed(found.interval)
    between = f"95 % interval {signed(low)} to {signed(high)}; {counts}"
    if found.over == "examples" and found.count < EXAMPLES:
        said = f"one seed on {pairs} cannot tell a difference from chance, {SEEDS} seeds or {EXAMPLES:,} examples could"
        return f"{metric}: {said} ({between})"
    if found.interval[0] <= 0 <= found.interval[1]:
        return f"{metric}: no difference seen; more than {show(found.visible or 0.0)} would have been ({between})"
    alone = "" if found.over == "seeds" else "; another seed may end otherwise"
    return f"{metric}: {signed(found.mean)} ({between}{alone})"


def student_cdf(t: float, df: int) -> float:
    """P(T ≤ t) of Student's t with *df* degrees of freedom, a whole number from 1 on."""
    odd = df % 2
    theta, square = math.atan(t / math.sqrt(df)), df / (df + t * t)
    i = np.arange(1, (df - odd) // 2)
    factors = np.concatenate([np.ones(min(1, df - odd)), (2 * i - 1 + odd) / (2 * i + odd) * square])
    series = math.sin(theta) * float(np.cumprod(factors).sum())
    within = 2 / math.pi * (theta + math.sqrt(square) * series) if odd else series
    return 0.5 + within / 2


def student_quantile(p: float, df: int) -> float:
    """The t with P(T ≤ t) = *p*, by bisection in θ; *p* lies in (0, 1)."""
    low, high = -math.pi / 2, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        if student_cdf(math.sqrt(df) * math.tan(middle), df) < p:
            low = middle
        else:
            high = middle
    return math.sqrt(df) * math.tan(middle)


def student_interval(differences: Values) -> Interval | None:
    """The 95 % interval of the mean of f64[n], or None where n < 3."""
    n = len(differences)
    if n < SEEDS:
        return None
    mean = float(differences.mean())
    half = student_quantile((1 + LEVEL) / 2, n - 1) * float(differences.std(ddof=1)) / math.sqrt(n)
    return mean - half, mean + half


def bootstrap_interval(differences: Values, rng: np.random.Generator, resamples: int = RESAMPLES) -> Interval:
    """The 95 % interval of the mean of f64[n] by *resamples* samples of n; 50,000 examples take some seconds."""
    mean, deviations = float(differences.mean()), differences - differences.mean()
    if not (squares := float((deviations**2).sum())):
        return mean, mean
    means = np.concatenate(list(_resampled_means(differences, rng, resamples)))
    below = float(((means < mean).sum() + (means == mean).sum() / 2) / resamples)
    normal, least = NormalDist(), 0.5 / resamples
    bias = normal.inv_cdf(min(max(below, least), 1 - least))
    acceleration = float((deviations**3).sum()) / (6 * squares**1.5)
    levels = []
    for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2):
        z = bias + normal.inv_cdf(tail)
        levels.append(normal.cdf(bias + z / (1 - acceleration * z)))
    low, high = np.quantile(means, levels)
    return float(low), float(high)


def sign_test(better: int, worse: int) -> float:
    """The exact two-sided probability of counts at least as one-sided, where both are equally likely."""
    n, k = better + worse, min(better, worse)
    i = np.arange(k, 0, -1)
    # C(n, i - 1) = C(n, i)·i/(n - i + 1): the tail, from its greatest term down.
    tail = 1 + float(np.cumprod(i / (n - i + 1)).sum())
    greatest = math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
    return min(1.0, 2 * greatest * tail)


def mcnemar(new: npt.NDArray[np.bool_], old: npt.NDArray[np.bool_]) -> float:
    """The probability of McNemar's exact test; which examples, bool[n], both ways got right."""
    return sign_test(int((new & ~old).sum()), int((old & ~new).sum()))


def roc_area(score: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """The area under the ROC curve: how likely a true example scores higher than a false one, ties by half.

    Args:
        score: [n], higher where true is likelier; infinity is a score.
        truth: bool[n].

    Raises:
        DataError: a score is NaN, or all examples are true, or all false.
    """
    taken, hits = _cuts(score, truth)
    misses = taken - hits
    area = float((np.diff(misses) * (hits[1:] + hits[:-1]) / 2).sum())
    return area / float(hits[-1] * misses[-1])


def precision_at(score: npt.ArrayLike, truth: npt.ArrayLike, count: int) -> float:
    """The share of true examples among the *count* highest scores; of equal scores, chance takes some.

    Raises:
        DataError: as :func:`roc_area`; or *count* is not in [1, n].
    """
    taken, hits = _cuts(score, truth)
    if not 1 <= count <= taken[-1]:
        raise DataError(f"there are no {count} highest of {taken[-1]} scores", fix=f"give 1 to {taken[-1]}")
    return float(np.interp(count, taken, hits)) / count


def precision_at_recall(score: npt.ArrayLike, truth: npt.ArrayLike, recall: float) -> float:
    """The share of true examples from the highest threshold on above which *recall* of all true ones lie.

    Raises:
        DataError: as :func:`roc_area`; or *recall* is not in (0, 1].
    """
    taken, hits = _cuts(score, truth)
    if not 0 < recall <= 1:
        raise DataError(f"a recall of {recall:g} is none", fix="give a share in (0, 1]")
    reached = int(np.argmax(hits / hits[-1] >= recall))
    return float(hits[reached] / taken[reached])


def _cuts(score: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How many examples each threshold takes, from none to all, and how many of these are true."""
    scores, true = np.asarray(score, np.float64), np.asarray(truth, bool)
    if scores.shape != true.shape or np.isnan(scores).any():
        what = f"scores of shape {list(scores.shape)} for a truth of {list(true.shape)}, or NaN among them"
        raise DataError(what, fix="give one number for each example")
    if true.all() or not true.any():
        raise DataError("all examples are true, or all false: no score can tell them apart", fix="give some of both")
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(scores[order][1:] != scores[order][:-1], True)) + 1
    return np.insert(ends, 0, 0), np.insert(np.cumsum(true[order])[ends - 1], 0, 0)


def _paired(
    over: Literal["seeds", "examples"], differences: Values, interval: Interval | None, higher_is_better: bool
) -> Paired:
    higher, lower = int((differences > 0).sum()), int((differences < 0).sum())
    better, worse = (higher, lower) if higher_is_better else (lower, higher)
    return Paired(
        over=over,
        count=len(differences),
        mean=float(differences.mean()),
        interval=interval,
        better=better,
        equal=len(differences) - better - worse,
        worse=worse,
        probability=sign_test(better, worse),
        higher_is_better=higher_is_better,
    )


def _differences(new: npt.ArrayLike, old: npt.ArrayLike) -> Values:
    a, b = np.asarray(new, np.float64), np.asarray(old, np.float64)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        what = f"measurements of shapes {list(a.shape)} and {list(b.shape)} are no pairs"
        raise DataError(what, fix="measure both ways on the same seeds or examples")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        pair = int(np.argmin(np.isfinite(a) & np.isfinite(b)))
        what = f"pair {pair} has the measurements {a[pair]} and {b[pair]}, which have no difference"
        raise DataError(what, fix="leave the pair out, and say so, or use a metric that is always a number")
    return a - b


def _resampled_means(values: Values, rng: np.random.Generator, resamples: int) -> Iterator[npt.NDArray[Any]]:
    n = len(values)
    rows = max(1, _BLOCK // n)
    for start in range(0, resamples, rows):
        yield values[rng.integers(n, size=(min(rows, resamples - start), n))].mean(axis=1)
