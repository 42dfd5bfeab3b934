"""Examples of different lengths → one array.

Arrays that differ are filled up at the end of each axis to the longest of the batch: inputs with 0, labels with their
ignore_index.  Labels that are all empty become one ignored entry each, since a model takes no axis of length 0.  Axes
that the model leaves open can be filled up further, to a multiple of some length: then there are few shapes of batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dsd_ort.fields import Field


def stack(arrays: Sequence[np.ndarray], field: Field, multiple: int = 1) -> np.ndarray | None:
    """``[b, …]`` of a type that holds the arrays' values and the filling.

    None where filling up will not do: the arrays differ in their number of axes, or are labels without ignore_index.

    Args:
        arrays: of one field, an example each.
        field: what they are for.
        multiple: of what lengths are, along axes that the model leaves open.
    """
    can_be_ignored = field.label and field.ignore_index is not None
    if field.label and not can_be_ignored:
        multiple = 1
    uneven = any(array.shape != arrays[0].shape for array in arrays)
    if not uneven and multiple == 1 and (arrays[0].size or not can_be_ignored):
        return np.stack(arrays)
    if any(array.ndim != arrays[0].ndim for array in arrays) or (field.label and not can_be_ignored):
        return None
    least, value = (1, field.ignore_index) if field.label else (0, 0)
    longest = [max(least, *sizes) for sizes in zip(*(array.shape for array in arrays), strict=True)]
    if len(field.shape) == len(longest) + 1:
        multiples = [1 if isinstance(size, int) else multiple for size in field.shape[1:]]
        longest = [-(-length // unit) * unit for length, unit in zip(longest, multiples, strict=True)]
    dtype = np.result_type(*arrays)
    if field.label and dtype.kind in "ub":
        dtype = np.dtype(np.int64)  # the ignore_index may be negative
    out = np.full((len(arrays), *longest), value, dtype)
    for row, array in zip(out, arrays, strict=True):
        row[tuple(map(slice, array.shape))] = array
    return out
