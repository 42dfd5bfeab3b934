"""Gradients of losses."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsd_ort.rewrite.site import Site


def cross_entropy(site: Site, *, compare: bool = False) -> ir.Value:
    """SoftmaxCrossEntropyLossGrad(dY, log p, label, weight): dX = (p - [class = label]) · w · dY / W.

    p: f32[N, C, d…], label: i[N, d…]; w is weight[label] or 1, and 0 where the label is ignored; W is Σ w for the
    reduction "mean", else 1, and dY has the label's shape for the reduction "none".

    [class = label] is scattered, or with *compare* a comparison of all classes.
    """
    dy, log_p, label, weight = site.input(0), site.input(1), site.input(2), site.optional(3)
    attributes = site.node.attributes
    reduction = attributes.get_string("reduction", "mean")
    label, w = site.Cast(label, to=ir.DataType.INT64), None
    if "ignore_index" in attributes:
        ignored = site.Equal(label, site.constant(np.array(attributes.get_int("ignore_index"))))
        label = site.Where(ignored, site.constant(np.array(0)), label)
        w = site.Where(ignored, 0.0, 1.0 if weight is None else site.Gather(weight, label))
    elif weight is not None:
        w = site.Gather(weight, label)
    axis = [1]
    scale = dy
    if reduction == "mean":
        scale = site.Div(dy, _count(site, label, dy) if w is None else site.ReduceSum(w, keepdims=0))
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
