"""Pooling.

An average pool is linear and separable: along each axis it is the matrix A, [outputs, L], whose row o is 1/count at the
positions that window o covers, so y = A_h · x · A_wᵀ; ONNX Runtime's AveragePoolGrad reads the batch size from the
static shape, which gives zeros or ends the process where that is symbolic.  MaxPoolGrad does the same with all other
axes.  The windows themselves are a matrix of zeros and ones; where the size is known at run time only, what LpPool with
p = 1, the sum of absolute values, makes of the unit matrix.

What a window is, ONNX Runtime says, and the rules with it, where it differs from ONNX:

- With count_include_pad = 1 it divides by the size of the kernel, also where ceil_mode = 1 lets a window reach beyond
  the padding; ONNX, PyTorch and ONNX Runtime from 1.29 on count what is in the image and its padding.  The release that
  trains is asked in the graph: AveragePool of the unit matrix is the averaging matrix.  Not with dilations, which opset
  18 does not have for it; refused.
- SAME pads by (⌈L/stride⌉ - 1)·stride + kernel - L in all, which is not cut off at 0, the half rounded towards 0: where
  the stride is greater than the kernel, the first window may begin inside the image.  From 1.30 on MaxPool, and
  AveragePool before opset 19, do not run where this is less than 0.  Dilations are not considered, and the output is
  shorter than ONNX says; refused.
- With ceil_mode = 1 it keeps a window that begins in the padding behind, before 1.21, and the output is longer than
  ONNX says.  MaxPool, whose index is none there, and AveragePool before opset 19 read memory that is not theirs.  So
  every window that covers nothing is refused; where the size is known at run time only, ceil_mode that may give one.
- Where there is no window at all, it ends the process; refused where the size is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.graph.legalize.rules.convolution import axis_pads
from dsd_ort.graph.legalize.rules.separable import Matrix, along, identity, is_short, length
from dsd_ort.rewrite.nodes import Operand
from dsd_ort.rewrite.site import Site

NOT_ALL = "not every release of ONNX Runtime can run"


def max_pool(site: Site) -> Sequence[ir.Value] | None:
    """MaxPool whose indices, which its gradient reads, count along rows"""
    checked_pads(site)
    if site.node.attributes.get_int("storage_order", 0) == 0:
        return None
    y, indices = site.several("MaxPool", 2, site.input(0), **site.attributes("storage_order"))
    return y, along_columns(site) or indices


def along_columns(site: Site) -> ir.Value | None:
    """The node's own indices, where somebody reads them."""
    if any(v.uses() or v.is_graph_output() for v in site.node.outputs[1:]):
        return site.several("MaxPool", 2, site.input(0), **site.attributes())[1]
    return None


def global_max_pool(site: Site) -> ir.Value:
    """MaxPool over the whole image, or the maximum over its axes where the size is known at run time only"""
    x = site.input(0)
    dims = site.shape(x)
    if all(isinstance(d, int) for d in dims[1:]):
        return site.MaxPool(x, kernel_shape=dims[2:])
    return site.ReduceMax(x, list(range(2, len(dims))), keepdims=1)


def average_pool(site: Site) -> ir.Value:
    """A product with one averaging matrix an axis (or GlobalAveragePool); along sequences, a convolution with ones"""
    x, attributes = site.input(0), site.node.attributes
    kernel = attributes["kernel_shape"].as_ints()
    pads = checked_pads(site)
    if _depends_on_release(site) and any(d > 1 for d in attributes.get_ints("dilations", [1])):
        why = "with count_include_pad, ceil_mode and dilations is not the same in all releases of ONNX Runtime"
        raise site.refusal(why, "export the model with ceil_mode = 0")
    if list(kernel) == list(site.shape(x)[2:]) and not any(map(any, filter(None, pads))):
        return site.GlobalAveragePool(x)
    if not all(is_short(site, x, 2 + i) for i in range(len(kernel))):
        return by_convolution(site, x, pads, average=True)
    return _along_axes(site, x, [_averages(site, axis, pads[axis]) for axis in range(len(kernel))])


def lp_pool(site: Site) -> ir.Value:
    """``(Σ |x|^p)^(1/p)``, a product with one matrix of zeros and ones an axis, or a convolution with ones"""
    x, attributes = site.input(0), site.node.attributes
    p, kernel = attributes.get_int("p", 2), attributes["kernel_shape"].as_ints()
    pads, power = checked_pads(site), _power(site, x, p)
    if not all(is_short(site, x, 2 + i) for i in range(len(kernel))):
        return _root(site, by_convolution(site, power, pads, average=False), p)
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


