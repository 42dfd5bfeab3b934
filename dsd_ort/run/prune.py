"""Magnitudes → masks.

A layer of N weights keeps the N − round(N · sparsity) largest by magnitude (Han et al. 2017, algorithm 1).  Ties are
broken by position, the first are pruned, so a mask is a function of the weights alone (law 4).

With ``prune.alive``, a layer of r outputs and c inputs has at most the sparsity 1 - k·max(r, c) / N, so that each of
them can keep a weight: r and c are the first two axes of a kernel, whatever its size, and the last two of other
weights, of which there may be k side by side.

With ``prune.keep_zeros``, weights that are 0 in the model's file are pruned in every phase, sparse or dense.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from dsd_ort.graph.manifest import Slice
from dsd_ort.model import select
from dsd_ort.model.parameters import Parameter
from dsd_ort.model.source import Source
from dsd_ort.recipe import Phase, Prune
from dsd_ort.run.arena import Arena, Array, view


def magnitude_mask(weights: Array, sparsity: float) -> Array:
    """1 where a weight is kept, 0 at exactly round(N · sparsity) weights of smallest magnitude.

    Args:
        weights: f32 of any shape, N entries, finite.
        sparsity: in [0, 1).
    """
    mask = np.ones(weights.size, np.float32)
    pruned = round(weights.size * sparsity)
    if pruned:
        magnitude = np.abs(weights).reshape(-1)
        threshold = np.partition(magnitude, pruned - 1)[pruned - 1]
        below = magnitude < threshold
        mask[below] = 0
        ties = np.flatnonzero(magnitude == threshold)
        mask[ties[: pruned - np.count_nonzero(below)]] = 0
    return mask.reshape(weights.shape)


def is_masked(phase: Phase, rules: Prune) -> bool:
    """Whether some weights stay zero in *phase*: it is sparse, or the file's zeros are kept."""
    return phase.kind == "sparse" or rules.keep_zeros


def prune(arena: Arena, phase: Phase, rules: Prune, source: Callable[[], Source]) -> None:
    """Prunes the weights as *phase* begins, which :func:`is_masked`, and leaves the masks in ``arena.masks``.

    *source* gives the model as it came.
    """
    if phase.kind == "sparse":
        write_masks(arena, phase.sparsity or 0.0, rules)
    else:
        arena.masks[:] = 1
    if rules.keep_zeros:
        model = source()
        for piece in arena.prunable:
            view(arena.masks, piece)[model.start(piece.name) == 0] = 0
    arena.apply_masks()


def write_masks(arena: Arena, sparsity: float, rules: Prune) -> None:
    """Fills ``arena.masks`` from ``arena.weights``.

    Layers with a sparsity of their own get it; the others get *sparsity*, each for itself or, with
    ``rules.scope == "global"``, all of them as if they were one layer.
    """
    arena.masks[:] = 1
    shared = []
    for piece in (piece for piece in arena.prunable if not piece.spared):
        own = _own_sparsity(piece, rules)
        if own is None and rules.scope == "global":
            shared.append(piece)
            continue
        if own is None:
            own = min(sparsity, bearable(piece)) if rules.alive else sparsity
        view(arena.masks, piece)[...] = magnitude_mask(view(arena.weights, piece), own)
    _write_global(arena, shared, sparsity)


def bearable(piece: Slice) -> float:
    """The sparsity up to which no input and no output of a layer has to lose all its weights."""
    shape = piece.shape
    sides, beside = (shape[:2], 1) if piece.role == "kernel" else (shape[-2:], math.prod(shape[:-2]))
    return 1 - beside * max(sides) / piece.size


def _write_global(arena: Arena, pieces: Sequence[Slice], sparsity: float) -> None:
    if not pieces:
        return
    mask = magnitude_mask(np.concatenate([view(arena.weights, p).reshape(-1) for p in pieces]), sparsity)
    for piece, part in zip(pieces, np.split(mask, np.cumsum([p.size for p in pieces])[:-1]), strict=True):
        view(arena.masks, piece)[...] = part.reshape(piece.shape)


def _own_sparsity(piece: Slice, rules: Prune) -> float | None:
    parameter = Parameter(name=piece.name, shape=piece.shape, role=piece.role, layer=piece.layer, storage="")
    return next((value for selector, value in rules.layers.items() if select.matches(selector, parameter)), None)
