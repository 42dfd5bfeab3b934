"""The gradient of a kernel with X and dY exchanged.

ConvGrad copies what each place of the kernel reads of its X.  With stride 1, dWᵀ flipped is the gradient of a
convolution whose X is dY and whose dY is X, which has less to copy where dY has fewer channels.
"""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.device.lower.convolution import Convolution, flip_transpose
from dsd_ort.rewrite.site import Site


def suits(conv: Convolution) -> bool:
    """Is half as much to copy then, or less?"""
    possible = conv.backward is not None and conv.group == 1 and max(conv.kernel) > 1
    return possible and 2 * conv.out_channels <= conv.in_channels


def kernel_gradients(
    site: Site, conv: Convolution, dy: ir.Value, x: ir.Value, weight: ir.Value, *, bias: bool
) -> list[ir.Value]:
    """dW, and with *bias* its gradient, of a convolution that this :func:`suits`."""
    backward = conv.backward
    assert backward is not None
    shape = [conv.in_channels, conv.out_channels, *conv.kernel]
    unread, turned = site.several(
        "com.microsoft.ConvGrad", 2, x, dy, site.Reshape(weight, shape), **backward.attributes
    )
    unread.name = ""
    axes = [0, *range(2, 2 + len(conv.kernel))]
    return [flip_transpose(site, turned, backward), *([site.ReduceSum(dy, axes, keepdims=0)] if bias else [])]
