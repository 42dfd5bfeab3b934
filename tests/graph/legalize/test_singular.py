"""Where a formula divides by zero or meets infinity, its gradient is still a number."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from dsd_ort.graph.legalize import legalize
from tests.graph.gradient import model, quiet, step

INF = float("inf")
LOSS = "(float[2, 3] x, int64[2] t) => (float[] y) {{ y = {} <ignore_index = 1> (x, t) }}"


def gradient(text: str, x: list[list[float]], **others: list[int]) -> np.ndarray:
    """∂Σy/∂x."""
    proto = model(text)
    inputs = {"x": np.asarray(x, np.float32)} | {name: np.asarray(value) for name, value in others.items()}
    session = onnxruntime.InferenceSession(proto.SerializeToString(), quiet(), providers=["CPUExecutionProvider"])
    (y,) = session.run(["y"], inputs)
    legal = legalize(ir.from_proto(proto), ["x"], outputs=["y"]).model
    return step(legal, ["x"], inputs, {"y": np.ones_like(y)}).gradients["x"]


@pytest.mark.parametrize(
    ("node", "x", "expected"),
    [
        # |x| and √Σx² have the slope 0 at 0, as in PyTorch.
        ("ReduceL1 (x)", [[0, 2, -1]], [[0, 1, -1]]),
        ("ReduceL2 <keepdims = 0> (x)", [[0, 0, 0]], [[0, 0, 0]]),
        # x / 1 where the norm is 0: ONNX Runtime computes 0 there.
        ("LpNormalization (x)", [[0, 0, 0], [0, 1, 0]], [[1, 1, 1], [1, 0, 1]]),
        ("LpNormalization <p = 1> (x)", [[0, 0, 0], [0, 1, 0]], [[1, 1, 1], [1, 0, 1]]),
        # (x - mean) / 1e-9, whose sum does not move.
        ("MeanVarianceNormalization <axes = [1]> (x)", [[2, 2, 2]], [[0, 0, 0]]),
        # A masked entry is infinitely far from the extreme.
        ("ReduceMax (x)", [[-INF, 2, 2]], [[0, 0.5, 0.5]]),
        ("ReduceMin (x)", [[INF, 2, 3]], [[0, 1, 0]]),
        ("ReduceLogSumExp (x, a)", [[-INF, 0, 0]], [[0, 0.5, 0.5]]),
        # 0⁰ = 1 whatever the base.
        ("Pow (x, e)", [[0, 0, 2]], [[0, 1, 4]]),
        # Only what is zero itself has a slope where one factor is zero, and nothing has where two are.
        ("ReduceProd (x)", [[0, 2, 3]], [[6, 0, 0]]),
        ("ReduceProd (x)", [[0, 0, 3]], [[0, 0, 0]]),
    ],
)
def test_gradients_at_singular_points_are_numbers(node: str, x: list[list[float]], expected: list[list[float]]) -> None:
    text = f"(float[N, 3] x) => (float[] y) <float[3] e = {{0, 1, 2}}, int64[1] a = {{1}}> {{ y = {node} }}"
    np.testing.assert_allclose(gradient(text, x), expected, atol=1e-6)


@pytest.mark.parametrize("loss", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
def test_an_ignored_example_of_probability_zero_does_not_matter(loss: str) -> None:
    found = gradient(LOSS.format(loss), [[-INF, 0, 0], [1, 2, 3]], t=[1, 2])
    alone = gradient(LOSS.format(loss), [[0, 0, 0], [1, 2, 3]], t=[1, 2])
    np.testing.assert_allclose(found, alone, atol=1e-7)
    assert np.isfinite(found).all()
