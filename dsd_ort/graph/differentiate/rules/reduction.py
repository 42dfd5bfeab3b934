"""Y = f(X) over axes A: dY goes back to every entry that f read."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from dsd_ort.graph.differentiate.adjoint import Adjoint, Gradients, known, length
from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.shapes import dims_of


def total(at: Adjoint) -> Gradients:
    """Y = Σ X: dX = dY, everywhere."""
    return _spread(at, at.dy)


def mean(at: Adjoint) -> Gradients:
    """Y = Σ X / n: dX = dY/n, everywhere."""
    return _spread(at, _shared(at, _axes(at)))


def global_average(at: Adjoint) -> Gradients:
    """Y = Σ X / n over all axes but the first two, which stay: dX = dY/n, everywhere."""
    axes = list(range(2, at.rank(at.x)))
    return at.Expand(_shared(at, axes), _filled(at, axes))


def extreme(at: Adjoint) -> Gradients:
    """Y = max X or min X: the entries that equal Y share dY, each gets dY / (how many)."""
    hit = at.Equal(at.x, _kept(at, at.y))
    attributes = at.node.attributes.get_ints("axes", None)  # an input from opset 18 on, as of ReduceSum always
    axes = at.optional(1) if attributes is None else attributes
    count = at.ReduceSum(at.Cast(hit, to=at.y.dtype), axes, **at.attributes("axes"))
    return at.Where(hit, _kept(at, at.Div(at.dy, count)), 0.0)


def norm(at: Adjoint) -> Gradients:
    """Y = √Σ X²: dX = dY · X/Y, and 0 where Y is 0."""
    y = _kept(at, at.y)
    zero = at.Equal(y, 0.0)
    return at.Where(zero, 0.0, at.Div(at.Mul(_kept(at, at.dy), at.x), at.Where(zero, 1.0, y)))


def log_sum_exp(at: Adjoint) -> Gradients:
    """Y = log Σ exp X: dX = dY · exp(X - Y)."""
    return at.Mul(_kept(at, at.dy), at.Exp(at.Sub(at.x, _kept(at, at.y))))


def _axes(at: Adjoint) -> list[int] | None:
    """A, counted from the front; None where it is not known."""
    attribute = at.node.attributes.get_ints("axes", None)  # up to opset 17
    axes = constant_value(at.optional(1)) if attribute is None else np.asarray(attribute)
    if at.x.shape is None or (axes is None and at.optional(1) is not None):
        return None
    rank = at.rank(at.x)
    if axes is not None and axes.size:
        return sorted(int(axis) % rank for axis in axes)
    return [] if at.node.attributes.get_int("noop_with_empty_axes", 0) else list(range(rank))


def _kept(at: Adjoint, value: ir.Value) -> ir.Value:
    """*value*, of the shape of Y, as what broadcasts to X: each axis of A has the length 1; or it is one number."""
    axes, given = _axes(at), at.optional(1)
    number = given is None if axes is None else len(axes) == at.rank(at.x)
    if number or axes == [] or at.node.attributes.get_int("keepdims", 1) == 1:
        return value
    return at.Unsqueeze(value, given if axes is None else axes)


def _spread(at: Adjoint, d: ir.Value) -> ir.Value:
    """*d*, of the shape of Y, repeated along A."""
    axes = _axes(at)
    return d if axes == [] else at.Expand(_kept(at, d), _filled(at, axes))


def _filled(at: Adjoint, axes: list[int] | None) -> list[int] | ir.Value:
    """What an Expand fills A up to: the lengths of X there, and 1 elsewhere; or X's shape."""
    sizes = None if axes is None else [1 if axis not in axes else size for axis, size in enumerate(dims_of(at.x) or [])]
    lengths = known(sizes)
    return at.Shape(at.x) if lengths is None else lengths


def _shared(at: Adjoint, axes: list[int] | None) -> ir.Value:
    """The part of dY that each of the entries along A has."""
    lengths = None if axes is None else known([length(at.x, axis) for axis in axes])
    if lengths is not None:
        return at.Div(at.dy, float(math.prod(lengths)))
    return at.Div(at.dy, at.Cast(at.Div(at.Size(at.x), at.Size(at.y)), to=at.y.dtype))
