"""Losses inside a model: -Σ w[t]·logp[t] over the examples, summed, averaged by their weights, or kept apart."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dsd_ort.rewrite.site import Site


def negative_log_likelihood(site: Site) -> ir.Value:
    """``-w[t]·x[t]`` by GatherElements, reduced"""
    return _likelihood(site, site.input(0))


def softmax_cross_entropy(site: Site) -> Sequence[ir.Value] | None:
    """``-w[t]·logp[t]`` by LogSoftmax and GatherElements, reduced, where w is trained or logp read too"""
    further = [*site.node.inputs[2:], *site.node.outputs[1:]]
    return by_log_softmax(site) if any(map(site.path.carries, further)) else None


def by_log_softmax(site: Site) -> Sequence[ir.Value]:
    """``-w[t]·logp[t]`` by LogSoftmax and GatherElements, reduced"""
    log_probability = site.LogSoftmax(site.input(0), axis=1)
    return _likelihood(site, log_probability), log_probability


def _likelihood(site: Site, log_probability: ir.Value) -> ir.Value:
    """Of logp [N, C, …] and targets [N, …]; those that are ``ignore_index`` weigh nothing."""
    weights = site.optional(2)
    ignored = site.node.attributes.get("ignore_index")
    reduction = site.node.attributes.get_string("reduction", "mean")
    target = site.Cast(site.input(1), to=ir.DataType.INT64)
    kept = None
    if ignored is not None:
        kept = site.Not(site.Equal(target, ignored.as_int()))
        target = site.Where(kept, target, 0)
    picked = site.Squeeze(site.GatherElements(log_probability, site.Unsqueeze(target, [1]), axis=1), [1])
    loss = site.Neg(picked)
    weight = None if weights is None else site.Gather(weights, target)
    if weight is not None:
        loss = site.Mul(loss, weight)
    if kept is not None:
        loss = site.Where(kept, loss, 0.0)  # not loss · 0, which is NaN where the probability is 0
        weight = site.Cast(kept, to=ir.DataType.FLOAT) if weight is None else site.Where(kept, weight, 0.0)
    if reduction == "none":
        return loss
    if reduction == "mean" and weight is None:
        return site.ReduceMean(loss, keepdims=0)
    total = site.ReduceSum(loss, keepdims=0)
    return total if weight is None or reduction == "sum" else site.Div(total, site.ReduceSum(weight, keepdims=0))
