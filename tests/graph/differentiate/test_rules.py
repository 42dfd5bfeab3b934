"""Each rule writes its algebra: a node's gradients in terms of its inputs x, …, its output y and dy, y's gradient."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from dsd_ort.device import portable
from dsd_ort.graph.differentiate.adjoint import Adjoint, Back, Constants
from dsd_ort.graph.differentiate.table import RULES
from dsd_ort.rewrite import shapes
from dsd_ort.rewrite.names import Names
from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.operators import key
from dsd_ort.rewrite.path import Path
from tests.graph.expression import expression
from tests.graph.gradient import model


def no_bodies(*_: object) -> Back:
    raise AssertionError("no node here has a body: test_bodies.py has those")


def adjoint(inputs: str, node: str, opset: int = 18) -> Adjoint:
    """The place of the last node of a graph whose float inputs but c are trained, with gradients dy, dy1, …"""
    signature, _, constants = inputs.partition(" | ")
    outputs = ", ".join(f"float[] {name.strip()}" for name in node.partition(" = ")[0].rpartition(")")[2].split(","))
    text = f"({signature}) => ({outputs}) {f'<{constants}>' if constants else ''} {{ {node} }}"
    graph = ir.from_proto(model(text, opset)).graph
    floats = [value for value in graph.inputs if value.dtype is not None and value.dtype.is_floating_point()]
    trained = [value for value in floats if value.name != "c"]
    for made in graph:
        for output in made.outputs:
            output.shape = output.type = None
        shapes.infer(made, constant_value, opset)
    last = graph[-1]
    arriving = [ir.Value(name=f"dy{i or ''}", shape=y.shape, type=y.type) for i, y in enumerate(last.outputs)]
    return Adjoint(last, Path(graph, trained, graph.outputs), arriving, Constants(graph, Names(graph)), no_bodies)


def gradients(at: Adjoint) -> str:
    """Those that somebody asks for: ``-`` for the others, and ``.1`` for a second output of the node in front of it."""
    found = RULES[key(at.node)].rule(at)
    known = {y: f"y{i or ''}" for i, y in enumerate(at.node.outputs)}
    told: list[str] = []
    makers: list[ir.Node | None] = [None]
    for i, value in enumerate([found] if isinstance(found, ir.Value) else found):
        if value is None or not at.carries(i):
            told.append("-")
        else:
            maker = value.producer()
            told.append(f".{value.index()}" if maker is makers[-1] is not None else expression(value, known))
            makers.append(maker)
    return "; ".join(told)


V = "float[N, 7] x"
PAIR = "float[N, 7] x, float[7] z"
OPEN = "float[N, 7] x, float[M, 7] c"
A = "float[N, 3, 4] x | int64[1] a = {1}"
IMAGE = "float[N, 4, 6, 5] x"
KERNEL = f"{IMAGE}, float[8, 4, 3, 3] w, float[8] b"
NORM = "float[N, 3, 4] x, float[4] g, float[4] b"

GOLDEN: list[tuple[str, str, str]] = [
    (V, "y = Identity (x)", "dy"),
    (V, "y = Cast <to = 11> (x)", "Cast(dy, to=1)"),
    (V, "y = Cast <to = 1> (x)", "dy"),
    (V, "y = Neg (x)", "Neg(dy)"),
    (V, "y = Abs (x)", "Mul(dy, Sign(x))"),
    (V, "y = Exp (x)", "Mul(dy, y)"),
    (V, "y = Log (x)", "Div(dy, x)"),
    (V, "y = Sqrt (x)", "Div(Mul(dy, 0.5), y)"),
    (V, "y = Reciprocal (x)", "Neg(Mul(dy, Mul(y, y)))"),
    (V, "y = Sin (x)", "Mul(dy, Cos(x))"),
    (V, "y = Cos (x)", "Neg(Mul(dy, Sin(x)))"),
    (V, "y = Erf (x)", "Mul(dy, Mul(Exp(Neg(Mul(x, x))), 1.128))"),
    (PAIR, "y = Add (x, z)", "dy; ReduceSum(dy, [0], keepdims=0)"),
    (
        OPEN,
        "y = Add (x, c)",
        "Reshape(ReduceSum(dy, BroadcastGradientArgs(Shape(x), Shape(dy)), noop_with_empty_axes=1), Shape(x)); -",
    ),
    ("float[N, 3, 7] x, float[3, 1] z", "y = Add (x, z)", "dy; Squeeze(ReduceSum(dy, [0 2]), [0])"),
    (f"{PAIR}, float[N, 1] u", "y = Sum (x, z, u)", "dy; ReduceSum(dy, [0], keepdims=0); ReduceSum(dy, [1])"),
    (
        f"{PAIR}, float[N, 1] u",
        "y = Mean (x, z, u)",
        "Div(dy, 3); ReduceSum(Div(dy, 3), [0], keepdims=0); ReduceSum(Div(dy, 3), [1])",
    ),
    (PAIR, "y = Sub (x, z)", "dy; Neg(ReduceSum(dy, [0], keepdims=0))"),
    (PAIR, "y = Mul (x, z)", "Mul(dy, z); ReduceSum(Mul(dy, x), [0], keepdims=0)"),
    (V, "y = Mul (x, x)", "Mul(dy, x); Mul(dy, x)"),
    (PAIR, "y = Div (x, z)", "Div(dy, z); Neg(ReduceSum(Mul(Div(dy, z), y), [0], keepdims=0))"),
    (f"{V} | float p = {{2}}", "y = Pow (x, p)", "Mul(dy, Mul(x, 2)); -"),
    (f"{V} | float p = {{0.5}}", "y = Pow (x, p)", "Mul(dy, Mul(Pow(x, -0.5), 0.5)); -"),
    ("float[N, 7] x, float[7] c", "y = Pow (x, c)", "Mul(dy, Where(Equal(c, 0), 0, Mul(c, Pow(x, Sub(c, 1))))); -"),
    (
        "float[N, 7] c, float[7] x",
        "y = Pow (c, x)",
        "-; ReduceSum(Mul(dy, Mul(y, Log(Where(Equal(c, 0), 1, c)))), [0], keepdims=0)",
    ),
    (
        f"{V} | float z = {{0}}",
        "y = Max (x, z)",
        "Where(Equal(x, y), Div(dy, Add(Cast(Equal(x, y), to=1), Cast(Equal(0, y), to=1))), 0); -",
    ),
    (
        f"{V} | float z = {{0}}",
        "y = Min (x, z)",
        "Where(Equal(x, y), Div(dy, Add(Cast(Equal(x, y), to=1), Cast(Equal(0, y), to=1))), 0); -",
    ),
    (f"{V} | float low = {{-0.5}}", "y = Clip (x, low)", "Where(Equal(x, y), dy, 0)"),
    (f"{PAIR}, bool[N, 7] c", "y = Where (c, x, z)", "-; Where(c, dy, 0); ReduceSum(Where(c, 0, dy), [0], keepdims=0)"),
    (V, "y = Relu (x)", "ReluGrad(dy, y)"),
    (V, "y = LeakyRelu <alpha = 0.2> (x)", "LeakyReluGrad(dy, y, alpha=0.2)"),
    (
        PAIR,
        "y = PRelu (x, z)",
        "Add(ReluGrad(dy, x), Mul(Sub(dy, ReluGrad(dy, x)), z)); "
        "ReduceSum(Mul(Sub(dy, ReluGrad(dy, x)), x), [0], keepdims=0)",
    ),
    (V, "y = Sigmoid (x)", "SigmoidGrad(dy, y)"),
    (V, "y = Tanh (x)", "TanhGrad(dy, y)"),
    (V, "y = com.microsoft.Gelu (x)", "GeluGrad(dy, x)"),
    (V, "y = com.microsoft.QuickGelu <alpha = 1.5> (x)", "QuickGeluGrad(dy, x, alpha=1.5)"),
    (V, "y = com.microsoft.FastGelu (x)", "FastGeluGrad(dy, x)"),
    (
        PAIR,
        "y = com.microsoft.FastGelu (x, z)",
        "FastGeluGrad(dy, x, z); ReduceSum(FastGeluGrad(dy, x, z), [0], keepdims=0)",
    ),
    (
        PAIR,
        "y = com.microsoft.BiasGelu (x, z)",
        "BiasGeluGrad_dX(dy, x, z); ReduceSum(BiasGeluGrad_dX(dy, x, z), [0], keepdims=0)",
    ),
    (V, "y = Softmax (x)", "SoftmaxGrad_13(dy, y, axis=-1)"),
    (V, "y = LogSoftmax <axis = 0> (x)", "LogSoftmaxGrad_13(dy, y, axis=0)"),
    (f"{V} | float r = {{0.3}}, bool t = {{1}}", "y = Dropout (x, r, t)", "DropoutGrad(dy, y1, 0.3, True)"),
    (f"{A}, int64[2] s = {{-1, 12}}", "y = Reshape (x, s)", "Reshape(dy, [-1 3 4])"),
    ("float[N, M, 4] x | int64[1] s = {-1}", "y = Reshape (x, s)", "Reshape(dy, Shape(x))"),
    ("float x | int64[2] s = {1, 1}", "y = Reshape (x, s)", "Reshape(dy, [])"),
    (IMAGE, "y = Flatten (x)", "Reshape(dy, [-1 4 6 5])"),
    ("float[N, 1, 4] x | int64[1] a = {1}", "y = Squeeze (x, a)", "Unsqueeze(dy, [1])"),
    ("float[N, 1, 4] x", "y = Squeeze (x)", "Reshape(dy, [-1 1 4])"),
    (A, "y = Unsqueeze (x, a)", "Squeeze(dy, [1])"),
    (A, "y = Transpose (x)", "Transpose(dy)"),
    (A, "y = Transpose <perm = [2, 0, 1]> (x)", "Transpose(dy, perm=[1 2 0])"),
    ("float[3, 1] x | int64[3] s = {2, 1, 4}", "y = Expand (x, s)", "Squeeze(ReduceSum(dy, [0 2]), [0])"),
    (
        "float[K] x, int64[R] s",
        "y = Expand (x, s)",
        "Reshape(ReduceSum(dy, BroadcastGradientArgs(Shape(x), Shape(dy)), noop_with_empty_axes=1), Shape(x))",
    ),
    ("float[2, 3] x | int64[2] r = {2, 1}", "y = Tile (x, r)", "ReduceSum(Reshape(dy, [2 2 1 3]), [0 2], keepdims=0)"),
    (
        "float[2, 3] x, int64[2] r",
        "y = Tile (x, r)",
        "ReduceSum(Reshape(dy, Reshape(Concat(Unsqueeze(r, [1]), Unsqueeze(Shape(x), [1]), axis=1), [-1])), [0 2], "
        "keepdims=0)",
    ),
    ("float[3, 3] x | int64 k = {1}", "y = Trilu <upper = 0> (x, k)", "Trilu(dy, 1, upper=0)"),
    ("float[N, 3] x, float[N, 4] z", "y = Concat <axis = 1> (x, z)", "Split(dy, [3 4], axis=1); .1"),
    (
        "float[N, 3] x, float[M, 3] z",
        "y = Concat <axis = 0> (x, z)",
        "Split(dy, Concat(Gather(Shape(x), [0]), Gather(Shape(z), [0]), axis=0), axis=0); .1",
    ),
    ("float[N, 3] x | float[1, 2] z = {1, 2}", "y = Concat <axis = 1> (x, z)", "Slice(dy, [0], [3], [1]); -"),
    ("float[4, 3] x", "y, y1 = Split <num_outputs = 2> (x)", "Concat(dy, dy1, axis=0)"),
    (A + ", int64[1] s = {0}, int64[1] e = {2}", "y = Slice (x, s, e, a)", "SliceGrad(dy, Shape(x), [0], [2], [1])"),
    (
        "float[5] x | int64[1] s = {2}, int64[1] e = {0}, int64[1] a = {0}, int64[1] t = {-1}",
        "y = Slice (x, s, e, a, t)",
        "Reshape(ScatterElements(Reshape(ConstantOfShape([5], value=[0]), [-1]), "
        "Reshape(Slice(Reshape(Range(0, Size(x), 1), [5]), [2], [0], [0], [-1]), [-1]), Reshape(dy, [-1])), [5])",
    ),
    ("float[N, 3] x | int64[4] p = {0, 1, 0, 2}", "y = Pad (x, p)", "Pad(dy, [0 -1 0 -2])"),
    ("float[N, 3] x, int64[2] p | int64[1] a = {1}, float v = {0}", "y = Pad (x, p, v, a)", "Pad(dy, Neg(p), _, [1])"),
    ("float[9, 4] x, int64[N] i", "y = Gather (x, i)", "GatherGrad([9 4], i, dy, axis=0)"),
    (
        "float[N, 4] x, int64[N, 2] i",
        "y = GatherElements <axis = 1> (x, i)",
        "GatherElementsGrad(dy, Shape(x), i, axis=1)",
    ),
    ("float[N, 4] x, int64[M, 1] i", "y = GatherND (x, i)", "GatherNDGrad(Shape(x), i, dy, batch_dims=0)"),
    (
        "float[N, 4] x, int64[N, 2] i, float[N, 2] u",
        "y = ScatterElements <axis = 1> (x, i, u)",
        "ScatterElements(dy, i, ConstantOfShape(Shape(u), value=[0]), axis=1); -; GatherElements(dy, i, axis=1)",
    ),
    (
        "float[N, 4] x, int64[N, 2] i, float[N, 2] u",
        'y = ScatterElements <axis = 1, reduction = "add"> (x, i, u)',
        "dy; -; GatherElements(dy, i, axis=1)",
    ),
    (
        "float[5, 4] x, int64[2, 1] i, float[2, 4] u",
        "y = ScatterND (x, i, u)",
        "ScatterND(dy, i, ConstantOfShape([2 4], value=[0])); -; GatherND(dy, i)",
    ),
    (
        "float[N, 4] x | int64[1] k = {2}",
        "y = TopK (x, k)",
        "ScatterElements(ConstantOfShape(Shape(x), value=[0]), y1, dy, axis=-1)",
    ),
    (A, "y = ReduceSum (x, a)", "Expand(dy, [1 3 1])"),
    (A, "y = ReduceSum <keepdims = 0> (x, a)", "Expand(Unsqueeze(dy, [1]), [1 3 1])"),
    (A, "y = ReduceSum <keepdims = 0> (x)", "Expand(dy, Shape(x))"),
    ("float[2, 3] x", "y = ReduceSum <keepdims = 0> (x)", "Expand(dy, [2 3])"),
    ("float[2, 3] x", "y = ReduceSum <noop_with_empty_axes = 1> (x)", "dy"),
    ("float[N, 3, 4] x, int64[R] a", "y = ReduceSum <keepdims = 0> (x, a)", "Expand(Unsqueeze(dy, a), Shape(x))"),
    (A, "y = ReduceMean (x, a)", "Expand(Div(dy, 3), [1 3 1])"),
    (A, "y = ReduceMean <keepdims = 0> (x)", "Expand(Div(dy, Cast(Div(Size(x), Size(y)), to=1)), Shape(x))"),
    (A, "y = ReduceMax (x, a)", "Where(Equal(x, y), Div(dy, ReduceSum(Cast(Equal(x, y), to=1), [1])), 0)"),
    (
        A,
        "y = ReduceMin <keepdims = 0> (x)",
        "Where(Equal(x, y), Div(dy, ReduceSum(Cast(Equal(x, y), to=1), keepdims=0)), 0)",
    ),
    (A, "y = ReduceL2 (x, a)", "Where(Equal(y, 0), 0, Div(Mul(dy, x), Where(Equal(y, 0), 1, y)))"),
    (A, "y = ReduceLogSumExp <keepdims = 0> (x, a)", "Mul(Unsqueeze(dy, [1]), Exp(Sub(x, Unsqueeze(y, [1]))))"),
    (IMAGE, "y = GlobalAveragePool (x)", "Expand(Div(dy, 30), [1 1 6 5])"),
    ("float[N, 3] x, float[3, 4] z", "y = MatMul (x, z)", "Gemm(dy, z, transB=1); Gemm(x, dy, transA=1)"),
    (
        "float[N, T, 3] x, float[3, 4] z",
        "y = MatMul (x, z)",
        "FusedMatMul(dy, z, transB=1); Gemm(Reshape(x, [-1 3]), Reshape(dy, [-1 4]), transA=1)",
    ),
    (
        "float[N, 5, 3] x, float[N, 3, 4] z",
        "y = MatMul (x, z)",
        "FusedMatMul(dy, z, transB=1); FusedMatMul(x, dy, transA=1)",
    ),
    (
        "float[N, 5, 3] x, float[M, 3, 4] c",
        "y = MatMul (x, c)",
        "Reshape(ReduceSum(FusedMatMul(dy, c, transB=1), BroadcastGradientArgs(Shape(x), "
        "Shape(FusedMatMul(dy, c, transB=1))), noop_with_empty_axes=1), Shape(x)); -",
    ),
    (
        "float[5, 3] x, float[N, 3, 4] z",
        "y = MatMul (x, z)",
        "ReduceSum(FusedMatMul(dy, z, transB=1), [0], keepdims=0); FusedMatMul(x, dy, transA=1)",
    ),
    (
        "float[3] x, float[3, 4] z",
        "y = MatMul (x, z)",
        "Squeeze(Gemm(Unsqueeze(dy, [-2]), z, transB=1), [0]); Gemm(Unsqueeze(x, [0]), Unsqueeze(dy, [-2]), transA=1)",
    ),
    (
        "float[N, 3] x, float[3, 4] z, float[4] b",
        "y = Gemm (x, z, b)",
        "Gemm(dy, z, transB=1); Gemm(x, dy, transA=1); ReduceSum(dy, [0], keepdims=0)",
    ),
    (
        "float[3, N] x, float[4, 3] z, float[N, 4] b",
        "y = Gemm <transA = 1, transB = 1, alpha = 0.5, beta = 2.0> (x, z, b)",
        "Gemm(z, dy, alpha=0.5, transA=1, transB=1); Gemm(dy, x, alpha=0.5, transA=1, transB=1); Mul(dy, 2)",
    ),
    (KERNEL, "y = Conv <pads = [1, 1, 1, 1]> (x, w, b)", "ConvGrad(dy, x, w, pads=[1 1 1 1]); .1; .2"),
    (
        f"{IMAGE} | float[1, 4, 1, 1] w = {{1, 2, 3, 4}}",
        "y = Conv (x, w)",
        "ConvGrad(dy, x, [[[[1]] [[2]] [[3]] [[4]]]]); -",
    ),
    (IMAGE, "y = MaxPool <kernel_shape = [2, 2], ceil_mode = 1> (x)", "MaxPoolGrad(dy, y1, kernel_shape=[2 2])"),
    (NORM, "y = LayerNormalization (x, g, b)", "LayerNormalizationGrad(dy, x, g, y1, y2, axis=-1); .1; .2"),
    (
        "float[N, 4, 6, 5] x, float[4] g, float[4] b, float[4] m, float[4] v",
        "y, rm, rv, sm, si = com.microsoft.BatchNormInternal (x, g, b, m, v)",
        "BatchNormalizationGrad(dy, x, g, y3, y4, epsilon=1e-05); .1; .2",
    ),
    (
        "float[N, 5] x, int64[N] t",
        "y = SoftmaxCrossEntropyLoss <ignore_index = -1> (x, t)",
        "SoftmaxCrossEntropyLossGrad(dy, y1, t, ignore_index=-1)",
    ),
]


each = pytest.mark.parametrize(
    ("inputs", "node", "expected"), GOLDEN, ids=[f"{node} / {ins}" for ins, node, _ in GOLDEN]
)


@each
def test_a_rule_writes_its_algebra(inputs: str, node: str, expected: str) -> None:
    assert gradients(adjoint(inputs, node)) == expected


def test_every_rule_has_a_case() -> None:
    assert {key(adjoint(inputs, node).node) for inputs, node, _ in GOLDEN} == set(RULES) - {"If", "Scan"}


def test_what_rules_write_every_runtime_has_or_has_another_form_of() -> None:
    written = set()
    for inputs, node, _ in GOLDEN:
        at = adjoint(inputs, node)
        gradients(at)
        written |= {key(new) for new in at.nodes if not portable.is_portable(new)}
    assert written == set(portable.RULES) - FORWARD - NATIVE


FORWARD = {"com.microsoft.BatchNormInternal", "SoftmaxCrossEntropyLoss"}
NATIVE = {"com.microsoft.DivGrad", "com.microsoft.Scale"}
"""That only ONNX Runtime's builder writes."""
