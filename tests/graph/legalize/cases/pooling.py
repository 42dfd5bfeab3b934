"""Pools."""

from __future__ import annotations

from tests.graph.legalize.cases.case import Case, image
from tests.graph.legalize.cases.reduction import extreme

POOLED = "MaxPool(x, kernel_shape=[2 2], strides=[2 2]).1"
COVERED = "Conv(Expand(1, Concat([1 1], Shape(x, start=2), axis=0)), {ones}, kernel_shape=[3 2], {more})"
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
