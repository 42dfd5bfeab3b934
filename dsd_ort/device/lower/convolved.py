"""Convolutions on the CPU.  Measured with ONNX Runtime 1.19 on AVX-512 and AVX2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dsd_ort.device.lower import exchanged, volume
from dsd_ort.device.lower.blocked import Layout
from dsd_ort.device.lower.convolution import Convolution, convolution_of, flip_transpose
from dsd_ort.device.lower.depthwise import Depthwise
from dsd_ort.device.lower.form import Choices
from dsd_ort.rewrite.site import Site

LARGEST_FLIPPED = 1 << 20
"""Elements: above this, flipping and transposing a kernel costs more than ConvGrad's own way to dX."""


def convolution(site: Site, choices: Choices) -> ir.Value | None:
    """Conv: Y = X ∗ W (+ bias), blocked."""
    x, weight, bias = site.input(0), site.input(1), site.node.inputs[2:]
    conv, layout = convolution_of(site.node, weight), choices.layout
    if conv is not None and choices.recent and Depthwise.suits(layout, conv):
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
    if conv is not None and choices.recent and Depthwise.suits(layout, conv):
        return Depthwise(site, layout, conv).gradients()
    if conv is None:
        return None
    data = _data_gradient(site, layout, conv, dy, weight) if site.node.outputs[0].name else None
    if choices.recent and (kernels := volume.kernel_gradients(site, conv)) is not None:
        return [data, *kernels]
    wanted = [output.name for output in site.node.outputs[1:]]
    if not any(wanted[:1]) or (any(wanted[1:]) and not choices.recent) or not exchanged.suits(conv):
        return data
    return [data, *exchanged.kernel_gradients(site, conv, dy, site.input(1), weight, bias=any(wanted[1:]))]


def _data_gradient(site: Site, layout: Layout, conv: Convolution, dy: ir.Value, weight: ir.Value) -> ir.Value | None:
    backward = conv.backward
    if backward is None:
        return None
    if layout.suits(conv):
        return layout.convolve(site, dy, layout.flipped_kernel(site, weight, conv), backward)
    if max(conv.kernel) > 1 and conv.out_channels * conv.in_channels * np.prod(conv.kernel) > LARGEST_FLIPPED:
        return None
    if max(conv.kernel) > 1 and conv.group == 1 and 2 * conv.in_channels <= conv.out_channels:
        return None  # few rows of a product: ConvGrad's own way is quicker
    return site.Conv(dy, flip_transpose(site, weight, conv), **backward.attributes)
