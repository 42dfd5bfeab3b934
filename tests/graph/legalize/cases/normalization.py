"""Normalisations."""

from __future__ import annotations

from tests.graph.legalize.cases.case import Case, image, unary

PARAMETERS = ", float[4] s, float[4] b"
CENTRED = "Sub({0}, ReduceMean({0}, {1}, keepdims=1))"

INVERSE = f"Reciprocal(Sqrt(Add(ReduceMean(Pow({CENTRED.format('x', '[2]')}, 2), [2], keepdims=1), 1e-05)))"
BATCH_NORM = "float[3] s, float[3] b, float[3] m, float[3] v"
FROZEN = (
    "a = Add (v, e) q = Sqrt (a) f = Div (s, q) g = Mul (m, f) "
    "h = Sub (b, g) j = Reshape (f, c) k = Reshape (h, c) l = Mul (x, j) y = Add (l, k)"
)
MEAN = "ReduceMean(x, [2], keepdims=1)"
NORM = "ReduceL2(x, [-1])"


def by_row(x: str, scale: str, bias: str) -> str:
    rows, count = f"Shape({x}, end=2)", f"ReduceProd(Shape({x}, end=2), [0], keepdims=1)"
    scale, bias = (f"Reshape(Expand({value}, {rows}), {count})" for value in (scale, bias))
    unread = f"Expand(-1, {count}), Expand(-2, {count})"
    found = f"BatchNormInternal(Reshape({x}, Concat([1], {count}, [-1], axis=0)), {scale}, {bias}, {unread}"
    return f"Reshape({found}, epsilon=1e-05, training_mode=1), Shape({x}))"


CASES = [
    image(
        "BatchNormalization (x, s, b, m, v)",
        "Add(Mul(x, Unsqueeze({0}, [1 2])), Unsqueeze(Sub(b, Mul(m, {0})), [1 2]))".format(
            "Div(s, Sqrt(Add(v, 1e-05)))"
        ),
        inputs=f"{PARAMETERS}, float[4] m, float[4] v",
        given={"v": [1, 0.5, 2, 0.1]},
        untrained=("m", "v"),
        original=f"(float[N, 4, 6, 5] x{PARAMETERS}, float[4] m, float[4] v) => (float[] y) "
        f"<float e = {{1e-5}}, int64[3] c = {{4, 1, 1}}> {{ {FROZEN} }}",
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
        by_row("x", "s", "b"),
        size="H, W",
        inputs=PARAMETERS,
    ),
    image(
        "GroupNormalization <num_groups = 2> (x, s, b)",
        f"Reshape({by_row('Reshape(x, [0 2 -1])', 's', 'b')}, Shape(x))",
        size="H, W",
        inputs=", float[2] s, float[2] b",
        elsewhere=False,
    ),
    image(
        "GroupNormalization <num_groups = 2> (x, s, b)",
        "Add(Mul(Reshape({}, Shape(x)), Unsqueeze(s, [1 2])), Unsqueeze(b, [1 2]))".format(
            by_row("Reshape(x, [0 2 -1])", "1", "0")
        ),
        opset=21,
        elsewhere=False,
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
    Case(
        "(float[N, 4, W] x) => (float[] y) { y = LRN <size = 3, alpha = 0.1> (x) }",
        path="Pow Conv Pow Mul",
        original="(float[N, 4, W] x) => (float[] y) <float p = {2}, int64[1] i = {1}, float a = {0.1}, "
        "float k = {1}, float b = {-0.75}> { q = Pow (x, p) r = Unsqueeze (q, i) m = AveragePool "
        "<count_include_pad = 1, kernel_shape = [3, 1], pads = [1, 0, 1, 0]> (r) "
        "s = Squeeze (m, i) n = Mul (s, a) t = Add (n, k) u = Pow (t, b) y = Mul (x, u) }",
        runs=False,
    ),
    unary("LpNormalization (x)", f"Div(x, Where(Greater({NORM}, 0), {NORM}, 1))"),
    unary(
        "LpNormalization <axis = 0, p = 1> (x)",
        "Div(x, Where(Greater({0}, 0), {0}, 1))".format("ReduceSum(Abs(x), [0])"),
        original="(float[N, 7] x) => (float[] y) <int64[1] i = {0}> "
        "{ a = Abs (x) n = ReduceSum (a, i) y = Div (x, n) }",
    ),
    *(
        image(
            f"MeanVarianceNormalization {attributes}(x)",
            "Div({0}, Add(Where(Greater({1}, 0), Sqrt(Where(Greater({1}, 0), {1}, 1)), 0), 1e-09))".format(
                CENTRED.format("x", f"[{axes}]"),
                f"ReduceMean(Pow({CENTRED.format('x', f'[{axes}]')}, 2), [{axes}], keepdims=1)",
            ),
            opset=opset,
            original=f"(float[N, 4, 6, 5] x) => (float[] y) <int64[{count}] a = {{{axes.replace(' ', ', ')}}}, "
            "float two = {2}> { s = ReduceSum (x, a) o = Sub (x, x) e = Exp (o) n = ReduceSum (e, a) m = Div (s, n) "
            "c = Sub (x, m) q = Pow (c, two) p = ReduceSum (q, a) v = Div (p, n) d = Sqrt (v) y = Div (c, d) }",
        )
        for attributes, axes, count in (("", "0 2 3", 3), ("<axes = [1, -1]> ", "1 -1", 2))
        for opset in (13, 17, 18, 21)
    ),
    Case(
        "(float[N, T, 5] x, float[5] s, float[5] b) => (float[] y) "
        "{ a, m, v = LayerNormalization (x, s, b) p = Mul (a, m) y = Mul (p, v) }",
        f"Mul(Mul(Add(Mul(Mul({CENTRED.format('x', '[2]')}, {INVERSE}), s), b), {MEAN}), {INVERSE})",
    ),
    Case(
        "(float[N, T, 5] x, float[T, 5] s) => (float[] y) "
        "{ a, m, v = LayerNormalization <axis = -2> (x, s) y = Mul (a, v) }",
        path="ReduceMean Sub Pow ReduceMean Add Sqrt Reciprocal Mul Mul Mul",
    ),
    Case(
        "(float[N, T, 5] x, float[5] s) => (float[] y) { y, m = LayerNormalization (x, s) }",
        "LayerNormalization(x, s, ConstantOfShape(Shape(s)))",
    ),
    *(
        Case(
            f"(float[{shape}] x, {BATCH_NORM}) => (float[] y) {{ y = BatchNormalization (x, s, b, m, v) }}",
            path=path,
            given={"v": [1, 0.5, 2]},
            original=f"(float[{shape}] x, {BATCH_NORM}) => (float[] y) "
            f"<float e = {{1e-5}}, int64[{rank}] c = {{{channels}}}> {{ {FROZEN} }}",
        )
        for shape, rank, channels, path in (
            ("N, 3", 1, "3", "Add Sqrt Div Mul Sub Mul Add"),
            ("N, 3, T", 2, "3, 1", "Add Sqrt Div Mul Sub Unsqueeze Mul Unsqueeze Add"),
            ("N, 3, 2, 2, W", 4, "3, 1, 1, 1", "Add Sqrt Div Mul Sub Unsqueeze Mul Unsqueeze Add"),
        )
    ),
    *(
        Case(
            f"(float[{shape}] x, float[3] s, float[3] b) => (float[] y) {{ y = InstanceNormalization (x, s, b) }}",
            by_row("x", "s", "b"),
        )
        for shape in ("N, 3, 5", "N, 3, 2, T, 2")
    ),
]
