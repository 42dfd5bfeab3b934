"""Pooling.

An average pool is linear and separable: along each axis it is the matrix A, [outputs, L], whose row o is 1/count at the
positions that window o covers, so y = A_h · x · A_wᵀ; ONNX Runtime's AveragePoolGrad reads the batch size from the
static shape, which gives zeros or ends the process where that is symbolic.  MaxPoolGrad does the same with all other
axes.  The windows themselves are a matrix of zeros and ones: what LpPool with p = 1, the sum of absolute values, makes
of the unit matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.graph.legalize.convolution import axis_pads, pads_at_run_time
from dsd_ort.graph.legalize.reduction import extreme_over
from dsd_ort.graph.legalize.separable import Matrix, along, identity, is_short, length
from dsd_ort.graph.legalize.site import Operand, Site


def max_pool(site: Site) -> ir.Value | Sequence[ir.Value] | None:
    """MaxPool; where the image size is known at run time only, a GatherElements at MaxPool's indices"""
    x = site.input(0)
    fixed = all(isinstance(d, int) for d in site.shape(x)[1:])
    column_major = site.node.attributes.get_int("storage_order", 0) == 1
    if fixed and not column_major:
        return None
    y, indices = site.several("MaxPool", 2, x, **site.attributes("storage_order"))
    if not fixed:
        picked = site.GatherElements(site.Reshape(x, [-1]), site.Reshape(indices, [-1]), axis=0)
        y = site.Reshape(picked, site.Shape(indices))
    if column_major and any(v.uses() or v.is_graph_output() for v in site.node.outputs[1:]):
        indices = site.several("MaxPool", 2, x, **site.attributes())[1]
    return y, indices


def global_max_pool(site: Site) -> ir.Value:
    """MaxPool over the whole image, or the maximum over its axes where the size is known at run time only"""
    x = site.input(0)
    dims = site.shape(x)
    if all(isinstance(d, int) for d in dims[1:]):
        return site.MaxPool(x, kernel_shape=dims[2:])
    return extreme_over(site, "ReduceMax", x, site.constant(list(range(2, len(dims)))), keepdims=1)


def average_pool(site: Site) -> ir.Value:
    """A product with one averaging matrix an axis (or GlobalAveragePool); along sequences, a convolution with ones"""
    x, attributes = site.input(0), site.node.attributes
    kernel = attributes["kernel_shape"].as_ints()
    pads = axis_pads(site, kernel)
    if list(kernel) == list(site.shape(x)[2:]) and not any(map(any, filter(None, pads))):
        return site.GlobalAveragePool(x)
    if not all(is_short(site, x, 2 + i) for i in range(len(kernel))):
        return by_convolution(site, x, average=True)
    return _along_axes(site, x, [_averages(site, axis, pads[axis]) for axis in range(len(kernel))])


def lp_pool(site: Site) -> ir.Value:
    """``(Σ |x|^p)^(1/p)``, a product with one matrix of zeros and ones an axis, or a convolution with ones"""
    x, attributes = site.input(0), site.node.attributes
    p, kernel = attributes.get_int("p", 2), attributes["kernel_shape"].as_ints()
    power, pads = _power(site, x, p), axis_pads(site, kernel)
    if not all(is_short(site, x, 2 + i) for i in range(len(kernel))):
        return _root(site, by_convolution(site, power, average=False), p)
    return _root(site, _along_axes(site, power, [_windows(site, i, pads[i]) for i in range(len(kernel))]), p)


def global_lp_pool(site: Site) -> ir.Value:
    """``(Σ |x|^p)^(1/p)``"""
    x, p = site.input(0), site.node.attributes.get_int("p", 2)
    axes = list(range(2, site.rank(x)))
    return _root(site, site.ReduceSum(_power(site, x, p), axes, keepdims=1), p)


def _power(site: Site, x: ir.Value, p: int) -> ir.Value:
    magnitude = x if p % 2 == 0 else site.Abs(x)
    return magnitude if p == 1 else site.Pow(magnitude, float(p))


def _root(site: Site, total: ir.Value, p: int) -> ir.Value:
    """The p-th root, with a derivative of 0, not ∞, at 0: what is pooled there is 0 too, often behind a Relu."""
    if p == 1:
        return total
    positive = site.Greater(total, 0.0)
    root = site.Pow(site.Where(positive, total, 1.0), 1.0 / p)
    return site.Where(positive, root, 0.0)


