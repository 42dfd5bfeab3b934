"""The weights to check a model with: the file's own, or drawn ones where the file has none worth the name.

Published skeletons of networks hold one number in all of their tensors.  All units of a layer then compute the same,
and what a wrong gradient mixes up is equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dsd_ort.model.parameters import Parameter
from dsd_ort.model.source import Source

GAIN = 1.5
"""Variance of a drawn weight, times its fan-in."""

Array = npt.NDArray[Any]


class Weights(Mapping[str, Array]):
    """All parameters and statistics of a *source*, float32: what was *drawn* for it, and else the file's own, which are
    read whenever they are asked for, and take no memory when nobody has them.
    """

    def __init__(self, source: Source, drawn: Mapping[str, Array]) -> None:
        self._source, self._drawn = source, drawn
        self._names = tuple(p.name for p in (*source.parameters, *source.statistics))

    def __getitem__(self, name: str) -> Array:
        return self._drawn[name] if name in self._drawn else self._source.start(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def of(source: Source) -> tuple[Weights, tuple[str, ...]]:
    """The weights of *source*, and a note where some are drawn.

    Tensors of equal numbers are drawn anew where more than half of the kernels and matrices are such; otherwise they
    are a trained network's, such as biases of zero.
    """
    tensors = [*source.parameters, *source.statistics]
    firsts = {p.name: first for p in tensors if p.size > 1 and (first := _only(source.start(p.name))) is not None}
    equal = [p for p in tensors if p.name in firsts]
    weights = [p for p in source.parameters if len(p.shape) > 1 and p.size > 1]
    if 2 * sum(p in equal for p in weights) <= len(weights):
        return Weights(source, {}), ()
    random = np.random.default_rng(5)
    drawn = {p.name: _drawn(p, firsts[p.name], random) for p in equal}
    return Weights(source, drawn), (
        f"{_count(equal)} of the file hold one number each; random ones were drawn for them",
    )


def _only(value: Array) -> float | None:
    """The number that all entries are; None where they differ."""
    return float(value.flat[0]) if np.ptp(value) == 0 else None


def _drawn(p: Parameter, number: float, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """In the place of one *number*: kernels and matrices as fit a ReLU; around 1 for scales and variances, around 0 for
    all else.

    A little smaller than He's initialisation has them, as networks with sums of branches would explode: what batch norm
    divides by is drawn too.
    """
    if len(p.shape) > 1:
        fan_in = p.size / p.shape[0] if len(p.shape) > 2 else max(p.shape)
        drawn = math.sqrt(GAIN / fan_in) * random.standard_normal(p.shape)
    elif p.role == "norm" or (p.role == "statistic" and number > 0):
        drawn = random.uniform(0.5, 1.5, p.shape)
    else:
        drawn = 0.1 * random.standard_normal(p.shape)
    return drawn.astype(np.float32)


def _count(tensors: Sequence[Parameter]) -> str:
    return f"{len(tensors)} {'tensor' if len(tensors) == 1 else 'tensors'}"
