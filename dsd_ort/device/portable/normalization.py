"""Normalization in training, and its gradients."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dsd_ort.rewrite.site import Site


def batch_norm(site: Site) -> Sequence[ir.Value | None]:
    """BatchNormInternal(X, γ, β, m, v): batch norm by the batch's own mean μ and (biased) variance σ², per channel.

    Y = γ·(X - μ)/√(σ² + ε) + β; the new running m and v are momentum·m + (1 - momentum)·μ and likewise of σ²; then μ
    and 1/√(σ² + ε), for the gradient.  X: f32[N, C, …].
    """
    x, gamma, beta, running_mean, running_variance = (site.input(i) for i in range(5))
    epsilon = site.node.attributes.get_float("epsilon", 1e-5)
    momentum = site.node.attributes.get_float("momentum", 0.9)
    others = _others(site, x)
    mean = site.ReduceMean(x, others)
    centered = site.Sub(x, mean)
    variance = site.ReduceMean(site.Mul(centered, centered), others, keepdims=0)
    mean = site.Reshape(mean, [-1])
    inverse = site.Reciprocal(site.Sqrt(site.Add(variance, epsilon)))
    y = site.BatchNormalization(x, gamma, beta, mean, variance, epsilon=epsilon)

    def after(running: ir.Value, now: ir.Value) -> ir.Value:
        return site.Add(site.Mul(running, momentum), site.Mul(now, 1 - momentum))

    return y, after(running_mean, mean), after(running_variance, variance), mean, inverse


def batch_norm_gradient(site: Site) -> Sequence[ir.Value | None]:
    """BatchNormalizationGrad(dY, X, γ, μ, r) with r = 1/√(σ² + ε) and x̂ = (X - μ)·r.

    dβ = Σ dY, dγ = Σ dY·x̂ and dX = γ·r·(dY - (dβ + x̂·dγ)/n), sums and n per channel.
    """
    dy, x, gamma, mean, inverse = (site.input(i) for i in range(5))
    others = _others(site, x)
    column = [-1, *[1] * (site.rank(x) - 2)]
    centered = site.Sub(x, site.Reshape(mean, column))
    dbeta = site.ReduceSum(dy, others, keepdims=0)
    dgamma = site.Mul(site.ReduceSum(site.Mul(dy, centered), others, keepdims=0), inverse)
    count = site.CastLike(site.Div(site.Size(x), site.Shape(x, start=1, end=2)), dy)
    slope = site.Reshape(site.Mul(site.Div(dgamma, count), inverse), column)
    offset = site.Reshape(site.Div(dbeta, count), column)
    inner = site.Sub(dy, site.Add(site.Mul(centered, slope), offset))
    return site.Mul(inner, site.Reshape(site.Mul(gamma, inverse), column)), dgamma, dbeta


def layer_norm_gradient(site: Site) -> Sequence[ir.Value | None]:
    """LayerNormalizationGrad(dY, X, γ, μ, r) with x̂ = (X - μ)·r and g = γ·dY.

    dX = r·(g - mean g - x̂·mean(g·x̂)) over the normalized axes; dγ = Σ dY·x̂ and dβ = Σ dY over the others.
    """
    dy, x, gamma, mean, inverse = (site.input(i) for i in range(5))
    rank = site.rank(x)
    first = site.node.attributes.get_int("axis", -1) % rank
    inner, outer = list(range(first, rank)), list(range(first))
    normal = site.Mul(site.Sub(x, mean), inverse)
    g = site.Mul(dy, gamma)
    along = site.Mul(normal, site.ReduceMean(site.Mul(g, normal), inner))
    dx = site.Mul(site.Sub(site.Sub(g, site.ReduceMean(g, inner)), along), inverse)
    if not outer:
        return dx, site.Mul(dy, normal), site.Identity(dy)
    return dx, site.ReduceSum(site.Mul(dy, normal), outer, keepdims=0), site.ReduceSum(dy, outer, keepdims=0)


def _others(site: Site, x: ir.Value) -> list[int]:
    """All axes but the channels'."""
    return [0, *range(2, site.rank(x))]
