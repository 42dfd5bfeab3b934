"""CTC against the sum over all paths, written out, and float64 finite differences of it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest

from dsd_ort.graph.autograd.ctc import ctc
from dsd_ort.graph.differentiate import differentiate
from dsd_ort.rewrite import autograd
from tests.graph.gradient import model
from tests.session import opened

Array = npt.NDArray[Any]

CASES: dict[str, tuple[int, int, list[list[int]], list[int]]] = {
    "one label": (3, 3, [[1]], [3]),
    "a repeated label needs a blank between": (5, 3, [[1, 1, 2]], [5]),
    "just enough frames": (3, 4, [[1, 2, 3]], [3]),
    "no label at all": (4, 3, [[]], [4]),
    "one frame": (1, 3, [[2]], [1]),
    "labels and lengths of all kinds": (5, 3, [[1, 2], [2, 2, 1], [], [1], [2, 1]], [4, 5, 3, 1, 2]),
}
"""Frames, classes, labels without padding, and how many frames count."""


def padded(labels: list[list[int]], padding: int = -1) -> Array:
    width = max(map(len, labels))
    return np.array([label + [padding] * (width - len(label)) for label in labels], np.int64).reshape(
        len(labels), width
    )


def read(path: tuple[int, ...], blank: int) -> list[int]:
    """What a path says: repeated classes once, and no blanks."""
    return [c for c, _ in itertools.groupby(path) if c != blank]


def sum_over_paths(x: Array, label: list[int], frames: int, blank: int) -> float:
    """-log p(label) of logits f64[T, C], from every path of T classes there is."""
    log_p = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    total = 0.0
    for path in itertools.product(range(x.shape[1]), repeat=frames):
        if read(path, blank) == label:
            total += np.exp(sum(log_p[t, c] for t, c in enumerate(path)))
    return float(-np.log(total)) if total else np.inf


def run(x: Array, y: Array, n: Array, opset: int = 18, **options: Any) -> tuple[Array, Array]:
    """Loss of each sequence, and the operator's own gradient, in a plain graph of *opset*."""
    operator = ctc(opset=opset, **options)
    text = f"(float[T, N, C] x, int64[N, U] y, int64[N] n) => (float[N] loss, float[T, N, C] d) {{ \
        loss, d = dsd_ort.{operator.name} (x, y, n) }}"
    graph = ir.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {text}'))
    autograd.add(graph, {operator.name: operator})
    autograd.inline(graph)
    assert not graph.functions and autograd.DOMAIN not in graph.opset_imports
    session = opened(graph)
    loss, d = session.run(["loss", "d"], {"x": x, "y": y, "n": n})
    return loss, d


def rotated(labels: list[list[int]], classes: int, blank: int) -> list[list[int]]:
    """*labels* of classes 1, 2, … for another blank."""
    return [[(c + blank) % classes for c in label] for label in labels]


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_are_those_of_the_sum_over_all_paths(case: str, blank: int) -> None:
    steps, classes, labels, frames = CASES[case]
    labels = rotated(labels, classes, blank)
    x = np.random.default_rng(1).standard_normal((steps, len(labels), classes))
    loss, d = run(x.astype(np.float32), padded(labels), np.array(frames), blank=blank)
    x = x.astype(np.float32).astype(np.float64)
    for i, (label, count) in enumerate(zip(labels, frames, strict=True)):
        assert loss[i] == pytest.approx(sum_over_paths(x[:, i], label, count, blank), rel=2e-6, abs=1e-7)
        for t, c in np.ndindex(steps, classes):
            up, down = x[:, i].copy(), x[:, i].copy()
            up[t, c] += 1e-5
            down[t, c] -= 1e-5
            slope = sum_over_paths(up, label, count, blank) - sum_over_paths(down, label, count, blank)
            assert d[t, i, c] == pytest.approx(slope / 2e-5, abs=2e-6)


