"""Normalisations."""

from __future__ import annotations

from tests.graph.legalize.cases.case import Case, image, unary

PARAMETERS = ", float[4] s, float[4] b"
CENTRED = "Sub({0}, ReduceMean({0}, {1}, keepdims=1))"


def standardized(x: str, axes: str) -> str:
    centred = CENTRED.format(x, axes)
    return f"Div({centred}, Sqrt(Add(ReduceMean(Pow({centred}, 2), {axes}, keepdims=1), 1e-05)))"


CASES = [
    image(
        "BatchNormalization (x, s, b, m, v)",
        "Add(Mul(x, Unsqueeze({0}, [1 2])), Unsqueeze(Sub(b, Mul(m, {0})), [1 2]))".format(
            "Div(s, Sqrt(Add(v, 1e-05)))"
        ),
        inputs=f"{PARAMETERS}, float[4] m, float[4] v",
        given={"v": [1, 0.5, 2, 0.1]},
        untrained=("m", "v"),
    ),
    Case(
        "(float[N, T, 5] x, float[5] s, float[5] b) => (float[N, T, 5] y)"
        "{ y = LayerNormalization <epsilon = 0.01> (x, s, b) }",
        "LayerNormalization(x, s, b, epsilon=0.01)",
    ),
    Case(
        "(float[N, 3, 5] x, float[3, 5] s) => (float[N, 3, 5] y) { y = LayerNormalization <axis = 1> (x, s) }",
        "LayerNormalization(x, s, ConstantOfShape(Shape(s)), axis=1)",
    ),
    Case(
        "(float[N, 5] x, float[5] s, float[5] b) => (float[N, 5] y)"
        "{ h = LayerNormalization (x, s, b) y = LayerNormalization (h, s, b) }",
        "LayerNormalization(LayerNormalization(x, {0}), {0})".format("Identity(s), Identity(b)"),
        untrained=("s", "b"),
    ),
    image(
        "InstanceNormalization (x, s, b)",
        f"Add(Mul({standardized('x', '[2 3]')}, Unsqueeze(s, [1 2])), Unsqueeze(b, [1 2]))",
        size="H, W",
        inputs=PARAMETERS,
    ),
    image(
        "GroupNormalization <num_groups = 2> (x, s, b)",
        "Reshape(Add(Mul({}, Unsqueeze(s, [1])), Unsqueeze(b, [1])), Shape(x))".format(
            standardized("Reshape(x, [0 2 -1])", "[2]")
        ),
        size="H, W",
        inputs=", float[2] s, float[2] b",
    ),
    image(
        "GroupNormalization <num_groups = 2> (x, s, b)",
        "Add(Mul(Reshape({}, Shape(x)), Unsqueeze(s, [1 2])), Unsqueeze(b, [1 2]))".format(
            standardized("Reshape(x, [0 2 -1])", "[2]")
        ),
        opset=21,
        inputs=PARAMETERS,
        original="(float[N, 4, 6, 5] x, float[4] s, float[4] b) => (float[] y) <int64[3] g = {0, 2, -1}, "
        "int64[3] c = {4, 1, 1}, float[2] one = {1, 1}, float[2] zero = {0, 0}> { h = Reshape (x, g) "
        "i = InstanceNormalization (h, one, zero) k = Shape (x) j = Reshape (i, k) t = Reshape (s, c) "
        "l = Mul (j, t) u = Reshape (b, c) y = Add (l, u) }",
    ),
    *(
        image(
            f"LRN <size = {size}, alpha = 0.3, bias = 2.0> (x)",
            "Mul(x, Pow(Conv(Pow(x, 2), float32[4, 4, 1, 1], [2 2 2 2]), -0.75))",
            original="(float[N, 4, 6, 5] x) => (float[] y) <float p = {2}, int64[4] s = {0, 1, 4, 30}, "
            "float a = {0.3}, float k = {2}, float b = {-0.75}> { q = Pow (x, p) r = Reshape (q, s) m = AveragePool "
            f"<count_include_pad = 1, kernel_shape = [{size}, 1], pads = [{(size - 1) // 2}, 0, {size // 2}, 0]> (r) "
            "n = Mul (m, a) t = Add (n, k) u = Pow (t, b) h = Shape (x) v = Reshape (u, h) y = Mul (x, v) }",
            runs=size % 2 == 1,
        )
        for size in (2, 3, 5)
    ),
    unary("LpNormalization (x)", "Div(x, Sqrt(ReduceSum(Pow(x, 2), [-1])))"),
    unary(
        "LpNormalization <axis = 0, p = 1> (x)",
        "Div(x, ReduceSum(Abs(x), [0]))",
        original="(float[N, 7] x) => (float[] y) <int64[1] i = {0}> "
        "{ a = Abs (x) n = ReduceSum (a, i) y = Div (x, n) }",
    ),
    image(
        "MeanVarianceNormalization (x)",
        "Div({0}, Add(Sqrt(ReduceMean(Pow({0}, 2), [0 2 3], keepdims=1)), 1e-09))".format(
            CENTRED.format("x", "[0 2 3]")
        ),
        original="(float[N, 4, 6, 5] x) => (float[] y) <int64[3] a = {0, 2, 3}, float two = {2}> "
        "{ m = ReduceMean (x, a) c = Sub (x, m) q = Pow (c, two) v = ReduceMean (q, a) d = Sqrt (v) y = Div (c, d) }",
    ),
]
