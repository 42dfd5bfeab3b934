from __future__ import annotations

import pydoc
import re
from pathlib import Path

import pytest

import dsd_ort
from dsd_ort.errors import RecipeError
from dsd_ort.recipe import Loss, Phase, Recipe, Schedule, parse_value

DENSE = {"kind": "dense", "epochs": 1, "learning_rate": 0.1}
SPARSE = {"kind": "sparse", "sparsity": 0.3, "steps": 5, "learning_rate": {"schedule": "cosine", "initial": 0.1}}


def test_a_recipe_survives_the_way_to_plain_tables_and_back() -> None:
    recipe = Recipe.from_dict({"phase": [DENSE, SPARSE], "loss": [{"output": "a"}, {"output": "b", "weight": 0.4}]})
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_a_learning_rate_is_a_number_or_a_schedule() -> None:
    recipe = Recipe.from_dict({"phase": [DENSE, SPARSE]})
    assert recipe.phase[0].schedule == Schedule(initial=0.1)
    assert recipe.phase[1].schedule == Schedule(schedule="cosine", initial=0.1)


def test_one_loss_or_several_read_the_same() -> None:
    assert Recipe.from_dict({"phase": [DENSE]}).losses == (Loss(),)
    assert len(Recipe.from_dict({"phase": [DENSE], "loss": [{}, {}]}).losses) == 2


def test_dense_only_keeps_the_budget_and_drops_the_pruning() -> None:
    recipe = Recipe.from_dict({"phase": [DENSE, SPARSE]}).dense_only()
    assert [p.kind for p in recipe.phase] == ["dense", "dense"]
    assert recipe.phase[1] == Phase(kind="dense", steps=5, learning_rate=Schedule(schedule="cosine", initial=0.1))


