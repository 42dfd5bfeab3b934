"""Losses and their gradients."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dsd_ort.device.lower.likelihood import not_zero, weights
from dsd_ort.rewrite.site import Site


def cross_entropy(site: Site) -> Sequence[ir.Value]:
    """SoftmaxCrossEntropyLoss(X, label, weight), and a mean of 0 where no label counts, as the training build has it.

    Other builds divide by the sum of the weights that count whatever it is, and have NaN there.
    """
    attributes, weight = site.node.attributes, site.optional(2)
    loss, log_p = site.several("SoftmaxCrossEntropyLoss", 2, *site.node.inputs, **site.attributes())
    some_may_not_count = weight is not None or "ignore_index" in attributes
    if some_may_not_count and attributes.get_string("reduction", "mean") == "mean":
        _, w = weights(site, site.input(1), weight)
        loss = site.Where(site.Equal(site.ReduceSum(w, keepdims=0), 0.0), 0.0, loss)
    return loss, log_p


def cross_entropy_gradient(site: Site, *, compare: bool = False) -> ir.Value:
    """SoftmaxCrossEntropyLossGrad(dY, log p, label, weight): dX = (p - [class = label]) · w · dY / W.

    p: f32[N, C, d…], label: i[N, d…]; w is weight[label] or 1, and 0 where the label is ignored; W is Σ w for the
    reduction "mean", or 1 where that is 0, else 1, and dY has the label's shape for the reduction "none".

    [class = label] is scattered, or with *compare* a comparison of all classes.
    """
    dy, log_p, label, weight = site.input(0), site.input(1), site.input(2), site.optional(3)
    reduction = site.node.attributes.get_string("reduction", "mean")
    label, w = weights(site, label, weight)
    axis = [1]
    scale = dy
    if reduction == "mean":
        scale = site.Div(dy, _count(site, label, dy) if w is None else not_zero(site, site.ReduceSum(w, keepdims=0)))
    if w is not None:
        scale = site.Mul(w, scale)
    if w is not None or reduction == "none":
        scale = site.Unsqueeze(scale, axis)
    hits = site.Unsqueeze(label, axis)
    p = site.Exp(log_p)
    if compare:
        column = [-1, *[1] * (site.rank(log_p) - 2)]
        classes = site.Reshape(site.Range(0, site.Squeeze(site.Shape(log_p, start=1, end=2), [0]), 1), column)
        difference = site.Sub(p, site.CastLike(site.Equal(hits, classes), p))
    else:
        minus_one = site.Expand(-1.0, site.Shape(hits))
        difference = site.ScatterElements(p, hits, minus_one, axis=1, reduction="add")
    return site.Mul(difference, scale)


def _count(site: Site, label: ir.Value, like: ir.Value) -> ir.Value:
    return site.CastLike(site.Size(label), like)
