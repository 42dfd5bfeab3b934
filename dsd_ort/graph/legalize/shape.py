"""Operators that move entries, in terms of those that move them with a gradient: Slice, Gather, Transpose, Pad."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dsd_ort.graph.legalize.site import Site


def transpose(site: Site) -> ir.Value | None:
    """Transpose with its permutation written out"""
    if "perm" in site.node.attributes:
        return None
    x = site.input(0)
    return site.Transpose(x, perm=list(reversed(range(site.rank(x)))))


def split(site: Site) -> Sequence[ir.Value] | None:
    """One Slice an output, as the gradient of Split needs one of every output"""
    outputs = site.node.outputs
    if all(site.path.carries(v) for v in outputs):
        return None
    x = site.input(0)
    axis = site.node.attributes.get_int("axis", 0)
    if site.optional(1) is not None:
        sizes = site.known(site.optional(1), "sizes").tolist()
    else:
        length = site.size(x, axis)
        chunk = -(-length // len(outputs))
        sizes = [min(chunk, length - i * chunk) for i in range(len(outputs))]
    ends = np.cumsum([0, *sizes]).tolist()
    return [site.Slice(x, [begin], [end], [axis]) for begin, end in itertools.pairwise(ends)]


def slice_(site: Site) -> ir.Value | None:
    """One Gather an axis, where a step is negative"""
    if site.optional(4) is None:
        return None
    steps = site.known(site.optional(4), "steps").tolist()
    if min(steps) > 0:
        return None
    x = site.input(0)
    starts, ends = (site.known(site.optional(i), what).tolist() for i, what in ((1, "starts"), (2, "ends")))
    axes = range(len(starts)) if site.optional(3) is None else site.known(site.optional(3), "axes").tolist()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        length = site.size(site.input(0), axis)
        # Python reads an end of -1 - length or less as 0, where ONNX means "to the first entry, inclusive".
        stop = None if step < 0 and end < -length else end
        x = site.Gather(x, np.arange(length)[start:stop:step].tolist(), axis=axis)
    return x


def pad(site: Site) -> ir.Value | None:
    """constant: Pad with all axes named; reflect, edge, wrap: one Gather an axis"""
    x = site.input(0)
    mode = site.node.attributes.get_string("mode", "constant")
    if mode == "constant" and site.optional(3) is None:
        return None
    pads = site.known(site.input(1), "pads").tolist()
    rank = site.rank(x)
    axes = range(rank) if site.optional(3) is None else site.known(site.optional(3), "axes").tolist()
    widths = np.zeros((2, rank), np.int64)
    widths[:, [a % rank for a in axes]] = np.reshape(pads, (2, -1))
    if mode == "constant":
        return site.Pad(x, widths.ravel(), *([site.optional(2)] if site.optional(2) else []))
    y = x
    for axis in np.flatnonzero(widths.any(axis=0)).tolist():
        before, after = widths[:, axis].tolist()
        rows = np.arange(site.size(x, axis))[max(-before, 0) : site.size(x, axis) - max(-after, 0)]
        widen: Any = (max(before, 0), max(after, 0)), mode
        index = np.pad(rows, *widen)
        y = site.Gather(y, index.tolist(), axis=axis)
    return site.Identity(y) if y is x else y


def scatter(site: Site) -> ir.Value | None:
    """``x + Scatter(zeros, updates)``, where the updates are added"""
    reduction = site.node.attributes.get_string("reduction", "none")
    if reduction == "none":
        return None
    if reduction != "add":
        raise site.refusal(f"with reduction = {reduction!r} has no gradient here", "use reduction 'none' or 'add'")
    x = site.input(0)
    zeros = site.ConstantOfShape(site.Shape(x))
    inputs = zeros, site.input(1), site.input(2)
    return site.Add(x, site.op(site.node.op_type, *inputs, **site.attributes()))


def _extent(site: Site, x: ir.Value, axis: int) -> ir.Value:
    return site.Shape(x, start=axis, end=axis + 1)


def depth_to_space(site: Site) -> ir.Value:
    """Reshape, Transpose, Reshape"""
    x, b = site.input(0), site.node.attributes["blocksize"].as_int()
    n, h, w = (_extent(site, x, axis) for axis in (0, 2, 3))
    depth = [site.size(x, 1) // (b * b)]
    if site.node.attributes.get_string("mode", "DCR") == "DCR":
        blocks, perm = site.Concat(n, [b, b], depth, h, w, axis=0), [0, 3, 4, 1, 5, 2]
    else:
        blocks, perm = site.Concat(n, depth, [b, b], h, w, axis=0), [0, 1, 4, 2, 5, 3]
    moved = site.Transpose(site.Reshape(x, blocks), perm=perm)
    return site.Reshape(moved, site.Concat(n, depth, site.Mul(h, [b]), site.Mul(w, [b]), axis=0))


def space_to_depth(site: Site) -> ir.Value:
    """Reshape, Transpose, Reshape"""
    x, b = site.input(0), site.node.attributes["blocksize"].as_int()
    n, c, h, w = (_extent(site, x, axis) for axis in range(4))
    rows, columns = site.Div(h, [b]), site.Div(w, [b])
    blocks = site.Concat(n, c, rows, [b], columns, [b], axis=0)
    moved = site.Transpose(site.Reshape(x, blocks), perm=[0, 3, 5, 1, 2, 4])
    return site.Reshape(moved, site.Concat(n, [-1], rows, columns, axis=0))


def cast_like(site: Site) -> ir.Value:
    """Cast to the other input's type"""
    like = site.input(1)
    if like.dtype is None:
        raise site.refusal("casts to a type that is unknown", "export the model with types")
    return site.Cast(site.input(0), to=like.dtype)
