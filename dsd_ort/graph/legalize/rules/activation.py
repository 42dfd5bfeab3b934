"""Activations without a gradient in ONNX Runtime, in terms of those that have one.

At its kink each form has the derivative that PyTorch takes, as Clip's is 1 on its bounds, and Relu's and Abs's 0 at 0;
only HardSigmoid and HardSwish take the inner side's at the ends of their ramp, where PyTorch takes the outer side's.
"""

from __future__ import annotations

from functools import cache

import onnx_ir as ir

from dsd_ort.rewrite.autograd import Operator, operator
from dsd_ort.rewrite.site import Site

_ZERO = "zero_ = Constant <value_float = 0.0> () zero = CastLike (zero_, x)"
_ONE = "one_ = Constant <value_float = 1.0> () one = CastLike (one_, x)"
_ROUNDING = 1e-6


def _exponential(site: Site, alpha: float, scale: float, inner: float) -> ir.Value:
    """``scale · (max(x, 0) + α · (exp(min(x, 0) / inner) - 1))``"""
    return site.call(_exponential_unit(alpha, scale, inner), site.input(0))[0]


@cache
def _exponential_unit(alpha: float, scale: float, inner: float) -> Operator:
    """Y = γ·(max(X, 0) + α·(E - 1)) with E = exp(min(X, 0)/k), which is 1 where X > 0: dY/dX = γ·α/k·E, and γ there.

    ELU with α = 1 and CELU need no more than E.
    """
    below, above = scale * alpha / inner, scale - scale * alpha / inner
    forward = (
        f"{_ZERO} n = Clip (x, , zero) {_times('n', 'q', 1 / inner)} e = Exp (q) {_ONE} l = Sub (e, one) "
        f"{_times('l', 'a', alpha)} r = Relu (x) s = Add (r, a) {_times('s', 'y', scale)}"
    )
    slope = _times("e", "d", below)
    if abs(above) > _ROUNDING:
        positive = f"{_ZERO} p = Greater (x, zero) m = CastLike (p, x)"
        slope = f"{_times('e', 'f', below)} {positive} {_times('m', 'g', above)} d = Add (f, g)"
    return operator(
        "ExponentialUnit",
        forward=f"(x) => (y, e) {{ {forward} }}",
        backward=f"(dy, x, e) => (dx) {{ {slope} dx = Mul (dy, d) }}",
    )


def _times(x: str, y: str, factor: float) -> str:
    """The text of ``y = factor · x``."""
    if factor == 1:
        return f"{y} = Identity ({x})"
    return f"{y}_ = Constant <value_float = {float(factor)!r}> () {y}__ = CastLike ({y}_, {x}) {y} = Mul ({x}, {y}__)"


def elu(site: Site) -> ir.Value:
    """``max(x, 0) + α · (exp(min(x, 0)) - 1)``"""
    return _exponential(site, site.node.attributes.get_float("alpha", 1.0), 1.0, 1.0)


def selu(site: Site) -> ir.Value:
    """``γ · (max(x, 0) + α · (exp(min(x, 0)) - 1))``"""
    attributes = site.node.attributes
    gamma = attributes.get_float("gamma", 1.05070102214813232421875)
    return _exponential(site, attributes.get_float("alpha", 1.67326319217681884765625), gamma, 1.0)


def celu(site: Site) -> ir.Value:
    """``max(x, 0) + α · (exp(min(x, 0) / α) - 1)``"""
    alpha = site.node.attributes.get_float("alpha", 1.0)
    return _exponential(site, alpha, 1.0, alpha)


def thresholded_relu(site: Site) -> ir.Value:
    """``x · [x > α]``"""
    x = site.input(0)
    above = site.Greater(x, site.node.attributes.get_float("alpha", 1.0))
    return site.Mul(x, site.Cast(above, to=ir.DataType.FLOAT))


def hard_sigmoid(site: Site) -> ir.Value:
    """``min(max(α·x + β, 0), 1)``"""
    attributes = site.node.attributes
    line = site.Add(site.Mul(site.input(0), attributes.get_float("alpha", 0.2)), attributes.get_float("beta", 0.5))
    return site.Clip(line, 0.0, 1.0)


def hard_swish(site: Site) -> ir.Value:
    """``x · min(max(x/6 + ½, 0), 1)``"""
    x = site.input(0)
    return site.Mul(x, site.Clip(site.Add(site.Div(x, 6.0), 0.5), 0.0, 1.0))


# Y = max(X, 0) + log(1 + exp -|X|): dX = dY · sigmoid X.
_SOFTPLUS = operator(
    "Softplus",
    forward=f"(x) => (y) {{ a = Abs (x) n = Neg (a) e = Exp (n) {_ONE} s = Add (e, one) l = Log (s) "
    "r = Relu (x) y = Add (r, l) }",
    backward="(dy, x) => (dx) { s = Sigmoid (x) dx = Mul (dy, s) }",
)


def softplus(site: Site) -> ir.Value:
    """``max(x, 0) + log(1 + exp(-|x|))``, with the gradient ``dy · sigmoid(x)``"""
    return site.call(_SOFTPLUS, site.input(0))[0]


def mish(site: Site) -> ir.Value:
    """``x · tanh(softplus(x))``"""
    x = site.input(0)
    return site.Mul(x, site.Tanh(site.call(_SOFTPLUS, x)[0]))


def softsign(site: Site) -> ir.Value:
    """``x / (1 + |x|)``"""
    x = site.input(0)
    return site.Div(x, site.Add(site.Abs(x), 1.0))


def shrink(site: Site) -> ir.Value:
    """``(x - bias) · [x > λ] + (x + bias) · [x < -λ]``"""
    x = site.input(0)
    limit = site.node.attributes.get_float("lambd", 0.5)
    bias = site.node.attributes.get_float("bias", 0.0)
    above = site.Cast(site.Greater(x, limit), to=ir.DataType.FLOAT)
    below = site.Cast(site.Less(x, -limit), to=ir.DataType.FLOAT)
    return site.Add(site.Mul(site.Sub(x, bias), above), site.Mul(site.Add(x, bias), below))


def swish(site: Site) -> ir.Value:
    """``x · sigmoid(α·x)``"""
    x, alpha = site.input(0), site.node.attributes.get_float("alpha", 1.0)
    return site.Mul(x, site.Sigmoid(x if alpha == 1 else site.Mul(x, alpha)))


def gelu(site: Site) -> ir.Value:
    """com.microsoft's Gelu, or FastGelu for the tanh approximation"""
    tanh = site.node.attributes.get_string("approximate", "none") == "tanh"
    return site.op("com.microsoft.FastGelu" if tanh else "com.microsoft.Gelu", site.input(0))


def clip(site: Site) -> ir.Value | None:
    """``min(max(x, low), high)``, where a bound is trained"""
    x, low, high = site.input(0), site.optional(1), site.optional(2)
    if not any(bound is not None and site.path.carries(bound) for bound in (low, high)):
        return None
    y = x if low is None else site.Max(x, low)
    return y if high is None else site.Min(y, high)
