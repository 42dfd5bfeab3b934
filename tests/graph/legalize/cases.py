"""A small graph an operator, and what legalize makes of it.

``expected`` is the output in terms of the inputs (:func:`tests.graph.expression.expression`) where a rule rewrites it,
None where it stays as it is.  ``original`` computes the same by other operators, where the reference evaluator's own
version works in single precision or has a bug; outputs and gradients are then compared with its.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx

from tests.graph.gradient import model


class Case(NamedTuple):
    text: str
    expected: str | None = None
    opset: int = 18
    original: str | None = None
    given: Mapping[str, Any] | None = None
    untrained: tuple[str, ...] = ()
    runs: bool = True
    """False where ONNX Runtime 1.19 cannot run it, or not as ONNX defines it."""

    @property
    def proto(self) -> onnx.ModelProto:
        return model(self.text, self.opset)

    def __str__(self) -> str:
        return f"{self.text.rpartition('{ ')[2].rstrip(' }')} / {self.opset}"


def unary(node: str, expected: str | None = None, **more: Any) -> Case:
    constants = "<float low = {-0.5}, float high = {0.5}>"
    return Case(f"(float[N, 7] x) => (float[N, 7] y) {constants} {{ y = {node} }}", expected, **more)


def binary(node: str, expected: str | None = None, other: str = "float[7] z", **more: Any) -> Case:
    return Case(f"(float[N, 7] x, {other}) => (float[N, 7] y) {{ y = {node} }}", expected, **more)


def moved(node: str, expected: str | None = None, constants: str = "int64 none = {0}", **more: Any) -> Case:
    """Of operators that change the shape."""
    return Case(f"(float[N, 3, 4] x) => (float[] y) <{constants}> {{ y = {node} }}", expected, **more)


def image(node: str, expected: str | None = None, size: str = "6, 5", inputs: str = "", **more: Any) -> Case:
    return Case(f"(float[N, 4, {size}] x{inputs}) => (float[] y) {{ y = {node} }}", expected, **more)


SOFTPLUS = "Add(Mul(Add(x, Abs(x)), 0.5), Log(Add(Exp(Neg(Abs(x))), 1)))"
ERF_GELU = (
    "(float[N, 7] x) => (float[N, 7] y) <float r = {0.7071067811865475}, float one = {1}, float half = {0.5}>"
    "{ a = Mul (x, r) b = Erf (a) c = Add (b, one) d = Mul (c, x) y = Mul (d, half) }"
)
BIAS_GELU = ERF_GELU.replace("x) =>", "u, float[7] z) =>").replace("{ a", "{ x = Add (u, z) a")
QUICK_GELU = "(float[N, 7] x) => (float[N, 7] y) <float c = {1.702}> { a = Mul (x, c) b = Sigmoid (a) y = Mul (x, b) }"
POSITIVE = {"x": np.linspace(0.3, 2.1, 14).reshape(2, 7)}

ACTIVATIONS = [
    unary("Elu <alpha = 2.0> (x)", "Add(Relu(x), Mul(Sub(Exp(Clip(x, _, 0)), 1), 2))"),
    unary("Selu (x)", "Mul(Add(Relu(x), Mul(Sub(Exp(Clip(x, _, 0)), 1), 1.673)), 1.051)"),
    unary("Celu <alpha = 2.0> (x)", "Add(Relu(x), Mul(Sub(Exp(Div(Clip(x, _, 0), 2)), 1), 2))"),
    unary("ThresholdedRelu <alpha = 0.5> (x)", "Mul(x, Cast(Greater(x, 0.5), to=1))"),
    unary("HardSigmoid (x)", "Clip(Add(Mul(x, 0.2), 0.5), 0, 1)"),
    unary("HardSwish (x)", "Mul(x, Clip(Add(Div(x, 6), 0.5), 0, 1))"),
    unary("Softplus (x)", SOFTPLUS),
    unary("Mish (x)", f"Mul(x, Tanh({SOFTPLUS}))"),
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
    unary("com.microsoft.Gelu (x)", original=ERF_GELU),
    unary("com.microsoft.QuickGelu <alpha = 1.702> (x)", original=QUICK_GELU),
    Case(
        "(float[N, 7] u, float[7] z) => (float[N, 7] y) { y = com.microsoft.BiasGelu (u, z) }",
        original=BIAS_GELU,
    ),
]

ARITHMETIC = [
    *(unary(f"{name} (x)") for name in ("Abs", "Cos", "Erf", "Exp", "Identity", "Neg", "Sin")),
    *(unary(f"{name} (x)", given=POSITIVE) for name in ("Log", "Reciprocal", "Sqrt")),
    *(binary(f"{name} (x, z)") for name in ("Add", "Div", "Max", "Min", "Mul", "Sub")),
    *(binary(f"{name} (x, z)", other="float z") for name in ("Add", "Div", "Max", "Min", "Mul", "Sub")),
    Case("(float[3, 1] x, float[N, 1, 4] z) => (float[N, 3, 4] y) { y = Mul (x, z) }"),
    binary("Max (x, z, x2)", other="float[7] z, float[N, 1] x2"),
    binary("Sum (x, z, u)", "Add(Add(x, z), u)", other="float[7] z, float[N, 1] u"),
    unary("Sum (x)", "Identity(x)"),
    binary("Mean (x, z)", "Div(Add(x, z), 2)"),
    unary("Mul (x, x)", "Mul(x, Identity(x))"),
    Case("(float[3, 3] x) => (float[3, 3] y) { y = Gemm (x, x, x) }", "Gemm(x, Identity(x), Identity(x))"),
    Case("(float[3, 3] x) => (float[3, 3] y) { h = Tanh (x) y = MatMul (h, h) }"),
    Case("(float[N, 4] x) => (float[N, 4] y) <float e = {3}> { y = Pow (x, e) }"),
    Case("(float[N, 4] x) => (float[N, 4] y) <int64 e = {3}> { y = Pow (x, e) }", "Pow(x, Cast(3, to=1))"),
    Case(
        "(float[4] x) => (float[2, 4] y) <float[2, 1] e = {3, 2}> { y = Pow (x, e) }",
        "Pow(Expand(x, Shape([[3] [2]])), [[3] [2]])",
    ),
    binary("Where (c, x, z)", other="float[N, 7] z, bool[N, 1] c"),
    binary("Where (c, x, z)", "Where(c, x, Expand(z, Shape(x)))", other="float z, bool[N, 7] c"),
    binary("Where (c, z, x)", "Where(c, Expand(z, Shape(x)), x)", other="float[7] z, bool[N, 1] c"),
    binary("Where (c, x, z)", other="float[7] z, bool[N, 1] c", untrained=("z",)),
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


def reduction(node: str, expected: str | None = None, opset: int = 18) -> Case:
    values = [[[1, 3, 2], [4, 1.5, 0.5]], [[0.3, 0.7, 2.5], [1.2, 2.2, 0.1]]]
    axes = "<int64[1] a = {1}, int64[2] b = {-1, 1}>"
    return Case(f"(float[N, 2, 3] x) => (float[] y) {axes} {{ y = {node} }}", expected, opset, given={"x": values})


def extreme(name: str, axes: str, keepdims: int) -> str:
    chosen = f"Equal(x, {name}(x, {axes}keepdims=1))"
    total = f"ReduceSum(Where({chosen}, x, 0), {axes}keepdims={keepdims})"
    return f"Div({total}, ReduceSum(Cast({chosen}, to=1), {axes}keepdims={keepdims}))"


OPAQUE = "Reshape({0}, Compress(Shape({0}), GreaterOrEqual(Shape({0}), 0)))"
BROADCASTS = [
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

REDUCTIONS = [
    *(
        reduction(f"{name} {arguments}")
        for name in ("ReduceMean", "ReduceSum")
        for arguments in ("(x)", "(x, a)", "<keepdims = 0> (x, b)")
    ),
    reduction("ReduceMean <axes = [1], keepdims = 0> (x)", "ReduceMean(x, [1], keepdims=0)", opset=13),
    *(
        case
        for name in ("ReduceMax", "ReduceMin")
        for case in (
            reduction(f"{name} (x)", extreme(name, "", 1)),
            reduction(f"{name} <keepdims = 0> (x, b)", extreme(name, "[-1 1], ", 0)),
            reduction(f"{name} <axes = [1]> (x)", extreme(name, "[1], ", 1), opset=13),
        )
    ),
    *(
        case
        for name in ("ReduceL2", "ReduceLogSumExp")
        for case in (
            reduction(f"{name} (x, a)"),
            reduction(f"{name} <keepdims = 0> (x, b)", f"Squeeze({name}(x, [-1 1], keepdims=1), [-1 1])"),
            reduction(f"{name} <keepdims = 0> (x)", f"Squeeze({name}(x, [0 1 2], keepdims=1), [0 1 2])"),
        )
    ),
    reduction("ReduceL1 <keepdims = 0> (x, a)", "ReduceSum(Abs(x), [1], keepdims=0)"),
    reduction("ReduceSumSquare (x)", "ReduceSum(Pow(x, 2), keepdims=1)"),
    reduction("ReduceLogSum (x, b)", "Log(ReduceSum(x, [-1 1], keepdims=1))"),
]

BLOCKS = "Shape(x, end=1, start=0)", "Shape(x, end=3, start=2)", "Shape(x, end=4, start=3)"
MOVES = [
    moved("Transpose (x)", "Transpose(x, perm=[2 1 0])"),
    moved("Transpose <perm = [1, 2, 0]> (x)"),
    moved("Reshape (x, s)", constants="int64[2] s = {0, -1}"),
    moved("Flatten (x)"),
    moved("Unsqueeze (x, a)", constants="int64[1] a = {-1}"),
    Case("(float[N, 1, 4] x) => (float[N, 4] y) { y = Squeeze (x) }"),
    Case("(float[N, 1, 4] x) => (float[N, 4] y) <int64[1] a = {1}> { y = Squeeze (x, a) }"),
    moved("Tile (x, r)", constants="int64[3] r = {1, 2, 3}"),
    Case("(float[3, 1] x) => (float[2, 3, 4] y) <int64[3] s = {2, 3, 4}> { y = Expand (x, s) }"),
    moved("Gather <axis = 1> (x, i)", constants="int64[2, 2] i = {0, 2, -1, 2}"),
    moved("GatherElements <axis = 2> (x, i)", constants="int64[2, 3, 1] i = {0, 1, 2, 3, -1, 0}"),
    moved("GatherND <batch_dims = 1> (x, i)", constants="int64[2, 1] i = {2, 0}"),
    moved("Trilu <upper = 0> (x)"),
    Case("(float[N, 5] x) => (float[N, 2] y, int64[N, 2] i) <int64[1] k = {2}> { y, i = TopK (x, k) }"),
    Case("(float[N, 5] x) => (float[N, 5] y) { d = Cast <to = 11> (x) e = Exp (d) y = Cast <to = 1> (e) }"),
    Case("(float[N, 5] x, float z) => (float[N, 5] y) { y = CastLike (x, z) }", "Cast(x, to=1)", untrained=("z",)),
    Case("(float[N, 2] x, float[N, 3] z) => (float[N, 5] y) { y = Concat <axis = -1> (x, z) }"),
    Case(
        "(float[N, 1] x) => (float[N, 5] y) <float[2, 2] k = {1, 2, 3, 4}> { y = Concat <axis = 1> (k, x, k) }",
        "Concat(Identity([[1 2] [3 4]]), x, Identity([[1 2] [3 4]]), axis=1)",
    ),
    Case("(float[N, 6] x) => (float[N, 3] y) { a, b = Split <axis = 1, num_outputs = 2> (x) y = Mul (a, b) }"),
    Case(
        "(float[N, 5] x) => (float[N, 2] y) { a, y = Split <axis = 1, num_outputs = 2> (x) }",
        "Slice(x, [3], [5], [1])",
    ),
    Case(
        "(float[N, 6] x) => (float[N, 3] y) { a, b = Split <axis = 1, num_outputs = 2> (x) s = Shape (b) "
        "y = Reshape (a, s) }",
        "Reshape(Slice(x, [0], [3], [1]), Shape(Slice(x, [3], [6], [1])))",
    ),
    Case(
        "(float[N, 6] x) => (float[N, 3] y) <int64[3] s = {1, 3, 2}> { a, y, b = Split <axis = -1> (x, s) }",
        "Slice(x, [1], [4], [-1])",
    ),
    moved("Slice (x, s, e, a, t)", constants="int64[1] s={0}, int64[1] e={9}, int64[1] a={2}, int64[1] t={2}"),
    moved("Slice (x, s, e)", constants="int64[2] s={0, 1}, int64[2] e={2, -1}"),
    moved(
        "Slice (x, s, e, a, t)",
        "Gather(x, [3 2 1 0], axis=2)",
        constants="int64[1] s={-1}, int64[1] e={-99}, int64[1] a={2}, int64[1] t={-1}",
    ),
    moved(
        "Slice (x, s, e, a, t)",
        "Gather(Gather(x, [2 1], axis=1), [0 2], axis=-1)",
        constants="int64[2] s={2, 0}, int64[2] e={0, 4}, int64[2] a={1, -1}, int64[2] t={-1, 2}",
    ),
    moved("Pad (x, p, v)", constants="int64[6] p={0, 1, 2, 0, 0, 1}, float v={2.5}"),
    moved(
        "Pad (x, p, v, a)", "Pad(x, [0 0 1 0 0 2], 2.5)", constants="int64[2] p={1, 2}, float v={2.5}, int64[1] a={-1}"
    ),
    *(
        moved(
            f'Pad <mode = "{mode}"> (x, p)',
            f"Gather(Gather(x, [{rows}], axis=1), [{columns}], axis=2)",
            constants="int64[6] p={0, 1, 2, 0, 0, 1}",
            opset=19 if mode == "wrap" else 18,
        )
        for mode, rows, columns in (
            ("reflect", "1 0 1 2", "2 1 0 1 2 3 2"),
            ("edge", "0 0 1 2", "0 0 0 1 2 3 3"),
            ("wrap", "2 0 1 2", "2 3 0 1 2 3 0"),
        )
    ),
    Case("(float[4, 3] x, float[2, 3] u) => (float[4, 3] y) <int64[2, 1] i = {1, 3}> { y = ScatterND (x, i, u) }"),
    Case(
        "(float[4, 3] x, float[2, 3] u) => (float[4, 3] y) <int64[2, 1] i = {1, 1}>"
        '{ y = ScatterND <reduction = "add"> (x, i, u) }',
        "Add(x, ScatterND(ConstantOfShape(Shape(x)), [[1] [1]], u, reduction=add))",
    ),
    Case(
        "(float[3, 4] x, float[3, 2] u) => (float[3, 4] y) <int64[3, 2] i = {0, 1, 2, 1, 3, 0}>"
        "{ y = ScatterElements <axis = 1> (x, i, u) }"
    ),
    Case(
        "(float[3, 4] x, float[3, 1] u) => (float[3, 4] y) <int64[3, 1] i = {0, 2, 3}>"
        '{ y = ScatterElements <axis = 1, reduction = "add"> (x, i, u) }',
        "Add(x, ScatterElements(ConstantOfShape(Shape(x)), [[0] [2] [3]], u, axis=1, reduction=add))",
    ),
    image(
        "DepthToSpace <blocksize = 2> (x)",
        "Reshape(Transpose(Reshape(x, Concat({0}, [2 2], [1], {1}, {2}, axis=0)), perm=[0 3 4 1 5 2]), "
        "Concat({0}, [1], Mul({1}, [2]), Mul({2}, [2]), axis=0))".format(*BLOCKS),
        size="H, W",
    ),
    image(
        'DepthToSpace <blocksize = 2, mode = "CRD"> (x)',
        "Reshape(Transpose(Reshape(x, Concat({0}, [1], [2 2], {1}, {2}, axis=0)), perm=[0 1 4 2 5 3]), "
        "Concat({0}, [1], Mul({1}, [2]), Mul({2}, [2]), axis=0))".format(*BLOCKS),
        size="H, W",
    ),
    image(
        "SpaceToDepth <blocksize = 2> (x)",
        "Reshape(Transpose(Reshape(x, Concat({0}, Shape(x, end=2, start=1), Div({1}, [2]), [2], Div({2}, [2]), [2], "
        "axis=0)), perm=[0 3 5 1 2 4]), Concat({0}, [-1], Div({1}, [2]), Div({2}, [2]), axis=0))".format(*BLOCKS),
        size="H, 4",
    ),
]

PARAMETERS = ", float[4] s, float[4] b"
CENTRED = "Sub({0}, ReduceMean({0}, {1}, keepdims=1))"


def standardized(x: str, axes: str) -> str:
    centred = CENTRED.format(x, axes)
    return f"Div({centred}, Sqrt(Add(ReduceMean(Pow({centred}, 2), {axes}, keepdims=1), 1e-05)))"


NORMALIZATIONS = [
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


def run_time_pads(kernel: str, strides: str, *, lower: bool = False) -> str:
    length = "Shape(x, start=2)"
    last = f"Div(Sub({length}, [1]), {strides})"
    total = f"Max(Sub(Add(Mul({last}, {strides}), {kernel}), {length}), [0])"
    small, large = f"Div({total}, [2])", f"Sub({total}, Div({total}, [2]))"
    begin, end = (large, small) if lower else (small, large)
    return f"Pad(x, Concat([0 0], {begin}, [0 0], {end}, axis=0), 0)"


KERNEL = ", float[3, 4, 3, 2] w, float[3] b"
CONVOLUTIONS = [
    image("Conv <pads = [1, 0, 1, 1], strides = [2, 1]> (x, w, b)", inputs=KERNEL),
    image("Conv <pads = [1, 0, 1, 1], strides = [2, 1]> (x, w, b)", inputs=KERNEL, size="H, W"),
    image("Conv <dilations = [2, 1], group = 2> (x, w)", inputs=", float[6, 2, 2, 3] w", size="H, W"),
    Case("(float[N, 2, 5] x, float[3, 2, 3] w) => (float[] y) { y = Conv <pads = [1, 1]> (x, w) }"),
    Case("(float[N, 1, 3, 4, 3] x, float[2, 1, 2, 2, 2] w) => (float[] y) { y = Conv (x, w) }"),
    *(
        image(
            f"Conv <{attributes}> (x, w, b)",
            f"Conv(x, w, b, {expected})",
            inputs=KERNEL,
            size=size,
            runs="dilations" not in attributes,
        )
        for size, attributes, expected in (
            ("6, 5", 'auto_pad = "VALID"', "pads=[0 0 0 0]"),
            ("H, W", 'auto_pad = "SAME_UPPER"', "pads=[1 0 1 1]"),
            ("H, W", 'auto_pad = "SAME_LOWER"', "pads=[1 1 1 0]"),
            ("6, 5", 'auto_pad = "SAME_UPPER", strides = [2, 2]', "pads=[0 0 1 1], strides=[2 2]"),
            ("6, 5", 'auto_pad = "SAME_LOWER", strides = [2, 2]', "pads=[1 1 0 0], strides=[2 2]"),
            ("H, 5", 'auto_pad = "SAME_UPPER", strides = [1, 2]', "pads=[1 0 1 1], strides=[1 2]"),
            (
                "6, 5",
                'auto_pad = "SAME_UPPER", dilations = [1, 2], strides = [2, 1]',
                "dilations=[1 2], pads=[0 1 1 1], strides=[2 1]",
            ),
        )
    ),
    image(
        'Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w, b)',
        f"Conv({run_time_pads('[3 2]', '[2 2]')}, w, b, pads=[0 0 0 0], strides=[2 2])",
        inputs=KERNEL,
        size="H, W",
    ),
    image(
        'Conv <auto_pad = "SAME_LOWER", dilations = [1, 2], strides = [2, 3]> (x, w, b)',
        "Conv({}, w, b, dilations=[1 2], pads=[0 0 0 0], strides=[2 3])".format(
            run_time_pads("[3 3]", "[2 3]", lower=True)
        ),
        inputs=KERNEL,
        size="H, W",
        runs=False,
    ),
]

POOLED = "MaxPool(x, kernel_shape=[2 2], strides=[2 2]).1"
COVERED = "Conv(Expand(1, Concat([1 1], Shape(x, start=2), axis=0)), {ones}, kernel_shape=[3 2], {more})"
POOLS = [
    image("MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]> (x)"),
    image('MaxPool <auto_pad = "SAME_UPPER", kernel_shape = [3, 3], strides = [2, 2]> (x)'),
    image("MaxPool <kernel_shape = [2, 2], storage_order = 1> (x)", "MaxPool(x, kernel_shape=[2 2])"),
    image(
        "MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)",
        f"Reshape(GatherElements(Reshape(x, [-1]), Reshape({POOLED}, [-1]), axis=0), Shape({POOLED}))",
        size="H, W",
    ),
    image("GlobalMaxPool (x)", "MaxPool(x, kernel_shape=[6 5])"),
    image("GlobalMaxPool (x)", extreme("ReduceMax", "[2 3], ", 1), size="H, W"),
    image("GlobalAveragePool (x)", size="H, W"),
    image("AveragePool <kernel_shape = [6, 5]> (x)", "GlobalAveragePool(x)"),
    image("AveragePool <kernel_shape = [1, 1]> (x)", "Identity(x)"),
    image("AveragePool <kernel_shape = [3, 1], strides = [3, 1]> (x)", "MatMul(float32[2, 6], x)"),
    *(
        image(
            f"AveragePool <kernel_shape = [3, 2], {attributes}> (x)",
            f"MatMul(MatMul(float32[{rows}, 6], x), {right})",
            runs=runs,
        )
        for attributes, rows, right, runs in (
            ("pads = [1, 1, 1, 1]", 6, "float32[5, 6]", True),
            ("pads = [1, 1, 1, 1], count_include_pad = 1", 6, "float32[5, 6]", True),
            ("strides = [2, 2], ceil_mode = 1", 3, "float32[5, 3]", True),
            ("strides = [2, 2], ceil_mode = 1, pads = [1, 1, 1, 1], count_include_pad = 1", 4, "float32[5, 3]", False),
            ('auto_pad = "SAME_LOWER", strides = [2, 2]', 3, "float32[5, 3]", True),
        )
    ),
    image(
        "AveragePool <kernel_shape = [2, 2], dilations = [2, 3]> (x)",
        "MatMul(MatMul(float32[4, 6], x), float32[5, 2])",
        opset=19,
    ),
    Case(
        "(float[N, 2, 7] x) => (float[] y) { y = AveragePool <kernel_shape = [3], pads = [1, 1], strides = [2]> (x) }",
        "MatMul(x, float32[7, 4])",
    ),
    Case(
        "(float[N, 1, 4, 3, 5] x) => (float[] y) { y = AveragePool <kernel_shape = [3, 2, 3]> (x) }",
        "MatMul(MatMul([[0.5 0.5 0] [0 0.5 0.5]], Transpose(MatMul(Transpose(x, perm=[0 1 4 3 2]), "
        "[[0.3333 0] [0.3333 0.3333] [0.3333 0.3333] [0 0.3333]]), perm=[0 1 4 3 2])), float32[5, 3])",
    ),
    image(
        "AveragePool <kernel_shape = [3, 2], pads = [1, 1, 0, 1], strides = [2, 1]> (x)",
        "Div(Conv(x, float32[4, 1, 3, 2], group=4, {}), {})".format(
            "kernel_shape=[3 2], pads=[1 1 0 1], strides=[2 1]",
            COVERED.format(ones="[[[[1 1] [1 1] [1 1]]]]", more="pads=[1 1 0 1], strides=[2 1]"),
        ),
        size="H, W",
    ),
    image(
        "AveragePool <kernel_shape = [3, 2], count_include_pad = 1, pads = [1, 1, 0, 1]> (x)",
        "Div(Conv(x, float32[4, 1, 3, 2], group=4, kernel_shape=[3 2], pads=[1 1 0 1]), 6)",
        size="H, W",
    ),
]

CASES = [*ACTIVATIONS, *ARITHMETIC, *BROADCASTS, *REDUCTIONS, *MOVES, *NORMALIZATIONS, *CONVOLUTIONS, *POOLS]
