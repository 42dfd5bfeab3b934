"""Reductions over axes A, which stand in input 1."""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.graph.legalize.rules.reduction import all_axes, over, over_axes
from dsd_ort.rewrite.site import Site


@over_axes
def plain(site: Site, x: ir.Value, axes: ir.Value | None, keepdims: int) -> ir.Value | None:
    """The same without an empty list of axes"""
    return None if axes is site.optional(1) else over(site, site.node.op_type, x, axes, keepdims)


@over_axes
def extreme(site: Site, x: ir.Value, axes: ir.Value | None, keepdims: int) -> ir.Value:
    """``Σ_A x·[x = m] / Σ_A [x = m]`` with ``m = max_A x`` (or min): ties share the gradient"""
    chosen = site.Equal(x, over(site, site.node.op_type, x, axes, 1))
    # Not x · [x = m]: that is NaN where x is infinite, as in a masked attention.
    total = over(site, "ReduceSum", site.Where(chosen, x, 0.0), axes, keepdims)
    return site.Div(total, over(site, "ReduceSum", site.Cast(chosen, to=ir.DataType.FLOAT), axes, keepdims))


@over_axes
def named_axes(site: Site, x: ir.Value, axes: ir.Value | None, keepdims: int) -> ir.Value | None:
    """The same reduction with its axes named and kept, and squeezed out afterwards"""
    if axes is not None and keepdims:
        return None
    axes = axes or all_axes(site, x)
    y = site.op(site.node.op_type, x, axes, keepdims=1)
    return y if keepdims else site.Squeeze(y, axes)
