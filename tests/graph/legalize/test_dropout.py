"""Dropout in training: y = x · mask / (1 - ratio), and the gradient passes where the mask is 1."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from dsd_ort.graph.legalize import Legalized, legalize
from dsd_ort.notes import Note
from tests.graph.expression import expression
from tests.graph.gradient import Step, model, step

X = np.linspace(1, 2, 4000, dtype=np.float32).reshape(40, 100)
R = np.random.default_rng(0).standard_normal(X.shape).astype(np.float32)


def legal(body: str, opset: int = 18) -> Legalized:
    proto = model(f"(float[N, 100] x) => (float[N, 100] y) {body}", opset)
    return legalize(ir.from_proto(proto), ["x"], outputs=["y"])


def drawn(legal: Legalized, seed: int) -> Step:
    onnxruntime.set_seed(seed)
    return step(legal.model, ["x"], {"x": X}, {"y": R})


@pytest.mark.parametrize(
    ("body", "opset", "ratio"),
    [
        ("{ y = Dropout <ratio = 0.3> (x) }", 10, 0.3),
        ("{ y, mask = Dropout (x) }", 13, 0.5),
        ("<float r = {0.2}> { y = Dropout (x, r) }", 13, 0.2),
        ("<float r = {0.2}, bool t = {0}> { y = Dropout <seed = 3> (x, r, t) }", 22, 0.2),
        ("<float r = {0.2}, bool t = {1}> { y = Dropout (x, r, t) }", 13, 0.2),
    ],
)
def test_dropout_is_active_with_the_files_ratio(body: str, opset: int, ratio: float) -> None:
    done = drawn(legal(body, opset), seed=1)
    kept = done.outputs["y"] != 0
    assert abs(kept.mean() - (1 - ratio)) < 0.03
    np.testing.assert_allclose(done.outputs["y"], X * kept / (1 - ratio), rtol=1e-6)
    np.testing.assert_allclose(done.gradients["x"], R * kept / (1 - ratio), rtol=1e-6)


def test_the_process_wide_seed_decides_the_mask() -> None:
    dropout = legal("{ y = Dropout <seed = 3> (x) }", 13)
    first, again, other = (drawn(dropout, seed).outputs["y"] for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_dropout_with_ratio_zero_is_identity() -> None:
    (y,) = legal("<float r = {0}> { y = Dropout (x, r) }").model.graph.outputs
    assert expression(y) == "Identity(x)"


def test_dropout_in_front_of_all_trained_parameters_is_active() -> None:
    proto = model("(float[N, 3] x, float[3] w) => (float[N, 3] y) { h = Dropout (x) y = Mul (h, w) }")
    legal = legalize(ir.from_proto(proto), ["w"], outputs=["y"])
    assert expression(legal.model.graph.outputs[0]) == "Mul(Dropout(x, 0.5, True), w)"
    words = "Active in training, with the file's ratio"
    assert legal.notes == (Note(kind="rewrite", node="Dropout 'h'", words=words),)
