"""Activations."""

from __future__ import annotations

from tests.graph.legalize.cases.case import Case, binary, unary

ERF_GELU = (
    "(float[N, 7] x) => (float[N, 7] y) <float r = {0.7071067811865475}, float one = {1}, float half = {0.5}>"
    "{ a = Mul (x, r) b = Erf (a) c = Add (b, one) d = Mul (c, x) y = Mul (d, half) }"
)
BIAS_GELU = ERF_GELU.replace("x) =>", "u, float[7] z) =>").replace("{ a", "{ x = Add (u, z) a")
QUICK_GELU = "(float[N, 7] x) => (float[N, 7] y) <float c = {1.702}> { a = Mul (x, c) b = Sigmoid (a) y = Mul (x, b) }"
BOUNDS = {"low": -0.5, "high": 0.4}

CASES = [
    unary("Elu <alpha = 2.0> (x)", "ExponentialUnit(x)"),
    unary("Selu (x)", "ExponentialUnit(x)"),
    unary("Celu <alpha = 2.0> (x)", "ExponentialUnit(x)"),
    unary("Elu (x)", "ExponentialUnit(x)"),
    unary("ThresholdedRelu <alpha = 0.5> (x)", "Mul(x, Cast(Greater(x, 0.5), to=1))"),
    unary("HardSigmoid (x)", "Clip(Add(Mul(x, 0.2), 0.5), 0, 1)"),
    unary("HardSwish (x)", "Mul(x, Clip(Add(Div(x, 6), 0.5), 0, 1))"),
    unary("Softplus (x)", "Softplus(x)"),
    unary("Mish (x)", "Mul(x, Tanh(Softplus(x)))"),
    unary("Softsign (x)", "Div(x, Add(Abs(x), 1))"),
    unary(
        "Shrink <lambd = 0.4, bias = 0.2> (x)",
        "Add(Mul(Sub(x, 0.2), Cast(Greater(x, 0.4), to=1)), Mul(Add(x, 0.2), Cast(Less(x, -0.4), to=1)))",
    ),
    binary("PRelu (x, z)", "Add(Relu(x), Mul(z, Clip(x, _, 0)))"),
    unary("Gelu (x)", "Gelu(x)", opset=20, original=ERF_GELU),
    unary('Gelu <approximate = "tanh"> (x)', "FastGelu(x)", opset=20),
    unary("Swish <alpha = 1.5> (x)", "Mul(x, Sigmoid(Mul(x, 1.5)))", opset=24),
    *(
        Case(
            f"(float[N, 7] x) => (float[N, 7] y) {{ h = {name} (x) y = Mul (x, h) }}",
            f"Mul(x, Cast(Cast({name}(x), to=7), to=1))",
        )
        for name in ("Ceil", "Floor", "Hardmax", "Round", "Sign")
    ),
    *(unary(f"{name} (x)") for name in ("LeakyRelu", "LogSoftmax", "Relu", "Sigmoid", "Softmax", "Tanh")),
    unary("Softmax <axis = 0> (x)"),
    *(unary(f"Clip ({bounds})") for bounds in ("x", "x, low", "x, , high", "x, low, high")),
    Case(
        "(float[N, 7] x, float low, float high) => (float[] y) { y = Clip (x, low, high) }",
        "Min(Max(x, low), high)",
        given=BOUNDS,
    ),
    Case("(float[N, 7] x, float low) => (float[] y) { y = Clip (x, low) }", "Max(x, low)", given={"low": -0.5}),
    Case("(float[N, 7] x, float high) => (float[] y) { y = Clip (x, , high) }", "Min(x, high)", given={"high": 0.5}),
    Case(
        "(float[N, 7] x, float low, float high) => (float[] y) { y = Clip (x, low, high) }",
        given=BOUNDS,
        untrained=("low", "high"),
    ),
    *(
        Case(
            f"(float[N, 3, 4] x) => (float[] y) {{ y = {name} {axis}(x) }}",
            f"Reshape({name}(Flatten(x, axis={first}), axis=-1), Shape(x))",
            opset=11,
            original="(float[N, 3, 4] x) => (float[] y) "
            f"{{ f = Flatten <axis = {first}> (x) g = {name} <axis = 1> (f) s = Shape (x) y = Reshape (g, s) }}",
            elsewhere=False,
        )
        for name in ("LogSoftmax", "Softmax")
        for axis, first in (("", 1), ("<axis = 0> ", 0))
    ),
    Case(
        "(float[N, 3, 4] x) => (float[] y) { y = Softmax <axis = 2> (x) }",
        "Softmax(x, axis=-1)",
        opset=11,
        elsewhere=False,
    ),
    Case(
        "(float[N, 3, 4] x) => (float[] y) { h = Hardmax (x) y = Mul (h, x) }",
        "Mul(Reshape(Cast(Cast(Hardmax(Flatten(x, axis=1), axis=1), to=7), to=1), Shape(x)), x)",
        opset=11,
        original="(float[N, 3, 4] x) => (float[] y) "
        "{ f = Flatten (x) g = Hardmax <axis = 1> (f) s = Shape (x) h = Reshape (g, s) y = Mul (h, x) }",
        elsewhere=False,
    ),
    Case(
        "(float[N, T] x) => (float[] y) { r = RandomNormalLike (x) n = Sub (r, r) h = Mul (n, x) y = Add (h, x) }",
        "Add(Mul(Sub({0}, {0}), x), x)".format("RandomNormalLike(ConstantOfShape(Shape(x)))"),
    ),
    Case(
        "(float[N, T] x) => (float[] y) { r = RandomUniformLike (x) n = Sub (r, r) h = Mul (n, x) y = Add (h, x) }",
        "Add(Mul(Sub({0}, {0}), x), x)".format("RandomUniformLike(ConstantOfShape(Shape(x)))"),
    ),
    Case(
        "(float[N, T] x) => (float[] y) "
        "{ p = Sigmoid (x) r = Bernoulli (p) n = Sub (r, r) h = Mul (n, x) y = Add (h, x) }",
        "Add(Mul(Sub({0}, {0}), x), x)".format("Cast(Cast(Bernoulli(Sigmoid(x)), to=7), to=1)"),
    ),
    unary("com.microsoft.Gelu (x)", original=ERF_GELU),
    unary("com.microsoft.QuickGelu <alpha = 1.702> (x)", original=QUICK_GELU),
    Case(
        "(float[N, 7] u, float[7] z) => (float[N, 7] y) { y = com.microsoft.BiasGelu (u, z) }",
        original=BIAS_GELU,
    ),
]
