"""Operators that pick entries or put them somewhere: what arrives at an entry is added where it came from."""

from __future__ import annotations

from dsd_ort.graph.differentiate.adjoint import Adjoint, Gradients


def gather(at: Adjoint) -> Gradients:
    """Y = X[…, index, …] along an axis: dX is dY added up there."""
    axis = at.node.attributes.get_int("axis", 0)
    return at.microsoft("GatherGrad", at.shape_of(at.x), at.input(1), at.dy, axis=axis)


def gather_elements(at: Adjoint) -> Gradients:
    """Y[…, i, …] = X[…, index[…, i, …], …]: dX is dY added up there."""
    axis = at.node.attributes.get_int("axis", 0)
    return at.microsoft("GatherElementsGrad", at.dy, at.shape_of(at.x), at.input(1), axis=axis)


def gather_nd(at: Adjoint) -> Gradients:
    """Y[i] = X[index[i]], an index of several axes: dX is dY added up there."""
    batch = at.node.attributes.get_int("batch_dims", 0)
    return at.microsoft("GatherNDGrad", at.shape_of(at.x), at.input(1), at.dy, batch_dims=batch)


def scatter_elements(at: Adjoint) -> Gradients:
    """Y = X, but U at the index: dX = dY, but 0 there, and dU is dY from there; of X + U there, dX = dY."""
    _, index, updates = at.operands
    axis = at.node.attributes.get_int("axis", 0)
    dx = at.dy if _adds(at) else at.ScatterElements(at.dy, index, at.zeros(updates), axis=axis)
    return dx, None, at.GatherElements(at.dy, index, axis=axis)


def scatter_nd(at: Adjoint) -> Gradients:
    """The same with an index of several axes."""
    _, index, updates = at.operands
    dx = at.dy if _adds(at) else at.ScatterND(at.dy, index, at.zeros(updates))
    return dx, None, at.GatherND(at.dy, index)


def _adds(at: Adjoint) -> bool:
    """Is U added to X, or does it replace it?"""
    reduction = at.node.attributes.get_string("reduction", "none")
    if reduction not in ("none", "add"):
        raise at.refusal(f"has no gradient with the reduction {reduction!r}", "legalize the graph first")
    return reduction == "add"


def top_k(at: Adjoint) -> Gradients:
    """Y = the greatest of X along an axis, from different places: dX is dY there, else 0."""
    axis = at.node.attributes.get_int("axis", -1)
    return at.ScatterElements(at.zeros(at.x), at.output(1), at.dy, axis=axis)
