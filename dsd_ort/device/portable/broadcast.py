"""Gradients of what was broadcast: summed over the axes along which it was repeated."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsd_ort.rewrite.site import Site


def axes(site: Site) -> tuple[ir.Value, ir.Value]:
    """BroadcastGradientArgs(shape of A, shape of B): the axes along which A, and those along which B is repeated."""
    return repeated(site, site.input(0), site.input(1))


def division(site: Site) -> tuple[ir.Value, ir.Value]:
    """DivGrad(dY, A, B): dA = dY / B and dB = -dY · A / B², each summed to its shape."""
    dy, a, b = site.input(0), site.input(1), site.input(2)
    shapes = site.Shape(a), site.Shape(b)
    da = site.Div(dy, b)
    db = site.Neg(site.Div(site.Mul(da, a), b))
    over_a, over_b = repeated(site, *shapes)
    sums = [site.ReduceSum(d, over, noop_with_empty_axes=1) for d, over in ((da, over_a), (db, over_b))]
    return site.Reshape(sums[0], shapes[0]), site.Reshape(sums[1], shapes[1])


def repeated(site: Site, a: ir.Value, b: ir.Value) -> tuple[ir.Value, ir.Value]:
    """i64[*] each: the axes of the common shape that A (B) has not, or has with length 1 where the other has more."""
    ranks = site.Shape(a), site.Shape(b)
    rank = site.Max(*ranks)
    absent = {"value": ir.tensor(np.array([-1]))}
    a, b = (
        site.Concat(site.ConstantOfShape(site.Sub(rank, own), **absent), shape, axis=0)
        for own, shape in zip(ranks, (a, b), strict=True)
    )
    return _axes(site, a, b), _axes(site, b, a)


def _axes(site: Site, one: ir.Value, other: ir.Value) -> ir.Value:
    one_, zero, single = (site.constant(np.array(n)) for n in (1, 0, [-1]))
    stretched = site.And(site.Equal(one, one_), site.Greater(other, one_))
    return site.Reshape(site.NonZero(site.Or(site.Less(one, zero), stretched)), single)
