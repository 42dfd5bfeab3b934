"""Which examples make up which batch: a function of seed and epoch alone, so that a resumed run has the same batches.

The order of epoch *e* is ``π = default_rng([seed, e]).permutation(N)``, cut into batches.  With lengths (buckets), the
examples of each 50 batches of π are sorted by length before they are cut, and the batches are then put in the order of
one more permutation.  A batch's examples are of about one length, little of it is padding, and yet whom an example
meets, and when, is left to chance.  Source of the pools: torchtext's BucketIterator (100 batches there).
"""

from __future__ import annotations

import numpy as np

POOL = 50
"""Batches whose examples are sorted together."""


def batches_of(order: np.ndarray, size: int) -> list[np.ndarray]:
    """The numbers cut into batches; the last one may be smaller."""
    return [order[start : start + size] for start in range(0, len(order), size)]


def shuffled(examples: int, seed: int, epoch: int) -> np.ndarray:
    """All numbers from 0, i64[examples], in the order of this epoch."""
    return np.random.default_rng([seed, epoch]).permutation(examples)


def bucketed(lengths: np.ndarray, size: int, seed: int, epoch: int, *, drop_last: bool) -> list[np.ndarray]:
    """Batches of examples of about one length; what *drop_last* drops is left to chance, and not the longest."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    if drop_last:
        order = order[: len(order) // size * size]
    pools = batches_of(order, POOL * size)
    batches = [batch for pool in pools for batch in batches_of(pool[np.argsort(lengths[pool], kind="stable")], size)]
    return [batches[i] for i in rng.permutation(len(batches))]