def _averages(site: Site, i: int, pads: tuple[int, int] | None) -> Matrix:
    """The averaging matrix of the *i*-th axis of the image."""
    x, attributes = site.input(0), site.node.attributes
    kernel, stride, dilation = _window(site, i)
    ceil = bool(attributes.get_int("ceil_mode", 0))
    count_padding = bool(attributes.get_int("count_include_pad", 0))
    size = site.shape(x)[2 + i]
    if isinstance(size, int) and pads is not None:
        return averaging_matrix(size, kernel, stride, dilation, pads, ceil=ceil, count_padding=count_padding)
    windows = _windows(site, i, pads)
    if ceil and pads is not None:  # ONNX drops a window that would begin in the padding behind.
        reached = site.Add(length(site, x, 2 + i), [pads[0] + stride - 1])
        windows = site.Slice(windows, [0], site.Div(reached, [stride]), [0])
    if not count_padding:
        return site.Div(windows, site.ReduceSum(windows, [1]))
    if not ceil or pads is None:
        return site.Div(windows, float(kernel))
    ones = site.Expand(1.0, site.Concat([1, 1], site.Add(length(site, x, 2 + i), [sum(pads)]), axis=0))
    counts = site.LpPool(ones, p=1, kernel_shape=[kernel], strides=[stride], dilations=[dilation], ceil_mode=1)
    counts = site.Slice(site.Reshape(counts, [-1, 1]), [0], site.Shape(windows, end=1), [0])
    return site.Div(windows, counts)


def _window(site: Site, i: int) -> list[int]:
    """Kernel, stride and dilation along the *i*-th axis of the image."""
    names = "kernel_shape", "strides", "dilations"
    return [site.node.attributes.get_ints(name, [1] * (i + 1))[i] for name in names]


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


def _windows(site: Site, i: int, pads: tuple[int, int] | None) -> ir.Value:
    """f32[outputs, L] of the *i*-th axis of the image: entry (o, l) is 1 if window o covers position l."""
    kernel, stride, dilation = _window(site, i)
    padding = {"pads": list(pads)} if pads is not None else {"auto_pad": site.node.attributes["auto_pad"]}
    unit = site.Unsqueeze(identity(site, length(site, site.input(0), 2 + i)), [0])
    ceil = site.node.attributes.get_int("ceil_mode", 0)
    settings = {"kernel_shape": [kernel], "strides": [stride], "dilations": [dilation], "ceil_mode": ceil}
    columns = site.LpPool(unit, p=1, **settings, **padding)
    return site.Transpose(site.Squeeze(columns, [0]), perm=[1, 0])


def _along_axes(site: Site, x: ir.Value, matrices: Sequence[Matrix]) -> ir.Value:
    """*x*, of the shape of the node's input, times one matrix along each axis from the third on."""
    y, rank = x, site.rank(site.input(0))
    for axis, matrix in enumerate(matrices, start=2):
        if not (isinstance(matrix, np.ndarray) and np.array_equal(matrix, np.eye(len(matrix)))):
            y = along(site, y, rank, axis, matrix)
    return site.Identity(y) if y is site.input(0) else y


def by_convolution(site: Site, x: ir.Value, *, average: bool) -> ir.Value:
    """Sums over the windows of *x*, of the shape of the node's input, or their averages; all channels apart.

    The image is padded behind so that the last window just fits: n windows reach (n - 1)·stride + reach entries far.
    """
    attributes, kernel = site.node.attributes, site.node.attributes["kernel_shape"].as_ints()
    ones = [1] * len(kernel)
    strides, dilations = attributes.get_ints("strides", ones), attributes.get_ints("dilations", ones)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = [p for p in axis_pads(site, kernel) if p is not None]
    begin: Operand = [p[0] for p in pads]
    end: Operand = [p[1] for p in pads]
    if len(pads) < len(kernel):
        begin, end = pads_at_run_time(site, kernel)
    lengths = site.Shape(site.input(0), start=2)
    front = site.Add(lengths, begin)
    room = site.Sub(site.Add(front, end), reach)
    ceil = attributes.get_int("ceil_mode", 0) and attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
    count = site.Add(site.Div(site.Add(room, [s - 1 if ceil else 0 for s in strides]), list(strides)), [1])
    if ceil and average:  # ONNX drops a window that would begin in the padding behind.
        count = site.Min(count, site.Div(site.Add(front, [s - 1 for s in strides]), list(strides)))
    missing = site.Sub(site.Add(site.Mul(site.Sub(count, [1]), list(strides)), reach), front)

    def summed(image: ir.Value, before: Operand, behind: ir.Value) -> ir.Value:
        padded = site.Pad(image, site.Concat([0, 0], before, [0, 0], site.Max(behind, [0]), axis=0), 0.0)
        weights = np.ones((1, 1, *kernel), np.float32)
        return site.Conv(padded, weights, kernel_shape=kernel, strides=strides, dilations=dilations)

    apart = site.Reshape(x, site.Concat([-1, 1], lengths, axis=0))
    sums = site.Reshape(summed(apart, begin, missing), site.Concat(site.Shape(x, end=2), count, axis=0))
    if not average:
        return sums
    if attributes.get_int("count_include_pad", 0):
        counted = site.Expand(1.0, site.Concat([1, 1], site.Add(front, end), axis=0))
        return site.Div(sums, summed(counted, [0] * len(kernel), site.Sub(missing, end)))
    counted = site.Expand(1.0, site.Concat([1, 1], lengths, axis=0))
    return site.Div(sums, summed(counted, begin, missing))
