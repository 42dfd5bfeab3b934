"""What a stored tensor looks like, judged by its numbers: written down by somebody, or learned.

Where it sits, :mod:`dsd_ort.model.roles` says; here is what decides where the place leaves it open.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from dsd_ort.file.tensors import Place, read, sample

_LOOKED_AT = 1 << 16
"""Entries, evenly spread, that a large tensor is judged by."""
HIDDEN = -100
"""Of a score that this or less is added to, softmax makes a zero."""


def axes(place: Place) -> int:
    """Along how many axes a tensor has more than one entry."""
    return sum(dim > 1 for dim in place.dims)


def is_even(path: Path, place: Place) -> bool:
    """Whether all its entries are the same number."""
    values = read(path, place)
    return bool((values == values.flat[0]).all())


def is_zero(path: Path, place: Place) -> bool:
    """Whether all its entries are 0."""
    return not read(path, place).any()


def is_mask(path: Path, place: Place) -> bool:
    """Whether it hides positions from attention: it has entries that softmax turns into zeros."""
    return not bool((read(path, place) > HIDDEN).all())


def is_pattern(path: Path, place: Place) -> bool:
    """Whether it was written down, not learned: few numbers again and again, or whole numbers only."""
    if place.size < 2:
        return False
    values = sample(path, place, _LOOKED_AT)
    few = values.size // 4
    if ir.DataType(place.dtype).bitwidth == 16:  # of which there are only a few thousand about the size of weights
        few = min(few, 256)
    different = np.unique(values).size
    return different > 1 and (different <= few or bool((values == np.round(values)).all()))


def is_token(path: Path, place: Place, *, in_sequence: bool) -> bool:
    """Whether it is learned, standing among other values: a vector or several.

    Not where all entries are equal (padding), but for one vector *in_sequence*, as it is before any training.
    """
    if not axes(place) or is_pattern(path, place) or is_mask(path, place):
        return False
    return not is_even(path, place) or (in_sequence and axes(place) == 1)
