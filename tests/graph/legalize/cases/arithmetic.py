"""Elementwise arithmetic and matrix products."""

from __future__ import annotations

import numpy as np

from tests.graph.legalize.cases.broadcast import OPAQUE
from tests.graph.legalize.cases.case import Case, binary, unary

POSITIVE = {"x": np.linspace(0.3, 2.1, 14).reshape(2, 7)}
DIVISORS = [0.7, -0.5, 1.3, 2, 0.3, 0.9, -1.1]

MATMUL_OF_VECTORS = "Erf(Squeeze(MatMul(Unsqueeze(x, [0]), Unsqueeze(w, [1])), [-2 -1]))"
CASES = [
    *(unary(f"{name} (x)") for name in ("Abs", "Cos", "Erf", "Exp", "Identity", "Neg", "Sin")),
    *(unary(f"{name} (x)", given=POSITIVE) for name in ("Log", "Reciprocal", "Sqrt")),
    *(binary(f"{name} (x, z)") for name in ("Add", "Div", "Max", "Min", "Mul", "Sub")),
    *(binary(f"{name} (x, z)", other="float z") for name in ("Add", "Div", "Max", "Min", "Mul", "Sub")),
    Case("(float[3, 1] x, float[N, 1, 4] z) => (float[N, 3, 4] y) { y = Mul (x, z) }"),
    *(unary(f"{name} (x)") for name in ("Max", "Min")),
    *(binary(f"{name} (x, z, u)", other="float[7] z, float[N, 1] u") for name in ("Max", "Min")),
    *(
        binary(
            f"{name} (x, z, u)",
            f"{name}({OPAQUE.format('x')}, z, {OPAQUE.format('u')})",
            other="float z, float[ONE, 1] u",
        )
        for name in ("Max", "Min")
    ),
    binary("Sum (x, z, u)", "Add(Add(x, z), u)", other="float[7] z, float[N, 1] u"),
    unary("Sum (x)", "Identity(x)"),
    binary("Mean (x, z)", "Div(Add(x, z), 2)"),
    binary(
        "Mean (x, z, u)",
        f"Div(Add(Add({OPAQUE.format('x')}, z), {OPAQUE.format('u')}), 3)",
        other="float z, float[ONE, 1] u",
    ),
    unary("Mul (x, x)", "Mul(x, Identity(x))"),
    Case("(float[3, 3] x) => (float[3, 3] y) { y = Gemm (x, x, x) }", "Gemm(x, Identity(x), Identity(x))"),
    Case("(float[3, 3] x) => (float[3, 3] y) { h = Tanh (x) y = MatMul (h, h) }"),
    Case("(float[N, 4] x) => (float[N, 4] y) <float e = {3}> { y = Pow (x, e) }"),
    Case("(float[N, 4] x) => (float[N, 4] y) <int64 e = {3}> { y = Pow (x, e) }", "Pow(x, Cast(3, to=1))"),
    Case(
        "(float[4] x) => (float[2, 4] y) <float[2, 1] e = {3, 2}> { y = Pow (x, e) }",
        "Pow(Expand(x, Shape([[3] [2]])), [[3] [2]])",
    ),
    binary("Pow (x, z)", "Pow(x, Expand(z, Shape(x)))", given=POSITIVE),
    Case(
        "(float[3, 1] x, float[N, 1, 4] z) => (float[] y) { y = Pow (x, z) }",
        "Pow(Expand(x, Shape(z)), Expand(z, Shape(x)))",
        given={"x": [[0.5], [1.5], [2]]},
    ),
    Case("(float[4] x) => (float[] y) <float[4] z = {0, 1, 0, 2}> { y = Pow (x, z) }", given={"x": [0, 0, 1.5, 2]}),
    Case(
        "(float[4] x, float[4] z) => (float[] y) { y = Pow (x, z) }",
        given={"x": [0, 0, 1.5, 2], "z": [2, 1, 0, 0]},
        untrained=("z",),
    ),
    binary("Mod <fmod = 1> (x, z)", "Mod(x, Expand(z, Shape(x)))", given={"z": DIVISORS}),
    Case(
        "(float[N, 1] x, float[ONE, 4] z) => (float[] y) { y = Mod <fmod = 1> (x, z) }",
        f"Mod(Expand({OPAQUE.format('x')}, Shape(z)), Expand({OPAQUE.format('z')}, Shape(x)))",
        given={"z": [DIVISORS[:4]]},
    ),
    binary("Where (c, x, z)", other="float[N, 7] z, bool[N, 1] c"),
    binary("Where (c, x, z)", "Where(c, x, Expand(z, Shape(x)))", other="float z, bool[N, 7] c"),
    binary("Where (c, z, x)", "Where(c, Expand(z, Shape(x)), x)", other="float[7] z, bool[N, 1] c"),
    binary("Where (c, x, z)", other="float[7] z, bool[N, 1] c", untrained=("z",)),
    Case("(float x, float z, bool c) => (float y) { y = Where (c, x, z) }"),
    Case("(float[3] x, float[3] w) => (float y) { d = MatMul (x, w) y = Erf (d) }", MATMUL_OF_VECTORS),
    Case(
        "(float[N, T] x, float[T] z, bool[N, 1] c) => (float[] y) { y = Where (c, x, z) }",
        "Where(c, x, Expand(z, Shape(x)))",
    ),
    Case(
        "(float[N, 4] x, float[3, 4] w, float[3] b) => (float[N, 3] y) { y = Gemm <alpha = 0.5, transB = 1> (x, w, b) }"
    ),
    Case(
        "(float[4, 2] x, float[4, 3] w, float[2, 1] b) => (float[] y) { y = Gemm <beta = 2.0, transA = 1> (x, w, b) }"
    ),
    Case("(float[N, T, 4] x, float[4, 5] w) => (float[N, T, 5] y) { y = MatMul (x, w) }"),
    Case("(float[N, 1, T, 4] x, float[3, 4, 2] w) => (float[N, 3, T, 2] y) { y = MatMul (x, w) }"),
    Case(
        "(float[N, 4] x, float[4] w) => (float[N] y) { y = MatMul (x, w) }",
        "Squeeze(MatMul(x, Unsqueeze(w, [1])), [-1])",
    ),
    Case(
        "(float[4] x, float[N, 4, 3] w) => (float[N, 3] y) { y = MatMul (x, w) }",
        "Squeeze(MatMul(Unsqueeze(x, [0]), w), [-2])",
    ),
    Case(
        "(float[4] x, float[4] w) => (float y) { y = MatMul (x, w) }",
        "Squeeze(MatMul(Unsqueeze(x, [0]), Unsqueeze(w, [1])), [-2 -1])",
    ),
]
