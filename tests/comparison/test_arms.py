"""The arms of an experiment, as recipes."""

from __future__ import annotations

from typing import Any

import pytest

from dsd_ort.api.comparison.arms import KINDS, USUAL, arms
from dsd_ort.errors import RecipeError
from dsd_ort.recipe import Recipe, Rise
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
        "acdc-0.5",
        "acdc-0.9",
        "gradual-0.5",
        "gradual-0.9",
        "one-shot-0.5",
        "one-shot-0.9",
        "drop-suspects-0.5",
        "drop-suspects-0.9",
        "fresh",
    ]
    for arm in (arm for name, arm in found.items() if not name.startswith("acdc")):
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


def test_some_are_asked_for() -> None:
    assert set(KINDS) - set(USUAL) == {"fresh", "acdc", "gradual", "one-shot"}


def test_acdc_goes_through_the_sparse_and_dense_phases_four_times_in_all_as_long() -> None:
    arm = named(recipe(DENSE, SPARSE, {**LAST, "drop_suspects": True}))["acdc"]
    assert [phase.kind for phase in arm.recipe.phase] == ["dense", *["sparse", "dense"] * 4]
    assert sum(phase.epochs or 0 for phase in arm.recipe.phase) == 6
    assert [phase.sparsity for phase in arm.recipe.phase[1:3]] == [0.3, None]
    assert {phase.schedule for phase in arm.recipe.phase[2::2]} == {recipe(LAST).phase[0].schedule}
    assert not any(phase.drop_suspects for phase in arm.recipe.phase)
    steps = {"kind": "dense", "steps": 8, "learning_rate": 0.1}
    assert [phase.steps for phase in named(recipe(SPARSE, steps))["acdc"].recipe.phase[1::2]] == [2] * 4


def test_acdc_needs_a_dense_phase_behind_the_sparse_one() -> None:
    assert "acdc" not in named(recipe(DENSE, SPARSE))
    with pytest.raises(RecipeError, match="no arm is left of acdc"):
        arms(recipe(DENSE, SPARSE), ("acdc",), ())


def test_what_ships_sparse_is_sparse_to_its_end_at_once_or_little_by_little() -> None:
    found = named(recipe(DENSE, SPARSE, {**LAST, "drop_suspects": True}), 0.9)
    assert [phase.final_sparsity for phase in found["one-shot-0.9"].recipe.phase] == [None, 0.9, 0.9]
    assert [phase.final_sparsity for phase in found["gradual-0.9"].recipe.phase] == [None, 0.9, 0.9]
    rises = [isinstance(phase.sparsity, Rise) for phase in found["gradual-0.9"].recipe.phase]
    assert rises == [False, True, False]
    for name in ("one-shot-0.9", "gradual-0.9"):
        assert [phase.kind for phase in found[name].recipe.phase] == ["dense", "sparse", "sparse"]
        Recipe.from_dict(found[name].recipe.to_dict())


def test_one_shot_and_dsd_are_trained_once_up_to_the_end_of_the_sparse_phase() -> None:
    found = named(recipe(DENSE, SPARSE, LAST), 0.9)
    assert shared_phases(found["one-shot-0.9"].recipe, found["dsd-0.9"].recipe) == 2
    assert shared_phases(found["gradual-0.9"].recipe, found["dsd-0.9"].recipe) == 1


def test_a_sparsity_that_the_pattern_does_not_say_is_refused() -> None:
    wanted = recipe({**SPARSE, "sparsity": 0.5}, LAST, prune={"pattern": "2:4"})
    assert named(wanted)["dsd"].recipe.phase[0].sparsity == 0.5
    with pytest.raises(RecipeError, match=r"prunes 0\.5, and phase\[0\]\.sparsity says 0\.9"):
        named(wanted, 0.9)


def test_weights_drawn_anew_have_no_zeros_to_keep() -> None:
    assert not named(recipe(prune={"keep_zeros": True}))["fresh"].recipe.prune.keep_zeros
