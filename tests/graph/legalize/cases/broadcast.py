"""Operands whose length is known at run time only."""

from __future__ import annotations

from tests.graph.legalize.cases.case import Case

OPAQUE = "Reshape({0}, Compress(Shape({0}), GreaterOrEqual(Shape({0}), 0)))"
CASES = [
    *(
        Case(
            f"(float[N, 4] x, float[{length}, 4] z) => (float[] y) {{ y = {name} (x, z) }}",
            f"{name}({OPAQUE.format('x')}, {OPAQUE.format('z')})",
        )
        for name in ("Add", "Div", "Max", "Min", "Mul", "Sub")
        for length in ("ONE", "N2")
    ),
    Case(
        "(float[ONE, 4] z, float[N, 4] x) => (float[] y) { y = Sub (z, x) }",
        f"Sub({OPAQUE.format('z')}, {OPAQUE.format('x')})",
    ),
    *(
        Case(f"(float[N, T, 7] x, {other}) => (float[] y) {{ y = Mul (x, z) }}")
        for other in (
            "float[1, T, 7] z",
            "float[N, 1, 7] z",
            "float[T, 1] z",
            "float[7] z",
            "float z",
            "float[N, T, 7] z",
        )
    ),
    Case(
        "(float[ONE, 4] x, float[N, 4] z) => (float[] y) { y = Sum (z, x, z) }",
        f"Add(Add({OPAQUE.format('z')}, {OPAQUE.format('x')}), {OPAQUE.format('z')})",
    ),
    Case(
        "(float[N, 4] x, float[ONE, 4] z, bool[N, 4] c) => (float[] y) { y = Where (c, x, z) }",
        f"Where(c, Expand(Expand({OPAQUE.format('x')}, Shape(z)), Shape(c)), "
        f"Expand(Expand({OPAQUE.format('z')}, Shape(x)), Shape(c)))",
    ),
    Case(
        "(float[ONE, T, 4] x, float[N, 4, 5] w) => (float[] y) { y = MatMul (x, w) }",
        f"MatMul({OPAQUE.format('x')}, {OPAQUE.format('w')})",
    ),
    Case(
        "(float[N, 4] x, float[4, 5] w, float[ONE, 5] b) => (float[] y) { y = Gemm (x, w, b) }",
        f"Gemm(x, w, {OPAQUE.format('b')})",
    ),
    Case(
        "(float[ONE, 4] x) => (float[] y) <int64[2] s = {3, 4}> { y = Expand (x, s) }",
        f"Expand({OPAQUE.format('x')}, [3 4])",
    ),
    Case(
        "(float[ONE, 4] x) => (float[] y) <int64[2] s = {3, 4}> { k = Identity (s) y = Expand (x, k) }",
        f"Expand({OPAQUE.format('x')}, Identity([3 4]))",
    ),
    Case("(float[N, 1] x, float[N, K] z) => (float[] y) { s = Shape (z) y = Expand (x, s) }", untrained=("z",)),
]
