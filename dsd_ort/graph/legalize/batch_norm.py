"""Batch norm, y = scale · (x - μ) / √(σ² + ε) + bias, per channel (axis 1).

*train*: μ and σ² are those of the batch, σ² over n = N·H·W… entries with divisor n.  The running statistics M and V
follow with the node's momentum m (ONNX's m is 1 - PyTorch's), V with the unbiased variance, as in PyTorch::

    M ← m·M + (1 - m)·μ          V ← m·V + (1 - m)·σ²·n/(n - 1)

The operator is com.microsoft.BatchNormInternal, the only one whose gradient ONNX Runtime's builder knows.  Its output 2
is a running variance too, biased on the CPU and as cuDNN has it on CUDA; output 4 is s = 1/√(σ² + ε) everywhere, so
σ² = 1/s² - ε.  With n = 1 PyTorch refuses to train; here σ² = 0 counts as it is.

*frozen*: μ = M and σ² = V do not move, so y = x·a + (bias - M·a) with a = scale / √(V + ε).
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dsd_ort.graph.legalize.site import Site


FROZEN = 'set batch_norm = "frozen" in the recipe'


def _batch_statistics(site: Site) -> Sequence[ir.Value]:
    """BatchNormInternal: y, the running mean, the running variance (biased), μ, s."""
    inputs = [site.input(i) for i in range(5)]
    attributes = site.node.attributes
    return site.several(
        "com.microsoft.BatchNormInternal",
        5,
        *inputs,
        epsilon=attributes.get_float("epsilon", 1e-5),
        momentum=attributes.get_float("momentum", 0.9),
        training_mode=1,
    )


def _running_mean(site: Site, batch_mean: ir.Value, running: ir.Value) -> ir.Value:
    """``m·M + (1 - m)·μ``"""
    momentum = site.node.attributes.get_float("momentum", 0.9)
    return site.Add(site.Mul(running, momentum), site.Mul(batch_mean, 1 - momentum))


def _running_variance(site: Site, inverse_deviation: ir.Value, running: ir.Value) -> ir.Value:
    """``m·V + (1 - m)·max(1/s² - ε, 0)·n/max(n - 1, 1)``"""
    momentum = site.node.attributes.get_float("momentum", 0.9)
    epsilon = site.node.attributes.get_float("epsilon", 1e-5)
    count = site.Cast(site.Div(site.Size(site.input(0)), site.size(site.input(4), 0)), to=ir.DataType.FLOAT)
    weight = site.Div(site.Mul(count, 1 - momentum), site.Max(site.Sub(count, 1.0), 1.0))
    variance = site.Relu(site.Sub(site.Reciprocal(site.Mul(inverse_deviation, inverse_deviation)), epsilon))
    return site.Add(site.Mul(running, momentum), site.Mul(variance, weight))


def train(site: Site) -> Sequence[ir.Value]:
    """Batch statistics, and running statistics that follow"""
    mean, variance = site.input(3), site.input(4)
    if not (mean.is_graph_input() and variance.is_graph_input()):
        raise site.refusal("has running statistics that are computed, so they cannot follow the batch's", FROZEN)
    y, moved_mean, biased_variance, batch_mean, inverse_deviation = _batch_statistics(site)
    # A module that the model applies twice moves its statistics twice.
    new_mean = _running_mean(site, batch_mean, site.statistics[mean]) if mean in site.statistics else moved_mean
    new_variance = _running_variance(site, inverse_deviation, site.statistics.get(variance, variance))
    site.statistics.update({mean: new_mean, variance: new_variance})
    return y, moved_mean, biased_variance


def frozen(site: Site) -> ir.Value | Sequence[ir.Value]:
    """Scale and shift by the running statistics"""
    if site.node.attributes.get_int("training_mode", 0):
        return _batch_statistics(site)[:3]
    x, scale, bias, mean, variance = (site.input(i) for i in range(5))
    epsilon = site.node.attributes.get_float("epsilon", 1e-5)
    factor = site.Div(scale, site.Sqrt(site.Add(variance, epsilon)))
    shift = site.Sub(bias, site.Mul(mean, factor))
    return site.Add(site.Mul(x, channels(site, factor, x)), channels(site, shift, x))


def channels(site: Site, value: ir.Value, x: ir.Value) -> ir.Value:
    """*value*, [C], as [C, 1, …] so that it broadcasts against *x*, [N, C, …]."""
    trailing = list(range(1, site.rank(x) - 1))
    return site.Unsqueeze(value, trailing) if trailing else value
