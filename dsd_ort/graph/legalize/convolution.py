"""Convolution with explicit padding: ONNX Runtime's gradient of Conv reads ``pads`` and ignores ``auto_pad``.

SAME pads so that an axis of length L gives ⌈L/stride⌉ outputs: by total = max((⌈L/stride⌉ - 1)·stride + reach - L, 0)
with reach = (kernel - 1)·dilation + 1, half on either side; the odd one behind (UPPER) or in front (LOWER).
With stride 1 that is reach - 1, whatever L is; otherwise, where L is known at run time only, so is the padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dsd_ort.graph.legalize.site import Site


def conv(site: Site) -> ir.Value | None:
    """Conv with explicit pads"""
    if site.node.attributes.get_string("auto_pad", "NOTSET") == "NOTSET":
        return None
    w = site.input(1)
    kernel = [site.size(w, axis) for axis in range(2, site.rank(w))]
    x, pads = padded(site, kernel)
    bias = [site.optional(2)] if site.optional(2) else []
    return site.Conv(x, w, *bias, **site.attributes("auto_pad", "pads"), pads=pads)


def padded(site: Site, kernel: Sequence[int]) -> tuple[ir.Value, list[int]]:
    """The node's input and the value of ``pads`` that together do what its ``auto_pad`` and ``pads`` say."""
    x, attributes = site.input(0), site.node.attributes
    ones, zeros = [1] * len(kernel), [0] * 2 * len(kernel)
    mode = attributes.get_string("auto_pad", "NOTSET")
    if not mode.startswith("SAME"):
        return x, zeros if mode == "VALID" else list(attributes.get_ints("pads", zeros))
    strides = attributes.get_ints("strides", ones)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, attributes.get_ints("dilations", ones), strict=True)]
    sizes = site.shape(x)[2:]
    totals = [_total(n, s, r) for n, s, r in zip(sizes, strides, reach, strict=True)]
    if None in totals:
        return _padded_at_run_time(site, strides, reach, lower=mode == "SAME_LOWER"), zeros
    small, large = [t // 2 for t in totals if t is not None], [t - t // 2 for t in totals if t is not None]
    return x, large + small if mode == "SAME_LOWER" else small + large


def _total(length: int | str | None, stride: int, reach: int) -> int | None:
    if stride == 1:
        return reach - 1
    return max((-(-length // stride) - 1) * stride + reach - length, 0) if isinstance(length, int) else None


def _padded_at_run_time(site: Site, strides: Sequence[int], reach: Sequence[int], *, lower: bool) -> ir.Value:
    x = site.input(0)
    length, stride = site.Shape(x, start=2), site.constant(list(strides))
    last = site.Div(site.Sub(length, [1]), stride)  # ⌈L/stride⌉ - 1
    total = site.Max(site.Sub(site.Add(site.Mul(last, stride), list(reach)), length), [0])
    small = site.Div(total, [2])
    large = site.Sub(total, small)
    begin, end = (large, small) if lower else (small, large)
    return site.Pad(x, site.Concat([0, 0], begin, [0, 0], end, axis=0), np.zeros((), np.float32))
