"""Operators that may broadcast along lengths which are known at run time only (:mod:`..rules.broadcast`)."""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.graph.legalize.rules.broadcast import decided_at_run_time, opaque, uncertain
from dsd_ort.rewrite.site import Site


def elementwise(site: Site) -> ir.Value | None:
    """The same with broadcasting decided at run time, as some lengths are known then only"""
    operands = [site.input(i) for i in range(len(site.node.inputs))]
    new = decided_at_run_time(site, operands)
    return None if new == operands else site.op(site.node.op_type, *new, **site.attributes())


def gemm(site: Site) -> ir.Value | None:
    """The same with broadcasting decided at run time, as some lengths are known then only"""
    c = site.optional(2)
    if c is None or not site.path.carries(c) or not uncertain(c, site.node.outputs[0]):
        return None
    return site.Gemm(site.input(0), site.input(1), opaque(site, c), **site.attributes())


def expand(site: Site) -> ir.Value | None:
    """The same with broadcasting decided at run time, as some lengths are known then only"""
    value, y = site.input(0), site.node.outputs[0]
    unsure = value.shape is not None and not value.shape.is_static() if y.shape is None else uncertain(value, y)
    return site.Expand(opaque(site, value), site.input(1)) if unsure else None
