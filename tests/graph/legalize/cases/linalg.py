"""Determinants."""

from __future__ import annotations

from tests.graph.legalize.cases.case import Case

CASES = [
    Case("(float[2,4,4] x) => (float[] y) { y = Det (x) }", "Reshape(Det(Reshape(x, [-1 4 4])), Shape(x, end=-2))"),
    Case("(float[N,T,2,2] x) => (float[] y) { y = Det (x) }", "Reshape(Det(Reshape(x, [-1 2 2])), Shape(x, end=-2))"),
    Case("(float[N,3,1,1] x) => (float[] y) { y = Det (x) }", "Squeeze(x, [-2 -1])"),
    Case(
        "(float[3,3] x) => (float[] y) { y = Det (x) }",
        "Reshape(Det(Reshape(x, [-1 3 3])), Shape(x, end=-2))",
        given={"x": [[1, 2, 3], [4, 5, 6], [7, 8, 9]]},
    ),
    Case(
        "(float[3,3] x) => (float[] y) { y = Det (x) }",
        "Reshape(Det(Reshape(x, [-1 3 3])), Shape(x, end=-2))",
        given={"x": [[1, 2, 0], [0, 0, 1], [2, 4, 0]]},
    ),
]
