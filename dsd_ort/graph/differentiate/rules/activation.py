"""Activations Y = f(X), mostly by the operators that ONNX Runtime's training build has for their gradients."""

from __future__ import annotations

from dsd_ort.graph.differentiate.adjoint import Adjoint, Gradients


def relu(at: Adjoint) -> Gradients:
    """Y = max(X, 0): dX = dY where Y > 0, else 0."""
    return at.microsoft("ReluGrad", at.dy, at.y)


def leaky_relu(at: Adjoint) -> Gradients:
    """Y = X where X > 0, else α·X: dX = dY, or α·dY."""
    return at.microsoft("LeakyReluGrad", at.dy, at.y, **at.attributes())


def prelu(at: Adjoint) -> Gradients:
    """Y = X where X > 0, else S·X: with P = dY where X > 0, else 0, and N = dY - P, dX = P + S·N and dS = X·N."""
    x, slope = at.operands
    positive = at.microsoft("ReluGrad", at.dy, x)
    negative = at.Sub(at.dy, positive)
    return at.Add(positive, at.Mul(negative, slope)), at.summed(at.Mul(negative, x), slope)


def sigmoid(at: Adjoint) -> Gradients:
    """Y = 1/(1 + exp -X): dX = dY · Y·(1 - Y)."""
    return at.microsoft("SigmoidGrad", at.dy, at.y)


def tanh(at: Adjoint) -> Gradients:
    """Y = tanh X: dX = dY · (1 - Y²)."""
    return at.microsoft("TanhGrad", at.dy, at.y)


def gelu(at: Adjoint) -> Gradients:
    """Y = X·Φ(X): dX = dY · (Φ(X) + X·φ(X)), of the normal law."""
    return at.microsoft("GeluGrad", at.dy, at.x)


def quick_gelu(at: Adjoint) -> Gradients:
    """Y = X·s, s = sigmoid(αX): dX = dY · s·(1 + αX·(1 - s))."""
    return at.microsoft("QuickGeluGrad", at.dy, at.x, **at.attributes())


def fast_gelu(at: Adjoint) -> Gradients:
    """Y = Z·(1 + tanh u(Z))/2 with Z = X + B: dX = dY · ∂Y/∂Z, and dB is its sum."""
    return _of_biased(at, "FastGeluGrad")


def bias_gelu(at: Adjoint) -> Gradients:
    """Y = Z·Φ(Z) with Z = X + B: dX = dY · (Φ(Z) + Z·φ(Z)), and dB is its sum."""
    return _of_biased(at, "BiasGeluGrad_dX")


def _of_biased(at: Adjoint, operator: str) -> Gradients:
    bias = at.optional(1)
    if bias is None:
        return at.microsoft(operator, at.dy, at.x)
    dx = at.microsoft(operator, at.dy, at.x, bias)
    return dx, at.summed(dx, bias)


def softmax(at: Adjoint) -> Gradients:
    """Y = exp X / Σ exp X along an axis: dX = Y · (dY - Σ dY·Y)."""
    return at.microsoft("SoftmaxGrad_13", at.dy, at.y, axis=at.node.attributes.get_int("axis", -1))


def log_softmax(at: Adjoint) -> Gradients:
    """Y = X - log Σ exp X along an axis: dX = dY - exp Y · Σ dY."""
    return at.microsoft("LogSoftmaxGrad_13", at.dy, at.y, axis=at.node.attributes.get_int("axis", -1))
