"""What becomes of each operator on quantised numbers: a row each.

A row names the float operator and, for each of its inputs, where the quantised node has what it is made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Of(NamedTuple):
    """A quantised input: where the node has its numbers, their scale and their zero point.

    A stored one with a scale for each entry of an axis has that axis; -1 is the last.
    """

    value: int
    scale: int
    zero: int
    axis: int = -1


class Bias(NamedTuple):
    """Stored sums of products: whole numbers whose scale is that of both factors together."""

    value: int


class Row(NamedTuple):
    """What takes the place of a quantised node."""

    operator: str
    """The float operator."""
    inputs: Sequence[Of | Bias | int]
    """Its inputs; a number is one of the node's own inputs that is no quantised one."""
    output: tuple[int, int] | None = None
    """Where the node has scale and zero point of its output; without them, the output is of floats."""
    bias: int | None = None
    """A float input that is added."""
    without: Sequence[str] = ()
    """Attributes that the float operator does not have."""


_TWO = (Of(0, 1, 2), Of(3, 4, 5))
_ONE = (Of(0, 1, 2),)

ROWS = {
    "QLinearConv": Row("Conv", (Of(0, 1, 2), Of(3, 4, 5, axis=0), Bias(8)), (6, 7)),
    "QLinearMatMul": Row("MatMul", (Of(0, 1, 2, axis=-2), Of(3, 4, 5)), (6, 7)),
    "com.microsoft.QGemm": Row("Gemm", (Of(0, 1, 2), Of(3, 4, 5), Bias(6)), (7, 8)),
    "com.microsoft.QLinearAdd": Row("Add", _TWO, (6, 7)),
    "com.microsoft.QLinearMul": Row("Mul", _TWO, (6, 7)),
    "com.microsoft.QLinearAveragePool": Row("AveragePool", _ONE, (3, 4), without=("channels_last",)),
    "com.microsoft.QLinearGlobalAveragePool": Row("GlobalAveragePool", _ONE, (3, 4), without=("channels_last",)),
    "com.microsoft.QLinearLeakyRelu": Row("LeakyRelu", _ONE, (3, 4)),
    "com.microsoft.QLinearSigmoid": Row("Sigmoid", _ONE, (3, 4)),
    "com.microsoft.QLinearSoftmax": Row("Softmax", _ONE, (3, 4), without=("opset",)),
    "com.microsoft.QLinearWhere": Row("Where", (0, Of(1, 2, 3), Of(4, 5, 6)), (7, 8)),
    "com.microsoft.DynamicQuantizeMatMul": Row("MatMul", (0, Of(1, 2, 3)), bias=4),
    "com.microsoft.MatMulIntegerToFloat": Row("MatMul", (Of(0, 2, 4, axis=-2), Of(1, 3, 5)), bias=6),
    "com.microsoft.QAttention": Row("com.microsoft.Attention", (Of(0, 3, 6), Of(1, 4, 7), 2, 5, 8)),
    "com.microsoft.QEmbedLayerNormalization": Row(
        "com.microsoft.EmbedLayerNormalization",
        (0, 1, *(Of(2 + i, 8 + i, 13 + i) for i in range(5)), 7),
    ),
}
"""Operator → what takes its place."""

INTEGER = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}
"""Products of whole numbers, of which a Cast and a Mul by both scales make floats: together a float product."""

PASSES = {
    "Concat": (0,),
    "DepthToSpace": (0,),
    "Expand": (0,),
    "Flatten": (0,),
    "Gather": (0,),
    "GatherElements": (0,),
    "GatherND": (0,),
    "Identity": (0,),
    "MaxPool": (0,),
    "Pad": (0,),
    "ReduceMax": (0,),
    "ReduceMin": (0,),
    "Reshape": (0,),
    "Resize": (0,),
    "Slice": (0,),
    "SpaceToDepth": (0,),
    "Split": None,
    "Squeeze": (0,),
    "Tile": (0,),
    "TopK": (0,),
    "Transpose": (0,),
    "Unsqueeze": (0,),
    "Where": (0,),
    "ArgMax": (),
    "ArgMin": (),
}
"""Operators that do the same with numbers as with what these stand for → their outputs of such numbers; None is all."""

KEEPS = frozenset(PASSES) - {"ArgMax", "ArgMin", "Pad", "Resize", "Where"} | {"AveragePool", "GlobalAveragePool"}
"""Those of which no entry lies outside of the range of what they read first."""
