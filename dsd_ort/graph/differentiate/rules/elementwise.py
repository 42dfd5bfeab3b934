"""Y = f(X, …) entry by entry: dX = dY · ∂f/∂X, summed over the axes along which X was broadcast.

At a kink the derivative is PyTorch's: 0 at 0 for Abs, 1 on the bounds of Clip; of equal operands of Max or Min each has
its share.
"""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import onnx_ir as ir

from dsd_ort.graph.differentiate.adjoint import Adjoint, Gradients
from dsd_ort.rewrite.nodes import constant_value


def identity(at: Adjoint) -> Gradients:
    """Y = X: dX = dY."""
    return at.dy


def cast(at: Adjoint) -> Gradients:
    """Y = X in another type: dX = dY in X's."""
    return at.dy if at.x.dtype in (None, at.y.dtype) else at.Cast(at.dy, to=at.x.dtype)


def negative(at: Adjoint) -> Gradients:
    """Y = -X: dX = -dY."""
    return at.Neg(at.dy)


def absolute(at: Adjoint) -> Gradients:
    """Y = |X|: dX = dY · sign X."""
    return at.Mul(at.dy, at.Sign(at.x))


def exponential(at: Adjoint) -> Gradients:
    """Y = exp X: dX = dY · Y."""
    return at.Mul(at.dy, at.y)


def logarithm(at: Adjoint) -> Gradients:
    """Y = log X: dX = dY / X."""
    return at.Div(at.dy, at.x)


def square_root(at: Adjoint) -> Gradients:
    """Y = √X: dX = ½·dY / Y."""
    return at.Div(at.Mul(at.dy, 0.5), at.y)


def reciprocal(at: Adjoint) -> Gradients:
    """Y = 1/X: dX = -dY · Y²."""
    return at.Neg(at.Mul(at.dy, at.Mul(at.y, at.y)))


def sine(at: Adjoint) -> Gradients:
    """Y = sin X: dX = dY · cos X."""
    return at.Mul(at.dy, at.Cos(at.x))


def cosine(at: Adjoint) -> Gradients:
    """Y = cos X: dX = -dY · sin X."""
    return at.Neg(at.Mul(at.dy, at.Sin(at.x)))


def error_function(at: Adjoint) -> Gradients:
    """Y = erf X: dX = dY · 2/√π · exp(-X²)."""
    return at.Mul(at.dy, at.Mul(at.Exp(at.Neg(at.Mul(at.x, at.x))), 2 / math.sqrt(math.pi)))


def add(at: Adjoint) -> Gradients:
    """Y = A + B + …: each has dY."""
    return [at.summed(at.dy, x) for x in at.operands]


def mean(at: Adjoint) -> Gradients:
    """Y = (A + B + …) / n: each has dY / n."""
    part = at.Div(at.dy, float(len(at.operands)))
    return [at.summed(part, x) for x in at.operands]


def subtract(at: Adjoint) -> Gradients:
    """Y = A - B: dA = dY and dB = -dY."""
    a, b = at.operands
    return at.summed(at.dy, a), at.Neg(at.summed(at.dy, b))


def multiply(at: Adjoint) -> Gradients:
    """Y = A·B: dA = dY·B and dB = dY·A."""
    a, b = at.operands
    return at.summed(at.Mul(at.dy, b), a), at.summed(at.Mul(at.dy, a), b)


def divide(at: Adjoint) -> Gradients:
    """Y = A/B: dA = dY/B and dB = -Y·dY/B."""
    a, b = at.operands
    quotient = at.Div(at.dy, b)
    return at.summed(quotient, a), at.Neg(at.summed(at.Mul(quotient, at.y), b))


def power(at: Adjoint) -> Gradients:
    """Y = Xᵖ: dX = dY · p·Xᵖ⁻¹ and dp = dY · Y·log X, where 0·∞ counts as 0: p = 0 in dX, X = 0 in dp."""
    x, p = at.operands
    slope = _slope_of_power(at, x, p)
    log = at.Log(at.Where(at.Equal(x, 0.0), 1.0, x))
    return at.summed(at.Mul(at.dy, slope), x), at.summed(at.Mul(at.dy, at.Mul(at.y, log)), p)


def _slope_of_power(at: Adjoint, x: ir.Value, p: ir.Value) -> ir.Value:
    exponent = constant_value(p)
    if exponent is None or not exponent.all():
        p = at.Cast(p, to=x.dtype) if p.dtype != x.dtype else p
        return at.Where(at.Equal(p, 0.0), 0.0, at.Mul(p, at.Pow(x, at.Sub(p, 1.0))))
    factor = exponent.astype((at.y.dtype or ir.DataType.FLOAT).numpy())
    return at.Mul(x if factor.ndim == 0 and factor == 2 else at.Pow(x, np.asarray(factor - 1)), factor)


def extreme(at: Adjoint) -> Gradients:
    """Y = max(A, B, …) or min: those that equal Y share dY, each gets dY / (how many)."""
    hits = [at.Equal(x, at.y) for x in at.operands]
    count = reduce(at.Add, [at.Cast(hit, to=at.y.dtype) for hit in hits])
    share = at.Div(at.dy, count)
    return [at.summed(at.Where(hit, share, 0.0), x) for hit, x in zip(hits, at.operands, strict=True)]


def clip(at: Adjoint) -> Gradients:
    """Y = min(max(X, low), high): dX = dY where Y = X, else 0."""
    return at.Where(at.Equal(at.x, at.y), at.dy, 0.0)


def where(at: Adjoint) -> Gradients:
    """Y = A where C, else B: dA = dY where C, else 0; dB = dY where not C, else 0."""
    condition, a, b = at.operands
    return None, at.summed(at.Where(condition, at.dy, 0.0), a), at.summed(at.Where(condition, 0.0, at.dy), b)
