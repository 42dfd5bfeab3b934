"""Losses that are operators."""

from __future__ import annotations

from dsd_ort.graph.differentiate.adjoint import Adjoint, Gradients


def softmax_cross_entropy(at: Adjoint) -> Gradients:
    """Y = -Σ w·log p[label] / Σ w with p = softmax X: dX = (p - [class = label]) · w · dY / Σ w."""
    labels = at.node.inputs[1:]
    return at.microsoft("SoftmaxCrossEntropyLossGrad", at.dy, at.output(1), *labels, **at.attributes())
