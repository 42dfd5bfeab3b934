"""Operators that ONNX Runtime's optimizers leave in a file, run by ONNX Runtime alone: test_fused.py tries them."""

from __future__ import annotations

from typing import Any

from tests.graph.legalize.cases.case import Case

KERNEL = "float[N, 3, 6, 5] x, float[4, 3, 3, 3] w, float[4] b"
SKIP = "float[N, T, 8] x, float[N, T, 8] u, float[8] s, float[8] b"
WORDS = "int32[N, 3] i, float[5, 4] w, float[6, 4] p, float[4] s, float[4] b"
ANY_WORDS = WORDS.replace("N, 3", "N, T")
GIVEN = {"i": [[1, 2, 3], [0, 4, 1]]}


def fused(inputs: str, node: str, expected: str | None = None, constants: str = "", **more: Any) -> Case:
    declared = f"<{constants}> " if constants else ""
    return Case(f"({inputs}) => (float[] y) {declared}{{ y = com.microsoft.{node} }}", expected, **more)


def conv(activation: str, expected: str, z: str = "", inputs: str = "x, w, b") -> Case:
    return fused(KERNEL + z, f"FusedConv <pads = [1, 1, 1, 1], {activation}> ({inputs})", expected)


def gemm(activation: str, expected: str) -> Case:
    more = f"activation = {activation}, alpha = 0.5, beta = 2.0"
    return fused("float[N, 4] x, float[4, 5] w, float[5] b", f"FusedGemm <{more}> (x, w, b)", expected)


def root(x: str, epsilon: str = "0.01") -> str:
    return f"Sqrt(Add(ReduceMean(Pow({x}, 2), [-1], keepdims=1), {epsilon}))"


