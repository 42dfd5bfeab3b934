"""What has a gradient: operator → rule, and which inputs it gives gradients of.  This is the whole list.

Keys are operators as :func:`dsd_ort.rewrite.operators.key` calls them.
"""

from __future__ import annotations

from typing import NamedTuple

from dsd_ort.graph.differentiate.adjoint import Rule
from dsd_ort.graph.differentiate.rules import (
    activation,
    branch,
    convolution,
    dropout,
    elementwise,
    indexing,
    layout,
    losses,
    normalization,
    pooling,
    product,
    reduction,
    scan,
)
from dsd_ort.rewrite.operators import ALL


class Row(NamedTuple):
    """How a gradient passes an operator."""

    rule: Rule
    inputs: int = 1
    """Of how many of its first inputs there is a gradient."""
    every_output: bool = False
    """Whether one may arrive at outputs behind the first."""


RULES: dict[str, Row] = {
    "Abs": Row(elementwise.absolute),
    "Add": Row(elementwise.add, inputs=2),
    "Cast": Row(elementwise.cast),
    "Clip": Row(elementwise.clip),
    "Concat": Row(layout.concat, inputs=ALL),
    "Conv": Row(convolution.conv, inputs=3),
    "Cos": Row(elementwise.cosine),
    "Div": Row(elementwise.divide, inputs=2),
    "Dropout": Row(dropout.dropout),
    "Erf": Row(elementwise.error_function),
    "Exp": Row(elementwise.exponential),
    "Expand": Row(layout.expand),
    "Flatten": Row(layout.reshape),
    "Gather": Row(indexing.gather),
    "GatherElements": Row(indexing.gather_elements),
    "GatherND": Row(indexing.gather_nd),
    "Gemm": Row(product.gemm, inputs=3),
    "GlobalAveragePool": Row(reduction.global_average),
    "Identity": Row(elementwise.identity),
    "If": Row(branch.if_, inputs=ALL, every_output=True),
    "LayerNormalization": Row(normalization.layer_norm, inputs=3),
    "LeakyRelu": Row(activation.leaky_relu),
    "Log": Row(elementwise.logarithm),
    "LogSoftmax": Row(activation.log_softmax),
    "MatMul": Row(product.matmul, inputs=2),
    "Max": Row(elementwise.extreme, inputs=ALL),
    "MaxPool": Row(pooling.max_pool),
    "Mean": Row(elementwise.mean, inputs=ALL),
    "Min": Row(elementwise.extreme, inputs=ALL),
    "Mul": Row(elementwise.multiply, inputs=2),
    "Neg": Row(elementwise.negative),
    "PRelu": Row(activation.prelu, inputs=2),
    "Pad": Row(layout.pad),
    "Pow": Row(elementwise.power, inputs=2),
    "Reciprocal": Row(elementwise.reciprocal),
    "ReduceL2": Row(reduction.norm),
    "ReduceLogSumExp": Row(reduction.log_sum_exp),
    "ReduceMax": Row(reduction.extreme),
    "ReduceMean": Row(reduction.mean),
    "ReduceMin": Row(reduction.extreme),
    "ReduceSum": Row(reduction.total),
    "Relu": Row(activation.relu),
    "Reshape": Row(layout.reshape),
    "Scan": Row(scan.scan, inputs=ALL, every_output=True),
    "ScatterElements": Row(indexing.scatter_elements, inputs=3),
    "ScatterND": Row(indexing.scatter_nd, inputs=3),
    "Sigmoid": Row(activation.sigmoid),
    "Sin": Row(elementwise.sine),
    "Slice": Row(layout.slice_),
    "Softmax": Row(activation.softmax),
    "SoftmaxCrossEntropyLoss": Row(losses.softmax_cross_entropy),
    "Split": Row(layout.split, every_output=True),
    "Sqrt": Row(elementwise.square_root),
    "Squeeze": Row(layout.squeeze),
    "Sub": Row(elementwise.subtract, inputs=2),
    "Sum": Row(elementwise.add, inputs=ALL),
    "Tanh": Row(activation.tanh),
    "Tile": Row(layout.tile),
    "TopK": Row(indexing.top_k),
    "Transpose": Row(layout.transpose),
    "Trilu": Row(layout.trilu),
    "Unsqueeze": Row(layout.unsqueeze),
    "Where": Row(elementwise.where, inputs=3),
    "com.microsoft.BatchNormInternal": Row(normalization.batch_norm, inputs=3),
    "com.microsoft.BiasGelu": Row(activation.bias_gelu, inputs=2),
    "com.microsoft.FastGelu": Row(activation.fast_gelu, inputs=2),
    "com.microsoft.Gelu": Row(activation.gelu),
    "com.microsoft.QuickGelu": Row(activation.quick_gelu),
}
