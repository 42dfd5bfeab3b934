"""Transposed convolution, which ONNX Runtime computes but cannot differentiate on the CPU.

Along an axis of length n, with kernel reach r = (kernel - 1)·dilation + 1, stride s, padding (p, q) and output padding
o, the output has s·(n - 1) + r + o - p - q entries.  So output padding is negative padding at the end, q ← q - o, and
negative padding is zeros added to the output.  ``output_shape`` and ``auto_pad`` say how long the output is; half of
the padding that follows goes to either side, the odd one in front (behind for SAME_UPPER).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dsd_ort.rewrite.autograd import Operator, operator
from dsd_ort.rewrite.site import Site


def conv_transpose(site: Site) -> ir.Value:
    """ConvTranspose with a backward of its own

    It is the gradient of a convolution X = Y ∗ W by Y.  So with Y and X in each other's place
    dX = dY ∗ W, and dW is that convolution's: ConvGrad of input dY and output gradient X.
    """
    x, w = site.input(0), site.input(1)
    rank = site.rank(w) - 2
    attributes = site.node.attributes
    strides = attributes.get_ints("strides", [1] * rank)
    dilations = attributes.get_ints("dilations", [1] * rank)
    kernel = [site.size(w, axis + 2) for axis in range(rank)]
    begin, end = _padding(site, [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)], strides)
    pads = [max(p, 0) for p in (*begin, *end)]
    group = attributes.get_int("group", 1)
    y = site.call(transposed_convolution(kernel, strides, dilations, pads, group), x, w)[0]
    if min(*begin, *end) < 0:
        added = [0, 0, *(max(-p, 0) for p in begin), 0, 0, *(max(-p, 0) for p in end)]
        y = site.Pad(y, added, np.zeros((), np.float32))
    bias = site.optional(2)
    return y if bias is None else site.Add(y, site.Reshape(bias, [-1, *[1] * rank]))


def transposed_convolution(
    kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int], group: int
) -> Operator:
    """(X: f32[N, C, H…], W: f32[C, M/group, K…]) → Y: f32[N, M, H'…]."""
    shape = f"kernel_shape = {list(kernel)}, strides = {list(strides)}, dilations = {list(dilations)}"
    attributes = f"<{shape}, pads = {list(pads)}, group = {group}>"
    return operator(
        "ConvTranspose",
        forward=f"(x, w) => (y) {{ y = ConvTranspose {attributes} (x, w) }}",
        backward=f"(dy, x, w) => (dx, dw) {{ dx = Conv {attributes} (dy, w) "
        f"unused, dw = com.microsoft.ConvGrad {attributes} (x, dy, w) }}",
    )


def _padding(site: Site, reach: Sequence[int], strides: Sequence[int]) -> tuple[list[int], list[int]]:
    """What is cut off in front and behind, an axis each; negative where zeros are added."""
    attributes, rank = site.node.attributes, len(reach)
    extra = list(attributes.get_ints("output_padding", [0] * rank))
    mode = attributes.get_string("auto_pad", "NOTSET")
    wanted = attributes.get_ints("output_shape", [])
    if wanted:
        x = site.input(0)
        lengths = [site.size(x, axis + 2) for axis in range(rank)]
        totals = [
            s * (n - 1) + r + o - length
            for n, r, s, o, length in zip(lengths, reach, strides, extra, list(wanted)[-rank:], strict=True)
        ]
    elif mode.startswith("SAME"):  # the output is strides times as long as the input
        totals = [r + o - s for r, s, o in zip(reach, strides, extra, strict=True)]
    else:
        zeros = [0] * 2 * rank
        pads = list(attributes.get_ints("pads", zeros)) if mode == "NOTSET" else zeros
        return pads[:rank], [q - o for q, o in zip(pads[rank:], extra, strict=True)]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    begin, end = (small, large) if mode == "SAME_UPPER" else (large, small)
    return begin, [q - o for q, o in zip(end, extra, strict=True)]
