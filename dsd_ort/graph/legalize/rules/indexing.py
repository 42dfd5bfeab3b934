"""Operators that pick entries, in terms of Slice and Gather; lengths, positions and widths may come at run time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.site import Site

_END = 2**62
"""Behind the last entry, as Slice has it."""


def length_along(site: Site, x: ir.Value, axis: int) -> ir.Value:
    """The length of *x* along *axis*, [1]."""
    return site.Slice(site.Shape(x), [axis], [axis + 1 or _END], [0])


def positions(site: Site, x: ir.Value, axis: int) -> ir.Value:
    """0, 1, … length - 1."""
    return site.Range(0, site.Squeeze(length_along(site, x, axis), [0]), 1)


def pad(site: Site) -> ir.Value | None:
    """constant: the value, where it is trained, by Where; reflect, edge, wrap: a Gather of what is put on"""
    mode = site.node.attributes.get_string("mode", "constant")
    if mode != "constant":
        return _padded_by_index(site, mode)
    x, value = site.input(0), site.optional(2)
    if value is None or not site.path.carries(value):
        return None
    inside = site.ConstantOfShape(site.Shape(x), value=ir.tensor(np.ones(1, bool)))
    padded, inside = (site.Pad(v, site.input(1), None, site.optional(3)) for v in (x, inside))
    return site.Where(inside, padded, value)


def padded_axes(site: Site) -> list[int]:
    """Those that a Pad has widths of, counted from the front."""
    rank = site.rank(site.input(0))
    axes = range(rank) if site.optional(3) is None else site.known(site.optional(3), "axes").tolist()
    return [axis % rank for axis in axes]


def _padded_by_index(site: Site, mode: str) -> ir.Value:
    x = y = site.input(0)
    pads, axes = constant_value(site.input(1)), padded_axes(site)
    for i, axis in enumerate(axes):
        if pads is None:
            width = site.Gather(site.input(1), [i, len(axes) + i])
            y = site.Gather(y, _widened(site, positions(site, x, axis), mode, width), axis=axis)
        elif pads[i] or pads[len(axes) + i]:
            y = _extended(site, y, axis, mode, (int(pads[i]), int(pads[len(axes) + i])))
    return site.Identity(y) if y is x else y


def _extended(site: Site, y: ir.Value, axis: int, mode: str, widths: tuple[int, int]) -> ir.Value:
    """*y* padded along *axis*: only what is put in front and behind is looked up, if nothing is cut off."""
    index, (before, after) = _index(site, axis, mode, widths), widths
    if min(widths) < 0:
        return site.Gather(y, index, axis=axis)
    front, back = (_part(site, index, *ends) for ends in ((0, before), (-after, _END)))
    parts = [site.Gather(y, front, axis=axis)] if before else []
    parts += [y, site.Gather(y, back, axis=axis)] if after else [y]
    return site.Concat(*parts, axis=axis)


def _part(site: Site, index: list[int] | ir.Value, begin: int, end: int) -> list[int] | ir.Value:
    return index[begin:end] if isinstance(index, list) else site.Slice(index, [begin], [end], [0])


def _index(site: Site, axis: int, mode: str, widths: tuple[int, int]) -> Any:
    """The positions along *axis* that a padding of those widths reads; negative widths cut off, first of all."""
    length = site.shape(site.input(0))[axis]
    begin, cut = (max(-width, 0) for width in widths)
    wider = [max(width, 0) for width in widths]
    if isinstance(length, int):
        widen: Any = (wider,), mode
        return np.pad(np.arange(length)[begin : length - cut], *widen).tolist()
    rows = positions(site, site.input(0), axis)
    if begin or cut:
        rows = site.Slice(rows, [begin], [-cut if cut else _END])
    return _widened(site, rows, mode, wider)


def _widened(site: Site, rows: ir.Value, mode: str, width: Any) -> ir.Value:
    """*rows*, padded by *width*, [2]."""
    if mode != "wrap":
        return site.Pad(rows, width, mode=mode)
    count = site.Size(rows)
    before, after = (site.Squeeze(site.Slice(width, [i], [i + 1]), [0]) for i in range(2))
    around = site.Range(site.Neg(before), site.Add(count, after), 1)
    return site.Gather(rows, site.Mod(around, count))


def compress(site: Site) -> ir.Value:
    """Gather of the entries whose condition holds"""
    x, axis = site.input(0), site.node.attributes.get("axis")
    chosen = site.Squeeze(site.NonZero(site.input(1)), [0])
    if axis is None:
        return site.Gather(site.Reshape(x, [-1]), chosen)
    return site.Gather(x, chosen, axis=axis.as_int())


def reverse_sequence(site: Site) -> ir.Value:
    """GatherElements of the entries in reverse, up to each sequence's length"""
    x, lengths = site.input(0), site.input(1)
    time = site.node.attributes.get_int("time_axis", 0)
    batch = site.node.attributes.get_int("batch_axis", 1)
    rank = site.rank(x)
    t = site.Unsqueeze(positions(site, x, time), [axis for axis in range(rank) if axis != time])
    length = site.Unsqueeze(lengths, [axis for axis in range(rank) if axis != batch])
    index = site.Where(site.Less(t, length), site.Sub(site.Sub(length, 1), t), t)
    return site.GatherElements(x, site.Expand(index, site.Shape(x)), axis=time)


def one_hot(site: Site) -> ir.Value:
    """Gather from the two values"""
    hot = site.OneHot(site.input(0), site.input(1), [0, 1], **site.attributes())
    return site.Gather(site.input(2), hot)


def unique(site: Site) -> Sequence[ir.Value]:
    """Gather of the entries that it finds first"""
    x, axis = site.input(0), site.node.attributes.get("axis")
    _, first, inverse, counts = site.several("Unique", 4, x, **site.attributes())
    source = x if axis is not None else site.Reshape(x, [-1])
    return site.Gather(source, first, axis=0 if axis is None else axis.as_int()), first, inverse, counts


def arithmetic_progression(site: Site) -> ir.Value:
    """``start + i·step``"""
    start, limit, step = (site.input(i) for i in range(3))
    count = site.Size(site.Range(start, limit, step))
    numbers = site.Cast(site.Range(0, count, 1), to=ir.DataType.FLOAT)
    return site.Add(start, site.Mul(numbers, step))


def cast_like(site: Site) -> ir.Value:
    """Cast to the other input's type"""
    like = site.input(1)
    if like.dtype is None:
        raise site.refusal("casts to a type that is unknown", "export the model with types")
    return site.Cast(site.input(0), to=like.dtype)
