"""Operators of ONNX's reference evaluator that its own are too slow for, or wrong or not in double precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx.reference.op_run import OpRun
from onnx.reference.ops import op_conv, op_conv_transpose, op_max_pool, op_scatter_elements

from dsd_ort.proof.control import Loop, Scan
from dsd_ort.proof.recurrence import GRU, LSTM, RNN

LRN_DEFAULTS = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0}
MOST = 20_000_000
"""Elements of windows that are copied at once."""


def _padded(x: Any, pads: Sequence[int], fill: float) -> Any:
    axes = x.ndim - 2
    return np.pad(x, [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)], constant_values=fill)


def _windows(x: Any, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Any:
    """What a kernel sees of *x*, [N, C, …]: [N, C, …places, …kernel], a view."""
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(*range(2, x.ndim),))
    steps = [slice(None, None, step) for step in (*strides, *dilations)]
    return windows[tuple([slice(None), slice(None), *steps])]  # noqa: C409 - 3.10 has no star in an index


class Conv(op_conv.Conv):
    """The reference evaluator's own is general and slow: this is the usual case as matrix products."""

    op_domain = ""

    def _run(self, x: Any, weight: Any, bias: Any = None, **attributes: Any) -> tuple[Any]:  # type: ignore[override]
        axes = x.ndim - 2
        group, strides = attributes.get("group") or 1, attributes.get("strides") or [1] * axes
        dilations, pads = attributes.get("dilations") or [1] * axes, attributes.get("pads") or [0] * 2 * axes
        if attributes.get("auto_pad") not in (None, "NOTSET") or min(pads) < 0:
            found: tuple[Any] = super()._run(x, weight, bias, **attributes)  # type: ignore[no-untyped-call]
            return found
        windows = _windows(_padded(x, pads, 0.0), weight.shape[2:], strides, dilations)
        per, made = x.shape[1] // group, weight.shape[0] // group
        images, places = len(x), windows.shape[2 : 2 + axes]
        if per * made > 1 and windows.size <= MOST:
            kernel = tuple(range(1, 2 + axes)), (1, *range(2 + axes, 2 + 2 * axes))
            split = zip(np.split(windows, group, 1), np.split(weight, group), strict=True)
            y = np.concatenate([np.moveaxis(np.tensordot(x, w, kernel[::-1]), -1, 1) for x, w in split], axis=1)
        else:  # a place of the kernel after the other, which copies less
            columns = weight.reshape(group, made, per, *weight.shape[2:])
            y = np.zeros((images, group, made, math.prod(places)), np.result_type(x, weight))
            for at in np.ndindex(*weight.shape[2:]):
                rows = windows[(slice(None),) * (2 + axes) + at].reshape(images, group, per, -1)
                column = columns[(slice(None),) * 3 + at]
                y += column * rows if per == 1 and made == 1 else column @ rows
            y = y.reshape(images, -1, *places)
        return (y if bias is None else y + bias.reshape(-1, *[1] * axes),)


class MaxPool(op_max_pool.MaxPool):
    """The usual case: maxima of windows."""

    op_domain = ""

    def _run(self, x: Any, **attributes: Any) -> Any:  # type: ignore[override]
        axes = x.ndim - 2
        strides, dilations = attributes.get("strides") or [1] * axes, attributes.get("dilations") or [1] * axes
        pads = attributes.get("pads") or [0] * 2 * axes
        unusual = attributes.get("auto_pad") not in (None, "NOTSET") or attributes.get("ceil_mode")
        if unusual or min(pads) < 0 or attributes.get("storage_order"):
            return super()._run(x, **attributes)  # type: ignore[no-untyped-call]
        kernel, places = attributes["kernel_shape"], tuple(range(2 + axes, 2 + 2 * axes))
        windows = _windows(_padded(x, pads, -np.inf), kernel, strides, dilations)
        if len(self.output) == 1:
            return (windows.max(axis=places),)
        first = windows.reshape(*windows.shape[: 2 + axes], -1).argmax(-1)
        numbers = np.arange(x.size).reshape(x.shape)
        numbered = _windows(_padded(numbers, pads, 0), kernel, strides, dilations)
        where = np.take_along_axis(numbered.reshape(*first.shape, -1), first[..., None], -1)[..., 0]
        return windows.max(axis=places), where


