"""Pools."""

from __future__ import annotations

import numpy as np

from tests.graph.legalize.cases.case import Case, image
from tests.graph.legalize.cases.reduction import extreme

POOLED = "MaxPool(x, kernel_shape=[2 2], strides=[2 2]).1"


def windows(axis: int, kernel: int, pads: str, stride: int = 1, more: str = "") -> str:
    """Of the matrix [outputs, L] that says which window covers which position, at run time."""
    size = f"Shape(x, end={axis + 1}, start={axis})"
    unit = f"Unsqueeze(EyeLike(ConstantOfShape(Concat({size}, {size}, axis=0))), [0])"
    settings = f"ceil_mode=0, dilations=[1], kernel_shape=[{kernel}], p=1, pads=[{pads}], strides=[{stride}]"
    return f"Transpose(Squeeze(LpPool({unit}, {settings}), [0]), perm=[1 0])"


def average(covered: str) -> str:
    return f"Div({covered}, ReduceSum({covered}, [1]))"


def around(rows: str, columns: str, image: str = "x") -> str:
    return f"MatMul(MatMul({rows}, {image}), Transpose({columns}, perm=[1 0]))"


CONVOLVED = "Reshape Pad Conv Reshape"
LP = "Pow MatMul MatMul Where Pow Where"
# Of two images of 6 by 5, which grow: the greatest of each window is its last, in column major order b + h + 6 w.
GROWING = np.linspace(-1, 1, 60).reshape(1, 2, 6, 5)
CORNERS = [30 * b + h + 6 * w for b in range(2) for h in range(1, 6) for w in range(1, 5)]
COLUMN_MAJOR = (
    "(float[ONE, 2, {size}] x) => (float[] y) {{ m, i = MaxPool <kernel_shape = [2, 2], storage_order = 1> (x) "
    "c = Cast <to = 1> (i) y = Mul (c, m) }}"
)
WITH_CORNERS = (
    "(float[ONE, 2, 6, 5] x) => (float[] y) "
    f"<float[1, 2, 5, 4] c = {{{', '.join(map(str, CORNERS))}}}> "
    "{ m = MaxPool <kernel_shape = [2, 2]> (x) y = Mul (c, m) }"
)
CASES = [
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
        )
        for attributes, rows, right in (
            ("pads = [1, 1, 1, 1]", 6, "float32[5, 6]"),
            ("pads = [1, 1, 1, 1], count_include_pad = 1", 6, "float32[5, 6]"),
            ("strides = [2, 2], ceil_mode = 1", 3, "float32[5, 3]"),
            ("strides = [2, 2], ceil_mode = 1, pads = [1, 1, 1, 0]", 4, "float32[5, 3]"),
            ('auto_pad = "SAME_LOWER", strides = [2, 2]', 3, "float32[5, 3]"),
        )
    ),
    # ONNX Runtime divides by the size of the kernel, though the last window reaches beyond the padding.
    *(
        image(
            "AveragePool <kernel_shape = [3, 2], strides = [2, 2], ceil_mode = 1, count_include_pad = 1, "
            "pads = [1, 1, 1, 0]> (x)",
            path="MatMul MatMul",
            size=size,
            opset=opset,
            original=f"(float[N, 4, {size}] x) => (float[] y) {{ y = AveragePool "
            "<kernel_shape = [3, 2], strides = [2, 2], count_include_pad = 1, pads = [1, 1, 2, 0]> (x) }",
        )
        for size, opset in (("6, 5", 18), ("H, W", 18), ("6, 5", 19))
    ),
    # It shifts SAME windows that are smaller than their stride: here by one in front, LOWER by none.
    *(
        image(
            f'{op} <kernel_shape = [1, 2], strides = [3, 3], auto_pad = "SAME_UPPER"> (x)',
            path=path,
            size=size,
            original=f"(float[N, 4, {size}] x) => (float[] y) "
            "<int64[1] s = {1}, int64[1] e = {6}, int64[1] a = {2}> "
            f"{{ c = Slice (x, s, e, a) y = {op} <kernel_shape = [1, 2], strides = [3, 3]> (c) }}",
        )
        for op, size, path in (
            ("AveragePool", "6, 5", "MatMul MatMul"),
            ("AveragePool", "H, W", "MatMul MatMul"),
            ("LpPool", "6, 5", LP),
            ("LpPool", "H, W", LP),
            ("MaxPool", "6, 5", "MaxPool"),
            ("MaxPool", "H, W", "Reshape GatherElements Reshape"),
        )
    ),
    image(
        'AveragePool <kernel_shape = [1, 2], strides = [3, 3], auto_pad = "SAME_LOWER"> (x)',
        path="MatMul MatMul",
        original="(float[N, 4, 6, 5] x) => (float[] y) "
        "{ y = AveragePool <kernel_shape = [1, 2], strides = [3, 3]> (x) }",
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
        around(average(windows(2, 3, "1 0", 2)), average(windows(3, 2, "1 1"))),
        size="H, W",
    ),
    image(
        "AveragePool <kernel_shape = [3, 2], count_include_pad = 1, pads = [1, 1, 0, 1]> (x)",
        around(f"Div({windows(2, 3, '1 0')}, 3)", f"Div({windows(3, 2, '1 1')}, 2)"),
        size="H, W",
    ),
    *(
        image(f"AveragePool <kernel_shape = [3, 2], strides = [2, 2], {more}> (x)", size=size, path="MatMul MatMul")
        for size, more in (
            ("H, W", "ceil_mode = 1"),
            ("H, 5", "ceil_mode = 1, pads = [1, 1, 1, 0]"),
            ("H, 5", 'auto_pad = "SAME_UPPER"'),
            ("H, W", 'auto_pad = "SAME_LOWER", count_include_pad = 1'),
        )
    ),
    image("AveragePool <kernel_shape = [2, 2], dilations = [2, 3]> (x)", size="H, W", opset=19, path="MatMul MatMul"),
    Case(
        "(float[N, K, 4, 3, T] x) => (float[] y) { y = AveragePool <kernel_shape = [3, 2, 2]> (x) }",
        path="Transpose MatMul Transpose MatMul MatMul",
    ),
    image(
        "LpPool <kernel_shape = [3, 2], p = 1> (x)",
        around(windows(2, 3, "0 0"), windows(3, 2, "0 0"), "Abs(x)"),
        size="H, W",
    ),
    image("LpPool <kernel_shape = [3, 2], dilations = [2, 1]> (x)", path=LP),
    image("LpPool <kernel_shape = [3, 2], p = 3, pads = [1, 0, 1, 1]> (x)", path=f"Abs {LP}"),
    image('LpPool <kernel_shape = [3, 2], auto_pad = "SAME_LOWER", strides = [2, 2]> (x)', path=LP, size="H, 5"),
    image(
        "LpPool <kernel_shape = [3, 2], ceil_mode = 1, strides = [2, 2]> (x)",
        path=LP,
        size="H, W",
        original="(float[N, 4, H, W] x) => (float[] y) "
        "{ y = LpPool <kernel_shape = [3, 2], pads = [0, 0, 1, 1], strides = [2, 2]> (x) }",
    ),
    Case(
        "(float[N, K, 3] x) => (float[] y) { y = LpPool <kernel_shape = [2]> (x) }", path="Pow MatMul Where Pow Where"
    ),
    # Sequences: an axis of unknown length may be too long for a matrix.
    Case(
        "(float[N, K, H] x) => (float[] y) { y = LpPool <kernel_shape = [3], pads = [1, 0], strides = [2]> (x) }",
        path=f"Pow {CONVOLVED} Where Pow Where",
    ),
    Case(
        "(float[N, K, H] x) => (float[] y) { y = LpPool <ceil_mode = 1, kernel_shape = [3], strides = [2]> (x) }",
        path=f"Pow {CONVOLVED} Where Pow Where",
        original="(float[N, K, H] x) => (float[] y) "
        "{ y = LpPool <kernel_shape = [3], pads = [0, 1], strides = [2]> (x) }",
    ),
    *(
        Case(
            f"(float[N, 2, {size}] x) => (float[] y) {{ y = AveragePool <kernel_shape = [3], {attributes}> (x) }}",
            path=f"{CONVOLVED} Div",
        )
        for size, attributes in (
            ("H", "pads = [1, 1], strides = [2]"),
            ("H", "strides = [2]"),
            ("H", "ceil_mode = 1, pads = [1, 1], strides = [2]"),
            ("W", 'auto_pad = "SAME_LOWER", strides = [2]'),
            ("H", 'auto_pad = "SAME_UPPER", count_include_pad = 1, strides = [2]'),
            ("1026", "count_include_pad = 1, pads = [2, 0], strides = [3]"),
        )
    ),
    Case(
        "(float[N, 2, H] x) => (float[] y) "
        "{ y = AveragePool "
        "<ceil_mode = 1, count_include_pad = 1, kernel_shape = [3], pads = [1, 1], strides = [2]> (x) }",
        path=f"{CONVOLVED} Div",
        original="(float[N, 2, H] x) => (float[] y) "
        "{ y = AveragePool <count_include_pad = 1, kernel_shape = [3], pads = [1, 2], strides = [2]> (x) }",
    ),
    *(
        Case(
            "(float[N, 2, H] x) => (float[] y) "
            f'{{ y = AveragePool <auto_pad = "SAME_{side}", kernel_shape = [1], strides = [{stride}]> (x) }}',
            path=f"{CONVOLVED} Div",
            original="(float[N, 2, H] x) => (float[] y) "
            f"<int64[1] s = {{{first}}}, int64[1] e = {{6}}, int64[1] a = {{2}}> "
            f"{{ c = Slice (x, s, e, a) y = AveragePool <kernel_shape = [1], strides = [{stride}]> (c) }}",
        )
        for side, stride, first in (("UPPER", 3, 1), ("UPPER", 6, 2), ("LOWER", 6, 2))
    ),
    Case(
        "(float[N, 2, W] x) => (float[] y) "
        "{ y = AveragePool <dilations = [2], kernel_shape = [2], pads = [0, 1]> (x) }",
        path=f"{CONVOLVED} Div",
        opset=19,
    ),
    Case(
        "(float[N, 1, 4, 3, T] x) => (float[] y) { y = LpPool <kernel_shape = [3, 2, 2]> (x) }",
        path="Pow Transpose MatMul Transpose MatMul MatMul Where Pow Where",
    ),
    # All that is pooled is 0 in some windows: the derivative there is 0, not infinite.
    Case(
        "(float[1, 1, 6] x) => (float[] y) { r = Relu (x) y = LpPool <kernel_shape = [2], strides = [2]> (r) }",
        path="Relu Pow MatMul Where Pow Where",
        given={"x": [[[-1, -2, 3, 4, -5, 6]]]},
    ),
    image(
        "GlobalLpPool <p = 3> (x)",
        "Where(Greater({0}, 0), Pow(Where(Greater({0}, 0), {0}, 1), 0.3333), 0)".format(
            "ReduceSum(Pow(Abs(x), 3), [2 3], keepdims=1)"
        ),
        size="H, W",
        original="(float[N, 4, H, W] x) => (float[] y) <int64[2] a = {2, 3}, double p = {3}, "
        "double q = {0.3333333333333333}> { m = Abs (x) c = Pow (m, p) s = ReduceSum (c, a) y = Pow (s, q) }",
    ),
    *(
        Case(COLUMN_MAJOR.format(size=size), path=path, original=WITH_CORNERS, given={"x": GROWING})
        for size, path in (("6, 5", "MaxPool Mul"), ("H, W", "Reshape GatherElements Reshape Mul"))
    ),
    image("MaxPool <kernel_shape = [3, 3], ceil_mode = 1, strides = [2, 2]> (x)"),
    image("MaxPool <kernel_shape = [2, 2], dilations = [2, 2]> (x)"),
    Case("(float[N, 3, 8] x) => (float[] y) { y = MaxPool <kernel_shape = [2], strides = [2]> (x) }"),
    Case("(float[N, 1, 4, 3, 5] x) => (float[] y) { y = MaxPool <kernel_shape = [2, 2, 3]> (x) }"),
    Case(
        "(float[N, 1, H, 3, W] x) => (float[] y) { y = MaxPool <ceil_mode = 1, kernel_shape = [2, 2, 3]> (x) }",
        path="Reshape GatherElements Reshape",
    ),
]
