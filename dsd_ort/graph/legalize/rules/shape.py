"""Operators that move all entries, in terms of Reshape and Transpose."""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.rewrite.site import Site


def concat(site: Site) -> ir.Value | None:
    """Concat without what is of length 0, which leads ONNX Runtime's optimizer astray"""
    values = [site.input(i) for i in range(len(site.node.inputs))]
    axis = site.node.attributes["axis"].as_int()
    kept = [value for value in values if value.shape is None or value.shape[axis] != 0]
    if len(kept) in (0, len(values)):
        return None
    return site.Concat(*kept, axis=axis) if len(kept) > 1 else site.Identity(kept[0])


def _extent(site: Site, x: ir.Value, axis: int) -> ir.Value:
    return site.Shape(x, start=axis, end=axis + 1)


def depth_to_space(site: Site) -> ir.Value:
    """Reshape, Transpose, Reshape"""
    x, b = site.input(0), site.node.attributes["blocksize"].as_int()
    n, h, w = (_extent(site, x, axis) for axis in (0, 2, 3))
    depth = [-1]
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
