"""The search for a sparsity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from dsd_ort.api.comparison.ladder import RUNGS, climb, gains, short, sparing, top
from dsd_ort.recipe import Recipe

RECIPE = Recipe.from_dict(
    {
        "phase": [
            {"kind": "dense", "epochs": 3, "learning_rate": 0.1},
            {"kind": "sparse", "sparsity": 0.3, "epochs": 5, "learning_rate": 0.01},
            {"kind": "dense", "epochs": 1, "learning_rate": 0.001},
        ]
    }
)


def measuring(score: Callable[[float], float], seen: list[Recipe]) -> Any:
    def measure(recipes: Mapping[str, Recipe]) -> dict[str, tuple[dict[str, float], float | None]]:
        seen.extend(recipes.values())
        return {name: ({"top-1": score(float(name)), "loss": 1 - score(float(name))}, None) for name in recipes}

    return measure


@pytest.mark.parametrize("peak", [0.5, 0.86, 0.93, 0.985, 0.998])
@pytest.mark.parametrize("monitor", ["top-1", "loss"])
def test_it_comes_near_the_peak_wherever_that_is(peak: float, monitor: str) -> None:
    """Of a curve that falls to both sides of it, over the logarithm of what is kept."""
    kept = np.log(1 - peak)
    rungs = climb(RECIPE, measuring(lambda s: -abs(np.log(1 - s) - kept), []), monitor)
    found = top(rungs, monitor).sparsity
    every = sorted({abs(np.log(1 - s) - kept) for s in RUNGS})
    assert abs(np.log(1 - found) - kept) <= every[0]
    assert [rung.sparsity for rung in rungs] == sorted(rung.sparsity for rung in rungs)
    assert 0 < len(rungs) - len(RUNGS) - 1 <= 2


def test_of_equal_rungs_the_least_sparse_counts_and_gains_nothing() -> None:
    rungs = climb(RECIPE, measuring(lambda s: 0.5, []), "top-1")
    assert top(rungs, "top-1").sparsity == 0.5
    assert not gains(rungs, "top-1")
    assert gains(climb(RECIPE, measuring(lambda s: s, []), "top-1"), "top-1")


FORGETS = {
    0.5: (0.62, 3.2),
    0.8: (0.59, 2.8),
    0.9: (0.56, 2.5),
    0.95: (0.57, 2.3),
    0.98: (0.56, 2.1),
    0.99: (0.57, 1.7),
}
"""Right answers and loss of a network that knows wrong labels by heart up to a sparsity of 98 %, as it was measured."""


@pytest.mark.parametrize(("examples", "sparsity"), [(None, 0.5), (60, 0.99), (250, 0.8), (20_000, 0.5)])
def test_of_rungs_that_the_examples_cannot_tell_apart_the_one_with_the_lowest_loss_counts(
    examples: int | None, sparsity: float
) -> None:
    def measure(recipes: Mapping[str, Recipe]) -> dict[str, tuple[dict[str, float], float | None]]:
        rungs = {name: FORGETS.get(float(name), (0.2, 3.0)) for name in recipes}
        return {name: ({"top-1": top1, "loss": loss}, None) for name, (top1, loss) in rungs.items()}

    assert top(climb(RECIPE, measure, "top-1", examples), "top-1").sparsity == sparsity
    assert top(climb(RECIPE, measure, "loss", examples), "loss").sparsity == 0.99


def test_its_phases_are_half_as_long_and_the_last_one_is_left_out() -> None:
    seen: list[Recipe] = []
    climb(RECIPE, measuring(lambda s: s, seen), "top-1")
    assert {len(recipe.phase) for recipe in seen} == {2}
    assert {(recipe.phase[0].epochs, recipe.phase[1].epochs) for recipe in seen} == {(3, 3)}
    assert [recipe.phase[1].kind for recipe in seen] == ["dense"] + ["sparse"] * (len(seen) - 1)


@pytest.mark.parametrize(
    ("length", "half"), [({"epochs": 1}, 0.5), ({"epochs": 1.5}, 1), ({"steps": 5}, 3), ({"steps": 1}, 1)]
)
def test_a_short_phase_is_never_empty(length: dict[str, float], half: float) -> None:
    sparse = {"kind": "sparse", "sparsity": 0.3, "learning_rate": 0.01, **length}
    [phase] = short(Recipe.from_dict({"phase": [sparse]}), 0.3).phase
    assert half in (phase.epochs, phase.steps)


def test_layers_are_spared_each_for_itself_only() -> None:
    assert sparing(RECIPE).prune.alive
    together = Recipe.from_dict(RECIPE.to_dict() | {"prune": {"scope": "global"}})
    assert sparing(together) == together
