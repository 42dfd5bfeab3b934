"""Data divided by chance, so that what must not be on two sides stays in one part."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def parts(groups: Iterable[str], count: int) -> dict[str, int]:
    """Each group in one of *count* parts of equal numbers of groups, from 0; the same every time."""
    names = sorted(set(groups))
    order = np.random.default_rng(0).permutation(len(names))
    return {names[place]: rank % count for rank, place in enumerate(order)}
