"""Images cut out, and put together from patches: Col2Im, MaxUnpool, CenterCropPad, MaxRoiPool."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsd_ort.graph.legalize.rules.separable import length, positions
from dsd_ort.rewrite.nodes import Operand
from dsd_ort.rewrite.site import Site


def col2im(site: Site) -> ir.Value:
    """A ScatterElements that adds all blocks into zeros, the padding cut off

    Entry k of block l stands at position k·dilation + l·stride of the padded image, along each axis.
    """
    x, image, attributes = site.input(0), site.input(1), site.node.attributes
    kernel = site.known(site.input(2), "block sizes").tolist()
    rank = len(kernel)
    ones, pads = [1] * rank, attributes.get_ints("pads", [0] * 2 * rank)
    strides, dilations = attributes.get_ints("strides", ones), attributes.get_ints("dilations", ones)
    around = [pads[i] + pads[rank + i] for i in range(rank)]
    padded = site.Add(image, around)
    place: Operand = [0]  # of each entry in the flattened image, int64[k_0, …, l_0, …], axis by axis
    for i, (k, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True)):
        size = site.Slice(padded, [i], [i + 1])
        count = site.Add(site.Div(site.Sub(size, [(k - 1) * dilation + 1]), [stride]), [1])
        within = (np.arange(k) * dilation).reshape([-1 if j == i else 1 for j in range(2 * rank)])
        block = [-1 if j == rank + i else 1 for j in range(2 * rank)]
        along = site.Add(site.Reshape(site.Mul(positions(site, count), [stride]), block), within)
        place = site.Add(site.Mul(place, size), along)
    entries = site.Transpose(
        site.Reshape(x, site.Concat([0, -1], site.Reshape(site.Size(place), [1]), axis=0)), perm=[2, 0, 1]
    )
    total = site.Concat(site.ReduceProd(padded, keepdims=1), site.Shape(entries, start=1), axis=0)
    everywhere = site.Expand(site.Reshape(place, [-1, 1, 1]), site.Shape(entries))
    summed = site.ScatterElements(site.ConstantOfShape(total), everywhere, entries, axis=0, reduction="add")
    y = site.Reshape(site.Transpose(summed, perm=[1, 2, 0]), site.Concat([0, 0], padded, axis=0))
    if not any(pads):
        return y
    axes = list(range(2, 2 + rank))
    return site.Slice(y, list(pads[:rank]), site.Add(image, list(pads[:rank])), axes)


def max_unpool(site: Site) -> ir.Value:
    """A ScatterElements into zeros"""
    x, indices, attributes = site.input(0), site.input(1), site.node.attributes
    kernel = attributes["kernel_shape"].as_ints()
    rank = len(kernel)
    strides, pads = attributes.get_ints("strides", [1] * rank), attributes.get_ints("pads", [0] * 2 * rank)
    shape = site.optional(2)
    if shape is None:
        more = [k - s - pads[i] - pads[rank + i] for i, (k, s) in enumerate(zip(kernel, strides, strict=True))]
        lengths = site.Add(site.Mul(site.Shape(x, start=2), list(strides)), more)
        shape = site.Concat(site.Shape(x, end=2), lengths, axis=0)
    count = site.ReduceProd(shape, keepdims=1)
    values, places = site.Reshape(x, [-1]), site.Reshape(indices, [-1])
    if any(s < k for s, k in zip(strides, kernel, strict=True)):
        # Windows overlap, so that several entries may have one place: the last stays, and alone gets a gradient.
        number = positions(site, site.Shape(places))
        last = site.ScatterElements(site.ConstantOfShape(count, value=ir.tensor(np.zeros(1, np.int64))), places, number)
        values = site.Where(site.Equal(site.GatherElements(last, places), number), values, 0.0)
    return site.Reshape(site.ScatterElements(site.ConstantOfShape(count), places, values), shape)


def center_crop_pad(site: Site) -> ir.Value:
    """Pad, with a negative width where it crops"""
    x = site.input(0)
    rank = site.rank(x)
    axes = [axis % rank for axis in site.node.attributes.get_ints("axes", range(rank))]
    total = site.Sub(site.input(1), site.Gather(site.Shape(x), axes))
    before = site.Div(total, [2])  # Towards 0: the odd one is behind, whether added or cut off.
    widths: Operand = site.Concat(before, site.Sub(total, before), axis=0)
    if axes != list(range(rank)):
        widths = site.ScatterElements(np.zeros(2 * rank, np.int64), [*axes, *(rank + axis for axis in axes)], widths)
    return site.Pad(x, widths)


def max_roi_pool(site: Site) -> ir.Value:
    """The greatest along the rows of each bin, then along its columns: ties share the gradient"""
    x, rois, attributes = site.input(0), site.input(1), site.node.attributes
    pooled = attributes["pooled_shape"].as_ints()
    if site.path.carries(rois):
        raise site.refusal(
            "has a derivative of zero with respect to its regions, which depend on a parameter",
            "freeze the parameters that the regions depend on",
        )
    batch, corners = (site.Slice(rois, [begin], [end], [1]) for begin, end in ((0, 1), (1, 5)))
    scaled = site.Mul(corners, attributes.get_float("spatial_scale", 1.0))
    # Half away from 0, where Round is half to even.
    whole = site.Mul(site.Sign(scaled), site.Floor(site.Add(site.Abs(scaled), 0.5)))
    images = site.Gather(x, site.Cast(site.Squeeze(batch, [1]), to=ir.DataType.INT64))
    y = images
    for i, axis in enumerate((2, 3)):
        first, last = (site.Slice(whole, [begin], [begin + 1], [1]) for begin in (1 - i, 3 - i))  # x1, y1, x2, y2
        covered = _bins(site, first, last, length(site, x, axis), pooled[i])  # bool[R, bins, L]
        mask = site.Unsqueeze(covered, [1, 4] if i == 0 else [1, 2])
        y = site.Unsqueeze(y, [axis])
        spread = site.Expand(y, site.Concat([1] * axis, [pooled[i]], [1] * (4 - axis), axis=0))
        values = site.Where(mask, spread, float("-inf"))
        y = site.ReduceMax(values, [axis + 1], keepdims=0)
    return site.Where(site.Greater(y, float("-inf")), y, 0.0)


def _bins(site: Site, first: ir.Value, last: ir.Value, size: ir.Value, count: int) -> ir.Value:
    """Which positions each of *count* bins covers: from ⌊p·b⌋ to ⌈(p + 1)·b⌉ behind *first*, b the bins' length."""
    extent = site.Max(site.Add(site.Sub(last, first), 1.0), 1.0)
    b = site.Unsqueeze(site.Div(extent, float(count)), [2])
    p = np.arange(count, dtype=np.float32)[:, None]
    behind = site.Sub(site.Cast(positions(site, size), to=ir.DataType.FLOAT), site.Unsqueeze(first, [2]))
    begin, end = site.Floor(site.Mul(b, p)), site.Ceil(site.Mul(b, p + 1))
    return site.And(site.GreaterOrEqual(behind, begin), site.Less(behind, end))
