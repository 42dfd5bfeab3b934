"""The losses, each a function that writes its nodes.

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
from dsd_ort.recipe import Loss
from dsd_ort.rewrite.nodes import Nodes


def _cross_entropy(new: Nodes, x: ir.Value, y: ir.Value, loss: Loss) -> ir.Value:
    if loss.label_smoothing:
        return _smoothed_cross_entropy(new, x, y, loss)
    weights = [np.array(loss.class_weights, np.float32)] if loss.class_weights is not None else []
    ignored = {} if loss.ignore_index is None else {"ignore_index": loss.ignore_index}
    # The gradient is computed from the second output, log p.
    return new.several("SoftmaxCrossEntropyLoss", 2, x, y, *weights, reduction="mean", **ignored)[0]


def _smoothed_cross_entropy(new: Nodes, x: ir.Value, y: ir.Value, loss: Loss) -> ir.Value:
    """-Σ q·log p / Σ ω_y, where q = (1 - ε)·ω_y·[c = y] + ε/C·ω_c, and 0 where y is ignored."""
    assert x.shape is not None and isinstance(x.shape[1], int), "checked with the label"
    classes, smoothing = x.shape[1], loss.label_smoothing
    hit = new.OneHot(y, classes, np.array([0, 1], np.float32), axis=1)
    spread = np.full([classes] + [1] * (x.shape.rank() - 2), smoothing / classes)
    if loss.class_weights is not None:
        weights = np.reshape(loss.class_weights, spread.shape)
        hit, spread = new.Mul(hit, weights.astype(np.float32)), spread * weights
    target = new.Add(new.Mul(hit, 1 - smoothing), spread.astype(np.float32))
    if loss.ignore_index is not None:
        counts = new.Cast(new.Not(new.Equal(y, loss.ignore_index)), to=ir.DataType.FLOAT.value)
        counts = new.Unsqueeze(counts, [1])
        hit, target = new.Mul(hit, counts), new.Mul(target, counts)
    likelihood = new.ReduceSum(new.Mul(target, new.LogSoftmax(x, axis=1)), keepdims=0)
    total = new.ReduceSum(hit, keepdims=0)
    # Over infinity, a batch without labels that count has loss and gradient 0, as from the fused operator.
    total = new.Where(new.Equal(total, 0.0), np.inf, total)
    return new.Neg(new.Div(likelihood, total))


def _bce_with_logits(new: Nodes, x: ir.Value, t: ir.Value, loss: Loss) -> ir.Value:
    """log(1 + eˣ) = m + log(eˣ⁻ᵐ + e⁻ᵐ) with m = max(x, 0): no power exceeds 1.

    The derivative by m is 0 everywhere, so the kink of m at x = 0 does no harm; the usual form in |x| has slope 0
    there, where it should be ½.
    """
    m = new.Relu(x)
    softplus = new.Add(m, new.Log(new.Add(new.Exp(new.Sub(x, m)), new.Exp(new.Neg(m)))))
    return _mean(new, new.Sub(softplus, new.Mul(x, t)))


def _mse(new: Nodes, x: ir.Value, t: ir.Value, loss: Loss) -> ir.Value:
    return _mean(new, new.Pow(new.Sub(x, t), 2.0))


def _l1(new: Nodes, x: ir.Value, t: ir.Value, loss: Loss) -> ir.Value:
    return _mean(new, new.Abs(new.Sub(x, t)))


def _huber(new: Nodes, x: ir.Value, t: ir.Value, loss: Loss) -> ir.Value:
    """c·(d - ½·c), where c is d clipped to [-δ, δ]."""
    d, delta = new.Sub(x, t), float(loss.delta)
    c = new.Clip(d, -delta, delta)
    return _mean(new, new.Mul(c, new.Sub(d, new.Mul(c, 0.5))))


def _ctc(new: Nodes, x: ir.Value, y: ir.Value, loss: Loss, lengths: ir.Value | None = None) -> ir.Value:
    first, second = new.constant([0]), new.constant([1])
    sizes = new.Shape(x)
    steps, count = new.Slice(sizes, first, second), new.Slice(sizes, second, [2])
    if lengths is None:
        n = new.Expand(steps, count)
    else:
        n = new.Reshape(new.Cast(lengths, to=ir.DataType.INT64.value), count)
    operator = ctc(loss.blank, zero_infinity=loss.zero_infinity, opset=new.opset)
    value = new.call(operator, x, y, n)[0]
    is_label = new.Cast(new.Not(new.Less(y, 0)), to=ir.DataType.FLOAT.value)
    length = new.ReduceSum(is_label, second, keepdims=0)
    return _mean(new, new.Div(value, new.Max(length, 1.0)))


def _mean(new: Nodes, value: ir.Value) -> ir.Value:
    return new.ReduceMean(value, keepdims=0)


class LossSpec(NamedTuple):
    """How a loss is built, from which activations it reads the logits, and which of the recipe's options it has."""

    build: Callable[..., ir.Value]
    """(new nodes, scores, label, loss), and for a loss that has ``lengths``: those, or None."""
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
