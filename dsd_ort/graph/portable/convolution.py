"""The gradients of a convolution Y = X ∗ W + b with strides s, dilations d, pads p and groups g.

X: f32[N, C, H…], W: f32[M, C/g, K…], Y: f32[N, M, H'…].
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import onnx_ir as ir

from dsd_ort.graph.legalize.site import Site
from dsd_ort.graph.lower import Convolution, convolution_of


def convolution(site: Site) -> Sequence[ir.Value | None]:
    """ConvGrad(dY, X, W): dX, dW and db, those of them that are read."""
    dy, x, weight = (site.input(i) for i in range(3))
    conv = convolution_of(site.node, weight)
    if conv is None:
        raise site.refusal("has a kernel of unknown shape, or automatic padding", "prepare the model again")
    rules = (_data, _kernel, _bias)
    wanted = [bool(output.name) and (bool(output.uses()) or output.is_graph_output()) for output in site.node.outputs]
    return [rule(site, dy, x, weight, conv) if want else None for rule, want in zip(rules, wanted, strict=False)]


def _data(site: Site, dy: ir.Value, x: ir.Value, weight: ir.Value, conv: Convolution) -> ir.Value:
    """DX = ConvTranspose(dY, W): Y's gradient spread out again.

    With a stride s > 1, up to s - 1 last rows of X are read by no window; they are made and cut where X's length is
    only known with the data.
    """
    reach = [p + q - d * (k - 1) - 1 for p, q, d, k in zip(*_sides(conv), conv.dilations, conv.kernel, strict=True)]
    lengths = site.shape(x)[2:]
    known = all(isinstance(n, int) for n in lengths)
    unread = [
        (n + r) % s if isinstance(n, int) else s - 1 for n, r, s in zip(lengths, reach, conv.strides, strict=True)
    ]
    full = site.ConvTranspose(dy, weight, output_padding=unread, **conv.attributes)
    if known or max(conv.strides) == 1:
        return full
    spatial = list(range(2, 2 + len(lengths)))
    return site.Slice(full, [0] * len(lengths), site.Shape(x, start=2), spatial)


def _kernel(site: Site, dy: ir.Value, x: ir.Value, weight: ir.Value, conv: Convolution) -> ir.Value:
    """dW[:, :, k…] = Σ over n and h' of dY[n, :, h'] · X[n, :, s·h' + d·k - p]: a matrix product for each k.

    Channels first, batch and positions are one axis: dY: [M, N·H'…], the part of X that k reads: [C, N·H'…].
    """
    rank, group = len(conv.kernel), conv.group
    first = [1, 0, *range(2, 2 + rank)]
    dy_rows = [group, conv.out_channels // group, -1] if group > 1 else [conv.out_channels, -1]
    x_rows = [group, conv.in_channels // group, -1] if group > 1 else [conv.in_channels, -1]
    left = site.Reshape(site.Transpose(dy, perm=first), dy_rows)
    right = site.Transpose(x, perm=first)
    if any(conv.pads):
        before, after = _sides(conv)
        right = site.Pad(right, [0, 0, *before, 0, 0, *after])
    parts = [site.Reshape(part, x_rows) for part in _windows(site, dy, right, conv)]
    if group > 1:
        products = [site.op("com.microsoft.FusedMatMul", left, part, transB=1) for part in parts]
    else:
        products = [site.Gemm(left, part, transB=1) for part in parts]
    return _assembled(site, products, conv)


def _windows(site: Site, dy: ir.Value, x: ir.Value, conv: Convolution) -> list[ir.Value]:
    """For each place in the kernel, what it reads of the padded x: f32[C, N, H'…]."""
    rank = len(conv.kernel)
    if max(conv.kernel) == 1 and max(conv.strides) == 1:
        return [x]
    spatial = list(range(2, 2 + rank))
    positions = site.shape(dy)[2:]
    known = all(isinstance(n, int) for n in positions)
    span: np.ndarray | ir.Value
    if known:
        span = (np.array(positions, np.int64) - 1) * conv.strides + 1
    else:
        span = site.Add(site.Mul(site.Sub(site.Shape(dy, start=2), [1]), conv.strides), [1])
    windows = []
    for place in product(*(range(k) for k in conv.kernel)):
        start = np.multiply(place, conv.dilations)
        end = start + span if isinstance(span, np.ndarray) else site.Add(span, start)
        windows.append(site.Slice(x, start, end, spatial, conv.strides))
    return windows


def _assembled(site: Site, products: list[ir.Value], conv: Convolution) -> ir.Value:
    """The products of all places in the kernel, [M, C/g] each (by groups [g, M/g, C/g]), as W lies."""
    shape = [conv.out_channels, conv.in_channels // conv.group, *conv.kernel]
    if len(products) == 1:
        return site.Reshape(products[0], shape)
    together = site.Reshape(site.Concat(*products, axis=0), [len(products), -1])
    return site.Reshape(site.Transpose(together, perm=[1, 0]), shape)


def _bias(site: Site, dy: ir.Value, x: ir.Value, weight: ir.Value, conv: Convolution) -> ir.Value:
    """Db = Σ dY over all but the channels."""
    return site.ReduceSum(dy, [0, *range(2, 2 + len(conv.kernel))], keepdims=0)


def _sides(conv: Convolution) -> tuple[list[int], list[int]]:
    rank = len(conv.kernel)
    return conv.pads[:rank], conv.pads[rank:]
