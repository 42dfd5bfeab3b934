"""CTC against PyTorch's ``ctc_loss`` in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.graph.autograd.test_ctc import run

pytestmark = pytest.mark.oracle

Array = npt.NDArray[Any]


def batch(frames: int, sequences: int, labels: int, classes: int, blank: int, scale: float) -> tuple[Array, ...]:
    """Logits, padded labels and lengths; the first sequence has all labels, the last one none."""
    rng = np.random.default_rng(frames)
    x = (rng.standard_normal((frames, sequences, classes)) * scale).astype(np.float32)
    length = rng.integers(1, labels + 1, sequences)
    length[0], length[-1] = labels, 0
    y = (blank + rng.integers(1, classes, (sequences, labels))) % classes
    y[np.arange(labels) >= length[:, None]] = -1
    return x, y, rng.integers(frames // 2, frames + 1, sequences)


def theirs(x: Array, y: Array, n: Array, blank: int, *, zero_infinity: bool) -> tuple[Array, Array]:
    """Losses and the gradient of those that are finite, f64."""
    logits = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    labels, lengths = torch.tensor(np.where(y < 0, (blank + 1) % x.shape[2], y)), torch.tensor((y >= 0).sum(axis=1))
    loss = torch.nn.functional.ctc_loss(
        logits.log_softmax(-1),
        labels,
        torch.tensor(n),
        lengths,
        blank=blank,
        reduction="none",
        zero_infinity=zero_infinity,
    )
    loss[torch.isfinite(loss)].sum().backward()
    return loss.detach().numpy(), logits.grad.numpy()


@pytest.mark.parametrize("blank", [0, 3, -1])
@pytest.mark.parametrize(
    ("frames", "sequences", "labels", "classes", "scale"),
    [(12, 3, 4, 6, 1.0), (60, 8, 20, 12, 3.0), (200, 8, 50, 30, 1.0), (1000, 4, 100, 40, 1.0), (1000, 4, 400, 40, 5.0)],
)
def test_values_are_equal_within_1e_5_and_gradients_within_1e_4(
    frames: int, sequences: int, labels: int, classes: int, scale: float, blank: int
) -> None:
    blank %= classes
    x, y, n = batch(frames, sequences, labels, classes, blank, scale)
    loss, d = run(x, y, n, blank=blank)
    wanted, gradient = theirs(x, y, n, blank, zero_infinity=True)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    assert np.abs(d - gradient).max() <= 1e-4 * np.abs(gradient).max()


@pytest.mark.parametrize("zero_infinity", [True, False])
def test_what_does_not_fit_is_told_as_pytorch_does(zero_infinity: bool) -> None:
    x = np.random.default_rng(0).standard_normal((5, 4, 4)).astype(np.float32)
    y = np.array([[1, 1, 1], [1, 2, 3], [2, 2, -1], [-1, -1, -1]])
    n = np.array([4, 2, 3, 5])
    loss, _ = run(x, y, n, zero_infinity=zero_infinity)
    wanted, _ = theirs(x, y, n, 0, zero_infinity=zero_infinity)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    assert np.isinf(wanted).sum() == (0 if zero_infinity else 2)
