"""A small graph an operator, attribute and shape, and what legalize makes of it: one file a family, as in legalize/."""

from __future__ import annotations

from tests.graph.legalize.cases import (
    activation,
    arithmetic,
    broadcast,
    convolution,
    einsum,
    indexing,
    linalg,
    losses,
    normalization,
    patches,
    pooling,
    recurrent,
    reduction,
    resampling,
    sampling,
    scatter,
    sequences,
    shape,
    spectral,
    transposed,
    trigonometric,
)
from tests.graph.legalize.cases.case import Case

__all__ = ["CASES", "Case"]

FAMILIES = (
    activation,
    arithmetic,
    broadcast,
    reduction,
    shape,
    normalization,
    convolution,
    transposed,
    pooling,
    resampling,
    sampling,
    patches,
    recurrent,
    einsum,
    indexing,
    linalg,
    losses,
    scatter,
    sequences,
    spectral,
    trigonometric,
)
CASES: list[Case] = [case for family in FAMILIES for case in family.CASES]