class ConvTranspose(op_conv_transpose.ConvTranspose):
    """The usual case: what each place of the kernel makes is added where it belongs."""

    op_domain = ""

    def _run(self, x: Any, weight: Any, bias: Any = None, **attributes: Any) -> tuple[Any]:  # type: ignore[override]
        axes = x.ndim - 2
        group, strides = attributes.get("group") or 1, attributes.get("strides") or [1] * axes
        dilations, pads = attributes.get("dilations") or [1] * axes, attributes.get("pads") or [0] * 2 * axes
        unusual = attributes.get("auto_pad") not in (None, "NOTSET") or attributes.get("output_shape") is not None
        if unusual or min(pads) < 0:
            found: tuple[Any] = super()._run(x, weight, bias, **attributes)  # type: ignore[no-untyped-call]
            return found
        beyond, kernel = attributes.get("output_padding") or [0] * axes, weight.shape[2:]
        sizes = zip(x.shape[2:], strides, dilations, kernel, beyond, strict=True)
        whole = [s * (n - 1) + d * (k - 1) + 1 + o for n, s, d, k, o in sizes]
        images, per, made = len(x), x.shape[1] // group, weight.shape[1]
        y = np.zeros((images, group, made, *whole), x.dtype)
        rows = x.reshape(images, group, per, -1)
        for place in np.ndindex(*kernel):
            columns = weight[(slice(None),) * 2 + place].reshape(group, per, made).swapaxes(1, 2)
            spans = zip(place, dilations, x.shape[2:], strides, strict=True)
            where = tuple(slice(i * d, i * d + s * (n - 1) + 1, s) for i, d, n, s in spans)
            y[(slice(None),) * 3 + where] += (columns @ rows).reshape(images, group, made, *x.shape[2:])
        ends = zip(whole, pads[:axes], pads[axes:], strict=True)
        inside = tuple(slice(before, n - after) for n, before, after in ends)
        y = y.reshape(images, -1, *whole)[(slice(None),) * 2 + inside]
        return (y if bias is None else y + bias.reshape(-1, *[1] * axes),)


class ConvGrad(OpRun):
    """dX, dW and db of a convolution, a place of the kernel after the other; those that the node has."""

    op_domain = "com.microsoft"

    def _run(self, dy: Any, x: Any, weight: Any, **attributes: Any) -> tuple[Any, ...]:
        axes, kernel = x.ndim - 2, weight.shape[2:]
        group, strides = attributes.get("group") or 1, attributes.get("strides") or [1] * axes
        dilations, pads = attributes.get("dilations") or [1] * axes, attributes.get("pads") or [0] * 2 * axes
        per, made = x.shape[1] // group, weight.shape[0] // group
        padded = _padded(x, pads, 0.0)
        dx, dw = np.zeros_like(padded), np.zeros((*kernel, group, made, per), x.dtype)
        columns = weight.reshape(group, made, per, *kernel)
        rows = dy.reshape(len(x), group, made, -1)
        for at in np.ndindex(*kernel):
            spans = zip(at, dilations, dy.shape[2:], strides, strict=True)
            where = (slice(None),) * 2 + tuple(slice(i * d, i * d + s * (n - 1) + 1, s) for i, d, n, s in spans)
            seen = padded[where]
            dw[at] = (rows @ seen.reshape(len(x), group, per, -1).swapaxes(-1, -2)).sum(0)
            dx[where] += (columns[(slice(None),) * 3 + at].swapaxes(1, 2) @ rows).reshape(seen.shape)
        inside = tuple(slice(before, before + n) for before, n in zip(pads, x.shape[2:], strict=False))
        dw = np.moveaxis(dw.reshape(*kernel, *weight.shape[:2]), range(axes), range(2, 2 + axes))
        found = (dx[(slice(None),) * 2 + inside], dw, dy.sum(axis=(0, *range(2, dy.ndim))))
        return found[: len(self.output)]


class Gelu(OpRun):
    """Of com.microsoft: x·Φ(x)."""

    op_domain = "com.microsoft"

    def _run(self, x: npt.NDArray[Any], **attributes: Any) -> tuple[npt.NDArray[Any]]:
        erf = np.asarray(np.frompyfunc(math.erf, 1, 1)(x / math.sqrt(2)), x.dtype)
        return (x * (0.5 + 0.5 * erf),)


class BiasGelu(Gelu):
    """Of a sum."""

    def _run(  # type: ignore[override]
        self, x: npt.NDArray[Any], bias: npt.NDArray[Any], **attributes: Any
    ) -> tuple[npt.NDArray[Any]]:
        return super()._run(x + bias)


