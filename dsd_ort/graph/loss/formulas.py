"""The losses, each a function that appends its nodes to a graph.

With logits x, class label y, target t, class weights ω (1 by default), label smoothing ε over C classes, each a mean
as PyTorch's ``reduction="mean"``::

    cross-entropy    Σᵢ [(1 - ε)·ω_y·(-log pᵢ_y) + ε/C·Σ_c ω_c·(-log pᵢ_c)] / Σᵢ ω_y,   p = softmax(x) over axis 1,
                     where i runs over the labels that are not ``ignore_index``
    bce-with-logits  mean(log(1 + eˣ) - x·t)
    mse              mean((x - t)²)
    l1               mean(|x - t|)
    huber            mean(½·d²  where |d| ≤ δ, else δ·(|d| - ½·δ)),   d = x - t
    ctc              mean over the batch of -log p(y | x) / max(1, length of y),   p of
                     :mod:`dsd_ort.graph.autograd.ctc`

The logits of cross-entropy have their classes on axis 1, those of ctc are ``f32[T, N, C]``.
Of a batch in which no label counts (all are ignored, or of weight 0), cross-entropy is 0 with gradient 0, where PyTorch
gives NaN: such a batch teaches nothing, but ends no run.

Ensures that ONNX Runtime differentiates every node added here rightly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from dsd_ort.graph.autograd.ctc import ctc
from dsd_ort.graph.loss.builder import Builder
from dsd_ort.recipe import Loss


def _cross_entropy(build: Builder, x: ir.Value, y: ir.Value, loss: Loss) -> ir.Value:
    if loss.label_smoothing:
        return _smoothed_cross_entropy(build, x, y, loss)
    weights = [build.constant(loss.class_weights)] if loss.class_weights is not None else []
    ignored = {} if loss.ignore_index is None else {"ignore_index": loss.ignore_index}
    # The gradient is computed from the second output, log p.
    return build("SoftmaxCrossEntropyLoss", x, y, *weights, outputs=2, reduction="mean", **ignored)


def _smoothed_cross_entropy(build: Builder, x: ir.Value, y: ir.Value, loss: Loss) -> ir.Value:
    """-Σ q·log p / Σ ω_y, where q = (1 - ε)·ω_y·[c = y] + ε/C·ω_c, and 0 where y is ignored."""
    assert x.shape is not None and isinstance(x.shape[1], int), "checked with the label"
    classes, smoothing = x.shape[1], loss.label_smoothing
    hit = build("OneHot", y, build.constant(classes, np.int64), build.constant([0, 1]), axis=1)
    spread = np.full([classes] + [1] * (x.shape.rank() - 2), smoothing / classes)
    if loss.class_weights is not None:
        weights = np.reshape(loss.class_weights, spread.shape)
        hit, spread = build("Mul", hit, build.constant(weights)), spread * weights
    target = build("Add", build("Mul", hit, build.constant(1 - smoothing)), build.constant(spread))
    if loss.ignore_index is not None:
        ignored = build("Equal", y, build.constant(loss.ignore_index, np.int64))
        counts = build("Cast", build("Not", ignored), to=ir.DataType.FLOAT.value)
        counts = build("Unsqueeze", counts, build.constant([1], np.int64))
        hit, target = build("Mul", hit, counts), build("Mul", target, counts)
    likelihood = build("ReduceSum", build("Mul", target, build("LogSoftmax", x, axis=1)), keepdims=0)
    total = build("ReduceSum", hit, keepdims=0)
    # Over infinity, a batch without labels that count has loss and gradient 0, as from the fused operator.
    none = build("Equal", total, build.constant(0))
    total = build("Where", none, build.constant(np.inf), total)
    return build("Neg", build("Div", likelihood, total))


def _bce_with_logits(build: Builder, x: ir.Value, t: ir.Value, loss: Loss) -> ir.Value:
    """log(1 + eˣ) = m + log(eˣ⁻ᵐ + e⁻ᵐ) with m = max(x, 0): no power exceeds 1.

    The derivative by m is 0 everywhere, so the kink of m at x = 0 does no harm; the usual form in |x| has slope 0
    there, where it should be ½.
    """
    m = build("Relu", x)
    powers = build("Add", build("Exp", build("Sub", x, m)), build("Exp", build("Neg", m)))
    softplus = build("Add", m, build("Log", powers))
    return _mean(build, build("Sub", softplus, build("Mul", x, t)))


def _mse(build: Builder, x: ir.Value, t: ir.Value, loss: Loss) -> ir.Value:
    return _mean(build, build("Pow", build("Sub", x, t), build.constant(2)))


def _l1(build: Builder, x: ir.Value, t: ir.Value, loss: Loss) -> ir.Value:
    return _mean(build, build("Abs", build("Sub", x, t)))


def _huber(build: Builder, x: ir.Value, t: ir.Value, loss: Loss) -> ir.Value:
    """c·(d - ½·c), where c is d clipped to [-δ, δ]."""
    d = build("Sub", x, t)
    c = build("Clip", d, build.constant(-loss.delta), build.constant(loss.delta))
    return _mean(build, build("Mul", c, build("Sub", d, build("Mul", c, build.constant(0.5)))))


def _ctc(build: Builder, x: ir.Value, y: ir.Value, loss: Loss, lengths: ir.Value | None = None) -> ir.Value:
    axis, counted = build.constant([0], np.int64), build.constant([1], np.int64)
    sizes = build("Shape", x)
    steps = build("Slice", sizes, axis, counted)
    count = build("Slice", sizes, counted, build.constant([2], np.int64))
    if lengths is None:
        n = build("Expand", steps, count)
    else:
        n = build("Reshape", build("Cast", lengths, to=ir.DataType.INT64.value), count)
    operator = ctc(loss.blank, zero_infinity=loss.zero_infinity, opset=build.opset)
    value = build.call(operator, x, y, n)[0]
    is_label = build("Not", build("Less", y, build.constant(0, np.int64)))
    length = build("ReduceSum", build("Cast", is_label, to=ir.DataType.FLOAT.value), counted, keepdims=0)
    return _mean(build, build("Div", value, build("Max", length, build.constant(1))))


def _mean(build: Builder, value: ir.Value) -> ir.Value:
    return build("ReduceMean", value, keepdims=0)


class LossSpec(NamedTuple):
    """How a loss is built, from which activations it reads the logits, and which of the recipe's options it has."""

    build: Callable[..., ir.Value]
    """(builder, scores, label, loss), and for a loss that has ``lengths``: those, or None."""
    peels: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


LOSSES: dict[str, LossSpec] = {
    "cross-entropy": LossSpec(
        _cross_entropy,
        ("softmax", "log-softmax"),
        ("class_axis", "label_smoothing", "ignore_index", "class_weights"),
    ),
    "ctc": LossSpec(
        _ctc,
        ("softmax", "log-softmax"),
        ("class_axis", "time_axis", "lengths", "blank", "ignore_index", "zero_infinity"),
    ),
    "bce-with-logits": LossSpec(_bce_with_logits, ("sigmoid",)),
    "mse": LossSpec(_mse),
    "l1": LossSpec(_l1),
    "huber": LossSpec(_huber, options=("delta",)),
}
