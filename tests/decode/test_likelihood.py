from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsd_ort.decode.likelihood import best_of, is_distribution, log_probabilities

LOGITS = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32) * 3
EXACT = LOGITS - np.log(np.exp(LOGITS.astype(np.float64)).sum(-1, keepdims=True))


def test_logits_log_probabilities_and_probabilities_mean_the_same() -> None:
    assert log_probabilities(LOGITS) == pytest.approx(EXACT, rel=1e-6)
    assert log_probabilities(EXACT.astype(np.float32)) == pytest.approx(EXACT, rel=1e-6)
    assert log_probabilities(np.exp(EXACT).astype(np.float32)) == pytest.approx(EXACT, rel=1e-6)
    assert log_probabilities(np.exp(EXACT).astype(np.float16)) == pytest.approx(EXACT, rel=2e-2)


def test_labels_choose_one_of_the_classes() -> None:
    labels = np.array([0, 4, 2, 2])
    assert log_probabilities(LOGITS, labels) == pytest.approx(EXACT[np.arange(4), labels], rel=1e-6)


def test_huge_logits_neither_overflow_nor_vanish() -> None:
    found = log_probabilities(np.array([[1e4, 0.0], [-3e38, 3e38]], np.float32))
    assert found == pytest.approx(np.array([[0, -1e4], [-6e38, 0]]))


def test_scores_that_mean_nothing_are_nan_without_a_warning() -> None:
    assert np.isnan(log_probabilities(np.array([[np.nan, 1.0]], np.float32))).all()
    assert np.isnan(log_probabilities(np.array([[np.inf, 1.0]], np.float32))).any()
    assert log_probabilities(np.array([[-np.inf, 1.0]], np.float32)).tolist() == [[-np.inf, 0.0]]


def test_one_row_that_is_no_distribution_makes_all_of_them_logits() -> None:
    assert is_distribution(np.array([[0.5, 0.5], [0.0, 1.0]]))
    assert not is_distribution(np.array([[0.5, 0.5], [0.5, 1.0]]))
    assert not is_distribution(np.array([[1.5, -0.5]]))
    assert not is_distribution(np.zeros((0, 3)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-np.inf, -2.0, -1.0, 0.0, 3.5]), max_size=8), st.integers(0, 10))
def test_the_best_are_the_greatest_in_order_and_possible(values: list[float], count: int) -> None:
    found = np.array(values)[best_of(np.array(values), count)].tolist()
    assert found == sorted((v for v in values if v > -np.inf), reverse=True)[:count]
