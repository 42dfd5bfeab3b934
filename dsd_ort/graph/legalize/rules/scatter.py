"""Scatter with a reduction: the updates that hit an entry are combined with what it holds.

In the backward functions ``…_hit`` is what each update hit, read back by a gather.
"""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.rewrite.autograd import Operator, operator
from dsd_ort.rewrite.site import Site

_PRODUCT = """(dy, x, u, i) => (dx, du) {{
    zero = Constant <value_float = 0.0> ()
    one = Constant <value_float = 1.0> ()
    x_is_zero = Equal (x, zero)
    u_is_zero = Equal (u, zero)
    x_zeros = Cast <to = 1> (x_is_zero)
    u_zeros = Cast <to = 1> (u_is_zero)
    x_factors = Where (x_is_zero, one, x)
    u_factors = Where (u_is_zero, one, u)
    zeros = {scatter} = "add"> (x_zeros, i, u_zeros)
    product = {scatter} = "mul"> (x_factors, i, u_factors)
    x_others = Sub (zeros, x_zeros)
    x_survives = Equal (x_others, zero)
    x_rest = Div (product, x_factors)
    x_slope = Where (x_survives, x_rest, zero)
    dx = Mul (dy, x_slope)
    zeros_hit = {gather} (zeros, i)
    u_others = Sub (zeros_hit, u_zeros)
    u_survives = Equal (u_others, zero)
    product_hit = {gather} (product, i)
    u_rest = Div (product_hit, u_factors)
    u_slope = Where (u_survives, u_rest, zero)
    dy_hit = {gather} (dy, i)
    du = Mul (dy_hit, u_slope)
}}"""
"""Each factor's slope is the product of the others: that of all which are not zero, without it, if no other is zero."""

_EXTREME = """(dy, x, u, i, y) => (dx, du) {{
    x_is_it = Equal (x, y)
    y_hit = {gather} (y, i)
    u_is_it = Equal (u, y_hit)
    x_share = Cast <to = 1> (x_is_it)
    u_share = Cast <to = 1> (u_is_it)
    count = {scatter} = "add"> (x_share, i, u_share)
    share = Div (dy, count)
    dx = Mul (share, x_share)
    share_hit = {gather} (share, i)
    du = Mul (share_hit, u_share)
}}"""
"""Those that are the extreme share its gradient."""


def scatter(site: Site) -> ir.Value | None:
    """The same with a gradient for its reduction"""
    reduction = site.node.attributes.get_string("reduction", "none")
    if reduction in ("none", "add"):
        return None
    x, indices, updates = (site.input(i) for i in range(3))
    return site.call(_operator(site, reduction), x, updates, indices)[0]


def _operator(site: Site, reduction: str) -> Operator:
    axis = site.node.attributes.get_int("axis", 0)
    if site.node.op_type == "ScatterND":
        scattering, gathering = "ScatterND <reduction", "GatherND"
    else:
        scattering, gathering = f"ScatterElements <axis = {axis}, reduction", f"GatherElements <axis = {axis}>"
    backward = _PRODUCT if reduction == "mul" else _EXTREME
    return operator(
        site.node.op_type,
        forward=f'(x, u, i) => (y) {{ y = {scattering} = "{reduction}"> (x, i, u) }}',
        backward=backward.format(scatter=scattering, gather=gathering),
    )
