"""Arithmetic whose gradient the builder does not sum over axes that were broadcast, or lacks."""

from __future__ import annotations

from functools import reduce

import onnx_ir as ir

from dsd_ort.graph.legalize.native.broadcast import decided_at_run_time, expanded
from dsd_ort.rewrite.autograd import operator
from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.site import Site


def where(site: Site) -> ir.Value | None:
    """Where of inputs that are expanded to its output's shape first"""
    condition, x, y = (site.input(i) for i in range(3))
    new_x = expanded(site, x, y, condition) if site.path.carries(x) else x
    new_y = expanded(site, y, x, condition) if site.path.carries(y) else y
    return None if (new_x, new_y) == (x, y) else site.Where(condition, new_x, new_y)


_POWER = operator(
    "Pow",
    forward="(x, e) => (y) { y = Pow (x, e) }",
    backward="""(dy, x, e, y) => (dx, de) {
        zero = Constant <value_float = 0.0> ()
        one = Constant <value_float = 1.0> ()
        constant = Equal (e, zero)
        less = Sub (e, one)
        power = Pow (x, less)
        slope = Mul (e, power)
        x_slope = Where (constant, zero, slope)
        dx = Mul (dy, x_slope)
        at_zero = Equal (x, zero)
        base = Where (at_zero, one, x)
        logarithm = Log (base)
        e_slope = Mul (y, logarithm)
        de = Mul (dy, e_slope)
    }""",
)
"""∂xᵉ/∂x = e·xᵉ⁻¹, 0 where e = 0; ∂xᵉ/∂e = xᵉ·log x, 0 where x = 0 and NaN where x < 0."""


def power(site: Site) -> ir.Value | None:
    """Pow of a base that is expanded to its output's shape first, and an exponent of the base's type"""
    base, exponent = site.input(0), site.input(1)
    alike = exponent.dtype is None or base.dtype in (None, exponent.dtype)
    new_exponent = exponent if alike else site.Cast(exponent, to=base.dtype)
    known = constant_value(exponent)
    if site.path.carries(exponent) or known is None or not known.all():
        return site.call(_POWER, expanded(site, base, exponent), expanded(site, new_exponent, base))[0]
    new_base = expanded(site, base, exponent)
    return None if (new_base, new_exponent) == (base, exponent) else site.Pow(new_base, new_exponent)


def sum_of(site: Site) -> ir.Value:
    """A chain of Adds"""
    terms = decided_at_run_time(site, [site.input(i) for i in range(len(site.node.inputs))])
    return reduce(site.Add, terms) if len(terms) > 1 else site.Identity(terms[0])


def mean_of(site: Site) -> ir.Value:
    """A chain of Adds, divided by their number"""
    return site.Div(sum_of(site), float(len(site.node.inputs)))


def matmul(site: Site) -> ir.Value | None:
    """MatMul of a vector as a matrix of one row or column, and with broadcasting decided at run time"""
    a, b = site.input(0), site.input(1)
    row, column = a.shape is not None and len(a.shape) == 1, b.shape is not None and len(b.shape) == 1
    if not (row or column):
        new = decided_at_run_time(site, [a, b], ignoring=2)
        return None if new == [a, b] else site.MatMul(*new)
    product = site.MatMul(site.Unsqueeze(a, [0]) if row else a, site.Unsqueeze(b, [1]) if column else b)
    return site.Squeeze(product, [-2] * row + [-1] * column)


def prelu(site: Site) -> ir.Value:
    """``max(x, 0) + slope · min(x, 0)``"""
    x, slope = decided_at_run_time(site, [site.input(0), site.input(1)])
    return site.Add(site.Relu(x), site.Mul(slope, site.Clip(x, None, 0.0)))
