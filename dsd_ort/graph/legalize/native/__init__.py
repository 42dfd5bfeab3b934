"""What only ONNX Runtime's gradient builder wants of a graph: operators whose gradient it lacks or has wrong.

It decides from static shapes what to sum over (:mod:`.broadcast`), has no gradient of some forms of an operator that it
knows, fails behind operators without a slope (:mod:`.flat`), and defines names twice (:mod:`.bugs`).
"""

from __future__ import annotations

from dsd_ort.graph.legalize.native import arithmetic, broadcast, flat, layout, normalization, pooling, reduction
from dsd_ort.graph.legalize.rules import losses
from dsd_ort.rewrite.site import Rule

RULES: dict[str, Rule] = {
    "Add": broadcast.elementwise,
    "Bernoulli": flat.step,
    "Ceil": flat.step,
    "Div": broadcast.elementwise,
    "Expand": broadcast.expand,
    "EyeLike": flat.shape_only,
    "Floor": flat.step,
    "Gemm": broadcast.gemm,
    "Hardmax": flat.step,
    "LayerNormalization": normalization.layer_norm,
    "MatMul": arithmetic.matmul,
    "Max": broadcast.elementwise,
    "MaxPool": pooling.max_pool,
    "Mean": arithmetic.mean_of,
    "Min": broadcast.elementwise,
    "Mul": broadcast.elementwise,
    "Pad": layout.pad,
    "PRelu": arithmetic.prelu,
    "Pow": arithmetic.power,
    "RandomNormalLike": flat.shape_only,
    "RandomUniformLike": flat.shape_only,
    "ReduceL2": reduction.named_axes,
    "ReduceLogSumExp": reduction.named_axes,
    "ReduceMax": reduction.extreme,
    "ReduceMean": reduction.plain,
    "ReduceMin": reduction.extreme,
    "ReduceSum": reduction.plain,
    "Round": flat.step,
    "ScatterElements": layout.scatter,
    "ScatterND": layout.scatter,
    "Sign": flat.step,
    "Slice": layout.slice_,
    "SoftmaxCrossEntropyLoss": losses.by_log_softmax,
    "Split": layout.split,
    "Sub": broadcast.elementwise,
    "Sum": arithmetic.sum_of,
    "Transpose": layout.transpose,
    "Where": arithmetic.where,
}
"""Behind those of :data:`dsd_ort.graph.legalize.table.RULES`, of what they wrote too."""
