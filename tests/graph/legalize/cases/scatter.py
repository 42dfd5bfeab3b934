"""Scatters with and without a reduction."""

from __future__ import annotations

from tests.graph.legalize.cases.case import Case

CASES = [
    Case(
        (
            "(float[4,3] x, float[3,3] u) => (float[] y) <int64[3, 1] i = {1, -1, 0}> { y = ScatterND "
            '<reduction = "none"> (x, i, u) }'
        ),
        given={
            "x": [[-2.0, -1.5, -1.0], [-0.5, 0.0, 0.5], [1.0, 1.5, 2.0], [2.5, 3.0, 3.5]],
            "u": [[0.3, 2, -1], [0.7, 0, 1.2], [-0.4, 1, 0.2]],
        },
    ),
    Case(
        (
            "(float[3,3] x, float[3,2] u) => (float[] y) <int64[3, 2] i = {1, 0, -1, 0, 0, 2}> { y = "
            'ScatterElements <axis = 1, reduction = "none"> (x, i, u) }'
        ),
        given={"x": [[1, 0.5, 2], [0, 1, 2], [2, 3, -1]], "u": [[0.3, 2], [0.7, 0], [-0.4, 1]]},
    ),
    Case(
        (
            "(float[4,3] x, float[3,3] u) => (float[] y) <int64[3, 1] i = {1, -1, 1}> { y = ScatterND "
            '<reduction = "add"> (x, i, u) }'
        ),
        "Add(x, ScatterND(ConstantOfShape(Shape(x)), [[1] [-1] [1]], u, reduction=add))",
        given={
            "x": [[-2.0, -1.5, -1.0], [-0.5, 0.0, 0.5], [1.0, 1.5, 2.0], [2.5, 3.0, 3.5]],
            "u": [[0.3, 2, -1], [0.7, 0, 1.2], [-0.4, 1, 0.2]],
        },
    ),
    Case(
        (
            "(float[3,3] x, float[3,2] u) => (float[] y) <int64[3, 2] i = {1, 1, -1, 0, 0, 0}> { y = "
            'ScatterElements <axis = 1, reduction = "add"> (x, i, u) }'
        ),
        ("Add(x, ScatterElements(ConstantOfShape(Shape(x)), [[1 1] [-1 0] [0 0]], u, axis=1, reduction=add))"),
        given={"x": [[1, 0.5, 2], [0, 1, 2], [2, 3, -1]], "u": [[0.3, 2], [0.7, 0], [-0.4, 1]]},
    ),
    Case(
        (
            "(float[4,3] x, float[3,3] u) => (float[] y) <int64[3, 1] i = {1, -1, 1}> { y = ScatterND "
            '<reduction = "mul"> (x, i, u) }'
        ),
        "ScatterND(x, u, [[1] [-1] [1]])",
        given={
            "x": [[-2.0, -1.5, -1.0], [-0.5, 0.0, 0.5], [1.0, 1.5, 2.0], [2.5, 3.0, 3.5]],
            "u": [[0.3, 2, -1], [0.7, 0, 1.2], [-0.4, 1, 0.2]],
        },
    ),
    Case(
        (
            "(float[3,3] x, float[3,2] u) => (float[] y) <int64[3, 2] i = {1, 1, -1, 0, 0, 0}> { y = "
            'ScatterElements <axis = 1, reduction = "mul"> (x, i, u) }'
        ),
        "ScatterElements(x, u, [[1 1] [-1 0] [0 0]])",
        given={"x": [[1, 0.5, 2], [0, 1, 2], [2, 3, -1]], "u": [[0.3, 2], [0.7, 0], [-0.4, 1]]},
    ),
    Case(
        (
            "(float[4,3] x, float[3,3] u) => (float[] y) <int64[3, 1] i = {1, -1, 1}> { y = ScatterND "
            '<reduction = "min"> (x, i, u) }'
        ),
        "ScatterND(x, u, [[1] [-1] [1]])",
        given={
            "x": [[-2.0, -1.5, -1.0], [-0.5, 0.0, 0.5], [1.0, 1.5, 2.0], [2.5, 3.0, 3.5]],
            "u": [[0.3, 2, -1], [0.7, 0, 1.2], [-0.4, 1, 0.2]],
        },
    ),
    Case(
        (
            "(float[3,3] x, float[3,2] u) => (float[] y) <int64[3, 2] i = {1, 1, -1, 0, 0, 0}> { y = "
            'ScatterElements <axis = 1, reduction = "min"> (x, i, u) }'
        ),
        "ScatterElements(x, u, [[1 1] [-1 0] [0 0]])",
        given={"x": [[1, 0.5, 2], [0, 1, 2], [2, 3, -1]], "u": [[0.3, 2], [0.7, 0], [-0.4, 1]]},
    ),
    Case(
        (
            "(float[4,3] x, float[3,3] u) => (float[] y) <int64[3, 1] i = {1, -1, 1}> { y = ScatterND "
            '<reduction = "max"> (x, i, u) }'
        ),
        "ScatterND(x, u, [[1] [-1] [1]])",
        given={
            "x": [[-2.0, -1.5, -1.0], [-0.5, 0.0, 0.5], [1.0, 1.5, 2.0], [2.5, 3.0, 3.5]],
            "u": [[0.3, 2, -1], [0.7, 0, 1.2], [-0.4, 1, 0.2]],
        },
    ),
    Case(
        (
            "(float[3,3] x, float[3,2] u) => (float[] y) <int64[3, 2] i = {1, 1, -1, 0, 0, 0}> { y = "
            'ScatterElements <axis = 1, reduction = "max"> (x, i, u) }'
        ),
        "ScatterElements(x, u, [[1 1] [-1 0] [0 0]])",
        given={"x": [[1, 0.5, 2], [0, 1, 2], [2, 3, -1]], "u": [[0.3, 2], [0.7, 0], [-0.4, 1]]},
    ),
    Case(
        (
            "(float[3,3] x, float[3,2] u) => (float[] y) <int64[3, 2] i = {1, 1, -1, 0, 0, 0}> { y = "
            'ScatterElements <axis = -1, reduction = "mul"> (x, i, u) }'
        ),
        "ScatterElements(x, u, [[1 1] [-1 0] [0 0]])",
        given={"x": [[1, 0, 2], [0, 1, 2], [2, 3, -1]], "u": [[0, 2], [0.7, 0], [-0.4, 1]]},
    ),
    Case(
        "(float[3,4] x, float[3,1] u) => (float[] y) <int64[3,1] i = {0, 2, 3}> { y = "
        "ScatterElements <axis = 1> (x, i, u) }"
    ),
    Case("(float[4,3] x, float[2,3] u) => (float[] y) <int64[2,1] i = {1, 3}> { y = ScatterND (x, i, u) }"),
    Case(
        "(float[N,T,2] x, float[2,2] u, int64[2,2] i) => (float[] y) { y = ScatterND (x, i, u) }",
        given={"i": [[1, -1], [0, 2]]},
    ),
    Case(
        ('(float[4,2] x, float[2,2] u, int64[2,1] i) => (float[] y) { y = ScatterND <reduction = "mul"> (x, i, u) }'),
        "ScatterND(x, u, i)",
        given={"i": [[1], [-2]]},
        untrained=("x",),
    ),
    Case(
        ('(float[4,2] x, float[2,2] u, int64[2,1] i) => (float[] y) { y = ScatterND <reduction = "max"> (x, i, u) }'),
        "ScatterND(x, u, i)",
        given={"i": [[1], [-2]]},
        untrained=("u",),
    ),
    Case(
        "(float[4,4] x, float[2,2] u) => (float[] y) <int64[2, 2] i = {1, 0, -1, 2}> { y = ScatterElements (x, i, u) }"
    ),
]
