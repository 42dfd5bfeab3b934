"""Dropout."""

from __future__ import annotations

from dsd_ort.graph.differentiate.adjoint import Adjoint, Gradients


def dropout(at: Adjoint) -> Gradients:
    """Y = X · mask / (1 - ratio): dX = dY · mask / (1 - ratio); out of training both are identities."""
    return at.microsoft("DropoutGrad", at.dy, at.output(1), at.optional(1), at.optional(2))