def checked_pads(site: Site) -> list[tuple[int, int] | None]:
    """Padding in front and behind, an axis of the image, as ONNX Runtime reads it; None where it depends on the size.

    Raises:
        UnsupportedError: a window covers nothing, or may, or there is none; or SAME is asked for with dilations.
    """
    x, attributes = site.input(0), site.node.attributes
    same = attributes.get_string("auto_pad", "NOTSET").startswith("SAME")
    kernels, ceil = attributes["kernel_shape"].as_ints(), bool(attributes.get_int("ceil_mode", 0))
    pads = [_same_pads(site, i) for i in range(len(kernels))] if same else axis_pads(site, kernels)
    for i, (size, padding) in enumerate(zip(site.shape(x)[2:], pads, strict=True)):
        kernel, stride, dilation = _window(site, i)
        last = (kernel - 1) * dilation
        if same and dilation > 1 and kernel > 1:
            raise site.refusal("with auto_pad and dilations is not the same in ONNX and in ONNX Runtime", "use pads")
        if isinstance(size, int) and padding is not None:
            begins = _begins(size, kernel, stride, dilation, padding, ceil=ceil)
            first = np.where(begins < 0, begins % dilation, begins)  # in the image or behind
            if not min((first < size) & (first - begins <= last), default=False):
                why = f"has no window along axis {2 + i} of {x.name!r}, or one that covers nothing of it"
                raise site.refusal(f"{why}, which {NOT_ALL}", "change the pads, ceil_mode or input size")
        elif ceil and padding is not None and padding[1] + stride > last + 1:
            why = f"may have a window that begins behind {x.name!r} along axis {2 + i}, which {NOT_ALL}"
            raise site.refusal(why, "export the model with this dimension fixed, or with ceil_mode = 0")
    return pads


