"""Forms for the CPU.  Measured with ONNX Runtime 1.19 on AVX-512 and AVX2."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dsd_ort.device.lower.blocked import Layout
from dsd_ort.device.lower.bounded import is_bounded
from dsd_ort.device.lower.convolution import Convolution, convolution_of, flip_transpose
from dsd_ort.device.lower.depthwise import Depthwise
from dsd_ort.device.lower.form import Choices
from dsd_ort.device.lower.picked import put_together
from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.site import Site

MOST_QUARTERS = 12
"""A quarter of this is the largest exponent that roots and products take the place of."""
LARGEST_FLIPPED = 1 << 20
"""Elements: above this, flipping and transposing a kernel costs more than ConvGrad's own way to dX."""


def relu_gradient(site: Site, choices: Choices) -> ir.Value | None:
    """ReluGrad: dX = dY · [Y > 0], with [Y > 0] = min(1, L·Y) for Y ≥ 0 and L the largest float32.

    The operator selects element by element (a mispredicted branch each); HardSigmoid and Mul are vector code.  The
    factor is inexact only where Y is below 1/L, a denormal.
    """
    dy, y = site.input(0), site.input(1)
    if not is_bounded(dy):
        return None
    return site.Mul(dy, site.HardSigmoid(y, alpha=float(np.finfo(np.float32).max), beta=0.0))


def clip_gradient(site: Site, choices: Choices) -> ir.Value | None:
    """Where(X = Clip(X), dY, 0): dX = dY · [X = Y]; Where selects as ReluGrad does."""
    mask, dy, zero = (site.input(i) for i in range(3))
    equal, nothing = mask.producer(), constant_value(zero)
    if equal is None or equal.op_type != "Equal" or nothing is None or np.any(nothing):
        return None
    x, y = equal.inputs
    clip = None if y is None else y.producer()
    if clip is None or clip.op_type != "Clip" or clip.inputs[0] is not x or not is_bounded(dy):
        return None
    return site.Mul(dy, site.Cast(mask, to=ir.DataType.FLOAT))


def power(site: Site, choices: Choices) -> ir.Value | None:
    """Pow(X, q/4) of finite numbers, as in LRN: X^i · (√X)^j · (√√X)^k with 4i + 2j + k = |q|.

    Roots and products are vector code, as Pow is not.
    """
    x, exponent = site.input(0), constant_value(site.node.inputs[1])
    if exponent is None or exponent.ndim > 0 or x.dtype != ir.DataType.FLOAT:
        return None
    quarters = 4 * float(exponent.item())
    if not quarters.is_integer() or quarters % 4 == 0 or abs(quarters) > MOST_QUARTERS:
        return None
    root = site.Sqrt(x)
    parts = [x] * (int(abs(quarters)) // 4)
    parts += [root] if abs(quarters) % 4 >= 2 else []
    parts += [site.Sqrt(root)] if quarters % 2 else []
    found = functools.reduce(site.Mul, parts)
    return site.Reciprocal(found) if quarters < 0 else found


def addition(site: Site, choices: Choices) -> ir.Value | None:
    """Sums of gradients that are one node, whatever their parts are."""
    silu = silu_gradient(site) if len(site.node.inputs) == 2 else None
    return silu if silu is not None or not choices.recent else put_together(site)


def silu_gradient(site: Site) -> ir.Value | None:
    """DY · S + SigmoidGrad(dY · X, S), which is the gradient of X · S with S = sigmoid(X): one node, which reads X."""
    for direct, inner in (site.node.inputs, site.node.inputs[::-1]):
        gate, product = _made_by(inner, "SigmoidGrad"), _made_by(direct, "Mul")
        through, sigmoid = (_made_by(gate[0], "Mul"), _made_by(gate[1], "Sigmoid")) if gate else (None, None)
        if not (gate and product and through and sigmoid) or gate[1] not in product:
            continue
        s, x = gate[1], sigmoid[0]
        dy = product[1] if product[0] is s else product[0]
        if dy is not None and {dy, x} == {*through}:
            return site.op("com.microsoft.QuickGeluGrad", dy, x, alpha=1.0)
    return None


def _made_by(value: ir.Value | None, op_type: str) -> Sequence[ir.Value | None]:
    """The inputs of the *op_type* that gives *value*; none if something else does."""
    node = None if value is None else value.producer()
    return node.inputs if node is not None and node.op_type == op_type else ()


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
    return data if (kernel := _exchanged(site, conv, dy, weight)) is None else [data, kernel]


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


def _exchanged(site: Site, conv: Convolution, dy: ir.Value, weight: ir.Value) -> ir.Value | None:
    """The gradient dW with X and dY exchanged, where that leaves half as much to copy, or less.

    ConvGrad copies what each place of the kernel reads of its X.  With stride 1, dWᵀ flipped is the gradient of a
    convolution whose X is dY and whose dY is X.
    """
    wanted, backward = [output.name for output in site.node.outputs], conv.backward
    if len(wanted) < 2 or not wanted[1] or any(wanted[2:]) or backward is None or conv.group > 1:
        return None
    if max(conv.kernel) == 1 or 2 * conv.out_channels > conv.in_channels:
        return None
    shape = [conv.in_channels, conv.out_channels, *conv.kernel]
    unread, turned = site.several(
        "com.microsoft.ConvGrad", 2, site.input(1), dy, site.Reshape(weight, shape), **backward.attributes
    )
    unread.name = ""
    return flip_transpose(site, turned, backward)
