"""Sparsities by layer: exact totals, and no other way that costs less by the same curves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsd_ort.errors import RecipeError
from dsd_ort.run.allocation import Curve, allocate

SPARSITIES = (0.25, 0.5, 0.75)


@st.composite
def curves(draw: st.DrawFn) -> list[Curve]:
    """Measured ones, which go up and down."""
    losses = st.lists(st.floats(-0.5, 5), min_size=3, max_size=3)
    sizes = st.integers(1, 400)
    found = draw(st.lists(st.tuples(sizes, losses), min_size=1, max_size=4))
    return [Curve(4 * size, tuple(zip(SPARSITIES, each, strict=True))) for size, each in found]


@given(curves(), st.floats(0, 0.75))
def test_the_total_is_met_exactly_and_no_layer_goes_beyond_what_was_measured(found: list[Curve], total: float) -> None:
    shares = allocate(found, total)
    pruned = sum(share * curve.weights for share, curve in zip(shares, found, strict=True))
    assert pruned == pytest.approx(total * sum(curve.weights for curve in found), abs=1e-6)
    assert all(0 <= share <= 0.75 + 1e-9 for share in shares)


def _cost(curve: Curve, share: float) -> float:
    """On the lower hull of the curve made one that rises, by trying all of its chords."""
    risen = np.maximum.accumulate([0.0, *(loss for _, loss in curve.points)])
    points = list(zip((0.0, *SPARSITIES), risen, strict=True))
    chords = (
        a[1] + (b[1] - a[1]) * (share - a[0]) / (b[0] - a[0])
        for a in points
        for b in points
        if a[0] <= share <= b[0] != a[0]
    )
    return min(chords, default=float(risen[-1]))


@settings(deadline=None)
@given(curves(), st.sampled_from([0.2, 0.4, 0.6]))
def test_no_other_way_to_the_total_costs_less(found: list[Curve], total: float) -> None:
    shares = allocate(found, total)
    cost = sum(map(_cost, found, shares))
    weights = np.array([curve.weights for curve in found], float)
    generator = np.random.default_rng(0)
    for _ in range(30):
        other = generator.uniform(0, 0.75, len(found))
        wanted = total * weights.sum()
        for _ in range(50):  # onto the total, within what was measured
            other = np.clip(other + (wanted - other @ weights) / weights.sum(), 0, 0.75)
        if abs(other @ weights - wanted) < 1e-6 * wanted:
            assert cost <= sum(map(_cost, found, other)) + 1e-6


def test_what_bears_more_is_pruned_more() -> None:
    tender, tough = Curve(1000, ((0.5, 1.0), (0.9, 4.0))), Curve(1000, ((0.5, 0.1), (0.9, 0.2)))
    shares = allocate([tender, tough], 0.6)
    assert shares == pytest.approx([0.3, 0.9])


def test_a_layer_is_not_pruned_where_its_loss_is_not_finite() -> None:
    shares = allocate([Curve(100, ((0.5, 0.1), (0.9, math.inf))), Curve(100, ((0.5, 9.0), (0.9, 10.0)))], 0.7)
    assert shares == pytest.approx([0.5, 0.9])


def test_a_total_out_of_reach_is_refused_with_what_is_in_reach() -> None:
    with pytest.raises(RecipeError, match=r"a total of 0\.95 is out of reach: what was scanned goes up to 0\.9"):
        allocate([Curve(100, ((0.5, 0.1), (0.9, 0.3)))], 0.95)
