from __future__ import annotations

import numpy as np
import pytest

from dsd_ort.recipe import Loss
from dsd_ort.run.metrics import METRICS, Meter, better, default_metrics

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]], np.float32)


def test_top_1_counts_the_highest_score() -> None:
    assert METRICS["top-1"](SCORES, np.array([1, 0, 0]), Loss()) == (2.0, 3)


def test_top_5_counts_a_label_among_the_five_highest() -> None:
    scores = np.arange(20, dtype=np.float32).reshape(2, 10)
    assert METRICS["top-5"](scores, np.array([5, 4]), Loss()) == (1.0, 2)


def test_labels_to_ignore_do_not_count() -> None:
    assert METRICS["top-1"](SCORES, np.array([1, -100, 2]), Loss(ignore_index=-100)) == (2.0, 2)


def test_a_constant_or_broken_output_is_never_right() -> None:
    assert METRICS["top-1"](np.zeros((4, 3), np.float32), np.array([0, 1, 2, 0]), Loss()) == (0.0, 4)
    assert METRICS["top-1"](np.full((2, 3), np.nan, np.float32), np.array([0, 1]), Loss()) == (0.0, 2)


def test_top_1_of_sequences_counts_every_position() -> None:
    scores = np.stack([SCORES, SCORES]).transpose(0, 2, 1)  # [2, 3 classes, 3 positions]
    assert METRICS["top-1"](scores, np.array([[1, 0, 2], [0, 0, 0]]), Loss()) == (4.0, 6)


def test_mean_error_is_the_mean_absolute_difference() -> None:
    value, count = METRICS["mean-error"](np.array([[1.0], [3.0]]), np.array([[2.0], [1.0]]), Loss(name="mse"))
    assert value / count == 1.5


def test_a_meter_weighs_batches_by_their_examples() -> None:
    meter = Meter(["loss", "top-1"], Loss())
    meter.add(SCORES, np.array([1, 0, 2]), 1.0)
    meter.add(SCORES[:1], np.array([0]), 3.0)
    assert meter.result() == pytest.approx({"loss": 1.5, "top-1": 0.75})


def test_better_knows_the_direction_of_each_metric() -> None:
    assert better("loss", 1.0, None)
    assert better("loss", 1.0, 2.0)
    assert not better("loss", 2.0, 2.0)
    assert better("top-1", 0.9, 0.8)
    assert not better("top-1", float("nan"), 0.8)
    assert better("loss", 9.0, float("nan")), "one bad evaluation does not hold the place of the best for ever"


def test_the_metrics_fit_the_loss() -> None:
    assert "top-1" in default_metrics([Loss()])
    assert default_metrics([Loss(name="mse")]) == ["loss", "mean-error"]
    assert default_metrics([Loss(name="bce-with-logits")]) == ["loss"]
