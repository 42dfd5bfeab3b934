"""What each operator computes in under mixed precision; :mod:`~.mixed` says what that means."""

from __future__ import annotations

from enum import Enum
from typing import Literal, TypeAlias

import numpy as np
import onnx_ir as ir

Precision: TypeAlias = Literal["fp16", "bf16"]
TYPES: dict[Precision, ir.DataType] = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}

RANGES: dict[Precision, tuple[float, float]] = {
    "fp16": (2.0**-14, 65504.0),
    "bf16": (float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)),
}
"""Least normal and greatest number: constants but 0 that are not between them keep their operator in float32."""


class Kind(Enum):
    """What an operator computes in."""

    HALF = "16 bit"
    FOLLOW = "as what it reads"
    BACK = "float32, then as what it read"
    AS_IS = "any"
    FLOAT = "float32"


FACTORS = {
    "Conv": 2,
    "ConvTranspose": 2,
    "Gemm": 2,
    "MatMul": 2,
    "com.microsoft.ConvGrad": 3,
    "com.microsoft.FusedMatMul": 2,
    "com.microsoft.nchwc.Conv": 2,
}
"""Product → how many of its first inputs are factors."""

_ARITHMETIC = (
    "Abs Add Clip Div Equal Greater GreaterOrEqual LeakyRelu Less LessOrEqual Max Min Mul Neg Relu Sigmoid Sub Sum Tanh"
)
_LAYOUT = (
    "Compress Concat Dropout Expand Flatten Gather GatherElements GatherND Identity MaxPool Pad Reshape "
    "ReverseSequence ScatterElements Slice Split Squeeze Tile Transpose Unsqueeze Where"
)
_MICROSOFT = (
    "BiasGelu BiasGeluGrad_dX DropoutGrad FastGelu FastGeluGrad GatherElementsGrad Gelu GeluGrad LeakyReluGrad "
    "QuickGelu QuickGeluGrad ReluGrad SigmoidGrad SliceGrad TanhGrad nchwc.ReorderInput nchwc.ReorderOutput"
)

KINDS: dict[str, Kind] = {
    **dict.fromkeys(FACTORS, Kind.HALF),
    **dict.fromkeys(f"{_ARITHMETIC} {_LAYOUT}".split(), Kind.FOLLOW),
    **{f"com.microsoft.{op_type}": Kind.FOLLOW for op_type in _MICROSOFT.split()},
    "BatchNormalization": Kind.BACK,
    "com.microsoft.BatchNormInternal": Kind.BACK,
    "com.microsoft.BatchNormalizationGrad": Kind.BACK,
    "Cast": Kind.AS_IS,
    "Shape": Kind.AS_IS,
    "Size": Kind.AS_IS,
}
"""Operator → what it computes in; FLOAT if it is not here."""

THRESHOLDS = {"Clip", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min"}
"""Operators that ask on which side of a number another one is.

What a forward operator cuts off there, the backward one must find there: a number that 16 bit would round keeps them in
float32, or what was cut at 0.4 is below 0.4 afterwards.
"""

ONE_TENSOR = {"Dropout", "com.microsoft.DropoutGrad"}
"""Operators whose later inputs are numbers of a type of their own."""

_NOT_IN_BF16 = (
    "Abs Clip Compress Conv ConvTranspose Equal Greater GreaterOrEqual LeakyRelu Less LessOrEqual MaxPool Pad "
    "ReverseSequence com.microsoft.ConvGrad com.microsoft.LeakyReluGrad com.microsoft.ReluGrad"
)
NO_KERNEL: dict[Precision, frozenset[str]] = {"fp16": frozenset(), "bf16": frozenset(_NOT_IN_BF16.split())}
"""What of HALF and FOLLOW has no kernel on CUDA: it is FLOAT there, and a convolution runs in TF32.

The same for ONNX Runtime 1.19's training build and 1.31, in the opset of prepared graphs (1.31 has a bfloat16 Conv from
opset 22 on, but loses MaxPool and Dropout there).
"""
