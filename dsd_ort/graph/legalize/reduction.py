"""Reductions over axes A, which stand in input 1; without it, over all axes."""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.graph.legalize.site import Site


def _reduce(site: Site, op_type: str, x: ir.Value) -> ir.Value:
    """*op_type* of *x* over the node's axes."""
    return _over(site, op_type, x, site.optional(1), site.node.attributes.get_int("keepdims", 1))


def _over(site: Site, op_type: str, x: ir.Value, axes: ir.Value | None, keepdims: int) -> ir.Value:
    return site.op(op_type, x, *([axes] if axes else []), keepdims=keepdims)


def extreme(site: Site) -> ir.Value:
    """``Σ_A x·[x = m] / Σ_A [x = m]`` with ``m = max_A x`` (or min): ties share the gradient"""
    keepdims = site.node.attributes.get_int("keepdims", 1)
    return extreme_over(site, site.node.op_type, site.input(0), site.optional(1), keepdims)


def extreme_over(site: Site, op_type: str, x: ir.Value, axes: ir.Value | None, keepdims: int) -> ir.Value:
    chosen = site.Equal(x, _over(site, op_type, x, axes, 1))
    # Not x · [x = m]: that is NaN where x is infinite, as in a masked attention.
    total = _over(site, "ReduceSum", site.Where(chosen, x, 0.0), axes, keepdims)
    return site.Div(total, _over(site, "ReduceSum", site.Cast(chosen, to=ir.DataType.FLOAT), axes, keepdims))


def l1(site: Site) -> ir.Value:
    """``Σ_A |x|``"""
    return _reduce(site, "ReduceSum", site.Abs(site.input(0)))


def sum_square(site: Site) -> ir.Value:
    """``Σ_A x²``"""
    return _reduce(site, "ReduceSum", site.Pow(site.input(0), 2.0))


def log_sum(site: Site) -> ir.Value:
    """``log Σ_A x``"""
    return site.Log(_reduce(site, "ReduceSum", site.input(0)))


def named_axes(site: Site) -> ir.Value | None:
    """The same reduction with its axes named and kept, and squeezed out afterwards"""
    keepdims = site.node.attributes.get_int("keepdims", 1)
    if site.optional(1) is not None and keepdims:
        return None
    axes = site.optional(1) or site.constant(list(range(site.rank(site.input(0)))))
    y = site.op(site.node.op_type, site.input(0), axes, keepdims=1)
    return y if keepdims else site.Squeeze(y, axes)
