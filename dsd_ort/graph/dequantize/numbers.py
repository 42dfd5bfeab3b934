"""Numbers that stand for others: x = scale · (q - zero)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.rewrite.quantised import RANGES

Array = npt.NDArray[Any]


def stands_for(q: Array, scale: Array, zero: Array | None, axis: int = -1, block: int = 0) -> Array:
    """The numbers that *q* ``[…]`` stands for, in the type of *scale*.

    Args:
        q: whole numbers, or floats of 8 bits.
        scale: one, one for each entry of *axis*, or one for each *block* entries along it.
        zero: as scale; without, it is 0.
        axis: of q.
        block: entries that share a scale, where there are blocks.
    """
    wide = np.float64
    fit = [_along(part, q.shape, axis, block) for part in (scale, np.zeros((), wide) if zero is None else zero)]
    values: Array = fit[0].astype(wide) * (q.astype(wide) - fit[1].astype(wide))
    return values.astype(scale.dtype)


def _along(part: Array, shape: tuple[int, ...], axis: int, block: int) -> Array:
    if part.size == 1:
        return part.reshape(())
    if block:
        return np.repeat(part, block, axis)[tuple(slice(size) for size in shape)]
    if part.ndim == 1:
        return part.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])
    return part


def bounds(scale: Array, zero: Array | None, dtype: ir.DataType) -> tuple[float, float]:
    """The least and the greatest number that one of *dtype* stands for; of several scales, for the widest."""
    levels = [np.asarray(level) for level in RANGES[dtype]]
    low, high = (stands_for(level, scale, zero) for level in levels)
    return float(low.min()), float(high.max())
