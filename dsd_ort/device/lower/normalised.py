"""Forms for the CPU of what is normalised along an axis that does not lie last in memory.

ONNX Runtime's Softmax and LogSoftmax exchange axes first, its batch norm of rows f32[N, C] goes through memory by
columns: both number by number.  As means, maxima and sums along the axis they are vector code.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dsd_ort.device.lower import formulas
from dsd_ort.device.lower.form import Choices
from dsd_ort.rewrite.shapes import dims_of
from dsd_ort.rewrite.site import Site


def softmax(site: Site, choices: Choices) -> ir.Value | None:
    """Softmax: Y = exp(X - max X) / Σ exp(X - max X)."""
    if not _has_other_axes_behind(site, site.input(0), choices):
        return None
    powers, axes = site.Exp(_below_its_maximum(site)), _axes(site)
    return site.Div(powers, site.ReduceSum(powers, axes))


def log_softmax(site: Site, choices: Choices) -> ir.Value | None:
    """LogSoftmax: Y = Z - log Σ exp Z with Z = X - max X."""
    if not _has_other_axes_behind(site, site.input(0), choices):
        return None
    below = _below_its_maximum(site)
    return site.Sub(below, site.Log(site.ReduceSum(site.Exp(below), _axes(site))))


def softmax_gradient(site: Site, choices: Choices) -> ir.Value | None:
    """SoftmaxGrad_13: its formula; along the last axis the kernel is as good."""
    return formulas.softmax(site) if _has_other_axes_behind(site, site.input(1), choices) else None


def _below_its_maximum(site: Site) -> ir.Value:
    x = site.input(0)
    return site.Sub(x, site.ReduceMax(x, _axes(site)))


def _axes(site: Site) -> list[int]:
    return [site.node.attributes.get_int("axis", -1)]


def _has_other_axes_behind(site: Site, x: ir.Value, choices: Choices) -> bool:
    dims, (axis,) = dims_of(x), _axes(site)
    return choices.reduces and dims is not None and x.dtype == ir.DataType.FLOAT and axis % len(dims) < len(dims) - 1


def batch_norm(site: Site, choices: Choices) -> Sequence[ir.Value] | None:
    """BatchNormInternal(X, γ, β, m, v) of X: f32[N, C]; outputs as :func:`~dsd_ort.device.portable.normalization`
    has them.
    """
    x, gamma, beta, *running = (site.input(i) for i in range(5))
    if not _has_rows(x, choices):
        return None
    attributes = site.node.attributes
    mean = site.ReduceMean(x, [0])
    centered = site.Sub(x, mean)
    variance = site.ReduceMean(site.Mul(centered, centered), [0], keepdims=0)
    inverse = site.Reciprocal(site.Sqrt(site.Add(variance, attributes.get_float("epsilon", 1e-5))))
    y = site.Add(site.Mul(centered, site.Mul(gamma, inverse)), beta)
    mean, kept = site.Reshape(mean, [-1]), attributes.get_float("momentum", 0.9)
    after = [
        site.Add(site.Mul(old, kept), site.Mul(new, 1 - kept))
        for old, new in zip(running, (mean, variance), strict=True)
    ]
    return y, *after, mean, inverse


def batch_norm_gradient(site: Site, choices: Choices) -> Sequence[ir.Value] | None:
    """BatchNormalizationGrad(dY, X, γ, μ, r) of X: f32[N, C], with Z = (X - μ)·r.

    dβ = Σ dY, dγ = Σ dY·Z and dX = γ·r·(dY - (dβ + Z·dγ)/N).
    """
    dy, x, gamma, mean, inverse = (site.input(i) for i in range(5))
    if not _has_rows(x, choices):
        return None
    normal = site.Mul(site.Sub(x, mean), inverse)
    dgamma, dbeta = site.ReduceMean(site.Mul(dy, normal), [0]), site.ReduceMean(dy, [0])
    inner = site.Sub(site.Sub(dy, dbeta), site.Mul(normal, dgamma))
    count = site.Cast(site.Shape(x, end=1), to=ir.DataType.FLOAT)
    sums = [site.Reshape(site.Mul(total, count), [-1]) for total in (dgamma, dbeta)]
    return site.Mul(inner, site.Mul(gamma, inverse)), *sums


def _has_rows(x: ir.Value, choices: Choices) -> bool:
    dims = dims_of(x)
    return choices.reduces and dims is not None and len(dims) == 2 and x.dtype == ir.DataType.FLOAT
