"""What a pattern means, in plain loops over entries: the twin of :mod:`dsd_ort.graph.patterns`."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from dsd_ort.recipe.patterns import Pattern

CASES: dict[str, tuple[tuple[int, ...], tuple[int, int], bool]] = {
    "matrix of MatMul": ((8, 16), (1, 0), False),
    "matrix of Gemm": ((16, 8), (0, 1), False),
    "matrices side by side": ((3, 8, 8), (2, 1), False),
    "kernel": ((8, 16, 3, 3), (0, 1), True),
    "kernel of one axis": ((8, 8, 5), (0, 1), True),
    "transposed kernel": ((16, 8, 2, 2), (1, 0), True),
    "recurrent": ((2, 24, 8), (1, 2), False),
}
"""Shape, axes of outputs and inputs, and whether the others are a window."""
NAMES = ("unstructured", "rows", "2:4", "1:4", "3:8", "1x4", "4x1", "8x8", "2x2", "channels")


def unit_of(
    pattern: Pattern, index: tuple[int, ...], axes: tuple[int, int], window: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The group, and the unit in it, that the entry at *index* belongs to."""
    o, i = (index[axis] for axis in axes)
    rest = tuple(index[axis] for axis in range(len(index)) if axis not in axes)
    r, c = pattern.first, pattern.second
    if pattern.kind == "unstructured":
        return (), index
    if pattern.kind == "rows":
        return ((o,), (i, *rest)) if window else ((*rest, o), (i,))
    if pattern.kind == "N:M":
        return (*rest, o, i // c), (i % c,)
    if pattern.kind == "RxC":
        return (), (*rest, o // r, i // c)
    return ((), (o,)) if window else ((), (*rest, o))


def groups(
    pattern: Pattern, shape: tuple[int, ...], axes: tuple[int, int], window: bool
) -> dict[tuple[int, ...], dict[tuple[int, ...], list[tuple[int, ...]]]]:
    """Group → unit → its entries."""
    found: dict[tuple[int, ...], dict[tuple[int, ...], list[tuple[int, ...]]]] = defaultdict(lambda: defaultdict(list))
    for index in np.ndindex(*shape):
        group, unit = unit_of(pattern, index, axes, window)
        found[group][unit].append(index)
    return found
