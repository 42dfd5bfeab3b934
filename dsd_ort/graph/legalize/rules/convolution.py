"""Convolution with explicit padding: ONNX Runtime's gradient of Conv reads ``pads`` and ignores ``auto_pad``.

SAME pads so that an axis of length L gives ⌈L/stride⌉ outputs: by total = max((⌈L/stride⌉ - 1)·stride + reach - L, 0)
with reach = (kernel - 1)·dilation + 1, half on either side; the odd one behind (UPPER) or in front (LOWER).
With stride 1 that is reach - 1, whatever L is; otherwise, where L is known at run time only, so is the padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dsd_ort.rewrite.site import Site


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
    pads, zeros = [p for p in axis_pads(site, kernel) if p is not None], [0] * 2 * len(kernel)
    if len(pads) == len(kernel):
        return site.input(0), [begin for begin, _ in pads] + [end for _, end in pads]
    begin, end = pads_at_run_time(site, kernel)
    return site.Pad(site.input(0), site.Concat([0, 0], begin, [0, 0], end, axis=0), np.zeros((), np.float32)), zeros


def axis_pads(site: Site, kernel: Sequence[int]) -> list[tuple[int, int] | None]:
    """Padding in front and behind, an axis of the image; None where it is known at run time only."""
    attributes, rank = site.node.attributes, len(kernel)
    mode = attributes.get_string("auto_pad", "NOTSET")
    if not mode.startswith("SAME"):
        pads = [] if mode == "VALID" else attributes.get_ints("pads", [])
        return list(zip(pads[:rank], pads[rank:], strict=True)) if pads else [(0, 0)] * rank
    strides, reach = _strides_and_reach(site, kernel)
    totals = [_total(n, s, r) for n, s, r in zip(site.shape(site.input(0))[2:], strides, reach, strict=True)]
    halves = [None if t is None else (t // 2, t - t // 2) for t in totals]
    return [h and h[::-1] for h in halves] if mode == "SAME_LOWER" else list(halves)


def _strides_and_reach(site: Site, kernel: Sequence[int]) -> tuple[Sequence[int], list[int]]:
    attributes, ones = site.node.attributes, [1] * len(kernel)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, attributes.get_ints("dilations", ones), strict=True)]
    return attributes.get_ints("strides", ones), reach


def _total(length: int | str | None, stride: int, reach: int) -> int | None:
    if stride == 1:
        return reach - 1
    return max((-(-length // stride) - 1) * stride + reach - length, 0) if isinstance(length, int) else None


def pads_at_run_time(site: Site, kernel: Sequence[int]) -> tuple[ir.Value, ir.Value]:
    """SAME padding in front and behind, int64[axes] each."""
    strides, reach = _strides_and_reach(site, kernel)
    length, stride = site.Shape(site.input(0), start=2), site.constant(list(strides))
    last = site.Div(site.Sub(length, [1]), stride)  # ⌈L/stride⌉ - 1
    total = site.Max(site.Sub(site.Add(site.Mul(last, stride), list(reach)), length), [0])
    small = site.Div(total, [2])
    large = site.Sub(total, small)
    lower = site.node.attributes.get_string("auto_pad", "NOTSET") == "SAME_LOWER"
    return (large, small) if lower else (small, large)
