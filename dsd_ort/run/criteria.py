"""Criteria: what a weight is worth.  A criterion is one function, (weights, what is known of them) → scores.

The lowest scores are pruned.  A weight that is 0 has the lowest score of all, so that what is pruned stays so while the
sparsity rises.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dsd_ort.recipe import CriterionName
from dsd_ort.run.arena import Array

Norms = Mapping[str, npt.NDArray[np.float32]]
"""Weight → the norm of each input that it meets, as :mod:`dsd_ort.run.calibration` measures it."""


@dataclass(frozen=True)
class Known:
    """What is known of a weight beside its numbers."""

    name: str
    axes: tuple[int, int] | None = None
    """Those of its outputs and inputs."""
    norms: Norms = field(default_factory=dict)
    seed: int = 0


def magnitude(weights: Array, _: Known) -> Array:
    """|w| (Han et al. 2015)."""
    return np.abs(weights)


def wanda(weights: Array, known: Known) -> Array:
    """|w| · ‖x‖, the norm of the input that the weight meets (Sun et al. 2024).

    A kernel in g groups has I inputs, and meets g · I: each output those of its group.
    """
    assert known.axes is not None
    outputs, inputs = known.axes
    norm, shape = known.norms[known.name], [1] * weights.ndim
    groups, shape[inputs] = norm.size // weights.shape[inputs], weights.shape[inputs]
    if groups > 1:
        shape[outputs] = weights.shape[outputs]
        each = np.repeat(norm.reshape(groups, -1), weights.shape[outputs] // groups, axis=0)
        norm = each if outputs < inputs else each.T
    return np.abs(weights) * norm.reshape(shape)


def random(weights: Array, known: Known) -> Array:
    """By chance: uniform numbers in (0, 1], a function of the seed and the weight's name; 0 where the weight is."""
    rng = np.random.default_rng([known.seed, zlib.crc32(known.name.encode())])
    scores = 1 - rng.random(weights.shape, np.float32)
    scores[weights == 0] = 0
    return scores


CRITERIA: dict[CriterionName, Callable[[Array, Known], Array]] = {
    "magnitude": magnitude,
    "wanda": wanda,
    "random": random,
}
