"""Forms for the CPU.  Measured with ONNX Runtime 1.19 on AVX-512 and AVX2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dsd_ort.device.lower.convolution import convolution_of, flip_transpose
from dsd_ort.device.lower.depthwise import Depthwise
from dsd_ort.device.lower.form import Choices
from dsd_ort.rewrite.site import Site

LARGEST_FLIPPED = 1 << 20
"""Elements: above this, flipping and transposing a kernel costs more than ConvGrad's own way to dX."""


def relu_gradient(site: Site, choices: Choices) -> ir.Value:
    """ReluGrad: dX = dY · [Y > 0], with [Y > 0] = min(1, L·Y) for Y ≥ 0 and L the largest float32.

    The operator selects element by element (a mispredicted branch each); HardSigmoid and Mul are vector code.  The
    factor is inexact only where Y is below 1/L, a denormal.
    """
    dy, y = site.input(0), site.input(1)
    return site.Mul(dy, site.HardSigmoid(y, alpha=float(np.finfo(np.float32).max), beta=0.0))


def convolution(site: Site, choices: Choices) -> ir.Value | None:
    """Conv: Y = X ∗ W (+ bias), blocked."""
    x, weight, bias = site.input(0), site.input(1), site.node.inputs[2:]
    conv, layout = convolution_of(site.node, weight), choices.layout
    if conv is not None and Depthwise.suits(layout, conv):
        return Depthwise(site, layout, conv).forward(x, weight, bias)
    if conv is None or not (layout.suits(conv) or layout.reads_plain(conv)):
        return None
    return layout.convolve(site, x, layout.kernel(site, weight, conv), conv, bias)


def convolution_gradient(site: Site, choices: Choices) -> ir.Value | Sequence[ir.Value | None] | None:
    """ConvGrad: dX = dY ∗ flip(Wᵀ) for stride 1; the node keeps dW and the bias's gradient, at half its cost.

    Wᵀ exchanges M and C (within each group); flip reverses the kernel's axes.  Of a depthwise one nothing need be left.
    """
    dy, weight, layout = site.input(0), site.input(2), choices.layout
    conv = convolution_of(site.node, weight)
    if conv is not None and Depthwise.suits(layout, conv):
        return Depthwise(site, layout, conv).gradients()
    if not site.node.outputs[0].name:
        return None
    backward = conv and conv.backward
    if conv is None or backward is None:
        return None
    if layout.suits(conv):
        return layout.convolve(site, dy, layout.flipped_kernel(site, weight, conv), backward)
    if max(conv.kernel) > 1 and conv.out_channels * conv.in_channels * np.prod(conv.kernel) > LARGEST_FLIPPED:
        return None
    return site.Conv(dy, flip_transpose(site, weight, conv), **backward.attributes)
