"""What became of the weights at the borders of a run's phases: figure 2 of Han et al., and how far each layer moved.

The run folder keeps the weights at the end of each phase: w₁ … wₙ, and w₀ in its copy of the model.  What a sparse
phase s pruned is exactly zero at its end (law 3), so its mask is M = [wₛ ≠ 0], whatever chose it; the five moments::

    before pruning wₛ₋₁    pruned M·wₛ₋₁    after sparse wₛ    restored wₛ, all free    after the last dense wₙ

All of it follows from files that are there anyway: nothing is recorded while a run trains; for a run that was killed
and resumed it is the same, as its weights are (law 6); and runs of earlier versions have it too.  One layer is in
memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dsd_ort.graph.manifest import Slice
from dsd_ort.graph.program import Program
from dsd_ort.run import checkpoint, keeping
from dsd_ort.run.journal import read

BINS = 60
SPREAD = 4.5
"""Root mean squares to either side that a histogram shows; what lies beyond is in its outermost bins."""

Counts = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Histograms:
    """A layer around one sparse phase: how many weights lie in each bin, those that it pruned apart from the others."""

    edges: npt.NDArray[np.float64]
    """f64[BINS + 1], from -r to r."""
    kept: tuple[Counts, ...]
    """i64[BINS] each: before pruning, after the sparse phase, and after the last dense one where there is one."""
    pruned: tuple[Counts, ...]
    """Of those that were pruned: before that, and after the last dense phase where there is one; between, all are 0."""
    threshold: float
    """The largest magnitude that was pruned."""
    returned: float | None
    """The share of the pruned weights whose magnitude is above that in the end; None where no dense phase follows."""

    @property
    def count(self) -> int:
        """Of the weights that were pruned."""
        return int(self.pruned[0].sum())


@dataclass(frozen=True)
class Layer:
    """A weight with two axes or more."""

    name: str
    shape: tuple[int, ...]
    prunable: bool
    density: tuple[float, ...]
    """The share that is not zero: in the file, then after each phase."""
    moved: tuple[float, ...]
    """‖wᵢ - wᵢ₋₁‖ / ‖wᵢ₋₁‖ of each phase i; infinite from a layer of zeros."""
    histograms: Histograms | None
    """Around the last sparse phase, where it is complete and the layer is prunable."""

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


def complete(program: Program) -> int:
    """How many phases are complete and have their weights in the folder, from the first on."""
    ended = {event["phase"] for event in read(program.folder) if event["event"] == "phase-end"}
    files = (
        keeping.weights_file(program.folder, index, phase.kind) for index, phase in enumerate(program.recipe.phase)
    )
    there = [index + 1 in ended and file.exists() for index, file in enumerate(files)]
    return [*there, False].index(False)


def last_sparse(program: Program) -> int | None:
    """The last sparse phase that is complete, from 1."""
    kinds = [phase.kind for phase in program.recipe.phase[: complete(program)]]
    return max((number for number, kind in enumerate(kinds, 1) if kind == "sparse"), default=None)


def layers(program: Program) -> Iterator[Layer]:
    """Each trained weight with two axes or more, in the model's order, as far as the run is.

    Raises:
        RunError: the folder's copy of the model or a file of weights is damaged, or another run's.
    """
    count, sparse, source = complete(program), last_sparse(program), program.source()
    with ExitStack() as stack:
        borders: list[Callable[[str], Weights]] = [source.start]
        for index, phase in enumerate(program.recipe.phase[:count]):
            path = keeping.weights_file(program.folder, index, phase.kind)
            borders.append(stack.enter_context(checkpoint.weights(path, program)))
        for piece in program.manifest.trained:
            if len(piece.shape) > 1:
                yield _layer(piece, [np.asarray(read_(piece.name)).reshape(-1) for read_ in borders], sparse)


def _layer(piece: Slice, weights: Sequence[Weights], sparse: int | None) -> Layer:
    return Layer(
        name=piece.name,
        shape=piece.shape,
        prunable=piece.prunable,
        density=tuple(np.count_nonzero(w) / max(w.size, 1) for w in weights),
        moved=tuple(_distance(old, new) for old, new in pairwise(weights)),
        histograms=None if sparse is None or not piece.prunable else histograms(weights, sparse),
    )


def _distance(old: Weights, new: Weights) -> float:
    length, way = float(np.linalg.norm(old)), float(np.linalg.norm(new - old))
    return way / length if length else float("inf") if way else 0.0


def histograms(weights: Sequence[Weights], sparse: int) -> Histograms:
    """Around the *sparse* phase, from 1; *weights* are w₀ … wₙ, f32[N] each."""
    before, after, last = weights[sparse - 1], weights[sparse], weights[-1]
    followed = len(weights) - 1 > sparse
    mask = after != 0
    moments = [before, after, *([last] if followed else [])]
    reach = max((SPREAD * float(np.sqrt(np.mean(np.square(w, dtype=np.float64)))) for w in (before, last)), default=1.0)
    edges = np.linspace(-1, 1, BINS + 1) * (reach or 1.0)
    threshold = float(np.abs(before[~mask]).max(initial=0.0))
    ends = [before[~mask], *([last[~mask]] if followed else [])]
    above = int(np.count_nonzero(np.abs(last[~mask]) > threshold))
    return Histograms(
        edges=edges,
        kept=tuple(_counts(w[mask], edges) for w in moments),
        pruned=tuple(_counts(w, edges) for w in ends),
        threshold=threshold,
        returned=above / max(1, int(np.count_nonzero(~mask))) if followed else None,
    )


def _counts(values: Weights, edges: npt.NDArray[np.float64]) -> Counts:
    """How many lie in each bin, all as wide; what lies beyond counts in the outermost."""
    low, high, bins = edges[0], edges[-1], len(edges) - 1
    places = ((values.astype(np.float64) - low) * (bins / (high - low))).astype(np.int64)
    return np.bincount(np.clip(places, 0, bins - 1), minlength=bins).astype(np.int64)
