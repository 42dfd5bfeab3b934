"""Cross-entropy by LogSoftmax, with the classes last.

ONNX Runtime's SoftmaxCrossEntropyLoss and its gradient go through the logits number by number, and exchange axes first
where there are more than two.  LogSoftmax is vector code, shared out between threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dsd_ort.device.lower.form import Choices
from dsd_ort.rewrite.shapes import dims_of
from dsd_ort.rewrite.site import Site


def cross_entropy(site: Site, choices: Choices) -> Sequence[ir.Value] | None:
    """SoftmaxCrossEntropyLoss(X, label, weight): -Σ w · log p[label] / Σ w, and log p: f32[N, C, d…].

    The mean is 0 where no label counts.
    """
    x, rank = site.input(0), _rank(site.input(0), choices)
    if rank is None:
        return None
    label, w = weights(site, site.input(1), site.optional(2))
    log_p = site.LogSoftmax(_classes_last(site, x, rank), axis=-1)
    hit = site.GatherElements(log_p, site.Unsqueeze(label, [-1]), axis=-1)
    loss = site.Neg(site.Squeeze(hit, [-1]))
    if w is not None:  # of a class that cannot be, log p is infinite
        loss = site.Where(site.Equal(w, 0.0), 0.0, site.Mul(loss, w))
    reduction = site.node.attributes.get_string("reduction", "mean")
    if reduction == "mean" and w is None:
        loss = site.ReduceMean(loss, keepdims=0)
    elif reduction != "none":
        loss = site.ReduceSum(loss, keepdims=0)
        if reduction == "mean":
            loss = site.Div(loss, not_zero(site, site.ReduceSum(w, keepdims=0)))
    return loss, _classes_second(site, log_p, rank)


def cross_entropy_gradient(site: Site, choices: Choices) -> ir.Value | None:
    """SoftmaxCrossEntropyLossGrad(dY, log p, label, weight): dX = (p - [class = label]) · w · dY / Σ w.

    With the reduction "sum" nothing is divided, and with "none" dY has the label's shape.
    """
    dy, rank = site.input(0), _rank(site.input(1), choices)
    if rank is None:
        return None
    label, w = weights(site, site.input(2), site.optional(3))
    p = site.Exp(_classes_last(site, site.input(1), rank))
    hits = site.Unsqueeze(label, [-1])
    less = site.Sub(site.GatherElements(p, hits, axis=-1), 1.0)
    difference = site.ScatterElements(p, hits, less, axis=-1)
    reduction, scale = site.node.attributes.get_string("reduction", "mean"), dy
    if reduction == "mean":
        count = site.Cast(site.Size(label), to=ir.DataType.FLOAT) if w is None else site.ReduceSum(w, keepdims=0)
        scale = site.Div(dy, count if w is None else not_zero(site, count))
    if w is not None:
        scale = site.Mul(w, scale)
    if w is not None or reduction == "none":
        scale = site.Unsqueeze(scale, [-1])
    return _classes_second(site, site.Mul(difference, scale), rank)


def weights(site: Site, label: ir.Value, weight: ir.Value | None) -> tuple[ir.Value, ir.Value | None]:
    """The label, in i64 and 0 where it is ignored, and w = weight[label], 0 there; None where it is 1 throughout."""
    attributes = site.node.attributes
    label = site.Cast(label, to=ir.DataType.INT64)
    if "ignore_index" not in attributes:
        return label, None if weight is None else site.Gather(weight, label)
    ignored = site.Equal(label, site.constant(np.array(attributes.get_int("ignore_index"))))
    label = site.Where(ignored, site.constant(np.array(0)), label)
    return label, site.Where(ignored, 0.0, 1.0 if weight is None else site.Gather(weight, label))


def not_zero(site: Site, total: ir.Value) -> ir.Value:
    """*total*, or 1 in its place."""
    return site.Where(site.Equal(total, 0.0), 1.0, total)


def _rank(value: ir.Value, choices: Choices) -> int | None:
    dims = dims_of(value)
    return None if dims is None or value.dtype != ir.DataType.FLOAT or not choices.recent else len(dims)


def _classes_last(site: Site, value: ir.Value, rank: int) -> ir.Value:
    return value if rank == 2 else site.Transpose(value, perm=[0, *range(2, rank), 1])


def _classes_second(site: Site, value: ir.Value, rank: int) -> ir.Value:
    return value if rank == 2 else site.Transpose(value, perm=[0, rank - 1, *range(1, rank - 1)])
