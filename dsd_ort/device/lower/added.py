"""Additions at places that an index names, one behind the other.

Two kernels of ONNX Runtime's CPU add by all threads at once.  The training build's GatherGrad locks each number, so
that what is added to one place comes in another order in each run, and the sums differ in their last bits; it takes
five times as long, too.  ScatterND with a reduction locks nothing: of what two threads add to one place, one part may
be lost (1.19 to 1.32).  ScatterElements and GatherElementsGrad go through their index in its order.
"""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.device.lower.form import Choices
from dsd_ort.rewrite.nodes import Operand, constant_value
from dsd_ort.rewrite.shapes import dims_of, sizes_of
from dsd_ort.rewrite.site import Site


def gather_gradient(site: Site, choices: Choices) -> ir.Value | None:
    """GatherGrad(shape of X, indices, dY) along an axis of X: GatherElementsGrad, with the indices in a row there.

    dY: f32[before…, *shape of indices, behind…].
    """
    shape, indices, dy = (site.input(i) for i in range(3))
    rank = _rank(shape, indices, dy)
    if rank is None or not choices.recent:
        return None
    axis = site.node.attributes.get_int("axis", 0) % rank
    before, behind = _part(site, shape, 0, axis), _part(site, shape, axis + 1, rank)
    rows = site.Reshape(dy, site.Concat(*before, [-1], *behind, axis=0))
    row = site.Reshape(indices, [1] * axis + [-1] + [1] * (rank - 1 - axis))
    everywhere = site.Expand(row, site.Shape(rows))
    return site.op("com.microsoft.GatherElementsGrad", rows, shape, everywhere, axis=axis)


def scatter_nd(site: Site, choices: Choices) -> ir.Value | None:
    """ScatterND(X, indices, U) with a reduction: X with the axes that are indexed in one, ScatterElements along it.

    indices: i64[…, k], of X's first k axes; U: f32[…, *X's other axes].
    """
    reduction = site.node.attributes.get_string("reduction", "none")
    x, indices, updates = (site.input(i) for i in range(3))
    sizes, dims = dims_of(indices), dims_of(x)
    if reduction == "none" or not sizes or not isinstance(depth := sizes[-1], int) or dims is None:
        return None
    shape, rank = site.Shape(x), len(dims)
    place: ir.Value | int = 0
    for axis in range(depth):  # i₀, i₀·n₁ + i₁, …
        count = site.Gather(shape, axis)
        along = site.Reshape(site.Gather(indices, axis, axis=-1), [-1])
        along = site.Gather(site.Range(0, count, 1), along)  # from behind where it is negative; too large is an error
        place = site.Add(site.Mul(place, count), along) if axis else along
    behind: list[Operand] = [*_part(site, shape, depth, rank)] or [[1]]
    table, rows = (site.Reshape(value, site.Concat([-1], *behind, axis=0)) for value in (x, updates))
    everywhere = site.Expand(site.Reshape(place, [-1] + [1] * max(1, rank - depth)), site.Shape(rows))
    return site.Reshape(site.ScatterElements(table, everywhere, rows, axis=0, reduction=reduction), shape)


def _rank(shape: ir.Value, indices: ir.Value, dy: ir.Value) -> int | None:
    """Of X: the length of its shape."""
    if (known := constant_value(shape)) is not None:
        return known.size
    if length := sizes_of(shape):
        return length[0]
    places, rows = dims_of(indices), dims_of(dy)
    return None if places is None or rows is None else len(rows) - len(places) + 1


def _part(site: Site, shape: ir.Value, begin: int, end: int) -> list[ir.Value]:
    """The sizes of some axes, or nothing of none."""
    return [site.Slice(shape, [begin], [end])] if begin < end else []
