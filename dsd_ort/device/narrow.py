"""Convolutions of which a mask leaves whole output channels empty, on the channels that are left.

With k the channels of W that have a weight left, and P what puts channels k at their places among zeros::

    Y  = X ∗ W              →    Y  = P(X ∗ W[k])                 + bias, if there is one
    dX = ∂(X ∗ W)/∂X · dY   →    dX = ∂(X ∗ W[k])/∂X · dY[:, k]
    dW = ∂(X ∗ W)/∂W · dY   →    dW = P(∂(X ∗ W[k])/∂W · dY[:, k])

The empty channels of dW are 0 in place of what the mask makes 0.  dX is the same up to the order of float32 sums, the
rest to the bit where the kernel's sums do not depend on how many channels there are.  What stands behind a convolution,
as a batch norm, still sees all channels: an empty one is its bias, and what follows makes something of it.

P costs a copy of Y, so what is saved has to be worth it: :data:`WORTH`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.device.lower.convolution import convolution_of
from dsd_ort.rewrite.names import Names
from dsd_ort.rewrite.nodes import take_over
from dsd_ort.rewrite.operators import key
from dsd_ort.rewrite.path import Path
from dsd_ort.rewrite.site import Site

Left = Mapping[str, npt.NDArray[np.int64]]
"""Weight → the output channels that are computed."""
WORTH = 0.25
"""The share of channels that have to be spared to make a convolution narrower."""
WHOLE = 16
"""Channels are computed in multiples of this, as MLAS's blocked convolutions want them, with empty ones among them."""


def channels_left(kernels: Mapping[str, npt.NDArray[np.float32]]) -> Left:
    """Of the masks ``[M, …]`` of *kernels*, for those that leave enough channels empty, which ones are computed."""
    found = {}
    for name, mask in kernels.items():
        some = mask.reshape(len(mask), -1).any(axis=1)
        count = -(-np.count_nonzero(some) // WHOLE) * WHOLE
        if 0 < count <= (1 - WORTH) * len(mask):
            found[name] = np.sort(np.argsort(~some, kind="stable")[:count])
    return found


def narrow(model: ir.Model, left: Left) -> int:
    """Rewrites the convolutions of *model* whose weights are in *left*, in place; how many nodes.

    Args:
        model: a step graph whose convolutions read the weights themselves (:func:`dsd_ort.graph.masks.strip_weights`),
            which are zero where the masks are.
        left: what :func:`channels_left` found.
    """
    path, names, count = Path(model.graph, [], []), Names(model.graph), 0
    rows: dict[str, ir.Value] = {}
    for node in list(model.graph):
        forward, backward = key(node) == "Conv", key(node) == "com.microsoft.ConvGrad"
        if not forward and not backward:
            continue
        weight = node.inputs[1 if forward else 2]
        name, conv = "" if weight is None else weight.name or "", convolution_of(node, weight)
        if name not in left or conv is None or conv.group != 1:
            continue
        site = Site(node, path, names=names)
        if name not in rows:
            rows[name] = site.Gather(weight, left[name], axis=0)
        narrowed = (_forward if forward else _backward)(site, rows[name], left[name])
        for old, new in zip(node.outputs, narrowed, strict=False):
            if old.name and new is not None:
                take_over(old, new)
        site.put_before(node)
        model.graph.remove(node, safe=True)
        count += 1
    return count


def _forward(site: Site, weight: ir.Value, left: npt.NDArray[np.int64]) -> list[ir.Value | None]:
    """Y."""
    x, whole, bias = site.input(0), site.input(1), site.optional(2)
    channels, rank = site.size(whole, 0), site.rank(whole)
    y = _placed(site, site.Conv(x, weight, **site.attributes()), left, channels, axis=1)
    return [y if bias is None else site.Add(y, site.Reshape(bias, [1, channels] + [1] * (rank - 2)))]


def _backward(site: Site, weight: ir.Value, left: npt.NDArray[np.int64]) -> list[ir.Value | None]:
    """dX, dW and the bias's gradient, those of them that are read."""
    dy, x, whole = (site.input(i) for i in range(3))
    wanted = [bool(output.name) for output in site.node.outputs] + [False] * 2
    dx, dw = site.several("com.microsoft.ConvGrad", 2, site.Gather(dy, left, axis=1), x, weight, **site.attributes())
    if not wanted[0]:
        dx.name = ""
    placed = _placed(site, dw, left, site.size(whole, 0), axis=0) if wanted[1] else None
    bias = site.ReduceSum(dy, [0, *range(2, site.rank(whole))], keepdims=0) if wanted[2] else None
    return [dx, placed, bias]


def _placed(site: Site, value: ir.Value, left: npt.NDArray[np.int64], channels: int, *, axis: int) -> ir.Value:
    """*value* with its entries along *axis* at their places, and zeros at the others."""
    rank = site.rank(value)
    pads = [0] * (2 * rank)
    pads[rank + axis] = 1
    places = np.full(channels, len(left), np.int64)
    places[left] = np.arange(len(left))
    return site.Gather(site.Pad(value, pads), places, axis=axis)
