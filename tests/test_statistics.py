"""Distributions against mpmath and published tables, intervals by simulation, ranks by counting pairs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsd_ort.errors import DataError
from dsd_ort.statistics import (
    bootstrap_interval,
    mcnemar,
    over_examples,
    over_seeds,
    precision_at,
    precision_at_recall,
    roc_area,
    sign_test,
    student_cdf,
    student_interval,
    student_quantile,
    verdict,
)

RANKED = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=7).filter(
    lambda pairs: len({true for _, true in pairs}) == 2
)
"""Scores with many ties, and truths of both kinds."""


def beta_cdf(t: float, df: int) -> float:
    """Student's, by the regularized incomplete beta function in 40 digits."""
    with mpmath.workdps(40):
        below = mpmath.betainc(
            mpmath.mpf(df) / 2, mpmath.mpf("0.5"), 0, df / (df + mpmath.mpf(t) ** 2), regularized=True
        )
        return float(below / 2 if t < 0 else 1 - below / 2)


@pytest.mark.parametrize("df", [1, 2, 3, 4, 5, 8, 15, 16, 99, 100, 1001])
def test_students_distribution_is_the_incomplete_beta_function(df: int) -> None:
    for t in (-1000.0, -12.5, -3.0, -0.7, -1e-3, 0.0, 0.2, 1.0, 2.5, 8.0, 300.0):
        assert student_cdf(t, df) == pytest.approx(beta_cdf(t, df), abs=1e-13)


@pytest.mark.parametrize(
    ("df", "quantiles"),
    [(1, (6.314, 12.706, 63.657)), (2, (2.920, 4.303, 9.925)), (4, (2.132, 2.776, 4.604)), (9, (1.833, 2.262, 3.250)),
     (30, (1.697, 2.042, 2.750)), (120, (1.658, 1.980, 2.617))],
)  # fmt: skip
def test_quantiles_are_those_of_the_published_table(df: int, quantiles: tuple[float, ...]) -> None:
    assert [round(student_quantile(p, df), 3) for p in (0.95, 0.975, 0.995)] == list(quantiles)


@given(st.floats(1e-6, 1 - 1e-6))
def test_quantiles_of_one_and_two_degrees_have_closed_forms(p: float) -> None:
    assert student_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-9, abs=1e-12)
    assert student_quantile(p, 2) == pytest.approx((2 * p - 1) / math.sqrt(2 * p * (1 - p)), rel=1e-9, abs=1e-12)


@given(st.floats(1e-6, 1 - 1e-6), st.integers(1, 60))
def test_a_quantile_is_where_the_distribution_is_p(p: float, df: int) -> None:
    assert student_cdf(student_quantile(p, df), df) == pytest.approx(p, abs=1e-12)


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_sign_test_is_the_sum_of_binomials(better: int, worse: int) -> None:
    n, k = better + worse, min(better, worse)
    exact = Fraction(2 * sum(math.comb(n, i) for i in range(k + 1)), 2**n)
    assert sign_test(better, worse) == pytest.approx(min(1.0, float(exact)), rel=1e-12)


def test_the_sign_test_of_many_pairs_is_the_normal_approximation() -> None:
    better, worse = 505_000, 495_000
    z = (abs(better - worse) - 1) / math.sqrt(better + worse)
    assert sign_test(better, worse) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)


def test_mcnemar_counts_only_what_one_of_both_got_right() -> None:
    new, old = np.array([1, 1, 1, 1, 1, 1, 0, 1, 0, 0], bool), np.array([0, 0, 0, 0, 0, 0, 1, 1, 0, 0], bool)
    assert mcnemar(new, old) == mcnemar(old, new) == pytest.approx(2 * (1 + 7) / 2**7)
    found = over_examples(new, old, np.random.default_rng(0), higher_is_better=True)
    assert (found.better, found.equal, found.worse) == (6, 3, 1)
    assert found.probability == mcnemar(new, old)


