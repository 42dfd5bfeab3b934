"""Examples of different lengths → one array.

Arrays that differ are filled up at the end of each axis to the longest of the batch: inputs with 0, labels with their
ignore_index.  Labels that are all empty become one ignored entry each, since a model takes no axis of length 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dsd_ort.fields import Field


def stack(arrays: Sequence[np.ndarray], field: Field) -> np.ndarray | None:
    """``[b, …]`` of a type that holds the arrays' values and the filling.

    None where filling up will not do: the arrays differ in their number of axes, or are labels without ignore_index.
    """
    can_be_ignored = field.label and field.ignore_index is not None
    if all(array.shape == arrays[0].shape for array in arrays) and (arrays[0].size or not can_be_ignored):
        return np.stack(arrays)
    if any(array.ndim != arrays[0].ndim for array in arrays) or (field.label and not can_be_ignored):
        return None
    least, value = (1, field.ignore_index) if field.label else (0, 0)
    longest = [max(least, *sizes) for sizes in zip(*(array.shape for array in arrays), strict=True)]
    dtype = np.result_type(*arrays)
    if field.label and dtype.kind in "ub":
        dtype = np.dtype(np.int64)  # the ignore_index may be negative
    out = np.full((len(arrays), *longest), value, dtype)
    for row, array in zip(out, arrays, strict=True):
        row[tuple(map(slice, array.shape))] = array
    return out
