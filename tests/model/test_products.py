"""Which axes of a weight are its outputs and inputs, as each operator reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsd_ort.model import source
from tests import cases


@pytest.mark.parametrize(
    ("graph", "shape", "axes"),
    [
        ("(float[N, 4] x) => (float[N, 6] y) { y = MatMul (x, W) }", (4, 6), (1, 0)),
        ("(float[N, 4] x) => (float[N, 6] y) { y = Gemm (x, W) }", (4, 6), (1, 0)),
        ("(float[N, 4] x) => (float[N, 6] y) { y = Gemm <transB = 1> (x, W) }", (6, 4), (0, 1)),
        ("(float[4, N] x) => (float[6, N] y) { y = Gemm (W, x) }", (6, 4), (0, 1)),
        ("(float[4, N] x) => (float[6, N] y) { y = Gemm <transA = 1> (W, x) }", (4, 6), (1, 0)),
        ("(float[4, N] x) => (float[6, N] y) { y = MatMul (W, x) }", (6, 4), (0, 1)),
        ("(float[N, 4] x) => (float[N, 6] y) { t = Transpose (W) y = MatMul (x, t) }", (6, 4), (0, 1)),
        (
            "(float[N, 3, 4] x) => (float[N, 3, 6] y) { t = Transpose <perm = [0, 2, 1]> (W) y = MatMul (x, t) }",
            (1, 6, 4),
            (1, 2),
        ),
        ("(float[N, 4, 9, 9] x) => (float[N, 6, 7, 7] y) { y = Conv (x, W) }", (6, 4, 3, 3), (0, 1)),
        ("(float[N, 4, 9, 9] x) => (float[N, 6, 11, 11] y) { y = ConvTranspose (x, W) }", (4, 6, 3, 3), (1, 0)),
        ("(float[N, 4] x) => (float[N, 6] y) { s = Constant <value_ints = [4, 6]> () w = Reshape (W, s) "
         "y = MatMul (x, w) }", (24,), None),
    ],
)  # fmt: skip
def test_axes_are_those_of_the_stored_tensor(
    tmp_path: Path, graph: str, shape: tuple[int, ...], axes: tuple[int, int] | None
) -> None:
    found = source.load(cases.write(tmp_path / "m.onnx", graph, {"W": cases.drawn(*shape)}))
    assert [(p.name, p.axes) for p in found.parameters] == [("W", axes)]


def test_two_nodes_that_do_not_agree_leave_it_open(tmp_path: Path) -> None:
    text = "(float[N, 5] x) => (float[N, 5] y) { t = Transpose (W) a = MatMul (x, W) r = Relu (a) y = MatMul (r, t) }"
    found = source.load(cases.write(tmp_path / "m.onnx", text, {"W": cases.drawn(5, 5)}))
    assert [p.axes for p in found.parameters] == [None]
