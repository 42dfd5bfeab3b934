"""Reductions over axes A, which stand in input 1; without it, or where it is empty, over all axes."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import onnx_ir as ir

from dsd_ort.rewrite.autograd import operator
from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.operators import Does, facts
from dsd_ort.rewrite.site import Replacement, Rule, Site


def over_axes(form: Callable[[Site, ir.Value, ir.Value | None, int], ir.Value | None]) -> Rule:
    """The rule that calls *form* with site, input, axes (None: all) and ``keepdims``."""

    @wraps(form)
    def rule(site: Site) -> Replacement:
        attributes = site.node.attributes
        axes = site.optional(1)
        known = constant_value(axes)
        keeps_all = attributes.get_int("noop_with_empty_axes", 0)
        if axes is None or axes.shape == (0,) or (known is not None and known.size == 0):
            if keeps_all:
                return _nothing(site)
            axes = None
        elif keeps_all and known is None and not (axes.shape and isinstance(axes.shape[0], int)):
            raise site.refusal("reduces over axes whose number is known at run time only", "export it with fixed axes")
        return form(site, site.input(0), axes, attributes.get_int("keepdims", 1))

    return rule


def _nothing(site: Site) -> ir.Value:
    if Does.IDENTITY_WITHOUT_AXES not in facts(site.node).does:
        raise site.refusal("over no axis is not the same in ONNX and in ONNX Runtime", "name the axes, or remove it")
    return site.Identity(site.input(0))


def over(site: Site, op_type: str, x: ir.Value, axes: ir.Value | None, keepdims: int) -> ir.Value:
    return site.op(op_type, x, *([axes] if axes else []), keepdims=keepdims)


def all_axes(site: Site, x: ir.Value) -> ir.Value:
    return site.constant(list(range(site.rank(x))))


@over_axes
def same(site: Site, x: ir.Value, axes: ir.Value | None, keepdims: int) -> None:
    """Identity, as it reduces over no axis"""


@over_axes
def l1(site: Site, x: ir.Value, axes: ir.Value | None, keepdims: int) -> ir.Value:
    """``Σ_A |x|``"""
    return over(site, "ReduceSum", site.Abs(x), axes, keepdims)


@over_axes
def sum_square(site: Site, x: ir.Value, axes: ir.Value | None, keepdims: int) -> ir.Value:
    """``Σ_A x²``"""
    return over(site, "ReduceSum", site.Pow(x, 2.0), axes, keepdims)


@over_axes
def log_sum(site: Site, x: ir.Value, axes: ir.Value | None, keepdims: int) -> ir.Value:
    """``log Σ_A x``"""
    return site.Log(over(site, "ReduceSum", x, axes, keepdims))


_PRODUCT = operator(
    "ReduceProd",
    forward="(x, axes) => (y) { y = ReduceProd <keepdims = 1> (x, axes) }",
    backward="""(dy, x, axes) => (dx) {
        zero = Constant <value_float = 0.0> ()
        one = Constant <value_float = 1.0> ()
        is_zero = Equal (x, zero)
        zeros = Cast <to = 1> (is_zero)
        count = ReduceSum <keepdims = 1> (zeros, axes)
        zeros_elsewhere = Sub (count, zeros)
        survives = Equal (zeros_elsewhere, zero)
        factors = Where (is_zero, one, x)
        product = ReduceProd <keepdims = 1> (factors, axes)
        rest = Div (product, factors)
        slope = Where (survives, rest, zero)
        dx = Mul (dy, slope)
    }""",
)
"""∂Πx/∂xᵢ is the product P' of all factors that are not zero, without xᵢ, if no other factor is zero; else 0."""


@over_axes
def product(site: Site, x: ir.Value, axes: ir.Value | None, keepdims: int) -> ir.Value:
    """ReduceProd with a gradient that is right where factors are zero"""
    axes = axes or all_axes(site, x)
    (y,) = site.call(_PRODUCT, x, axes)
    return y if keepdims else site.Squeeze(y, axes)


def cumulative_sum(site: Site) -> ir.Value:
    """CumSum, whose gradient is the CumSum in the other direction"""
    attributes = site.node.attributes
    exclusive, reverse = attributes.get_int("exclusive", 0), attributes.get_int("reverse", 0)
    made = operator(
        "CumSum",
        forward=f"(x, axis) => (y) {{ y = CumSum <exclusive = {exclusive}, reverse = {reverse}> (x, axis) }}",
        backward=f"(dy, axis) => (dx) {{ dx = CumSum <exclusive = {exclusive}, reverse = {1 - reverse}> (dy, axis) }}",
    )
    return site.call(made, site.input(0), site.input(1))[0]
