"""The weights to check a model with: the file's own, or drawn ones where the file has none worth the name.

Published skeletons of networks hold one number in all of their tensors.  All units of a layer then compute the same,
and what a wrong gradient mixes up is equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dsd_ort.model.parameters import Parameter
from dsd_ort.model.source import Source

GAIN = 1.5
"""Variance of a drawn weight, times its fan-in."""

Arrays = dict[str, npt.NDArray[Any]]


def of(source: Source) -> tuple[Arrays, tuple[str, ...]]:
    """All parameters and statistics of *source*, float32, and a note where some are drawn.

    Tensors of equal numbers are drawn anew where more than half of the kernels and matrices are such; otherwise they
    are a trained network's, such as biases of zero.
    """
    values: Arrays = {p.name: source.start(p.name) for p in (*source.parameters, *source.statistics)}
    tensors = [*source.parameters, *source.statistics]
    equal = [p for p in tensors if p.size > 1 and np.ptp(values[p.name]) == 0]
    weights = [p for p in source.parameters if len(p.shape) > 1 and p.size > 1]
    if 2 * sum(p in equal for p in weights) <= len(weights):
        return values, ()
    random = np.random.default_rng(5)
    for p in equal:
        values[p.name] = _drawn(p, values[p.name], random)
    return values, (f"{_count(equal)} of the file hold one number each; random ones were drawn for them",)


def _drawn(p: Parameter, value: npt.NDArray[Any], random: np.random.Generator) -> npt.NDArray[np.float32]:
    """Kernels and matrices as fit a ReLU; around 1 for scales and variances, around 0 for all else.

    A little smaller than He's initialisation has them, as networks with sums of branches would explode: what batch norm
    divides by is drawn too.
    """
    if len(p.shape) > 1:
        fan_in = p.size / p.shape[0] if len(p.shape) > 2 else max(p.shape)
        drawn = math.sqrt(GAIN / fan_in) * random.standard_normal(p.shape)
    elif p.role == "norm" or (p.role == "statistic" and value.flat[0] > 0):
        drawn = random.uniform(0.5, 1.5, p.shape)
    else:
        drawn = 0.1 * random.standard_normal(p.shape)
    return drawn.astype(np.float32)


def _count(tensors: Sequence[Parameter]) -> str:
    return f"{len(tensors)} {'tensor' if len(tensors) == 1 else 'tensors'}"
