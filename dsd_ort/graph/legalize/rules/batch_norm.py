"""Batch norm, y = scale · (x - μ) / √(σ² + ε) + bias, per channel (axis 1).

*train*: μ and σ² are those of the batch, σ² over n = N·H·W… entries with divisor n.  The running statistics M and V
follow with the node's momentum m (ONNX's m is 1 - PyTorch's), V with the unbiased variance, as in PyTorch::

    M ← m·M + (1 - m)·μ          V ← m·V + (1 - m)·σ²·n/(n - 1)

The operator is com.microsoft.BatchNormInternal, the only one whose gradient ONNX Runtime's builder knows.  Its outputs
3 and 4 are μ and s = 1/√(σ² + ε), so σ² = 1/s² - ε.  Its outputs 1 and 2, running statistics too, are of no use: the
variance is the biased one (on CUDA it is as cuDNN has it), and the kernel writes them over its inputs 3 and 4.
With n = 1 PyTorch refuses to train; here σ² = 0 counts as it is.

*frozen*: μ = M and σ² = V do not move, so y = x·a + (bias - M·a) with a = scale / √(V + ε).
"""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.model.parameters import UNMERGED
from dsd_ort.rewrite.names import place
from dsd_ort.rewrite.site import Site

FROZEN = 'set batch_norm = "frozen" in the recipe'


def _by_batch_statistics(site: Site) -> tuple[ir.Value, ir.Value, ir.Value]:
    """y, μ and s."""
    x, scale, bias, mean, variance = (site.input(i) for i in range(5))
    attributes = site.node.attributes
    y, _, _, batch_mean, inverse_deviation = site.several(
        "com.microsoft.BatchNormInternal",
        5,
        x,
        scale,
        bias,
        # To be written over; y does not depend on them.
        site.Neg(mean),
        site.Neg(variance),
        epsilon=attributes.get_float("epsilon", 1e-5),
        momentum=attributes.get_float("momentum", 0.9),
        training_mode=1,
    )
    return y, batch_mean, inverse_deviation


def _unbiased_variance(site: Site, channels: int, inverse_deviation: ir.Value) -> ir.Value:
    """``max(1/s² - ε, 0) · n / max(n - 1, 1)``"""
    epsilon = site.node.attributes.get_float("epsilon", 1e-5)
    count = site.Cast(site.Div(site.Size(site.input(0)), channels), to=ir.DataType.FLOAT)
    variance = site.Relu(site.Sub(site.Reciprocal(site.Mul(inverse_deviation, inverse_deviation)), epsilon))
    return site.Mul(variance, site.Div(count, site.Max(site.Sub(count, 1.0), 1.0)))


def follow(site: Site, mean: ir.Value, variance: ir.Value, batch_mean: ir.Value, inverse_deviation: ir.Value) -> None:
    """Lets the running statistics *mean* and *variance* follow the batch's; the values go to ``site.statistics``."""
    _follow(site, mean, batch_mean)
    _follow(site, variance, _unbiased_variance(site, site.size(variance, 0), inverse_deviation))


def _follow(site: Site, statistic: ir.Value, of_batch: ir.Value) -> None:
    """``m·statistic + (1 - m)·of_batch``; a module that the model applies twice moves its statistics twice."""
    momentum = site.node.attributes.get_float("momentum", 0.9)
    running = site.statistics.get(statistic, statistic)
    site.statistics[statistic] = site.Add(site.Mul(running, momentum), site.Mul(of_batch, 1 - momentum))


def train(site: Site) -> ir.Value:
    """Batch statistics, and running statistics that follow"""
    mean, variance = site.input(3), site.input(4)
    if not (mean.is_graph_input() and variance.is_graph_input()):
        raise site.refusal("has running statistics that are computed, so they cannot follow the batch's", FROZEN)
    for statistic in (mean, variance):
        for other, _ in statistic.uses():
            if other.op_type == "BatchNormalization" and other.inputs[1:5] != site.node.inputs[1:5]:
                why = f"shares running statistics with {place(other)}, but not all weights: they are of another layer"
                raise site.refusal(why, f"{FROZEN}, or export the model without merging equal tensors ({UNMERGED})")
    y, batch_mean, inverse_deviation = _by_batch_statistics(site)
    follow(site, mean, variance, batch_mean, inverse_deviation)
    return y


def frozen(site: Site) -> ir.Value:
    """Scale and shift by the running statistics"""
    if site.node.attributes.get_int("training_mode", 0):
        return _by_batch_statistics(site)[0]
    x, scale, bias, mean, variance = (site.input(i) for i in range(5))
    epsilon = site.node.attributes.get_float("epsilon", 1e-5)
    factor = site.Div(scale, site.Sqrt(site.Add(variance, epsilon)))
    shift = site.Sub(bias, site.Mul(mean, factor))
    return site.Add(site.Mul(x, channels(site, factor, x)), channels(site, shift, x))


def channels(site: Site, value: ir.Value, x: ir.Value) -> ir.Value:
    """*value*, [C], as [C, 1, …] so that it broadcasts against *x*, [N, C, …]."""
    trailing = list(range(1, site.rank(x) - 1))
    return site.Unsqueeze(value, trailing) if trailing else value