def covered(interval: Callable[[np.random.Generator], tuple[float, float] | None], mean: float) -> int:
    """How many of 1,000 experiments have the true mean in their interval."""
    rng = np.random.default_rng(14)
    found = [interval(rng) for _ in range(1000)]
    return sum(bounds is not None and bounds[0] <= mean <= bounds[1] for bounds in found)


def test_the_interval_over_five_seeds_holds_the_truth_in_95_of_100_experiments() -> None:
    hits = covered(lambda rng: student_interval(rng.normal(0.3, 2.0, 5)), mean=0.3)
    assert 930 <= hits <= 970


def test_the_interval_over_400_examples_holds_the_truth_in_95_of_100_experiments() -> None:
    """Differences of losses lean to one side: most are near 0, and a few are large."""

    def interval(rng: np.random.Generator) -> tuple[float, float]:
        return bootstrap_interval(rng.gamma(2.0, 1.0, 400) - rng.gamma(1.0, 1.0, 400), rng, 500)

    assert 930 <= covered(interval, mean=1.0) <= 970


def test_the_bootstrap_leans_as_the_data_does() -> None:
    """Of 30 exponential differences the upper end is further from the mean than the lower one."""
    values = np.random.default_rng(3).exponential(size=30)
    low, high = bootstrap_interval(values, np.random.default_rng(0))
    assert low < values.mean() < high
    assert high - values.mean() > 1.15 * (values.mean() - low)
    assert (low, high) == bootstrap_interval(values, np.random.default_rng(0)), "a function of data and generator"


def test_differences_that_are_all_the_same_have_an_interval_of_no_width() -> None:
    assert bootstrap_interval(np.full(7, 0.25), np.random.default_rng(0)) == (0.25, 0.25)


def test_paired_differences_over_seeds() -> None:
    found = over_seeds([3.0, 5.0, 4.0, 4.0], [2.0, 3.0, 4.0, 5.0], higher_is_better=True)
    assert (found.mean, found.count) == (0.5, 4)
    assert (found.better, found.equal, found.worse) == (2, 1, 1)
    assert found.probability == 1.0
    half = 3.1824463 * np.std([1, 2, 0, -1], ddof=1) / 2  # t of 3 degrees of freedom, √4
    assert found.interval == pytest.approx((0.5 - half, 0.5 + half), rel=1e-7)
    assert found.visible == pytest.approx(half, rel=1e-7)
    lower = over_seeds([3.0, 5.0, 4.0, 4.0], [2.0, 3.0, 4.0, 5.0], higher_is_better=False)
    assert (lower.better, lower.worse, lower.mean) == (1, 2, 0.5)


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_have_no_interval(seeds: int) -> None:
    found = over_seeds([1.0] * seeds, [0.0] * seeds, higher_is_better=True)
    assert found.interval is None and found.visible is None


@pytest.mark.parametrize(
    ("new", "old", "what"),
    [
        ([1.0], [1.0, 2.0], "measurements of shapes [1] and [2] are no pairs"),
        ([], [], "measurements of shapes [0] and [0] are no pairs"),
        ([1.0, math.nan], [1.0, 2.0], "pair 1 has the measurements nan and 2.0, which have no difference"),
        ([1.0, 1.0], [math.inf, 2.0], "pair 0 has the measurements 1.0 and inf, which have no difference"),
    ],
)
def test_what_makes_no_pairs_is_refused(new: list[float], old: list[float], what: str) -> None:
    with pytest.raises(DataError) as caught:
        over_seeds(new, old, higher_is_better=True)
    assert caught.value.what == what and caught.value.fix


def points(value: float) -> str:
    return f"{100 * value:.1f} points"


def test_a_verdict_says_by_how_much() -> None:
    old = np.array([0.75, 0.76, 0.74, 0.77, 0.75])
    new = old + np.array([0.05, 0.06, 0.05, 0.04, 0.05])
    assert verdict(over_seeds(new, old, higher_is_better=True), "top-1", points) == (
        "top-1: 5.0 points better "
        "(95 % interval 4.1 points better to 5.9 points better; better on 5, worse on 0 of 5 seeds)"
    )
    assert verdict(over_seeds(new, old, higher_is_better=False), "loss") == (
        "loss: 0.05 worse (95 % interval 0.05878 worse to 0.04122 worse; better on 0, worse on 5 of 5 seeds)"
    )


