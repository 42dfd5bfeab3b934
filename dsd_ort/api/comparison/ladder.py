"""The sparsity that a model and its data want, found by short sparse phases (``--sparsity auto``).

A network forgets wrong labels only where it is too sparse to know them by heart, and at less it gets worse; where that
is depends on its size and on the labels (He et al. 2022, "sparse double descent").  So each rung of a ladder gets a
sparse phase of half the length, is judged by the selection data, and the gaps beside the best one are tried as well.
Rung 0 is the same phase dense.  Layers that would die are spared (``prune.alive``).

A share of right answers scatters by its standard error, √(p(1-p)/n).  Rungs that are no further than that from the best
one are alike (the rule of one standard error, Breiman et al. 1984), and of these the one with the lowest loss counts: a
network that knows wrong labels by heart is as sure of wrong answers as of right ones, which costs loss long before it
can be counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from dsd_ort.api.comparison.arms import at
from dsd_ort.api.comparison.document import Rung
from dsd_ort.errors import DivergedError
from dsd_ort.recipe import Phase, Recipe
from dsd_ort.run.metrics import better

RUNGS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998)
SHARE = 0.5
"""Of the sparse phase's length."""
SHARES = ("top-1", "top-5")
"""Metrics that are a share of examples."""

Measure = Callable[[Mapping[str, Recipe]], Mapping[str, tuple[dict[str, float], float | None]]]
"""Trains recipes by name, and gives the metrics on the selection data and the fit of each that did not diverge."""


def climb(recipe: Recipe, measure: Measure, monitor: str, examples: int | None = None) -> tuple[Rung, ...]:
    """The rungs that were tried, by sparsity; *examples* is how many *measure* looks at."""
    judged = partial(_measured, recipe, measure, monitor, examples)
    first = judged((0.0, *RUNGS))
    more = judged(_between(top(first, monitor).sparsity))
    return tuple(sorted((*first, *more), key=lambda rung: rung.sparsity))


def top(rungs: Sequence[Rung], monitor: str) -> Rung:
    """The sparse rung that is best on the selection data; of those that are alike, the one with the lowest loss.

    Raises:
        DivergedError: all of them diverged.
    """
    sparse = sorted((rung for rung in rungs if rung.sparsity), key=lambda rung: rung.sparsity)
    if not sparse:
        raise DivergedError(
            "every short sparse phase diverged, so no sparsity can be chosen",
            fix="give smaller learning rates: dsd-ort fit-rates finds some",
        )
    best = sparse[0]
    for rung in sparse:
        if better(monitor, _value(rung, monitor), _value(best, monitor)):
            best = rung
    if best.deviation is None:
        return best
    far = best.deviation
    alike = [rung for rung in sparse if abs(_value(rung, monitor) - _value(best, monitor)) <= far]
    return min(alike, key=lambda rung: rung.selection.get("loss", math.inf))


def gains(rungs: Sequence[Rung], monitor: str) -> bool:
    """Whether the best sparse rung is better on the selection data than the dense one."""
    dense = [_value(rung, monitor) for rung in rungs if rung.sparsity == 0]
    return better(monitor, _value(top(rungs, monitor), monitor), dense[0] if dense else None)


def _value(rung: Rung, monitor: str) -> float:
    return rung.selection.get(monitor, math.nan)


def sparing(recipe: Recipe) -> Recipe:
    """*recipe*, in which no layer has to die; over all layers together, or in larger units, it stays as it is."""
    if recipe.prune.scope == "global" or recipe.prune.pattern not in ("unstructured", "rows"):
        return recipe
    return msgspec.structs.replace(recipe, prune=msgspec.structs.replace(recipe.prune, alive=True))


def short(recipe: Recipe, sparsity: float) -> Recipe:
    """Up to the end of the first sparse phase, which is shorter; dense where *sparsity* is 0."""
    number = next(i for i, phase in enumerate(recipe.phase) if phase.kind == "sparse")
    phases = (*recipe.phase[:number], _shorter(recipe.phase[number]))
    cut = msgspec.structs.replace(recipe, phase=phases)
    return cut if sparsity else cut.dense_only()


def _shorter(phase: Phase) -> Phase:
    changed: dict[str, Any] = {"steps": None if phase.steps is None else max(1, math.ceil(SHARE * phase.steps))}
    if phase.epochs is not None:
        changed["epochs"] = SHARE * phase.epochs if phase.epochs <= 1 else max(1, math.ceil(SHARE * phase.epochs))
    return msgspec.structs.replace(phase, **changed)


def _measured(
    recipe: Recipe, measure: Measure, monitor: str, examples: int | None, sparsities: Sequence[float]
) -> list[Rung]:
    found = measure({f"{sparsity:g}": short(at(recipe, sparsity), sparsity) for sparsity in sparsities})
    named = {f"{sparsity:g}": sparsity for sparsity in sparsities}
    return [
        Rung(sparsity=named[name], selection=metrics, fit=fit, deviation=_deviation(metrics, monitor, examples))
        for name, (metrics, fit) in found.items()
    ]


def _deviation(metrics: Mapping[str, float], monitor: str, examples: int | None) -> float | None:
    if monitor not in SHARES or monitor not in metrics or not examples:
        return None
    return math.sqrt(metrics[monitor] * (1 - metrics[monitor]) / examples)


def _between(best: float) -> list[float]:
    """The middles, by the share that is kept, between *best* and the rungs beside it."""
    place = RUNGS.index(best)
    neighbours = [*RUNGS[max(0, place - 1) : place], *RUNGS[place + 1 : place + 2]]
    return [float(f"{1 - math.sqrt((1 - best) * (1 - beside)):.4g}") for beside in neighbours]
