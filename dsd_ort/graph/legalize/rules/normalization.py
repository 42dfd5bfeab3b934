"""Normalisation by the statistics of the example itself: layer, instance and group norm, LRN, Lp and mean-variance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dsd_ort.graph.legalize.rules.batch_norm import channels
from dsd_ort.rewrite.nodes import Operand
from dsd_ort.rewrite.site import Site


def layer_norm(site: Site) -> Sequence[ir.Value] | None:
    """``(x - mean) / √(variance + ε) · scale + bias``, where mean and deviation are read too"""
    if not any(site.path.carries(output) for output in site.node.outputs[1:]):
        return None
    x, scale, bias = site.input(0), site.input(1), site.optional(2)
    rank = site.rank(x)
    axes = range(site.node.attributes.get_int("axis", -1) % rank, rank)
    mean = site.ReduceMean(x, axes, keepdims=1)
    centred = site.Sub(x, mean)
    variance = site.ReduceMean(site.Pow(centred, 2.0), axes, keepdims=1)
    inverse = site.Reciprocal(site.Sqrt(site.Add(variance, site.node.attributes.get_float("epsilon", 1e-5))))
    y = site.Mul(site.Mul(centred, inverse), scale)
    return (y if bias is None else site.Add(y, bias)), mean, inverse


def _by_row(site: Site, x: ir.Value, scale: Operand, bias: Operand) -> ir.Value:
    """``(x - mean) / √(variance + ε) · scale + bias`` over all axes but the first two, which scale and bias are along.

    It is the batch norm of one example with N·C channels, whose kernels take a fifth of the time of single operators.
    """
    rows = site.Shape(x, end=2)
    count = site.ReduceProd(rows, [0], keepdims=1)
    scale, bias = (site.Reshape(site.Expand(value, rows), count) for value in (scale, bias))
    # Running statistics, which nothing reads: the kernel writes over these two, so they are nothing else's either.
    unread = site.Expand(-1.0, count), site.Expand(-2.0, count)
    epsilon = site.node.attributes.get_float("epsilon", 1e-5)
    of_one = site.Reshape(x, site.Concat([1], count, [-1], axis=0))
    found = site.several(
        "com.microsoft.BatchNormInternal", 5, of_one, scale, bias, *unread, epsilon=epsilon, training_mode=1
    )
    return site.Reshape(found[0], site.Shape(x))


def instance_norm(site: Site) -> ir.Value:
    """Standardised over each channel of each example, scaled and shifted"""
    return _by_row(site, site.input(0), site.input(1), site.input(2))


def _by_group(site: Site, scale: Operand, bias: Operand) -> ir.Value:
    x = site.input(0)
    grouped = site.Reshape(x, [0, site.node.attributes["num_groups"].as_int(), -1])
    return site.Reshape(_by_row(site, grouped, scale, bias), site.Shape(x))


def group_norm_per_group(site: Site) -> ir.Value:
    """Standardised over groups of channels, scaled and shifted per group (opset 18)"""
    return _by_group(site, site.input(1), site.input(2))


def group_norm_per_channel(site: Site) -> ir.Value:
    """Standardised over groups of channels, scaled and shifted per channel (opset 21)"""
    x, scale, bias = (site.input(i) for i in range(3))
    standard = _by_group(site, 1.0, 0.0)
    return site.Add(site.Mul(standard, channels(site, scale, x)), channels(site, bias, x))


def local_response(site: Site) -> ir.Value:
    """``x · (k + α/size · Σx²)^-β``, where a 1×1 convolution with a band matrix sums over neighbouring channels"""
    x = site.input(0)
    attributes = site.node.attributes
    count, width = site.size(x, 1), attributes["size"].as_int()
    offset = np.subtract.outer(np.arange(count), np.arange(count))  # channel written - channel read
    band = ((offset <= (width - 1) // 2) & (-offset <= width // 2)) * attributes.get_float("alpha", 1e-4) / width
    kernel = band.reshape(count, count, *[1] * (site.rank(x) - 2)).astype(np.float32)
    offsets = np.full(count, attributes.get_float("bias", 1.0), np.float32)
    total = site.Conv(site.Pow(x, 2.0), kernel, offsets)
    return site.Mul(x, site.Pow(total, -attributes.get_float("beta", 0.75)))


def lp_normalization(site: Site) -> ir.Value:
    """``x / Σ|x|`` or ``x / √Σx²`` along one axis, and 0 where that is 0"""
    x = site.input(0)
    axis = [site.node.attributes.get_int("axis", -1)]
    absolute = site.node.attributes.get_int("p", 2) == 1
    norm = site.ReduceSum(site.Abs(x), axis) if absolute else site.ReduceL2(x, axis)
    return site.Div(x, site.Where(site.Greater(norm, 0.0), norm, 1.0))


def mean_variance(site: Site) -> ir.Value:
    """``(x - mean) / (standard deviation + 1e-9)``"""
    x = site.input(0)
    axes = list(site.node.attributes.get_ints("axes", [0, 2, 3]))
    centred = site.Sub(x, site.ReduceMean(x, axes, keepdims=1))
    variance = site.ReduceMean(site.Pow(centred, 2.0), axes, keepdims=1)
    varies = site.Greater(variance, 0.0)  # √ has no derivative at 0.
    deviation = site.Sqrt(site.Where(varies, variance, 1.0))
    return site.Div(centred, site.Add(site.Where(varies, deviation, 0.0), 1e-9))
