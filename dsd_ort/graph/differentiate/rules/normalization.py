"""Normalisation Y = γ·(X - μ)·r + β with r = 1/√(σ² + ε), by the operators of ONNX Runtime's training build.

With x̂ = (X - μ)·r and g = γ·dY: dX = r·(g - mean g - x̂·mean(g·x̂)), dγ = Σ dY·x̂ and dβ = Σ dY.
"""

from __future__ import annotations

from dsd_ort.graph.differentiate.adjoint import MICROSOFT, Adjoint, Gradients


def batch_norm(at: Adjoint) -> Gradients:
    """By the batch's statistics, a channel: means over all but the channels."""
    mean, inverse = at.output(3), at.output(4)
    inputs = at.dy, at.x, at.input(1), mean, inverse
    epsilon = at.node.attributes.get_float("epsilon", 1e-5)
    return at.several(f"{MICROSOFT}.BatchNormalizationGrad", 3, *inputs, epsilon=epsilon)


def layer_norm(at: Adjoint) -> Gradients:
    """By an example's own statistics: means over the axes from ``axis`` on."""
    mean, inverse = at.output(1), at.output(2)
    inputs = at.dy, at.x, at.input(1), mean, inverse
    return at.several(f"{MICROSOFT}.LayerNormalizationGrad", 3, *inputs, axis=at.node.attributes.get_int("axis", -1))