def test_a_verdict_on_a_draw_says_what_would_have_been_seen() -> None:
    found = over_seeds([0.5, 0.7, 0.6], [0.6, 0.6, 0.6], higher_is_better=True)
    assert verdict(found, "top-1", points) == (
        "top-1: no difference seen; more than 24.8 points would have been "
        "(95 % interval 24.8 points worse to 24.8 points better; better on 1, worse on 1 of 3 seeds)"
    )
    assert verdict(over_seeds([0.5] * 3, [0.5] * 3, higher_is_better=True), "top-1") == "top-1: equal on all of 3 seeds"


def test_a_verdict_on_few_seeds_is_that_they_are_few() -> None:
    assert verdict(over_seeds([0.3, 0.4], [0.2, 0.1], higher_is_better=False), "loss") == (
        "loss: 2 seeds cannot tell a difference from chance, 3 could (0.2 worse on average; "
        "better on 0, worse on 2 of 2 seeds)"
    )


@pytest.mark.parametrize(("examples", "starts"), [(999, "one seed on 999 examples cannot tell"), (1000, "50.0 points")])
def test_one_seed_is_judged_from_a_thousand_examples_on(examples: int, starts: str) -> None:
    new = np.arange(examples) % 2 == 0
    found = over_examples(new, np.zeros(examples), np.random.default_rng(0), higher_is_better=True)
    said = verdict(found, "top-1", points)
    assert said.startswith(f"top-1: {starts}")
    assert said.endswith("another seed may end otherwise)") == (examples >= 1000)


@given(RANKED)
def test_the_area_is_the_share_of_pairs_in_the_right_order(pairs: list[tuple[int, bool]]) -> None:
    true, false = ([score for score, is_true in pairs if is_true is side] for side in (True, False))
    shares = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in itertools.product(true, false)]
    score, truth = zip(*pairs, strict=True)
    assert roc_area(score, truth) == pytest.approx(sum(shares) / len(shares))


@given(RANKED, st.data())
def test_precision_takes_equal_scores_by_chance(pairs: list[tuple[int, bool]], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(pairs)))
    orders = [sorted(order, key=lambda pair: -pair[0]) for order in itertools.permutations(pairs)]
    expected = sum(sum(is_true for _, is_true in order[:count]) / count for order in orders) / len(orders)
    score, truth = zip(*pairs, strict=True)
    assert precision_at(score, truth, count) == pytest.approx(expected)


@given(RANKED, st.floats(0.01, 1))
def test_precision_at_a_recall_is_that_of_the_highest_threshold(pairs: list[tuple[int, bool]], recall: float) -> None:
    score, truth = map(np.array, zip(*pairs, strict=True))
    for threshold in sorted(set(score), reverse=True):
        taken = score >= threshold
        if truth[taken].sum() / truth.sum() >= recall:
            assert precision_at_recall(score, truth, recall) == truth[taken].mean()
            return
    raise AssertionError("the lowest threshold takes all")


def test_an_infinite_score_is_the_highest() -> None:
    assert roc_area([1.0, math.inf, 2.0], [False, True, False]) == 1.0
    assert precision_at([1.0, math.inf, math.inf], [False, True, False], 1) == 0.5


def test_what_cannot_be_ranked_is_refused() -> None:
    with pytest.raises(DataError, match="all examples are true, or all false"):
        roc_area([1.0, 2.0], [True, True])
    with pytest.raises(DataError, match="or NaN among them"):
        roc_area([1.0, math.nan], [True, False])
    with pytest.raises(DataError, match="there are no 3 highest of 2 scores"):
        precision_at([1.0, 2.0], [True, False], 3)
    with pytest.raises(DataError, match="a recall of 0 is none"):
        precision_at_recall([1.0, 2.0], [True, False], 0.0)
