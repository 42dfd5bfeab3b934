"""Operators of ONNX's reference evaluator that its own are too slow for, or wrong or not in double precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx.reference.op_run import OpRun
from onnx.reference.ops import op_conv, op_max_pool

from dsd_ort.proof.control import Loop, Scan
from dsd_ort.proof.recurrence import GRU, LSTM, RNN


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
        kernel = tuple(range(2 + axes, 2 + 2 * axes))
        if per == made == 1:  # each channel for itself
            y = np.einsum(
                windows, [0, 1, *range(2, 2 + 2 * axes)], weight[:, 0], [1, *kernel], [0, 1, *range(2, 2 + axes)]
            )
        else:
            parts = [
                np.tensordot(
                    windows[:, g * per : (g + 1) * per],
                    weight[g * made : (g + 1) * made],
                    axes=((1, *kernel), (1, *range(2, 2 + axes))),
                )
                for g in range(group)
            ]
            y = np.moveaxis(np.concatenate(parts, axis=-1), -1, 1)
        return (y if bias is None else y + bias.reshape(-1, *[1] * axes),)


class MaxPool(op_max_pool.MaxPool):
    """The usual case: maxima of windows."""

    op_domain = ""

    def _run(self, x: Any, **attributes: Any) -> Any:  # type: ignore[override]
        axes = x.ndim - 2
        strides, dilations = attributes.get("strides") or [1] * axes, attributes.get("dilations") or [1] * axes
        pads = attributes.get("pads") or [0] * 2 * axes
        unusual = attributes.get("auto_pad") not in (None, "NOTSET") or attributes.get("ceil_mode")
        if unusual or min(pads) < 0 or len(self.output) > 1:
            return super()._run(x, **attributes)  # type: ignore[no-untyped-call]
        windows = _windows(_padded(x, pads, -np.inf), attributes["kernel_shape"], strides, dilations)
        return (windows.max(axis=tuple(range(2 + axes, 2 + 2 * axes))),)


class Erf(OpRun):
    """In double precision, which the reference evaluator's own is not."""

    op_domain = ""

    def _run(self, x: npt.NDArray[Any]) -> tuple[npt.NDArray[Any]]:
        return (np.frompyfunc(math.erf, 1, 1)(x).astype(x.dtype),)


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


class BatchNormalization(OpRun):
    """As a training step computes it: by mean and biased variance of the batch."""

    op_domain = ""

    def _run(self, x: Any, scale: Any, bias: Any, mean: Any, variance: Any, **attributes: Any) -> tuple[Any]:
        epsilon = attributes.get("epsilon") or 1e-5
        axes = (0, *range(2, x.ndim))
        shape = (1, -1) + (1,) * (x.ndim - 2)
        centred = x - x.mean(axis=axes, keepdims=True)
        deviation = np.sqrt(x.var(axis=axes, keepdims=True) + epsilon)
        return (scale.reshape(shape) * centred / deviation + bias.reshape(shape),)


ALWAYS: tuple[type[OpRun], ...] = (Conv, Erf, GatherElements, GlobalMaxPool, GRU, Loop, LSTM, MaxPool, RNN, Scan)
"""The ones that compute what ONNX says; BatchNormalization is that of a training step."""
