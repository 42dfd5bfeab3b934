"""Activations without a gradient in ONNX Runtime, in terms of those that have one.

At its kink each form has the derivative that PyTorch takes, as Clip's is 1 on its bounds, and Relu's and Abs's 0 at 0;
only HardSigmoid and HardSwish take the inner side's at the ends of their ramp, where PyTorch takes the outer side's.
"""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.rewrite.site import Site


def _negative_part(site: Site, x: ir.Value) -> ir.Value:
    """``min(x, 0)``"""
    return site.Clip(x, None, 0.0)


def _exponential(site: Site, alpha: float, scale: float, inner: float) -> ir.Value:
    """``scale · (max(x, 0) + α · (exp(min(x, 0) / inner) - 1))``"""
    x = site.input(0)
    below = _negative_part(site, x)
    if inner != 1:
        below = site.Div(below, inner)
    y = site.Add(site.Relu(x), site.Mul(site.Sub(site.Exp(below), 1.0), alpha))
    return y if scale == 1 else site.Mul(y, scale)


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


def _softplus(site: Site, x: ir.Value) -> ir.Value:
    # The obvious max(x, 0) + log(1 + e^-|x|) has the derivative 0 at 0; here the parts in |x| are even and smooth.
    size = site.Abs(x)
    smooth = site.Log(site.Add(site.Exp(site.Neg(size)), 1.0))
    return site.Add(site.Mul(site.Add(x, size), 0.5), smooth)


def softplus(site: Site) -> ir.Value:
    """``½·(x + |x|) + log(1 + exp(-|x|))``"""
    return _softplus(site, site.input(0))


def mish(site: Site) -> ir.Value:
    """``x · tanh(softplus(x))``"""
    x = site.input(0)
    return site.Mul(x, site.Tanh(_softplus(site, x)))


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
