"""Operators that move entries."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dsd_ort.graph.legalize.rules.indexing import length_along, padded_axes, positions
from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.site import Site


def transpose(site: Site) -> ir.Value | None:
    """Transpose with its permutation written out"""
    if "perm" in site.node.attributes:
        return None
    x = site.input(0)
    rank = site.rank(x)
    return site.Transpose(x, perm=list(reversed(range(rank)))) if rank else site.Identity(x)


def split(site: Site) -> Sequence[ir.Value] | None:
    """One Slice an output, as the gradient of Split needs one of every output"""
    outputs = site.node.outputs
    if all(site.path.carries(v) for v in outputs):
        return None
    x = site.input(0)
    axis = site.node.attributes.get_int("axis", 0)
    return [site.Slice(x, begin, end, [axis]) for begin, end in _parts(site, x, axis, len(outputs))]


def _parts(site: Site, x: ir.Value, axis: int, count: int) -> list[tuple[Any, Any]]:
    """Begin and end of each part, [1]."""
    sizes = site.optional(1)
    known = constant_value(sizes)
    if known is not None:
        return [([begin], [end]) for begin, end in itertools.pairwise(np.cumsum([0, *known.tolist()]).tolist())]
    if sizes is not None:
        ends = site.CumSum(sizes, 0)
        begins = site.Sub(ends, sizes)
        return [(site.Slice(begins, [i], [i + 1]), site.Slice(ends, [i], [i + 1])) for i in range(count)]
    length = site.shape(x)[axis]
    if isinstance(length, int):  # Slice clamps: all are of the length of the first, but for the last.
        chunk = -(-length // count)
        return [([i * chunk], [(i + 1) * chunk]) for i in range(count)]
    size = site.Div(site.Add(length_along(site, x, axis), [count - 1]), [count])
    return [(site.Mul(size, [i]), site.Mul(size, [i + 1])) for i in range(count)]


def slice_(site: Site) -> ir.Value | None:
    """One Gather an axis, where a step is negative or known at run time only"""
    if site.optional(4) is None:
        return None
    steps = constant_value(site.optional(4))
    if steps is not None and min(steps.tolist(), default=1) > 0:
        return None
    x = site.input(0)
    parts = [site.Cast(site.input(i), to=ir.DataType.INT64) for i in (1, 2, 4)]
    for i, axis in enumerate(_axes(site)):
        start, end, step = (site.Slice(part, [i], [i + 1]) for part in parts)
        x = site.Gather(x, site.Slice(positions(site, x, axis), start, end, [0], step), axis=axis)
    return x


def _axes(site: Site) -> list[int]:
    if site.optional(3) is not None:
        axes: list[int] = site.known(site.optional(3), "axes").tolist()
        return axes
    return list(range(site.size(site.input(1), 0)))


def pad(site: Site) -> ir.Value | None:
    """Pad with all axes named"""
    if site.optional(3) is None:
        return None
    x, value = site.input(0), site.optional(2)
    return site.Pad(x, _all_widths(site, padded_axes(site), site.rank(x)), *([value] if value else []))


def _all_widths(site: Site, axes: Sequence[int], rank: int) -> Any:
    """Those in front of all axes, then those behind, [2·rank]."""
    pads = constant_value(site.input(1))
    places = np.asarray([*axes, *(rank + axis for axis in axes)], np.int64)
    widths = np.zeros(2 * rank, np.int64)
    if pads is None:
        return site.ScatterElements(widths, places, site.input(1))
    widths[places] = pads
    return widths


def scatter(site: Site) -> ir.Value | None:
    """What is added, on zeros, and added"""
    if site.node.attributes.get_string("reduction", "none") != "add":
        return None
    x, indices, updates = (site.input(i) for i in range(3))
    zeros = site.ConstantOfShape(site.Shape(x))
    return site.Add(x, site.op(site.node.op_type, zeros, indices, updates, **site.attributes()))
