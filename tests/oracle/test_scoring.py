"""Losses of single examples against PyTorch's ``reduction="none"`` in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from dsd_ort.decode import ctc
from dsd_ort.recipe import Loss
from dsd_ort.run.metrics import Answers
from dsd_ort.run.scoring import SCORES
from tests.oracle.test_ctc import batch, theirs

pytestmark = pytest.mark.oracle

RNG = np.random.default_rng(0)
WEIGHTS = (0.5, 2.0, 1.25, 0.25)


def losses(output: np.ndarray, label: np.ndarray, **loss: Any) -> np.ndarray:
    chosen = Loss(**loss)
    return SCORES[chosen.name](Answers(output, label, chosen)).loss


@pytest.mark.parametrize("smoothing", [0.0, 0.15])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("positions", [(), (5,), (3, 2)])
def test_cross_entropy(smoothing: float, weights: tuple[float, ...] | None, positions: tuple[int, ...]) -> None:
    """Of each example by itself, PyTorch's weighted mean over the labels that count."""
    x = 3 * RNG.standard_normal((6, 4, *positions))
    y = RNG.integers(0, 4, (6, *positions))
    y.reshape(6, -1)[1:3, 1:] = -7
    found = losses(x, y, label_smoothing=smoothing, class_weights=weights, ignore_index=-7)
    given = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    for i in range(6):
        wanted = functional.cross_entropy(
            torch.tensor(x[i : i + 1]), torch.tensor(y[i : i + 1]), given, ignore_index=-7, label_smoothing=smoothing
        )
        assert found[i] == pytest.approx(wanted.item(), rel=1e-12)


def test_losses_on_values() -> None:
    x, t = RNG.standard_normal((2, 7, 3)) * 4
    yes = (t > 0).astype(np.float64)
    a, b, c = (torch.tensor(array) for array in (x, t, yes))
    for found, wanted in (
        (losses(x, yes, name="bce-with-logits"), functional.binary_cross_entropy_with_logits(a, c, reduction="none")),
        (losses(x, t, name="mse"), functional.mse_loss(a, b, reduction="none")),
        (losses(x, t, name="l1"), functional.l1_loss(a, b, reduction="none")),
        (losses(x, t, name="huber", delta=0.6), functional.huber_loss(a, b, reduction="none", delta=0.6)),
    ):
        np.testing.assert_allclose(found, wanted.mean(1).numpy(), rtol=1e-12)


@pytest.mark.parametrize("blank", [0, 3])
@pytest.mark.parametrize(
    ("frames", "sequences", "labels", "classes", "scale"),
    [(12, 3, 4, 6, 1.0), (60, 8, 20, 12, 3.0), (400, 4, 90, 30, 1.0)],
)
def test_ctc_is_equal_within_1e_10(
    frames: int, sequences: int, labels: int, classes: int, scale: float, blank: int
) -> None:
    x, y, n = batch(frames, sequences, labels, classes, blank, scale)
    wanted, _ = theirs(x, y, n, blank, zero_infinity=False)
    wide = x.astype(np.float64)
    logp = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    found = ctc.log_likelihood(logp.transpose(1, 0, 2), y, n, blank)
    np.testing.assert_allclose(-found, wanted, rtol=1e-10)
    scored = SCORES["ctc"](Answers(x, y, Loss(name="ctc", blank=blank, time_axis=0), lengths=n)).loss
    lengths = np.maximum(1, (y >= 0).sum(1))
    np.testing.assert_allclose(scored, np.where(np.isinf(wanted), 0, wanted) / lengths, rtol=1e-10)
