"""Which layer is pruned how much, so that together they reach a total: where it costs least.

With L_l(k) the loss that k pruned weights of layer l cost, measured for each layer alone, and K weights to be pruned in
all::

    minimise Σ_l L_l(k_l)   with   Σ_l k_l = K

If each L_l is convex, the next weight more costs the same in every layer that is pruned at all and not to its end, the
equal marginal loss, and going through the pieces of all curves by their slope finds it.  So each measured curve is made
one that rises, and its lower convex hull is taken.  That losses add up is an assumption; what comes of it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from dsd_ort.errors import RecipeError


class Curve(NamedTuple):
    """What pruning a layer costs."""

    weights: int
    points: tuple[tuple[float, float], ...]
    """(Sparsity, loss more than unpruned), by rising sparsity; the loss may be infinite."""


class Piece(NamedTuple):
    """A straight piece of a layer's hull."""

    slope: float
    """Loss a weight."""
    layer: int
    weights: float


def allocate(curves: Sequence[Curve], total: float) -> list[float]:
    """A sparsity for each layer, so that the share *total* of all weights is pruned.

    Raises:
        RecipeError: no layer was measured so sparse that this could be reached.
    """
    pieces = sorted(piece for layer, curve in enumerate(curves) for piece in _pieces(layer, curve))
    pruned, left = [0.0] * len(curves), total * sum(curve.weights for curve in curves)
    reached = sum(piece.weights for piece in pieces)
    if left > reached * (1 + 1e-9):
        most = reached / sum(curve.weights for curve in curves)
        raise RecipeError(
            f"a total of {total:g} is out of reach: what was scanned goes up to {most:.4g}",
            fix="give a lower total, or higher sparsities to scan",
        )
    for piece in pieces:
        taken = min(left, piece.weights)
        pruned[piece.layer] += taken
        left -= taken
    return [count / curve.weights for count, curve in zip(pruned, curves, strict=True)]


def _pieces(layer: int, curve: Curve) -> list[Piece]:
    """The lower convex hull of the curve, made one that rises, from nothing pruned on."""
    hull, highest = [(0.0, 0.0)], 0.0
    for sparsity, loss in curve.points:
        highest = max(highest, loss)
        if not math.isfinite(highest):
            break
        point = (sparsity * curve.weights, highest)
        while len(hull) > 1 and _slope(hull[-2], point) <= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(point)
    return [Piece(_slope(a, b), layer, b[0] - a[0]) for a, b in pairwise(hull)]


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])
