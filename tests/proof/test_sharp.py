"""Gradients in float64 beside slopes: what float32 loses is no error, and what is wrong is found in one look at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dsd_ort.graph.differentiate.table import RULES as GRADIENTS
from dsd_ort.graph.manifest import Slice
from dsd_ort.proof import gradients, points, reference
from dsd_ort.proof.compared import Point
from tests.models import write_cnn
from tests.proof.test_check import check, verdicts, write

SATURATED = (
    "(float[N, 6] x) => (float[N, 5] y) <float sharp = {8.0}> "
    "{ a = MatMul (x, w) b = Tanh (a) c = MatMul (b, v) d = Mul (c, sharp) y = Softmax (d) }"
)
"""As a diacritiser whose probabilities are 0 and 1: what a mean squared error sees of them is lost in float32."""
SHAPES = {"w": (6, 8), "v": (8, 5)}


def test_a_gradient_that_float32_loses_is_right_and_that_is_said(tmp_path: Path) -> None:
    report = check(write(tmp_path / "m.onnx", SATURATED, SHAPES, scale=1.0), loss="mse")
    assert report.ok and verdicts(report) == {"w": "right", "v": "right"}
    assert max(row.error for row in report.rows) < 1e-5
    assert all("float32 loses" in row.note for row in report.rows)


@pytest.mark.parametrize("operator", ["Softmax", "Tanh"])
def test_a_wrong_gradient_is_wrong_where_float32_loses_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operator: str
) -> None:
    monkeypatch.setitem(GRADIENTS, operator, GRADIENTS["Identity"])
    report = check(write(tmp_path / "m.onnx", SATURATED, SHAPES, scale=1.0), loss="mse")
    assert report.answer == "does not" and "w" in {row.group for row in report.wrong}


def test_a_step_in_float32_that_is_not_the_one_in_float64_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a kernel is wrong, and the graph is right."""
    at = points.Points.at

    def spoiled(self: points.Points, weights: points.Arrays) -> Point:
        point = at(self, weights)
        point.gradients = {**point.gradients, "conv2.weight": point.gradients["conv2.weight"] * np.float32(1.05)}
        return point

    monkeypatch.setattr(points.Points, "at", spoiled)
    report = check(write_cnn(tmp_path / "m.onnx"))
    assert {row.group for row in report.wrong} == {"conv2.weight"}
    assert all(0.04 < row.error < 0.06 for row in report.wrong)


@pytest.mark.parametrize("factor", [1.01, 0.0])
def test_one_look_at_all_finds_a_tensor_that_is_a_little_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    names = [f"w{i}" for i in range(12)]
    body = " ".join(f"h{i + 1} = MatMul (h{i}, w{i}) " for i in range(12)).replace("h0", "x").replace("h12", "y")
    model = write(tmp_path / "m.onnx", f"(float[N, 5] x) => (float[N, 5] y) {{ {body} }}", dict.fromkeys(names, (5, 5)))
    at = points.Points.at

    def spoiled(self: points.Points, weights: points.Arrays) -> Point:
        point = at(self, weights)
        assert point.wide is not None
        point.wide = {**point.wide, "w7": point.wide["w7"] * np.float32(factor)}
        return point

    monkeypatch.setattr(points.Points, "at", spoiled)

    def together(slices: Sequence[Slice], *_: object) -> list[gradients.Group]:
        return [gradients.Group("all", tuple(slices))] if slices else []

    monkeypatch.setattr(gradients, "groups", together)
    report = check(model)
    assert "w7" not in {name for row in report.rows if row.proven for name in row.tensors}
    assert {name for row in report.rows if row.proven for name in row.tensors} == {*names} - {"w7"}


def test_input_of_which_nothing_is_left_is_made_longer(tmp_path: Path) -> None:
    text = (
        "(float[N, T] x) => (float[N, 3] y) <int64[1] begin = {40}, int64[1] end = {9999}, int64[1] axis = {1}> "
        "{ a = Slice (x, begin, end, axis) b = ReduceSum <keepdims = 1> (a, axis) c = MatMul (b, w) y = Tanh (c) }"
    )
    report = check(write(tmp_path / "m.onnx", text, {"w": (1, 3)}), loss="mse")
    assert report.ok and verdicts(report) == {"w": "right"}
    assert int(report.inputs["x"].partition(", ")[2].rstrip("]")) > 40


def test_a_reference_that_computes_another_loss_judges_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ONNX's own evaluator of LRN did: a difference that float32 could explain, and the step in float64 does not."""
    model, exact = write(tmp_path / "m.onnx", SATURATED, SHAPES), reference.InNumPy.__call__
    assert {row.reference for row in check(model).rows} == {"float64, ONNX reference"}

    def another(self: reference.InNumPy, inputs: reference.Arrays) -> float:
        return 1.0005 * exact(self, inputs)

    monkeypatch.setattr(reference.InNumPy, "__call__", another)
    report = check(model)
    assert report.ok and {row.reference for row in report.rows} == {"float64, ONNX Runtime"}
