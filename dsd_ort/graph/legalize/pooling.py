"""Pooling.

An average pool is linear and separable: along each axis it is the matrix A, [outputs, L], whose row o is 1/count at the
positions that window o covers, so y = A_h · x · A_wᵀ.  Two matrix products are as fast as a convolution with ones, and
need no gradient but a product's; ONNX Runtime's AveragePoolGrad reads the batch size from the static shape, which gives
zeros or ends the process where that is symbolic.  MaxPoolGrad does the same with all other axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.graph.legalize.convolution import padded
from dsd_ort.graph.legalize.reduction import extreme_over
from dsd_ort.graph.legalize.site import Site


def max_pool(site: Site) -> ir.Value | Sequence[ir.Value] | None:
    """MaxPool; where the image size is known at run time only, a GatherElements at MaxPool's indices"""
    x = site.input(0)
    fixed = all(isinstance(d, int) for d in site.shape(x)[1:])
    column_major = site.node.attributes.get_int("storage_order", 0) == 1
    if fixed and not column_major:
        return None
    if column_major and any(v.uses() for v in site.node.outputs[1:]):
        raise site.refusal(
            "gives column-major indices to another operator, which cannot be rewritten for training",
            "export the model with storage_order = 0",
        )
    y, indices = site.several("MaxPool", 2, x, **site.attributes("storage_order"))
    if fixed:
        return y
    picked = site.GatherElements(site.Reshape(x, [-1]), site.Reshape(indices, [-1]), axis=0)
    return site.Reshape(picked, site.Shape(indices)), indices


def global_max_pool(site: Site) -> ir.Value:
    """MaxPool over the whole image, or the maximum over its axes where the size is known at run time only"""
    x = site.input(0)
    dims = site.shape(x)
    if all(isinstance(d, int) for d in dims[1:]):
        return site.MaxPool(x, kernel_shape=dims[2:])
    return extreme_over(site, "ReduceMax", x, site.constant(list(range(2, len(dims)))), keepdims=1)


def average_pool(site: Site) -> ir.Value:
    """A product with one averaging matrix an axis (or GlobalAveragePool, or a convolution with ones)"""
    x, attributes = site.input(0), site.node.attributes
    kernel = attributes["kernel_shape"].as_ints()
    ones = [1] * len(kernel)
    strides, dilations = attributes.get_ints("strides", ones), attributes.get_ints("dilations", ones)
    sizes = [n for n in site.shape(x)[2:] if isinstance(n, int)]
    if len(sizes) < len(kernel):
        return _average_by_convolution(site, kernel)
    _, pads = padded(site, kernel)
    if list(kernel) == sizes and not any(pads):
        return site.GlobalAveragePool(x)
    matrices = [
        averaging_matrix(
            n,
            k,
            stride,
            dilation,
            (begin, end),
            ceil=bool(attributes.get_int("ceil_mode", 0)),
            count_padding=bool(attributes.get_int("count_include_pad", 0)),
        )
        for n, k, stride, dilation, begin, end in zip(
            sizes, kernel, strides, dilations, pads[: len(kernel)], pads[len(kernel) :], strict=True
        )
    ]
    return _along_axes(site, matrices)


def averaging_matrix(
    length: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int], *, ceil: bool, count_padding: bool
) -> npt.NDArray[np.float32]:
    """f32[outputs, length]: entry (o, i) is 1/count if window o covers position i."""
    begin, end = pads
    room = length + begin + end - (kernel - 1) * dilation - 1
    outputs = (-(-room // stride) if ceil else room // stride) + 1
    if ceil and (outputs - 1) * stride >= length + begin:
        outputs -= 1  # ONNX drops a window that would begin in the padding behind.
    positions = np.arange(outputs)[:, None] * stride - begin + np.arange(kernel) * dilation
    inside = (positions >= 0) & (positions < length)
    counted = positions < length + end if count_padding else inside
    matrix = np.zeros((outputs, length), np.float32)
    window, tap = np.nonzero(inside)
    matrix[window, positions[window, tap]] = 1 / counted.sum(axis=1)[window]
    return matrix


def _along_axes(site: Site, matrices: Sequence[npt.NDArray[np.float32]]) -> ir.Value:
    """The node's input times one matrix along each axis from the third on."""
    y = site.input(0)
    rank = site.rank(y)
    for axis, matrix in enumerate(matrices, start=2):
        if np.array_equal(matrix, np.eye(len(matrix))):
            continue
        if axis == rank - 1:
            y = site.MatMul(y, matrix.T.copy())
        elif axis == rank - 2:
            y = site.MatMul(matrix, y)
        else:
            swap = [rank - 1 if i == axis else axis if i == rank - 1 else i for i in range(rank)]
            y = site.Transpose(site.MatMul(site.Transpose(y, perm=swap), matrix.T.copy()), perm=swap)
    return site.Identity(y) if y is site.input(0) else y


def _average_by_convolution(site: Site, kernel: Sequence[int]) -> ir.Value:
    """Sum over the window / number of entries in it, both as convolutions with ones, for any image size."""
    x, attributes = site.input(0), site.node.attributes
    if attributes.get_int("ceil_mode", 0):
        raise site.refusal(
            "with ceil_mode = 1 cannot be rewritten for training unless the image size is fixed",
            "export the model with a fixed image size",
        )
    count = site.size(x, 1)
    image, pads = padded(site, kernel)
    settings = site.attributes("auto_pad", "pads", "count_include_pad", "ceil_mode")
    total = site.Conv(image, np.ones((count, 1, *kernel), np.float32), group=count, pads=pads, **settings)
    if attributes.get_int("count_include_pad", 0):
        return site.Div(total, float(np.prod(kernel)))
    ones = site.Expand(1.0, site.Concat([1, 1], site.Shape(x, start=2), axis=0))
    covered = site.Conv(ones, np.ones((1, 1, *kernel), np.float32), **site.attributes("count_include_pad", "ceil_mode"))
    return site.Div(total, covered)
