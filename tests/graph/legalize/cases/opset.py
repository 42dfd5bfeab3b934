"""Every operator that changed between opsets 7 and 17, as it was written then, and from opset 22 on: test_opset.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

X, IMAGE = "float[N, 3, 4] x", "float[N, 4, 6, 6] x"
KERNEL, NORM = f"{IMAGE}, float[3, 4, 3, 3] w", f"{IMAGE}, float[4] s, float[4] b, float[4] m, float[4] v"
VARIANCE = {"v": [1, 2, 3, 4]}


class Old(NamedTuple):
    text: str
    opsets: range
    given: Mapping[str, Any] | None = None
    smooth: bool = True
    """False where it has no derivative, or a rule that is random."""

    def __str__(self) -> str:
        return f"{self.text.partition('{ ')[2].rstrip(' }')} / {self.opsets[0]}-{self.opsets[-1]}"


def old(body: str, opsets: tuple[int, int], inputs: str = X, constants: str = "", **more: Any) -> Old:
    declared = f" <{constants}>" if constants else ""
    return Old(f"({inputs}) => (float[] y){declared} {{ {body} }}", range(opsets[0], opsets[1] + 1), **more)


ALL, TO_10, TO_12 = (7, 17), (7, 10), (7, 12)
SMOOTH = (
    *("Abs", "Elu", "Exp", "HardSigmoid", "Identity", "LeakyRelu", "LpNormalization", "Neg", "Relu", "Selu"),
    *("Sigmoid", "Softplus", "Softsign", "Tanh"),
)
OLD = [
    *(old(f"y = {name} (x)", ALL) for name in SMOOTH),
    *(old(f"y = {name} (x)", ALL, smooth=False) for name in ("Ceil", "Floor")),
    *(old(f"y = {name} (x)", (9, 17)) for name in ("Erf", "Shrink")),
    *(old(f"y = {name} (x, z)", ALL, f"{X}, float[4] z") for name in ("Add", "Sub", "Mul", "Div", "PRelu", "MatMul")),
    *(old(f"y = {name} (x, z)", ALL, f"{X}, float[N, 3, 4] z") for name in ("Max", "Min", "Sum", "Mean")),
    *(old(f"y = {name} (x, z)", (8, 17), f"{X}, float[4] z") for name in ("Max", "Min", "Sum", "Mean")),
    *(
        old(f"y = {name} {axis} (x)", ALL, smooth=name != "Hardmax")
        for name in ("Softmax", "LogSoftmax", "Hardmax")
        for axis in ("", "<axis = 0>", "<axis = 1>", "<axis = 2>")
    ),
    *(old(f"y = Clip <{bounds}> (x)", TO_10) for bounds in ("min = -0.5, max = 0.5", "max = 0.5")),
    old("y = Clip (x)", ALL),
    old("y = Clip (x, , h)", (11, 17), constants="float h = {0.5}"),
    old("y = Flatten <axis = 2> (x)", ALL),
    old("y = Gather <axis = 1> (x, i)", ALL, constants="int64[2] i = {0, 2}"),
    old("y = Slice <starts = [1, 0], ends = [3, 2], axes = [1, 2]> (x)", (7, 9)),
    old("y = Slice <starts = [-2], ends = [2147483647], axes = [2]> (x)", (7, 9)),
    old("y = Slice (x, s, e)", (10, 17), constants="int64[2] s = {0, 1}, int64[2] e = {2, -1}"),
    old("a, y = Split <axis = 2, split = [1, 3]> (x)", TO_12),
    old("a, b = Split <axis = 2> (x) y = Mul (a, b)", ALL),
    old("y = Squeeze <axes = [1]> (x)", TO_12, "float[N, 1, 4] x"),
    old("y = Unsqueeze <axes = [0, 2]> (x)", TO_12),
    old("y = Transpose (x)", ALL),
    old("y = Tile (x, r)", ALL, constants="int64[3] r = {1, 2, 1}"),
    old("y = Reshape (x, s)", ALL, constants="int64[2] s = {0, -1}"),
    old("y = Expand (x, s)", (8, 17), "float[3, 1] x", "int64[3] s = {2, 3, 4}"),
    *(
        old(f"y = {name} {axes} (x)", TO_12)
        for name in ("L1", "L2", "LogSumExp", "Max", "Mean", "Min", "Sum", "SumSquare")
        for name in (f"Reduce{name}",)
        for axes in ("", "<axes = [1]>", "<axes = [1, 2], keepdims = 0>")
    ),
    old("y, i = TopK <k = 2> (x)", (7, 9)),
    old("y, i = TopK (x, k)", (10, 17), constants="int64[1] k = {2}"),
    *(
        old(f'y = Pad <mode = "{mode}", pads = [0, 1, 0, 0, 0, 2]> (x)', TO_10)
        for mode in ("constant", "reflect", "edge")
    ),
    old("y = Pad <pads = [0, 1, 0, 0, 0, 2], value = 1.5> (x)", TO_10),
    old("y = Pad (x, p, v)", (11, 17), constants="int64[6] p = {0, 1, 0, 0, 0, 2}, float v = {2}"),
    old("y = Pow (x, e)", ALL, constants="float e = {2}"),
    old("d = Cast <to = 11> (x) e = Exp (d) y = Cast <to = 1> (e)", ALL),
    old("c = Greater (x, k) y = Where (c, x, k)", (9, 17), constants="float k = {0.2}"),
    *(old(f"y = Dropout {ratio} (x)", to, smooth=False) for ratio, to in (("", ALL), ("<ratio = 0.3>", (7, 11)))),
    old("y = Gemm <alpha = 0.5, transB = 1> (x, w, b)", ALL, "float[N, 4] x, float[3, 4] w, float[3] b"),
    old("y = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w)", ALL, KERNEL),
    old('y = Conv <auto_pad = "SAME_LOWER"> (x, w)', ALL, KERNEL),
    old("y = ConvTranspose <strides = [2, 2], output_padding = [1, 1]> (x, w)", ALL, f"{IMAGE}, float[4, 3, 3, 3] w"),
    old("y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (x)", ALL, IMAGE),
    old("y = AveragePool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (x)", (10, 17), IMAGE),
    old("y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)", ALL, IMAGE),
    old("y, i = MaxPool <kernel_shape = [3, 3], ceil_mode = 1, strides = [2, 2]> (x)", (10, 17), IMAGE),
    old("y = BatchNormalization <epsilon = 0.1> (x, s, b, m, v)", ALL, NORM, given=VARIANCE),
    old("y = BatchNormalization <spatial = 1> (x, s, b, m, v)", (7, 8), NORM, given=VARIANCE),
    old("y = InstanceNormalization (x, s, b)", ALL, f"{IMAGE}, float[4] s, float[4] b"),
    old("y = DepthToSpace <blocksize = 2> (x)", ALL, IMAGE),
    old("y = SpaceToDepth <blocksize = 2> (x)", ALL, IMAGE),
    old("y = CumSum (x, a)", (11, 17), constants="int64 a = {1}"),
    old("o = OneHot (i, d, v) y = MatMul (x, o)", (9, 17), constants="int64[4] i = {0, 2, 1, 2}, int64 d = {3}, "
        "float[2] v = {0, 1}"),
    old("y = Scatter <axis = 1> (x, i, u)", (9, 10), "float[3, 4] x, float[3, 1] u", "int64[3, 1] i = {0, 2, 3}"),
    old("y = GatherND (x, i)", (11, 17), constants="int64[1, 2] i = {1, 2}"),
    old("k = Constant <value = float[4] {1, 2, 3, 4}> () y = Mul (k, x)", ALL),
    old("k = ConstantOfShape <value = float[1] {2}> (s) y = Mul (k, x)", (9, 17), constants="int64[1] s = {4}"),
    old("y = ThresholdedRelu <alpha = 0.5> (x)", (10, 17)),
    old(
        "y = If (c) <then_branch = a () => (float[N, 3, 4] p) { p = Clip <min = 0.0> (x) }, "
        "else_branch = b () => (float[N, 3, 4] q) { q = Softmax (x) }>",
        TO_10,
        f"{X}, bool c",
        given={"c": True},
        smooth=False,
    ),
]  # fmt: skip

_PACKED = "float[N, T, 8] q, float[N, K, 8] k, float[N, K, 8] v"
_HEADS = "float[N, 4, T, 4] q, float[N, 2, K, 4] k, float[N, 2, K, 6] v"
_PAST = "float[N, 2, T, 4] q, float[N, 2, 2, 4] k, float[N, 2, 2, 4] v, float[N, 2, K, 4] a, float[N, 2, K, 4] c"
_TABLES = "float[5, 2] c, float[5, 2] s, int64[N, T] p"
_MASK = {"m": [[1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]]}


class New(NamedTuple):
    text: str
    opset: int
    given: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.text.partition('{ ')[2].rstrip(' }')} / {self.opset}"


def new(inputs: str, node: str, opset: int, **given: Any) -> New:
    return New(f"({inputs}) => (float[] y) {{ {node} }}", opset, given)


def _attention() -> Iterator[New]:
    for opset in (23, 24, 25):
        yield new(_PACKED, "y = Attention <q_num_heads = 2, kv_num_heads = 2> (q, k, v)", opset)
        yield new(_HEADS, "y = Attention (q, k, v)", opset)
        yield new(_HEADS, "y = Attention <is_causal = 1, scale = 0.3> (q, k, v)", opset)
        yield new(_HEADS, "y = Attention <softcap = 2.0> (q, k, v)", opset)
        yield new(f"{_HEADS}, bool[T, K] m", "y = Attention (q, k, v, m)", opset, **_MASK)
        yield new(f"{_HEADS}, float[N, 1, T, K] m", "y = Attention <is_causal = 1> (q, k, v, m)", opset)
        yield new(f"{_HEADS}, float[T, 2] m", "y = Attention (q, k, v, m)", opset)
        yield new(_PAST, "y, d, e = Attention (q, k, v, , a, c)", opset)
        yield new(_PAST, "y, d, e = Attention <is_causal = 1> (q, k, v, , a, c)", opset)
    lengths = f"{_HEADS}, int64[N] n"
    yield new(lengths, "y = Attention (q, k, v, , , , n)", 24, n=[3, 4])
    yield new(lengths, "y = Attention <is_causal = 1> (q, k, v, , , , n)", 24, n=[3, 4])
    yield new(_HEADS, "y = Attention <left_window_size = 1, right_window_size = 1> (q, k, v)", 25)
    yield new(_PAST, "y, d, e = Attention <left_window_size = 1, is_causal = 1> (q, k, v, , a, c)", 25)


def _rotary() -> Iterator[New]:
    positions = {"p": [[0, 1, 2], [2, 3, 4]]}
    for interleaved in (0, 1):
        node = f"y = RotaryEmbedding <interleaved = {interleaved}"
        yield new(f"float[N, T, 8] x, {_TABLES}", f"{node}, num_heads = 2> (x, c, s, p)", 23, **positions)
        yield new(f"float[N, 2, T, 4] x, {_TABLES}", f"{node}> (x, c, s, p)", 23, **positions)
        yield new(f"float[N, 2, T, 6] x, {_TABLES}", f"{node}, rotary_embedding_dim = 4> (x, c, s, p)", 24, **positions)
        yield new("float[N, 2, T, 4] x, float[N, T, 2] c, float[N, T, 2] s", f"{node}> (x, c, s)", 24)


NEW = [
    *_attention(),
    *_rotary(),
    new("float[N, T, 4, 6] x, float[6] s", "y = RMSNormalization <epsilon = 0.01> (x, s)", 23),
    new("float[N, T, 4, 6] x, float[4, 6] s", "y = RMSNormalization <axis = 2> (x, s)", 24),
    new(X, "y = Swish (x)", 24),
    new(X, "y = Swish <alpha = 1.5> (x)", 25),
    new(IMAGE, "y = AveragePool <kernel_shape = [2, 2]> (x)", 22),
    new(X, "y = Relu (x)", 28),
]
