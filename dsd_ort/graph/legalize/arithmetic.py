"""Arithmetic whose gradient ONNX Runtime lacks, or does not sum over the axes that were broadcast."""

from __future__ import annotations

from functools import reduce

import onnx_ir as ir

from dsd_ort.graph.legalize.site import Site


def _covers(site: Site, value: ir.Value, other: ir.Value) -> bool:
    """Whether broadcasting against *other* surely leaves the shape of *value* as it is."""
    if other.shape is not None and other.shape.rank() == 0:
        return True
    if value.shape is None or other.shape is None:
        return False
    mine, theirs = site.shape(value), site.shape(other)
    pairs = zip(reversed(mine), reversed(theirs), strict=False)
    return len(mine) >= len(theirs) and all(b == 1 or (a == b and a is not None) for a, b in pairs)


def _expanded(site: Site, value: ir.Value, *others: ir.Value) -> ir.Value:
    """*value* with the shape that broadcasting against *others* gives it; the gradient of Expand sums rightly."""
    alike = value  # Some value of the same shape, as far as shapes are known.
    for other in others:
        if not _covers(site, alike, other):
            value = site.Expand(value, site.Shape(other))
            alike = other if _covers(site, other, alike) else value
    return value


def where(site: Site) -> ir.Value | None:
    """Where of inputs that are expanded to its output's shape first"""
    condition, x, y = (site.input(i) for i in range(3))
    new_x = _expanded(site, x, y, condition) if site.path.carries(x) else x
    new_y = _expanded(site, y, x, condition) if site.path.carries(y) else y
    return None if (new_x, new_y) == (x, y) else site.Where(condition, new_x, new_y)


def power(site: Site) -> ir.Value | None:
    """Pow of a base that is expanded to its output's shape first, and an exponent of the base's type"""
    base, exponent = site.input(0), site.input(1)
    new_base = _expanded(site, base, exponent)
    new_exponent = exponent if exponent.dtype == base.dtype else site.Cast(exponent, to=base.dtype)
    return None if (new_base, new_exponent) == (base, exponent) else site.Pow(new_base, new_exponent)


def sum_of(site: Site) -> ir.Value:
    """A chain of Adds"""
    terms = [site.input(i) for i in range(len(site.node.inputs))]
    return reduce(site.Add, terms) if len(terms) > 1 else site.Identity(terms[0])


def mean_of(site: Site) -> ir.Value:
    """A chain of Adds, divided by their number"""
    return site.Div(sum_of(site), float(len(site.node.inputs)))


def matmul(site: Site) -> ir.Value | None:
    """MatMul of a vector as a matrix of one row or column"""
    a, b = site.input(0), site.input(1)
    row, column = site.rank(a) == 1, site.rank(b) == 1
    if not (row or column):
        return None
    product = site.MatMul(site.Unsqueeze(a, [0]) if row else a, site.Unsqueeze(b, [1]) if column else b)
    return site.Squeeze(product, [-2] * row + [-1] * column)