def _same_pads(site: Site, i: int) -> tuple[int, int] | None:
    """SAME padding of the *i*-th axis of the image, where the file says it."""
    size, (kernel, stride, _) = site.shape(site.input(0))[2 + i], _window(site, i)
    if isinstance(size, int):
        total = (-(-size // stride) - 1) * stride + kernel - size
    elif stride == 1:
        total = kernel - 1
    else:
        return None
    begin = int((total + _lower(site)) / 2)
    return begin, total - begin


def _same_pads_at_run_time(site: Site) -> tuple[ir.Value, ir.Value]:
    """SAME padding in front and behind, int64[axes] each."""
    kernel = site.node.attributes["kernel_shape"].as_ints()
    strides = site.constant(list(site.node.attributes.get_ints("strides", [1] * len(kernel))))
    length = site.Shape(site.input(0), start=2)
    last = site.Mul(site.Div(site.Sub(length, [1]), strides), strides)
    total = site.Sub(site.Add(last, list(kernel)), length)
    begin = site.Div(site.Add(total, [_lower(site)]), [2])
    return begin, site.Sub(total, begin)


def _lower(site: Site) -> int:
    return int(site.node.attributes.get_string("auto_pad", "NOTSET") == "SAME_LOWER")


def _averages(site: Site, i: int, pads: tuple[int, int] | None) -> Matrix:
    """The averaging matrix of the *i*-th axis of the image."""
    if _depends_on_release(site):
        return _columns(site, i, pads, "AveragePool", count_include_pad=1)
    kernel, windows = float(_window(site, i)[0]), _windows(site, i, pads)
    count_padding = bool(site.node.attributes.get_int("count_include_pad", 0))
    if isinstance(windows, np.ndarray):
        return windows / (kernel if count_padding else windows.sum(axis=1, keepdims=True))
    return site.Div(windows, kernel if count_padding else site.ReduceSum(windows, [1]))


def _depends_on_release(site: Site) -> bool:
    """Whether what an average divides by does."""
    return all(site.node.attributes.get_int(name, 0) for name in ("count_include_pad", "ceil_mode"))


def _window(site: Site, i: int) -> list[int]:
    """Kernel, stride and dilation along the *i*-th axis of the image."""
    names = "kernel_shape", "strides", "dilations"
    return [site.node.attributes.get_ints(name, [1] * (i + 1))[i] for name in names]


def _begins(
    length: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int], *, ceil: bool
) -> npt.NDArray[np.int64]:
    """int64[outputs]: where the windows begin, in the image or outside."""
    room = length + sum(pads) - (kernel - 1) * dilation - 1
    outputs = (-(-room // stride) if ceil else room // stride) + 1
    return np.arange(outputs) * stride - pads[0]


def _windows(site: Site, i: int, pads: tuple[int, int] | None) -> Matrix:
    """f32[outputs, L] of the *i*-th axis of the image: entry (o, l) is 1 if window o covers position l."""
    kernel, stride, dilation = _window(site, i)
    size, ceil = site.shape(site.input(0))[2 + i], site.node.attributes.get_int("ceil_mode", 0)
    if isinstance(size, int) and pads is not None:
        begins = _begins(size, kernel, stride, dilation, pads, ceil=bool(ceil))
        return _covered(size, begins[:, None] + np.arange(kernel) * dilation)
    return _columns(site, i, pads, "LpPool", p=1, dilations=[dilation])


def _columns(site: Site, i: int, pads: tuple[int, int] | None, pool: str, **more: Any) -> ir.Value:
    """f32[outputs, L] of the *i*-th axis of the image, at run time: what *pool* makes of the unit matrix."""
    kernel, stride, _ = _window(site, i)
    padding = {"pads": list(pads)} if pads is not None else {"auto_pad": site.node.attributes["auto_pad"]}
    unit = site.Unsqueeze(identity(site, length(site, site.input(0), 2 + i)), [0])
    ceil = site.node.attributes.get_int("ceil_mode", 0)
    pooled = site.op(pool, unit, kernel_shape=[kernel], strides=[stride], ceil_mode=ceil, **padding, **more)
    return site.Transpose(site.Squeeze(pooled, [0]), perm=[1, 0])


def _covered(size: int, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """f32[outputs, size]: 1 where a window has a position, of int64[outputs, kernel]; those outside are none."""
    matrix = np.zeros((len(positions), size), np.float32)
    window, tap = np.nonzero((positions >= 0) & (positions < size))
    matrix[window, positions[window, tap]] = 1
    return matrix


def _along_axes(site: Site, x: ir.Value, matrices: Sequence[Matrix]) -> ir.Value:
    """*x*, of the shape of the node's input, times one matrix along each axis from the third on."""
    y, rank = x, site.rank(site.input(0))
    for axis, matrix in enumerate(matrices, start=2):
        if not (isinstance(matrix, np.ndarray) and np.array_equal(matrix, np.eye(len(matrix)))):
            y = along(site, y, rank, axis, matrix)
    return site.Identity(y) if y is site.input(0) else y


def by_convolution(site: Site, x: ir.Value, pads: Sequence[tuple[int, int] | None], *, average: bool) -> ir.Value:
    """Sums over the windows of *x*, of the shape of the node's input, or their averages; all channels apart.

    The image is padded behind so that the last window just fits: n windows reach (n - 1)·stride + reach entries far.
    """
    attributes, kernel = site.node.attributes, site.node.attributes["kernel_shape"].as_ints()
    ones = [1] * len(kernel)
    strides, dilations = attributes.get_ints("strides", ones), attributes.get_ints("dilations", ones)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    known = [p for p in pads if p is not None]
    begin: Operand = [p[0] for p in known]
    end: Operand = [p[1] for p in known]
    if len(known) < len(kernel):
        begin, end = _same_pads_at_run_time(site)
    lengths = site.Shape(site.input(0), start=2)
    front = site.Add(lengths, begin)
    room = site.Sub(site.Add(front, end), reach)
    ceil = attributes.get_int("ceil_mode", 0)
    count = site.Add(site.Div(site.Add(room, [s - 1 if ceil else 0 for s in strides]), list(strides)), [1])
    missing = site.Sub(site.Add(site.Mul(site.Sub(count, [1]), list(strides)), reach), front)

    def summed(image: ir.Value) -> ir.Value:
        padded = site.Pad(image, site.Concat([0, 0], begin, [0, 0], missing, axis=0), 0.0)
        weights = np.ones((1, 1, *kernel), np.float32)
        return site.Conv(padded, weights, kernel_shape=kernel, strides=strides, dilations=dilations)

    apart = site.Reshape(x, site.Concat([-1, 1], lengths, axis=0))
    sums = site.Reshape(summed(apart), site.Concat(site.Shape(x, end=2), count, axis=0))
    if not average:
        return sums
    if attributes.get_int("count_include_pad", 0) and not _depends_on_release(site):
        return site.Div(sums, float(np.prod(kernel)))
    image = site.Expand(1.0, site.Concat([1, 1], lengths, axis=0))
    count = summed(image)
    if _depends_on_release(site):
        count = site.Div(count, site.AveragePool(image, **site.attributes()))
    return site.Div(sums, count)
