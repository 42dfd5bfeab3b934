"""How far two results are apart: arrays by name, loss curves, masks."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

Arrays = dict[str, np.ndarray]
SMOOTHED = 10
"""Steps of a running mean."""


def worst(got: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> tuple[float, str]:
    """The greatest ‖got − expected‖ / ‖expected‖ of all arrays, and its name.

    A gradient that is next to nothing beside the others, as of a weight that has no effect, is measured by these.
    """
    assert set(got) == set(expected)
    least = 1e-6 * max((_norm(a) for name, a in expected.items() if name.startswith("gradient")), default=0.0)
    found = {n: _norm(got[n] - a) / (max(_norm(a), least) or 1.0) for n, a in expected.items()}
    name = max(found, key=lambda n: math.inf if math.isnan(found[n]) else found[n])
    return found[name], name


def distance(got: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> float:
    """‖got − expected‖ / ‖expected‖ of all arrays together."""
    assert set(got) == set(expected)
    over = math.hypot(*(_norm(got[name] - array) for name, array in expected.items()))
    return over / math.hypot(*map(_norm, expected.values()))


def apart(sparse: Arrays, end: Arrays, pruned: Arrays, expected: Arrays) -> tuple[float, float]:
    """How far the last weights are from the *expected* ones, and the share of weights that one side alone has pruned.

    The former is of all others: *pruned* says where the expected ones were 0 in the sparse phase.
    """
    agree = {name: np.ones(array.shape, bool) for name, array in end.items()}
    agree |= {name: (sparse[name] == 0) == array for name, array in pruned.items()}
    others = sum(int(np.count_nonzero(~agree[name])) for name in pruned)
    both = ({name: array * agree[name] for name, array in arrays.items()} for arrays in (end, expected))
    return distance(*both), others / sum(array.size for array in pruned.values())


def deviation(got: list[float], expected: list[float]) -> float:
    """The mean of |a − b| / b, a and b running means of the two curves."""
    a, b = (np.convolve(curve, np.ones(SMOOTHED) / SMOOTHED, "valid") for curve in (got, expected))
    return float(np.mean(np.abs(a - b) / np.abs(b)))


def _norm(array: np.ndarray) -> float:
    return float(np.linalg.norm(array.astype(np.float64)))


def differing(one: Arrays, other: Arrays) -> int:
    """How many numbers are not the same."""
    return sum(int(np.count_nonzero(array != other[name])) for name, array in one.items())
