"""The gradient of a kernel over volumes, as that of a kernel over pictures.

ONNX Runtime copies what each place of a kernel of three axes reads number by number, for one of two axes row by row.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dsd_ort.device.lower import exchanged
from dsd_ort.device.lower.convolution import Convolution
from dsd_ort.rewrite.shapes import dims_of
from dsd_ort.rewrite.site import Site


def kernel_gradients(site: Site, conv: Convolution) -> Sequence[ir.Value] | None:
    """ConvGrad(dY, X, W) of X: f32[N, C, D, H, W]: dW and, where it is asked for, the bias's gradient.

    With K places along the depth, Y[:, :, d] is the convolution of a picture that has K·C channels, X at the depths
    that these places read: so N volumes are N·D' such pictures.
    """
    dy, x, weight = (site.input(i) for i in range(3))
    after, before, outputs = _lengths(dy), _lengths(x), [output.name for output in site.node.outputs[1:]]
    if len(conv.kernel) != 3 or after is None or before is None or not any(outputs):
        return None
    depth, places, filters = after[0], conv.kernel[0], conv.out_channels
    step, reach, (front, back) = conv.strides[0], conv.dilations[0], (conv.pads[0], conv.pads[3])
    if front or back:
        x = site.Pad(x, [0, 0, front, 0, 0, 0, 0, back, 0, 0])
    read = [site.Slice(x, [k * reach], [k * reach + (depth - 1) * step + 1], [2], [step]) for k in range(places)]
    stacked = site.Concat(*(site.Unsqueeze(part, [2]) for part in read), axis=2)
    pictures = site.Transpose(stacked, perm=[0, 3, 1, 2, 4, 5])
    flat = site.Reshape(pictures, [-1, places * conv.in_channels, *before[1:]])
    of_pictures = site.Reshape(site.Transpose(dy, perm=[0, 2, 1, 3, 4]), [-1, filters, *after[1:]])
    per_group = conv.in_channels // conv.group * places
    flat_weight = site.Reshape(weight, [filters, per_group, *conv.kernel[1:]])
    of_picture = Convolution(
        *(filters, per_group * conv.group, conv.kernel[1:], conv.strides[1:], conv.dilations[1:]),
        *([*conv.pads[1:3], *conv.pads[4:]], conv.group),
    )
    if exchanged.suits(of_picture):
        found = exchanged.kernel_gradients(site, of_picture, of_pictures, flat, flat_weight, bias=len(outputs) > 1)
    else:
        _, *found = site.several(
            "com.microsoft.ConvGrad", len(outputs) + 1, of_pictures, flat, flat_weight, **of_picture.attributes
        )
    return site.Reshape(found[0], [filters, conv.in_channels // conv.group, *conv.kernel]), *found[1:]


def _lengths(value: ir.Value) -> list[int] | None:
    """Of the axes behind examples and channels, where they are known."""
    dims = dims_of(value)
    lengths = [dim for dim in (dims or ())[2:] if isinstance(dim, int)]
    return None if dims is None or len(lengths) < len(dims) - 2 else lengths
