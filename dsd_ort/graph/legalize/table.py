"""What legalize does with each operator.  This is the whole list: an operator on the gradient path that is neither
native after its rule was applied, nor rewritten by it, is refused.

Keys are operators of opset 18; those of other domains carry the domain in front.
"""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.graph.legalize import (
    activation,
    arithmetic,
    batch_norm,
    broadcast,
    convolution,
    dropout,
    normalization,
    pooling,
    reduction,
    shape,
    transposed,
)
from dsd_ort.graph.legalize.site import Rule

MODES: dict[str, dict[str, Rule]] = {
    "train": {"BatchNormalization": batch_norm.train, "Dropout": dropout.activate},
    "frozen": {"Dropout": dropout.activate},
}
"""Operators that behave otherwise in training, on the gradient path or not, by the recipe's ``batch_norm``."""

RULES: dict[str, Rule] = {
    "Add": broadcast.elementwise,
    "AveragePool": pooling.average_pool,
    "BatchNormalization": batch_norm.frozen,
    "CastLike": shape.cast_like,
    "Ceil": activation.step,
    "Celu": activation.celu,
    "Conv": convolution.conv,
    "ConvTranspose": transposed.conv_transpose,
    "DepthToSpace": shape.depth_to_space,
    "Div": broadcast.elementwise,
    "Elu": activation.elu,
    "Expand": broadcast.expand,
    "Floor": activation.step,
    "Gemm": broadcast.gemm,
    "GlobalMaxPool": pooling.global_max_pool,
    "GroupNormalization": normalization.group_norm_per_group,
    "HardSigmoid": activation.hard_sigmoid,
    "HardSwish": activation.hard_swish,
    "Hardmax": activation.step,
    "InstanceNormalization": normalization.instance_norm,
    "LRN": normalization.local_response,
    "LayerNormalization": normalization.layer_norm,
    "LpNormalization": normalization.lp_normalization,
    "MatMul": arithmetic.matmul,
    "Max": broadcast.elementwise,
    "MaxPool": pooling.max_pool,
    "Mean": arithmetic.mean_of,
    "MeanVarianceNormalization": normalization.mean_variance,
    "Min": broadcast.elementwise,
    "Mish": activation.mish,
    "Mul": broadcast.elementwise,
    "PRelu": activation.prelu,
    "Pad": shape.pad,
    "Pow": arithmetic.power,
    "ReduceL1": reduction.l1,
    "ReduceL2": reduction.named_axes,
    "ReduceLogSum": reduction.log_sum,
    "ReduceLogSumExp": reduction.named_axes,
    "ReduceMax": reduction.extreme,
    "ReduceMin": reduction.extreme,
    "ReduceSumSquare": reduction.sum_square,
    "Round": activation.step,
    "ScatterElements": shape.scatter,
    "ScatterND": shape.scatter,
    "Selu": activation.selu,
    "Shrink": activation.shrink,
    "Sign": activation.step,
    "Slice": shape.slice_,
    "Softplus": activation.softplus,
    "Softsign": activation.softsign,
    "SpaceToDepth": shape.space_to_depth,
    "Split": shape.split,
    "Sub": broadcast.elementwise,
    "Sum": arithmetic.sum_of,
    "ThresholdedRelu": activation.thresholded_relu,
    "Transpose": shape.transpose,
    "Where": arithmetic.where,
}
"""How an operator is rewritten on the gradient path, where it has to be."""

_ALL = range(2**31)

NATIVE: dict[str, range] = {
    "Abs": range(1),
    "Add": range(2),
    "Cast": range(1),
    "Clip": range(1),
    "Concat": _ALL,
    "Conv": range(3),
    "Cos": range(1),
    "Div": range(2),
    "Dropout": range(1),
    "Erf": range(1),
    "Exp": range(1),
    "Expand": range(1),
    "Flatten": range(1),
    "Gather": range(1),
    "GatherElements": range(1),
    "GatherND": range(1),
    "Gemm": range(3),
    "GlobalAveragePool": range(1),
    "Identity": range(1),
    "LayerNormalization": range(3),
    "LeakyRelu": range(1),
    "Log": range(1),
    "LogSoftmax": range(1),
    "MatMul": range(2),
    "Max": _ALL,
    "MaxPool": range(1),
    "Min": _ALL,
    "Mul": range(2),
    "Neg": range(1),
    "Pad": range(1),
    "Pow": range(1),
    "Reciprocal": range(1),
    "ReduceL2": range(1),
    "ReduceLogSumExp": range(1),
    "ReduceMean": range(1),
    "ReduceSum": range(1),
    "Relu": range(1),
    "Reshape": range(1),
    "ScatterElements": range(3),
    "ScatterND": range(3),
    "Sigmoid": range(1),
    "Sin": range(1),
    "Slice": range(1),
    "Softmax": range(1),
    "Split": range(1),
    "Sqrt": range(1),
    "Squeeze": range(1),
    "Sub": range(2),
    "Tanh": range(1),
    "Tile": range(1),
    "TopK": range(1),
    "Transpose": range(1),
    "Trilu": range(1),
    "Unsqueeze": range(1),
    "Where": range(3),
    "com.microsoft.BatchNormInternal": range(3),
    "com.microsoft.BiasGelu": range(2),
    "com.microsoft.FastGelu": range(1),
    "com.microsoft.Gelu": range(1),
    "com.microsoft.QuickGelu": range(1),
}
"""Operators whose gradient ONNX Runtime computes rightly, and with respect to which inputs."""

MANY_OUTPUTS = {"Split"}
"""Native operators that have a gradient for every output; all others for output 0 only."""

_CONTROL_FLOW = "runs a subgraph, which ONNX Runtime cannot differentiate (it would end the process)"
_QUANTIZED = "computes with quantised numbers, through which no gradient passes"
_RECURRENT = "is a recurrent layer, which dsd-ort cannot train yet"

REASONS: dict[str, str] = {
    "ConvInteger": _QUANTIZED,
    "DequantizeLinear": _QUANTIZED,
    "GRU": _RECURRENT,
    "If": _CONTROL_FLOW,
    "LSTM": _RECURRENT,
    "Loop": _CONTROL_FLOW,
    "MatMulInteger": _QUANTIZED,
    "QLinearConv": _QUANTIZED,
    "QLinearMatMul": _QUANTIZED,
    "QuantizeLinear": _QUANTIZED,
    "DynamicQuantizeLinear": _QUANTIZED,
    "RNN": _RECURRENT,
    "Scan": _CONTROL_FLOW,
    "SequenceMap": _CONTROL_FLOW,
}
"""Why an operator is refused, where there is more to say than that it is on no list."""

FIXES: dict[str, str] = {
    _CONTROL_FLOW: "export the model by tracing, with constant folding, so that no control flow is left",
    _QUANTIZED: "train the model that it was quantised from, and quantise the result",
}


def key(node: ir.Node) -> str:
    """How the tables call *node*'s operator."""
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type