@pytest.mark.parametrize(
    ("table", "what", "fix"),
    [
        ({"phase": [DENSE], "builder": "torch"}, "builder is wrong", "README"),
        ({"phase": [DENSE], "recompute": "all"}, "recompute is wrong: Invalid enum value 'all'", "README"),
        ({"phase": [DENSE], "batchsize": 3}, "unknown key 'batchsize'", "'batch_size'"),
        ({"phase": [DENSE], "optimizer": {"momentm": 0.9}}, "unknown key 'optimizer.momentm'", "'momentum'"),
        ({"phase": [DENSE | {"sparsty": 0.1}]}, "unknown key 'phase.sparsty'", "'sparsity'"),
        ({"phase": [DENSE], "loss": [{"labell": "y"}]}, "unknown key 'loss.labell'", "'label'"),
        (
            {"phase": [DENSE | {"learning_rate": {"initail": 1}}]},
            "unknown key 'phase.learning_rate.initail'",
            "initial",
        ),
        ({"phase": [DENSE], "zzzzzz": 1}, "unknown key 'zzzzzz'", "the keys here are phase, batch_size"),
        ({"phase": [DENSE], "batch_size": "many"}, "batch_size is wrong: Expected `int`, got `str`", None),
        ({"phase": [DENSE], "optimizer": {"name": "lion"}}, "optimizer.name is wrong: Invalid enum value 'lion'", None),
        ({"batch_size": 1}, "missing required field `phase`", None),
        ({"phase": []}, "no phase", "[[phase]]"),
        ({"phase": [DENSE], "batch_size": 0}, "batch_size = 0", "whole number"),
        ({"phase": [DENSE | {"steps": 3}]}, "phase[0] needs either epochs or steps", "exactly one"),
        ({"phase": [{"kind": "dense", "learning_rate": 1.0}]}, "phase[0] needs either epochs or steps", "exactly one"),
        ({"phase": [DENSE | {"sparsity": 0.3}]}, "phase[0] is dense but has a sparsity", "remove"),
        ({"phase": [SPARSE | {"sparsity": None}]}, "phase[0] is sparse but has no sparsity", "sparsity = 0.3"),
        ({"phase": [SPARSE | {"sparsity": 1.0}]}, "phase[0].sparsity = 1 is outside [0, 1)", "share"),
        ({"phase": [SPARSE | {"sparsity": -0.1}]}, "phase[0].sparsity = -0.1 is outside [0, 1)", "share"),
        ({"phase": [DENSE], "experiment": {"seeds": 0}}, "experiment.seeds = 0 is no experiment", "1 or more"),
        ({"phase": [DENSE], "experiment": {"select": 1.0}}, "experiment.select = 1.0 is outside", "a share"),
        ({"phase": [DENSE], "prune": {"alive": True, "scope": "global"}}, "prune.alive does not go with", "layer"),
        ({"phase": [DENSE], "prune": {"layers": {"a": 1.5}}}, "prune.layers.'a' = 1.5 is outside [0, 1)", "share"),
        ({"phase": [DENSE | {"patience": 0}]}, "phase[0].patience", "1 or more"),
        ({"phase": [DENSE | {"learning_rate": -1.0}]}, "negative learning rate", "from 0"),
        ({"phase": [DENSE], "optimizer": {"accumulate": 0}}, "optimizer.accumulate", "every batch"),
        ({"phase": [DENSE], "optimizer": {"nesterov": True, "momentum": 0.0}}, "nesterov needs a momentum", "0.9"),
        ({"phase": [DENSE], "optimizer": {"beta2": 1.0}}, "beta2 = 1 is outside [0, 1)", "0.9"),
        ({"phase": [DENSE], "data": {"std": [0.0]}}, "data.std", "channel"),
        ({"phase": [DENSE], "data": {"image": {"crop": 0}}}, "data.image.crop = 0 is not positive", "224"),
        ({"phase": [DENSE], "data": {"image": {"pad": -1}}}, "data.image.pad = -1 is negative", "4"),
        (
            {"phase": [DENSE], "data": {"image": {"crop": 256, "resize": 224}}},
            "data.image.crop = 256 is larger than data.image.resize = 224",
            "resize = 256 and crop = 224",
        ),
        ({"phase": [DENSE], "data": {"audio": {"mels": 0}}}, "data.audio.mels = 0 is not positive", None),
        ({"phase": [DENSE], "data": {"audio": {"hop": 1e-5}}}, "window or hop is less than a sample", "hop = 0.01"),
        ({"phase": [DENSE], "data": {"alphabet": "_aba"}}, "data.alphabet has 'a' twice", "a text of its own"),
        ({"phase": [DENSE], "loss": {"name": "mse"}, "monitor": "top-1"}, "'top-1' does not fit", "loss, mean-error"),
        ({"phase": [DENSE], "metrics": ["mean-error"]}, "'mean-error' does not fit the loss", "loss, top-1, top-5"),
        ({"phase": [DENSE | {"learning_rate": float("inf")}]}, "infinite learning rate", "1e-2"),
        ({"phase": [DENSE], "optimizer": {"weight_decay": -1.0}}, "weight_decay is negative", "1e-4"),
    ],
)
def test_a_wrong_recipe_is_refused_with_the_way_out(table: dict, what: str, fix: str | None) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_dict(table, where="my.toml")
    assert what in caught.value.what
    assert caught.value.where == "my.toml"
    assert fix is None or fix in (caught.value.fix or "")


def test_help_says_what_every_key_is() -> None:
    told = pydoc.plain(pydoc.render_doc(dsd_ort.Recipe))
    for key in Recipe.__struct_fields__:
        assert re.search(rf"``{key}`` +\S", told), key


def test_files_that_are_missing_or_no_toml_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read: No such file"):
        Recipe.load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("phase = [")
    with pytest.raises(RecipeError, match="not TOML"):
        Recipe.load(tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not TOML"):
        Recipe.load(tmp_path / "binary.toml")


def test_every_recipe_of_the_repository_loads() -> None:
    root = Path(__file__).parent.parent.parent
    recipes = [
        *root.glob("dsd_ort/recipe/builtin/**/*.toml"),
        *root.glob("dsd_ort/demo/*.toml"),
        *root.glob("examples/**/*.toml"),
    ]
    assert len(recipes) >= 3
    for path in recipes:
        Recipe.load(path)


def test_values_on_the_command_line_are_toml_or_text() -> None:
    assert [parse_value(t) for t in ("0.5", "true", '["a"]', "adam")] == [0.5, True, ["a"], "adam"]
