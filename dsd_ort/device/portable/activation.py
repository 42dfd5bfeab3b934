"""Gradients of functions of one element, or of one axis."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.site import Site


def relu(site: Site) -> ir.Value:
    """ReluGrad(dY, Y): dX = dY where Y > 0, else 0."""
    dy, y = site.input(0), site.input(1)
    return site.Where(site.Greater(y, 0.0), dy, 0.0)


def leaky_relu(site: Site) -> ir.Value:
    """LeakyReluGrad(dY, Y): dX = dY where Y > 0, else alpha·dY."""
    dy, y = site.input(0), site.input(1)
    return site.Where(site.Greater(y, 0.0), dy, site.Mul(dy, site.node.attributes.get_float("alpha", 0.01)))


def sigmoid(site: Site) -> ir.Value:
    """SigmoidGrad(dY, Y): dX = dY · Y · (1 - Y)."""
    dy, y = site.input(0), site.input(1)
    return site.Mul(dy, site.Mul(y, site.Sub(1.0, y)))


def tanh(site: Site) -> ir.Value:
    """TanhGrad(dY, Y): dX = dY · (1 - Y²)."""
    dy, y = site.input(0), site.input(1)
    return site.Mul(dy, site.Sub(1.0, site.Mul(y, y)))


def quick_gelu(site: Site) -> ir.Value:
    """QuickGeluGrad(dY, X): dX = dY · s · (1 + alpha·x·(1 - s)), s = sigmoid(alpha·x)."""
    dy, x = site.input(0), site.input(1)
    scaled = site.Mul(x, site.node.attributes.get_float("alpha", 1.702))
    s = site.Sigmoid(scaled)
    return site.Mul(dy, site.Mul(s, site.Add(site.Mul(scaled, site.Sub(1.0, s)), 1.0)))


def dropout(site: Site) -> ir.Value:
    """DropoutGrad(dY, mask, ratio, training_mode): dX = dY / (1 - ratio), or dY / ∞; dY itself out of training.

    That is to the bit what Dropout computes, zeros' signs included, and no scale that a product next to it would take.
    """
    dy, mask, ratio = site.input(0), site.input(1), site.optional(2)
    training = constant_value(site.optional(3))
    if training is not None and not training:
        return site.Identity(dy)
    return site.Div(dy, site.Where(mask, site.Sub(1.0, ratio if ratio is not None else 0.5), math.inf))


def scale(site: Site) -> ir.Value:
    """Scale(X, s): Y = X · s, or X / s with scale_down; s is one number, of any type and one axis or none."""
    x, factor = site.input(0), site.input(1)
    number = site.Reshape(site.CastLike(factor, x), np.zeros(0, np.int64))
    return site.op("Div" if site.node.attributes.get_int("scale_down", 0) else "Mul", x, number)
