"""Operators without a slope: the builder does not stop at them, it fails behind them."""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.rewrite.site import Site


def step(site: Site) -> ir.Value:
    """Behind a cast to whole numbers and back, where no gradient passes: it is 0 almost everywhere"""
    whole = site.Cast(site.op(site.node.op_type, site.input(0), **site.attributes()), to=ir.DataType.INT64)
    return site.Cast(whole, to=ir.DataType.FLOAT)


def shape_only(site: Site) -> ir.Value:
    """The same of zeros, as only their shape counts"""
    zeros = site.ConstantOfShape(site.Shape(site.input(0)))
    return site.op(site.node.op_type, zeros, **site.attributes())
