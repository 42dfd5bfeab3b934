"""What is compared: gradients at a point, tensors in groups, and what one comparison finds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from dsd_ort.graph.manifest import Slice
from dsd_ort.proof.report import Verdict

Array = npt.NDArray[Any]

UNDECIDED = 0.3
"""Relative uncertainty of a difference from which on it decides nothing."""
_PART = 1 << 20


@dataclass
class Point:
    """Where gradients are checked: all inputs of the evaluate graph, and what the step made of them."""

    inputs: Mapping[str, Array]
    loss: float
    gradients: Mapping[str, Array]
    noise: Mapping[str, float]
    """‖change of the gradient‖ when all weights are moved by one rounding."""
    mode: Literal["inference", "training"]
    wide: Mapping[str, Array] | None = None
    """The gradients in float64, where they can be had."""
    wide_loss: float | None = None
    """The step's loss in float64, where they can be had."""
    narrow: Callable[[], Mapping[str, Array]] | None = None
    """Makes them in float32 by something else."""

    @cached_property
    def lost(self) -> Mapping[str, float]:
        """‖difference‖ of *narrow* and *wide*: what float32 loses."""
        if self.wide is None or self.narrow is None:
            return {}
        return {name: norm(array - self.wide[name]) for name, array in self.narrow().items()}


class Group(NamedTuple):
    """Tensors that are checked together, and what they have in common."""

    kind: str
    slices: tuple[Slice, ...]

    @property
    def name(self) -> str:
        first, last = self.slices[0].name, self.slices[-1].name
        return first if len(self.slices) == 1 else f"{self.kind}: {first} … {last}"


class Found(NamedTuple):
    """An error, up to where it is right, and how well the reference knows it; all relative to ‖gradient‖."""

    error: float
    tolerance: float
    uncertainty: float = 0.0
    quite: float = 0.0
    """Errors below this are undecided rather than wrong."""
    lost: bool = False
    """Noise hides how right it is."""

    @property
    def verdict(self) -> Verdict:
        if self.error <= self.tolerance and self.uncertainty <= UNDECIDED:
            return "zero" if self.lost else "right"
        return "wrong" if self.error > max(self.quite, self.tolerance + 3 * self.uncertainty) else "undecided"


def rounding(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Factors that move float32 numbers by one rounding, up or down."""
    factors: Array = 1 + (2 * random.integers(0, 2, shape, np.int8) - 1) * np.float32(2.0**-23)
    return factors


def norm(array: Array) -> float:
    return float(np.linalg.norm(array.astype(np.float64)))


def size(weights: Array) -> float:
    """The root mean square of *weights*, or a hundredth for what is (almost) zero, as biases are at first."""
    return max(norm(weights) / math.sqrt(max(weights.size, 1)), 1e-2)


def parts(flat: Array) -> list[Array]:
    """Views of a long array ``[n]``, of which one after the other is made wide."""
    return [flat[start : start + _PART] for start in range(0, flat.size, _PART)]


def along(gradient: Array, there: Array, here: Array) -> float:
    """⟨gradient, there - here⟩, all ``f32[n]``, in float64."""
    pieces = zip(parts(gradient), parts(there), parts(here), strict=True)
    return sum(float(np.dot(g.astype(np.float64), a.astype(np.float64) - b)) for g, a, b in pieces)