@pytest.mark.parametrize("opset", [13, 14, 15, 17, 21])
def test_it_is_the_same_in_every_opset(opset: int) -> None:
    steps, classes, labels, frames = CASES["labels and lengths of all kinds"]
    x = np.random.default_rng(2).standard_normal((steps, len(labels), classes)).astype(np.float32)
    for one, other in zip(
        run(x, padded(labels), np.array(frames)), run(x, padded(labels), np.array(frames), opset), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_what_does_not_fit_is_infinite_or_left_out() -> None:
    labels, frames = [[1, 1], [1], [1]], [2, 0, 2]
    x = np.random.default_rng(3).standard_normal((4, 3, 3)).astype(np.float32)
    loss, d = run(x, padded(labels), np.array(frames), zero_infinity=True)
    np.testing.assert_array_equal(loss[:2], 0)
    np.testing.assert_array_equal(d[:, :2], 0)
    assert loss[2] > 0
    loss, d = run(x, padded(labels), np.array(frames), zero_infinity=False)
    assert np.isinf(loss[:2]).all() and np.isfinite(loss[2])
    assert np.isfinite(d).all()


def test_a_logit_of_minus_infinity_is_a_class_that_never_comes() -> None:
    x = np.random.default_rng(4).standard_normal((4, 2, 3)).astype(np.float32)
    x[1, :, 2] = -np.inf
    loss, d = run(x, padded([[1], [2]]), np.array([4, 4]))
    assert np.isfinite(loss).all() and np.isfinite(d).all()
    np.testing.assert_array_equal(d[1, :, 2], 0)


def log_domain(x: Array, label: list[int], blank: int = 0) -> tuple[float, Array]:
    """-log p(label) and its gradient of logits f64[T, C], by the textbook's two loops over frames."""
    log_p = x - np.logaddexp.reduce(x, axis=-1, keepdims=True)
    e = [blank] + [c for label_ in label for c in (label_, blank)]
    skips = np.array([s > 1 and e[s] != blank and e[s] != e[s - 2] for s in range(len(e))])

    def sweep(emit: Array, skips: Array) -> Array:
        rows = np.full(emit.shape, -np.inf)
        rows[0, :2] = emit[0, :2]
        for t in range(1, len(emit)):
            by_1 = np.concatenate([[-np.inf], rows[t - 1, :-1]])
            by_2 = np.where(skips, np.concatenate([[-np.inf] * 2, rows[t - 1, :-2]]), -np.inf)
            rows[t] = np.logaddexp(np.logaddexp(rows[t - 1], by_1), by_2) + emit[t]
        return rows

    emit = log_p[:, e]
    alpha = sweep(emit, skips)
    turned_skips = np.array([s > 1 and e[::-1][s] != blank and e[::-1][s] != e[::-1][s - 2] for s in range(len(e))])
    beta = sweep(emit[::-1, ::-1], turned_skips)[::-1, ::-1]
    log_z = np.logaddexp(alpha[-1, -1], alpha[-1, -2])
    gamma = np.exp(alpha + beta - emit - log_z)
    gradient = np.exp(log_p)
    for s, c in enumerate(e):
        gradient[:, c] -= gamma[:, s]
    return -float(log_z), gradient


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_a_thousand_frames_lose_no_digits(scale: float) -> None:
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((1000, 1, 40)) * scale).astype(np.float32)
    label = [int(c) for c in rng.integers(1, 40, 200)]
    loss, d = run(x, padded([label]), np.array([1000]))
    expected, gradient = log_domain(x[:, 0].astype(np.float64), label)
    assert loss[0] == pytest.approx(expected, rel=1e-6)
    assert np.abs(d[:, 0] - gradient).max() <= 1e-4 * np.abs(gradient).max()


def test_the_gradient_builder_takes_the_operators_own_gradient() -> None:
    steps, classes, labels, frames = CASES["labels and lengths of all kinds"]
    operator = ctc()
    graph = ir.from_proto(
        model(
            f"(float[{steps}, N, {classes}] x, int64[N, U] y, int64[N] n, float[N] w) => (float L) {{ "
            f"s = Sigmoid (x) loss, d = dsd_ort.{operator.name} (s, y, n) p = Mul (loss, w) "
            "L = ReduceSum <keepdims = 0> (p) }"
        )
    )
    autograd.add(graph, {operator.name: operator})
    step = differentiate(graph, ["x"], loss="L")
    rng = np.random.default_rng(6)
    x = rng.standard_normal((steps, len(labels), classes)).astype(np.float32)
    w = rng.standard_normal(len(labels)).astype(np.float32)
    s = (1 / (1 + np.exp(-x.astype(np.float64)))).astype(np.float32)
    _, d = run(s, padded(labels), np.array(frames))
    session = opened(step.model)
    feeds = {"x": x, "y": padded(labels), "n": np.array(frames), "w": w}
    (gradient,) = session.run([step.gradients["x"]], feeds)
    np.testing.assert_allclose(gradient, d * w[:, None] * s * (1 - s), atol=1e-6)
