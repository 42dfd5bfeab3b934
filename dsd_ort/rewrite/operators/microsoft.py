"""Operators of ONNX Runtime's own domain: a row each.

Fused forms that its optimizers and exporters write (TransposeMatMul is FusedMatMul's older name), and those of the
training build.  The columns are those of :class:`~.facts.Facts`.
"""

from __future__ import annotations

from onnx_ir import DataType

from dsd_ort.rewrite.operators import cuda
from dsd_ort.rewrite.operators.facts import Does, Facts, Half

QUANTISED = Does.QUANTISED
ONE_TENSOR = Does.ONE_TENSOR
QUICK = Does.QUICK
NO_BFLOAT16 = Does.NO_BFLOAT16
TRAINING = Does.TRAINING
HALF = Half.HALF
FOLLOW = Half.FOLLOW
BACK = Half.BACK
INT64 = DataType.INT64

_KERNEL = {1: "kernel", 2: "bias"}
_PRODUCT = {0: "matrix", 1: "matrix"}

MICROSOFT: dict[str, Facts] = {
    # standing for several of ONNX's
    "com.microsoft.Attention": Facts(weights={1: "matrix", 2: "bias"}),
    "com.microsoft.BiasGelu": Facts(QUICK, weights={1: "bias"}, native=2, half=FOLLOW),
    "com.microsoft.ConvTransposeWithDynamicPads": Facts(weights={1: "kernel", 3: "bias"}),
    "com.microsoft.EmbedLayerNormalization": Facts(
        weights={2: "embedding", 3: "embedding", 4: "embedding", 5: "norm", 6: "norm"}
    ),
    "com.microsoft.FastGelu": Facts(QUICK, weights={1: "bias"}, native=1, half=FOLLOW),
    "com.microsoft.FusedConv": Facts(weights=_KERNEL),
    "com.microsoft.FusedGemm": Facts(weights=_PRODUCT | {2: "bias"}),
    "com.microsoft.FusedMatMul": Facts(weights=_PRODUCT, half=HALF, factors=2, unrecordable=cuda.IF_BROADCAST),
    "com.microsoft.Gelu": Facts(QUICK, native=1, half=FOLLOW),
    "com.microsoft.MultiHeadAttention": Facts(weights={3: "bias"}),
    "com.microsoft.QuickGelu": Facts(QUICK, native=1, half=FOLLOW),
    "com.microsoft.SkipLayerNormalization": Facts(weights={2: "norm", 3: "norm", 4: "bias"}),
    "com.microsoft.SkipSimplifiedLayerNormalization": Facts(weights={2: "norm", 3: "bias"}),
    "com.microsoft.TransposeMatMul": Facts(weights=_PRODUCT),
    # of training: gradients, and forwards that keep what these read
    "com.microsoft.BatchNormInternal": Facts(QUICK, native=3, half=BACK),
    "com.microsoft.BatchNormalizationGrad": Facts(half=BACK),
    "com.microsoft.BiasGeluGrad_dX": Facts(half=FOLLOW),
    "com.microsoft.BroadcastGradientArgs": Facts(gives=INT64),
    "com.microsoft.ConvGrad": Facts(NO_BFLOAT16, half=HALF, factors=3),
    "com.microsoft.DropoutGrad": Facts(ONE_TENSOR, half=FOLLOW),
    "com.microsoft.FastGeluGrad": Facts(half=FOLLOW),
    "com.microsoft.GatherElementsGrad": Facts(half=FOLLOW, unrepeatable=cuda.ATOMIC),
    "com.microsoft.GatherGrad": Facts(like=2, unrecordable=cuda.WAITS),
    "com.microsoft.GatherNDGrad": Facts(like=2, unrecordable=cuda.COPIES, unrepeatable=cuda.ATOMIC),
    "com.microsoft.GeluGrad": Facts(half=FOLLOW),
    "com.microsoft.LeakyReluGrad": Facts(NO_BFLOAT16, half=FOLLOW),
    "com.microsoft.QuickGeluGrad": Facts(half=FOLLOW),
    "com.microsoft.ReluGrad": Facts(NO_BFLOAT16, half=FOLLOW),
    "com.microsoft.SigmoidGrad": Facts(half=FOLLOW),
    "com.microsoft.SliceGrad": Facts(half=FOLLOW),
    "com.microsoft.SoftmaxCrossEntropyLossGrad": Facts(unrecordable=cuda.IF_NO_MEAN),
    "com.microsoft.SoftmaxCrossEntropyLossInternal": Facts(TRAINING, unrecordable=cuda.IF_NO_MEAN),
    "com.microsoft.SoftmaxCrossEntropyLossInternalGrad": Facts(TRAINING, unrecordable=cuda.IF_NO_MEAN),
    "com.microsoft.TanhGrad": Facts(half=FOLLOW),
    # in the layout of one kind of CPU
    "com.microsoft.nchwc.Conv": Facts(half=HALF, factors=2),
    "com.microsoft.nchwc.ReorderInput": Facts(half=FOLLOW),
    "com.microsoft.nchwc.ReorderOutput": Facts(half=FOLLOW),
    # computing with quantised numbers
    "com.microsoft.DynamicQuantizeLSTM": Facts(QUANTISED),
    "com.microsoft.DynamicQuantizeMatMul": Facts(QUANTISED),
    "com.microsoft.MatMulBnb4": Facts(QUANTISED),
    "com.microsoft.MatMulFpQ4": Facts(QUANTISED),
    "com.microsoft.MatMulInteger16": Facts(QUANTISED),
    "com.microsoft.MatMulIntegerToFloat": Facts(QUANTISED),
    "com.microsoft.MatMulNBits": Facts(QUANTISED),
    "com.microsoft.QAttention": Facts(QUANTISED),
    "com.microsoft.QEmbedLayerNormalization": Facts(QUANTISED),
    "com.microsoft.QGemm": Facts(QUANTISED),
    "com.microsoft.QMoE": Facts(QUANTISED),
}
