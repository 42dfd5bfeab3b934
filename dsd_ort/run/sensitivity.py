"""How much each layer bears: the metrics of a network of which one layer alone is pruned, without retraining.

One evaluation for each layer and sparsity, on the device; the weights are put back after each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from dsd_ort.data import Dataset
from dsd_ort.graph.manifest import Slice
from dsd_ort.graph.patterns import View, pattern_of
from dsd_ort.run.arena import Array
from dsd_ort.run.calibration import norms
from dsd_ort.run.criteria import Known
from dsd_ort.run.evaluate import Evaluator
from dsd_ort.run.memory import Buffer, Tensor
from dsd_ort.run.prune import lowest, scored


class Point(NamedTuple):
    """What came of pruning."""

    metrics: dict[str, float]
    """Those that are finite."""
    zeros: int
    """Weights of what was pruned that are zero then."""


class Scanner:
    """A network whose layers are pruned and put back.

    Args:
        evaluator: with the weights as they are; nothing was measured with it yet.
        weights: those that are pruned.
        data: what is measured on.
    """

    def __init__(self, evaluator: Evaluator, weights: Sequence[Slice], data: Dataset) -> None:
        self.evaluator, self.data, self.rules = evaluator, data, evaluator.recipe.prune
        self.seed, self.weights = evaluator.recipe.seed, {weight.name: weight for weight in weights}
        self.values: dict[str, Array] = {name: evaluator.arrays[name] for name in self.weights}
        self.buffers: dict[str, Buffer] = {
            name: evaluator.memory.buffer(value.reshape(-1).copy()) for name, value in self.values.items()
        }
        placed = {name: Tensor(b.address, np.float32, self.weights[name].shape) for name, b in self.buffers.items()}
        evaluator.weights = {**evaluator.weights, **placed}
        self.norms = norms(evaluator, weights, data) if self.rules.criterion == "wanda" else {}
        self.known: dict[str, tuple[View, Array]] = {}

    def came(self) -> dict[str, float]:
        """What the network measures as it is."""
        return {name: value for name, value in self.evaluator(self.data).items() if math.isfinite(value)}

    def alone(self, name: str, sparsities: Sequence[float]) -> Iterator[Point]:
        """What it measures with *name* pruned to each of *sparsities*."""
        for sparsity in sparsities:
            yield self.together({name: sparsity})
        self.known.pop(name, None)

    def together(self, sparsities: Mapping[str, float]) -> Point:
        """What it measures with each of these weights pruned."""
        zeros = 0
        for name, sparsity in sparsities.items():
            pruned = np.where(self._pruned(name, sparsity), np.float32(0), self.values[name])
            zeros += pruned.size - int(np.count_nonzero(pruned))
            self._put(name, pruned)
        with np.errstate(all="ignore"):
            metrics = self.came()
        for name in sparsities:
            self._put(name, self.values[name])
        return Point(metrics, zeros)

    def _put(self, name: str, value: Array) -> None:
        self.buffers[name].host[:] = value.reshape(-1)
        self.buffers[name].upload()

    def _pruned(self, name: str, sparsity: float) -> np.ndarray:
        if name not in self.known:
            weight = self.weights[name]
            axes = None if isinstance(weight.axes, msgspec.UnsetType) else weight.axes
            seen = View(pattern_of(self.rules), weight.shape, axes, window=weight.role == "kernel")
            known = Known(name, axes, self.norms, self.seed)
            self.known[name] = seen, scored(self.values[name], known, self.rules, seen)
        seen, scores = self.known[name]
        return seen.spread(lowest(scores, sparsity))
