"""Derivatives at kinks, which finite differences cannot see: those of the PyTorch functions of the same names."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from dsd_ort.graph.legalize import legalize
from tests.graph.gradient import model, step


@pytest.mark.parametrize(
    ("node", "x", "derivative"),
    [
        ("Relu (x)", 0, 0),
        ("Abs (x)", 0, 0),
        ("LeakyRelu <alpha = 0.1> (x)", 0, 0.1),
        ("Elu <alpha = 2.0> (x)", 0, 2),
        ("Selu (x)", 0, 1.0507009873554805 * 1.6732632423543772),
        ("Celu <alpha = 2.0> (x)", 0, 1),
        ("PRelu (x, slope)", 0, 0.25),
        ("ThresholdedRelu <alpha = 0.5> (x)", 0.5, 0),
        ("Shrink <lambd = 0.5> (x)", 0.5, 0),
        ("Shrink <lambd = 0.5> (x)", -0.5, 0),
        ("Softplus (x)", 0, 0.5),
        ("Softsign (x)", 0, 1),
        ("Mish (x)", 0, 0.6),
    ],
)
def test_derivatives_at_kinks_are_pytorchs(node: str, x: float, derivative: float) -> None:
    proto = model(f"(float[1] x) => (float[1] y) <float slope = {{0.25}}> {{ y = {node} }}")
    legal = legalize(ir.from_proto(proto), ["x"], outputs=["y"])
    done = step(legal.model, ["x"], {"x": np.array([x], np.float32)}, {"y": np.ones(1)})
    assert done.gradients["x"] == pytest.approx(derivative, rel=1e-6)


@pytest.mark.parametrize("node", ["Softplus (x)", "Mish (x)", "Elu (x)", "Selu (x)", "Celu (x)", "Softsign (x)"])
@pytest.mark.parametrize("x", [-200.0, 200.0])
def test_gradients_stay_finite_far_out(node: str, x: float) -> None:
    legal = legalize(ir.from_proto(model(f"(float[1] x) => (float[1] y) {{ y = {node} }}")), ["x"], outputs=["y"])
    done = step(legal.model, ["x"], {"x": np.array([x], np.float32)}, {"y": np.ones(1)})
    assert np.isfinite(done.outputs["y"]).all()
    assert np.isfinite(done.gradients["x"]).all()


def test_ties_share_the_gradient_of_a_maximum() -> None:
    proto = model("(float[4] x) => (float y) { y = ReduceMax <keepdims = 0> (x) }")
    legal = legalize(ir.from_proto(proto), ["x"], outputs=["y"])
    for x, gradient in (([3, 1, 3, 2], [0.5, 0, 0.5, 0]), ([-np.inf, 1, -np.inf, 0], [0, 1, 0, 0])):
        done = step(legal.model, ["x"], {"x": np.array(x, np.float32)}, {"y": np.ones(())})
        assert done.gradients["x"].tolist() == gradient
