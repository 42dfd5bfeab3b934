"""Weights → masks: by what a criterion says they are worth, in the groups and units of a pattern.

Of each group of U units the round(U · sparsity) with the lowest scores are pruned; without a pattern a layer is one
group, and each of its N weights a unit (Han et al. 2017, algorithm 1).  A unit's score is the mean of its weights'.
Ties are broken by position, the first are pruned, so a mask is a function of the weights alone, and, as the criterion
has it, of the seed and of the training data (law 4).

With ``prune.alive``, a layer of r outputs and c inputs has at most the sparsity 1 - k·max(r, c) / N, so that each of
them can keep a weight: r and c are the first two axes of a kernel, whatever its size, and the last two of other
weights, of which there may be k side by side.

With ``prune.keep_zeros``, weights that are 0 in the model's file are pruned in every phase, sparse or dense.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import msgspec
import numpy as np
import numpy.typing as npt

from dsd_ort.graph.manifest import Slice
from dsd_ort.graph.patterns import View, own_sparsity, pattern_of
from dsd_ort.model.parameters import Parameter
from dsd_ort.model.source import Source
from dsd_ort.recipe import Phase, Prune
from dsd_ort.run.arena import Arena, Array, view
from dsd_ort.run.criteria import CRITERIA, Known, Norms

FEW = 8
"""Units of a group."""
Bools = npt.NDArray[np.bool_]


def lowest(scores: Array, sparsity: float) -> Bools:
    """Which are the round(U · sparsity) lowest of each row of *scores*, f32[G, U]; of equal ones the first."""
    pruned, scores = round(scores.shape[1] * sparsity), np.ascontiguousarray(scores)  # several times as fast by rows
    if not pruned:
        return np.zeros(scores.shape, np.bool_)
    if scores.shape[1] <= FEW:
        return _lowest_of_few(scores, pruned)
    threshold = np.partition(scores, pruned - 1, axis=1)[:, pruned - 1 : pruned]
    below, ties = scores < threshold, scores == threshold
    missing = pruned - np.count_nonzero(below, axis=1, keepdims=True)
    if (np.count_nonzero(ties, axis=1, keepdims=True) > missing).any():
        ties &= np.cumsum(ties, axis=1, dtype=np.int32) <= missing
    found: Bools = below | ties
    return found


def _lowest_of_few(scores: Array, pruned: int) -> Bools:
    """The same by comparing each with each, which takes a tenth of the time where there are millions of groups."""
    columns = np.ascontiguousarray(scores.T)
    before = np.zeros(columns.shape, np.int8)  # how many of its group go before a unit
    for i, j in combinations(range(len(columns)), 2):
        first = columns[i] <= columns[j]
        before[j] += first
        before[i] += ~first
    found: Bools = (before < pruned).T
    return found


def scored(weights: Array, known: Known, rules: Prune, seen: View) -> Array:
    """The scores of the units of a weight, f32[groups, units]."""
    scores = seen.of(CRITERIA[rules.criterion](weights, known))
    return scores[..., 0] if scores.shape[2] == 1 else scores.mean(2, dtype=np.float64).astype(np.float32)


@dataclass(frozen=True)
class Pruner:
    """What prunes the weights of a run, phase by phase."""

    rules: Prune
    seed: int
    source: Callable[[], Source]
    """Gives the model as it came, whose zeros may have to be kept."""
    norms: Callable[[], Norms] = dict
    """Measures what meets the weights as they are now; asked only for the criterion that wants it."""

    def is_masked(self, phase: Phase) -> bool:
        """Whether some weights stay zero in *phase*: it is sparse, or the file's zeros are kept."""
        return phase.kind == "sparse" or self.rules.keep_zeros

    def prune(self, arena: Arena, phase: Phase, sparsity: float) -> None:
        """Prunes the weights in *phase*, which :meth:`is_masked`, and leaves the masks in ``arena.masks``.

        *sparsity* is that of this update; in a dense phase nothing but zeros is pruned.  Where it rises, a layer's own
        rises likewise.
        """
        if phase.kind == "sparse":
            norms, final = self.norms() if self.rules.criterion == "wanda" else {}, phase.final_sparsity
            share = sparsity / final if final else 1.0
            write_masks(arena, sparsity, self.rules, seed=self.seed, norms=norms, share=share)
        else:
            arena.masks[:] = 1
        if self.rules.keep_zeros:
            model = self.source()
            for piece in arena.prunable:
                view(arena.masks, piece)[model.start(piece.name) == 0] = 0
        arena.apply_masks()


def write_masks(
    arena: Arena, sparsity: float, rules: Prune, *, seed: int = 0, norms: Norms | None = None, share: float = 1.0
) -> None:
    """Fills ``arena.masks`` from ``arena.weights``.

    Layers with a sparsity of their own get *share* of it; the others get *sparsity*, each for itself or, with
    ``rules.scope == "global"``, all of them as if they were one layer.
    """
    arena.masks[:] = 1
    shared: list[tuple[Slice, View, Array]] = []
    for piece in (piece for piece in arena.prunable if not piece.spared):
        axes = None if isinstance(piece.axes, msgspec.UnsetType) else piece.axes
        seen = View(pattern_of(rules), piece.shape, axes, window=piece.role == "kernel")
        scores = scored(view(arena.weights, piece), Known(piece.name, axes, norms or {}, seed), rules, seen)
        own = own_sparsity(_parameter(piece), rules)
        if own is None and rules.scope == "global":
            shared.append((piece, seen, scores))
            continue
        wanted = sparsity if own is None else own * share
        wanted = min(sparsity, bearable(piece)) if own is None and rules.alive else wanted
        np.subtract(1, seen.spread(lowest(scores, wanted)), out=view(arena.masks, piece), dtype=np.float32)
    _write_global(arena, shared, sparsity)


def bearable(piece: Slice) -> float:
    """The sparsity up to which no input and no output of a layer has to lose all its weights."""
    shape = piece.shape
    sides, beside = (shape[:2], 1) if piece.role == "kernel" else (shape[-2:], math.prod(shape[:-2]))
    return 1 - beside * max(sides) / piece.size


def _write_global(arena: Arena, layers: Sequence[tuple[Slice, View, Array]], sparsity: float) -> None:
    """Of all units of all *layers* together; a pattern with several groups has no global scope."""
    if not layers:
        return
    pruned = lowest(np.concatenate([scores for _, _, scores in layers], axis=1), sparsity)
    ends = np.cumsum([seen.units for _, seen, _ in layers])[:-1]
    for (piece, seen, _), part in zip(layers, np.split(pruned, ends, axis=1), strict=True):
        np.subtract(1, seen.spread(part), out=view(arena.masks, piece), dtype=np.float32)


def _parameter(piece: Slice) -> Parameter:
    return Parameter(name=piece.name, shape=piece.shape, role=piece.role, layer=piece.layer, storage="")
