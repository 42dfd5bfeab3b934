"""The arms of an experiment, as recipes."""

from __future__ import annotations

from typing import Any

import pytest

from dsd_ort.api.comparison.arms import KINDS, USUAL, arms
from dsd_ort.recipe import Recipe
from dsd_ort.run.fork import shared_phases

DENSE = {"kind": "dense", "epochs": 3, "learning_rate": 0.1}
SPARSE = {"kind": "sparse", "sparsity": 0.3, "epochs": 2, "learning_rate": 0.01}
LAST = {"kind": "dense", "epochs": 1, "learning_rate": {"schedule": "cosine", "initial": 0.02, "final": 0.001}}


def recipe(*phases: dict[str, Any], **more: Any) -> Recipe:
    return Recipe.from_dict({"phase": list(phases or (SPARSE, LAST)), **more})


def named(wanted: Recipe, *sparsities: float, kinds: tuple[str, ...] = tuple(KINDS)) -> dict[str, Any]:
    return {arm.name: arm for arm in arms(wanted, kinds, sparsities)}


def test_each_arm_has_the_budget_and_the_rates_of_the_recipe() -> None:
    found = named(recipe(DENSE, SPARSE, LAST), 0.5, 0.9)
    assert list(found) == [
        "dense-only",
        "early-stopping",
        "weight-decay",
        "dsd-0.5",
        "dsd-0.9",
        "drop-suspects-0.5",
        "drop-suspects-0.9",
        "fresh",
    ]
    for arm in found.values():
        assert [phase.epochs for phase in arm.recipe.phase] == [3, 2, 1]
        assert [phase.schedule for phase in arm.recipe.phase] == [p.schedule for p in recipe(DENSE, SPARSE, LAST).phase]
    assert [found[f"dsd-{s}"].recipe.phase[1].sparsity for s in (0.5, 0.9)] == [0.5, 0.9]
    assert [phase.kind for phase in found["weight-decay"].recipe.phase] == ["dense"] * 3


def test_stopping_early_reads_the_training_of_dense_only() -> None:
    found = named(recipe(), 0.5)
    assert found["early-stopping"].run == found["dense-only"].run == "dense-only"
    assert found["early-stopping"].any_phase and not found["dense-only"].any_phase


def test_dropping_suspects_parts_from_dsd_at_the_last_phase() -> None:
    found = named(recipe(DENSE, SPARSE, LAST), 0.5)
    assert shared_phases(found["dsd-0.5"].recipe, found["drop-suspects-0.5"].recipe) == 2
    assert shared_phases(found["dsd-0.5"].recipe, found["dense-only"].recipe) == 1
    assert found["drop-suspects-0.5"].recipe.phase[-1].drop_suspects


def test_without_suspects_the_last_phase_is_as_fast_as_the_sparse_one() -> None:
    slow = {"kind": "dense", "epochs": 1, "learning_rate": 0.001}
    assert named(recipe(SPARSE, slow))["drop-suspects"].recipe.phase[-1].schedule.initial == 0.01
    assert named(recipe(SPARSE, LAST))["drop-suspects"].recipe.phase[-1].schedule == recipe(LAST).phase[0].schedule


@pytest.mark.parametrize(("decay", "stronger"), [(0.0, 1e-3), (1e-5, 1e-3), (1e-2, 1e-1)])
def test_the_stronger_weight_decay(decay: float, stronger: float) -> None:
    arm = named(recipe(optimizer={"weight_decay": decay}))["weight-decay"]
    assert arm.recipe.optimizer.weight_decay == pytest.approx(stronger)


def test_weights_drawn_anew_get_the_rates_of_a_first_training() -> None:
    assert named(recipe())["fresh"].recipe.phase[0].schedule.initial == pytest.approx(0.1)
    assert named(recipe())["fresh"].recipe.phase[1].schedule.final == pytest.approx(0.01)
    begins_dense = named(recipe(DENSE, SPARSE))["fresh"].recipe
    assert begins_dense.phase[0].schedule.initial == pytest.approx(0.1)


def test_suspects_are_dropped_only_where_there_are_labels_and_a_dense_phase_behind() -> None:
    assert "drop-suspects" in named(recipe())
    assert "drop-suspects" not in named(recipe(loss={"name": "mse"}))
    assert "drop-suspects" not in named(recipe(DENSE, SPARSE))


def test_a_seed_changes_nothing_else() -> None:
    arm = named(recipe(seed=7))["dsd"]
    assert arm.of_seed(2) == recipe(seed=9)


def test_fresh_is_asked_for() -> None:
    assert set(KINDS) - set(USUAL) == {"fresh"}