class QuickGelu(OpRun):
    """x·σ(alpha·x)."""

    op_domain = "com.microsoft"

    def _run(self, x: npt.NDArray[Any], **attributes: Any) -> tuple[npt.NDArray[Any]]:
        return (x / (1 + np.exp(-attributes.get("alpha", 1.702) * x)),)


class FusedMatMul(OpRun):
    """alpha · op(A) · op(B), where op may transpose the last two axes."""

    op_domain = "com.microsoft"

    def _run(self, a: Any, b: Any, **attributes: Any) -> tuple[Any]:
        a = a.swapaxes(-1, -2) if attributes.get("transA") and a.ndim > 1 else a
        b = b.swapaxes(-1, -2) if attributes.get("transB") and b.ndim > 1 else b
        return (attributes.get("alpha", 1.0) * (a @ b),)


class ScatterElements(op_scatter_elements.ScatterElements):
    """The usual case: entries are put, or added, where they belong."""

    op_domain = ""

    def _run(self, data: Any, indices: Any, updates: Any, **attributes: Any) -> tuple[Any]:  # type: ignore[override]
        reduction, axis = attributes.get("reduction") or "none", (attributes.get("axis") or 0) % data.ndim
        if reduction not in ("none", "add"):
            if data.dtype.kind == "c":
                raise TypeError("no order of complex numbers is meant")
            found: tuple[Any] = super()._run(data, indices, updates, **attributes)  # type: ignore[no-untyped-call]
            return found
        where: list[Any] = list(np.indices(indices.shape, sparse=True))
        where[axis] = indices % data.shape[axis]
        y = data.copy()
        if reduction == "add":
            np.add.at(y, tuple(where), updates)
        else:
            y[tuple(where)] = updates
        return (y,)


class Erf(OpRun):
    """In double precision, which the reference evaluator's own is not."""

    op_domain = ""

    def _run(self, x: npt.NDArray[Any]) -> tuple[npt.NDArray[Any]]:
        return (np.asarray(np.frompyfunc(math.erf, 1, 1)(x), x.dtype),)


class GatherElements(OpRun):
    """From any number of elements: the reference evaluator's own takes 64 of three axes or more."""

    op_domain = ""

    def _run(self, x: Any, indices: Any, axis: int | None = None) -> tuple[Any]:
        axis = (axis or 0) % x.ndim
        within = tuple(slice(None) if i == axis else slice(size) for i, size in enumerate(indices.shape))
        return (np.take_along_axis(x[within], indices, axis),)


class GlobalMaxPool(OpRun):
    """The reference evaluator's own loses an axis of what has three."""

    op_domain = ""

    def _run(self, x: npt.NDArray[Any]) -> tuple[npt.NDArray[Any]]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class LRN(OpRun):
    """Over all channels: the reference evaluator's own sums as many of them as the batch has examples."""

    op_domain = ""

    def _run(self, x: Any, **attributes: Any) -> tuple[Any]:
        size = attributes["size"]
        around = [(0, 0), ((size - 1) // 2, size // 2), *[(0, 0)] * (x.ndim - 2)]
        squares = np.lib.stride_tricks.sliding_window_view(np.pad(x * x, around), size, axis=1).sum(-1)
        alpha, beta, bias = (attributes.get(name, value) for name, value in LRN_DEFAULTS.items())
        return (x / (bias + alpha / size * squares) ** beta,)


class BatchNormalization(OpRun):
    """As a training step computes it: by mean and biased variance of the batch."""

    op_domain = ""

    def _run(self, x: Any, scale: Any, bias: Any, mean: Any, variance: Any, **attributes: Any) -> tuple[Any]:
        epsilon = attributes.get("epsilon") or 1e-5
        axes = (0, *range(2, x.ndim))
        shape = (1, -1) + (1,) * (x.ndim - 2)
        centred = x - x.mean(axis=axes, keepdims=True)
        deviation = np.sqrt((centred * centred).mean(axis=axes, keepdims=True) + epsilon)
        return (scale.reshape(shape) * centred / deviation + bias.reshape(shape),)


ALWAYS: tuple[type[OpRun], ...] = (
    *(BiasGelu, Conv, ConvGrad, ConvTranspose, Erf, FusedMatMul, GatherElements, Gelu, GlobalMaxPool, GRU, Loop, LSTM),
    *(LRN, MaxPool, QuickGelu, RNN, Scan, ScatterElements),
)
"""The ones that compute what ONNX says; BatchNormalization is that of a training step."""