CONV, GEMM = "Conv(x, w, b, pads=[1 1 1 1])", "Gemm(x, w, b, alpha=0.5, beta=2)"
_CONVOLUTIONS = [
    conv('activation = "Relu"', f"Relu({CONV})"),
    conv('activation = "Tanh"', f"Tanh({CONV})"),
    conv('activation = "Sigmoid"', f"Sigmoid({CONV})"),
    conv('activation = "LeakyRelu", activation_params = [0.2]', f"LeakyRelu({CONV}, alpha=0.2)"),
    conv('activation = "Clip", activation_params = [-0.5, 0.7]', f"Clip({CONV}, -0.5, 0.7)"),
    conv('activation = "HardSigmoid", activation_params = [0.3, 0.4]', f"Clip(Add(Mul({CONV}, 0.3), 0.4), 0, 1)"),
    conv('activation = "Relu"', f"Relu(Add({CONV}, z))", ", float[N, 4, 6, 5] z", "x, w, b, z"),
    fused(f"{KERNEL.rpartition(',')[0]}, float[N, 4, 4, 3] z", "FusedConv (x, w, , z)", "Add(Conv(x, w), z)"),
    fused(
        "float[N, 2, 4, 4] x, float[2, 3, 3, 3] w, float[3] b",
        "ConvTransposeWithDynamicPads <strides = [2, 2]> (x, w, p, b)",
        constants="int64[4] p = {1, 1, 1, 1}",
        path="ConvTranspose Reshape Add",
        original="(float[N, 2, 4, 4] x, float[2, 3, 3, 3] w, float[3] b) => (float[] y) "
        "{ y = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w, b) }",
    ),
]
_PRODUCTS = [
    gemm('"Relu"', f"Relu({GEMM})"),
    gemm('"Tanh"', f"Tanh({GEMM})"),
    gemm('"Sigmoid"', f"Sigmoid({GEMM})"),
    gemm('"LeakyRelu", activation_alpha = 0.2', f"LeakyRelu({GEMM}, alpha=0.2)"),
    gemm('"Softplus"', f"Softplus({GEMM})"),
    gemm('"Softsign"', f"Div({GEMM}, Add(Abs({GEMM}), 1))"),
    gemm('"HardSigmoid", activation_alpha = 0.3, activation_beta = 0.4', f"Clip(Add(Mul({GEMM}, 0.3), 0.4), 0, 1)"),
    gemm('"ThresholdedRelu", activation_alpha = 0.3', f"Mul({GEMM}, Cast(Greater({GEMM}, 0.3), to=1))"),
    gemm('"Elu", activation_alpha = 2.0', f"ExponentialUnit({GEMM})"),
    gemm('"Celu", activation_alpha = 2.0', f"ExponentialUnit({GEMM})"),
    gemm(
        '"Selu", activation_alpha = 1.6, activation_gamma = 1.1',
        f"ExponentialUnit({GEMM})",
    ),
    fused(
        "float[N, 4] x, float[5, 4] w",
        'FusedGemm <activation = "Relu", transB = 1> (x, w)',
        "Relu(Gemm(x, w, transB=1))",
    ),
    *(
        fused(
            "float[4, N] x, float[5, 4] w",
            f"{name} <transA = 1, transB = 1, alpha = 0.5> (x, w)",
            "Mul(MatMul(Transpose(x, perm=[1 0]), Transpose(w, perm=[1 0])), 0.5)",
        )
        for name in ("FusedMatMul", "TransposeMatMul")
    ),
    fused("float[N, T, 4] x, float[4, 5] w", "FusedMatMul (x, w)", "MatMul(x, w)"),
    fused(
        "float[4, 2, 3] x, float[2, 3, 5] w",
        "FusedMatMul <transBatchA = 1> (x, w)",
        "MatMul(Transpose(x, perm=[1 0 2]), w)",
    ),
    fused(
        "float[4, 2, 3] x, float[2, 4, 5] w",
        "FusedMatMul <transBatchA = 1, transA = 1> (x, w)",
        "MatMul(Transpose(x, perm=[1 2 0]), w)",
    ),
    fused(
        "float[4, 2, 6, 3] x, float[5, 2, 6, 3] w",
        "FusedMatMul <transBatchA = 1, transBatchB = 1, transB = 1> (x, w)",
        "MatMul(Transpose(x, perm=[1 2 0 3]), Transpose(w, perm=[1 2 3 0]))",
    ),
]
LAYER_NORM = "LayerNormalization({0}, s, b, axis=-1, epsilon={1})"
SUM = "Add(Gather(w, i), Gather(p, [0 1 2]))"
_NORMS = [
    fused(SKIP, "SkipLayerNormalization <epsilon = 0.01> (x, u, s, b)", LAYER_NORM.format("Add(x, u)", "0.01")),
    fused(
        f"{SKIP}, float[8] k",
        "SkipLayerNormalization (x, u, s, b, k)",
        LAYER_NORM.format("Add(Add(x, u), k)", "1e-12"),
    ),
    fused(
        "float[N, T, 8] x, float[T, 8] u, float[8] s",
        "SkipLayerNormalization (x, u, s)",
        "LayerNormalization(Add(x, u), s, axis=-1, epsilon=1e-12)",
    ),
    Case(
        f"({SKIP}) => (float[] y) {{ a, , , c = com.microsoft.SkipLayerNormalization (x, u, s, b) y = Mul (a, c) }}",
        f"Mul({LAYER_NORM.format('Add(x, u)', '1e-12')}, Add(x, u))",
    ),
    fused(
        "float[N, T, 8] x, float[N, T, 8] u, float[8] s",
        "SkipSimplifiedLayerNormalization <epsilon = 0.01> (x, u, s)",
        f"Mul(Div(Add(x, u), {root('Add(x, u)')}), s)",
    ),
    *(
        Case(
            "(float[N, T, 8] x, float[8] s) => (float[] y) { "
            "y = SimplifiedLayerNormalization <epsilon = 0.01> (x, s) }",
            f"Mul(Div(x, {root('x')}), s)",
            opset=opset,
        )
        for opset in (11, 13, 18, 21)
    ),
    *(
        Case(  # ONNX Runtime's own, before ONNX had one
            "(float[N, T, 8] x, float[8] s, float[8] b) => (float[] y) { y = LayerNormalization (x, s, b) }",
            "LayerNormalization(x, s, b)",
            opset=opset,
        )
        for opset in (9, 13)
    ),
    *(
        Case(
            f"({WORDS}{more}) => (float[] y) "
            f"{{ y, k = com.microsoft.EmbedLayerNormalization <epsilon = 0.01> ({node}) }}",
            LAYER_NORM.format(total, "0.01"),
            given={**GIVEN, **given},
        )
        for more, node, total, given in (
            ("", "i, , w, p, , s, b", SUM, {}),
            (
                ", int32[N, 3] g, float[2, 4] t, int32[1, 3] q",
                "i, g, w, p, t, s, b, , q",
                "Add(Add(Gather(w, i), Gather(p, q)), Gather(t, g))",
                {"g": [[0, 0, 1], [0, 1, 1]], "q": [[2, 0, 1]]},
            ),
        )
    ),
    Case(
        f"({ANY_WORDS}, int32[N, T] m) => (float[] y) {{ a, k = com.microsoft.EmbedLayerNormalization "
        "(i, , w, p, , s, b, m) f = Cast <to = 1> (k) c = ReduceSum (f) y = Mul (a, c) }",
        given={**GIVEN, "m": [[1, 1, 0], [1, 0, 0]]},
        path="Gather Gather Add LayerNormalization Mul",
    ),
]
X = "float[N, 3] x"
_OTHERS = [
    fused("float[N, 7] x, float[7] b", "FastGelu (x, b)", "FastGelu(Add(x, b))"),
    fused("float[N, 7] x", "FastGelu (x)", "FastGelu(x)"),
    fused("float[N, 7] x", "Gelu (x)", "Gelu(x)"),
    fused("float[N, 7] x, float[7] b", "BiasGelu (x, b)", "BiasGelu(x, b)"),
    fused("float[N, 7] x", "QuickGelu <alpha = 1.702> (x)", "QuickGelu(x, alpha=1.702)"),
    fused(X, "GatherND (x, i)", "GatherND(x, Cast([[1] [0]], to=7))", "int32[2, 1] i = {1, 0}"),
    fused(X, "Pad (x, p, v)", "Pad(x, [0 1 0 2], Reshape([1.5], []))", "int64[4] p = {0,1,0,2}, float[1] v = {1.5}"),
    fused(
        X,
        'Pad <mode = "reflect"> (x, p)',
        "Concat(Gather(x, [1], axis=1), x, Gather(x, [1], axis=1), axis=1)",
        "int64[1, 4] p = {0, 1, 0, 1}",
    ),
    fused("float[4, 4] x", "Trilu <upper = 0> (x)", "Trilu(x, upper=0)"),
    fused(
        f"{X}, float[4, 3] z",
        "CDist (x, z)",
        "ReduceSum(Pow(Sub(Unsqueeze(x, [1]), Unsqueeze(z, [0])), 2), [-1], keepdims=0)",
    ),
    fused(
        f"{X}, float[4, 3] z",
        'CDist <metric = "euclidean"> (x, z)',
        path="Unsqueeze Unsqueeze Sub Pow ReduceSum Add Sqrt Mul",
    ),
    fused(
        "float[2, 2] x",
        "Inverse (x)",
        path="Inverse",
        original="(float[2, 2] x) => (float[] y) <int64[1] n = {-1}, int64[4] i = {3, 1, 2, 0}, "
        "float[4] s = {1, -1, -1, 1}> { f = Reshape (x, n) g = Gather (f, i) h = Mul (g, s) d = Det (x) "
        "q = Div (h, d) k = Shape (x) y = Reshape (q, k) }",
    ),
]
FUSED = [*_CONVOLUTIONS, *_PRODUCTS, *_NORMS, *_OTHERS]
