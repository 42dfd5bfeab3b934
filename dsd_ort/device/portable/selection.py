"""Gradients of operators that pick elements: what arrives at an element is added where it was picked from.

Of any of them, the positions picked are what the operator itself picks from the tensor 0, 1, 2, … of X's shape.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.site import Site

FLAT = [-1]


def max_pool(site: Site) -> ir.Value:
    """MaxPoolGrad(dY, indices): MaxPool's second output says where in the flattened X each maximum stood."""
    dy, indices = site.input(0), site.input(1)
    pool = indices.producer()
    assert pool is not None and pool.inputs[0] is not None  # the builder reads the indices of the pool itself
    return _scatter(site, dy, site.Shape(pool.inputs[0]), indices)


def gather(site: Site) -> ir.Value:
    """GatherGrad(shape of X, indices, dY): rows are added whole where the axis is the first, as an embedding's."""
    shape, indices, dy = (site.input(i) for i in range(3))
    axis = site.node.attributes.get_int("axis", 0)
    if axis != 0:
        return _add_at_positions(site, dy, shape, lambda at: site.Gather(at, indices, axis=axis))
    rows = site.Reshape(dy, site.Concat(site.Shape(site.Reshape(indices, FLAT)), FLAT, axis=0))
    table = site.Reshape(_zeros(site, shape), site.Concat(site.Slice(shape, [0], [1]), FLAT, axis=0))
    numbers = site.Expand(site.Reshape(indices, [-1, 1]), site.Shape(rows))
    return site.Reshape(site.ScatterElements(table, numbers, rows, axis=0, reduction="add"), shape)


def gather_by_product(site: Site) -> ir.Value:
    """GatherGrad of rows as a product, which adds in a fixed order: dX = Hᵀ·dY, H[n, row] = [indices[n] = row]."""
    shape, indices, dy = (site.input(i) for i in range(3))
    if site.node.attributes.get_int("axis", 0) != 0:
        return gather(site)
    off_on = site.constant(np.array([0, 1], np.float32))
    hits = site.OneHot(site.Reshape(indices, FLAT), site.Slice(shape, [0], [1]), off_on, axis=-1)
    rows = site.Reshape(dy, site.Concat(site.Shape(site.Reshape(indices, FLAT)), FLAT, axis=0))
    return site.Reshape(site.Gemm(hits, rows, transA=1), shape)


def gather_elements(site: Site) -> ir.Value:
    """GatherElementsGrad(dY, shape of X, indices): its inverse with a sum is ScatterElements."""
    dy, shape, indices = (site.input(i) for i in range(3))
    axis = site.node.attributes.get_int("axis", 0)
    return site.ScatterElements(_zeros(site, shape), indices, dy, axis=axis, reduction="add")


def gather_nd(site: Site) -> ir.Value:
    """GatherNDGrad(shape of X, indices, dY)."""
    shape, indices, dy = (site.input(i) for i in range(3))
    batch = site.node.attributes.get_int("batch_dims", 0)
    return _add_at_positions(site, dy, shape, lambda at: site.GatherND(at, indices, batch_dims=batch))


def slice_(site: Site) -> ir.Value:
    """SliceGrad(dY, shape of X, starts, ends, axes, steps): dY with zeros around it where all steps are 1."""
    dy, shape, starts, ends = (site.input(i) for i in range(4))
    axes, steps = site.optional(4), site.optional(5)
    known, stride = constant_value(starts), constant_value(steps)
    unit = steps is None or (stride is not None and bool((stride == 1).all()))
    if axes is None or not unit or known is None or bool((known < 0).any()):
        return _add_at_positions(site, dy, shape, lambda at: site.Slice(at, starts, ends, axes, steps))
    before = site.Cast(starts, to=ir.DataType.INT64)
    axes = site.Cast(axes, to=ir.DataType.INT64)
    lengths, kept = site.Gather(shape, axes), site.Gather(site.Shape(dy), axes)
    before = site.Min(before, lengths)
    after = site.Sub(site.Sub(lengths, kept), before)
    return site.Pad(dy, site.Concat(before, after, axis=0), 0.0, axes)


def _add_at_positions(site: Site, dy: ir.Value, shape: ir.Value, pick: Callable[[ir.Value], ir.Value]) -> ir.Value:
    count = site.ReduceProd(shape, keepdims=0)
    numbers = site.Range(site.constant(np.array(0)), count, site.constant(np.array(1)))
    return _scatter(site, dy, shape, pick(site.Reshape(numbers, shape)))


def _scatter(site: Site, dy: ir.Value, shape: ir.Value, positions: ir.Value) -> ir.Value:
    """Zeros of *shape*, and dY added at *positions* of it, flattened."""
    zeros = site.Reshape(_zeros(site, shape), FLAT)
    flat = site.Reshape(positions, FLAT), site.Reshape(dy, FLAT)
    return site.Reshape(site.ScatterElements(zeros, *flat, axis=0, reduction="add"), shape)


def _zeros(site: Site, shape: ir.Value) -> ir.Value:
    return site.ConstantOfShape(shape, value=ir.tensor(np.zeros(1, np.float32)))
