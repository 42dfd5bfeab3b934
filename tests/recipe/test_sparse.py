"""What a recipe says of sparsity: patterns, criteria, sparsities that rise, phases that are repeated."""

from __future__ import annotations

from typing import Any

import pytest

from dsd_ort.errors import RecipeError
from dsd_ort.recipe import Recipe, Rise, builtin_names, to_toml
from dsd_ort.recipe.patterns import Pattern, parse
from dsd_ort.recipe.reading import tomllib

DENSE = {"kind": "dense", "epochs": 1, "learning_rate": 0.1}
SPARSE = {"kind": "sparse", "sparsity": 0.5, "epochs": 1, "learning_rate": 0.1}
RISE = {"final": 0.9}


def phase(**changes: Any) -> dict[str, Any]:
    return {"phase": [SPARSE | changes]}


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("unstructured", Pattern("unstructured")),
        ("rows", Pattern("rows")),
        ("channels", Pattern("channels")),
        ("2:4", Pattern("N:M", 2, 4)),
        ("1:16", Pattern("N:M", 1, 16)),
        ("1x4", Pattern("RxC", 1, 4)),
        ("8x8", Pattern("RxC", 8, 8)),
        *((text, None) for text in ("4:4", "4:2", "0:4", "2:0", "0x4", "2-4", "2:4:8", "1 x 4", "channel", "", "1X4")),
    ],
)
def test_a_pattern_is_one_of_the_names_or_none(text: str, pattern: Pattern | None) -> None:
    assert parse(text) == pattern


@pytest.mark.parametrize(
    ("table", "what", "fix"),
    [
        (phase() | {"prune": {"pattern": "4:2"}}, "prune.pattern = '4:2' is none", '"2:4" (2 of each 4 stay)'),
        (phase() | {"prune": {"criterion": "size"}}, "prune.criterion is wrong", "README"),
        (phase() | {"prune": {"calibration": 0}}, "prune.calibration = 0 is not positive", "128"),
        (phase(sparsity=0.9) | {"prune": {"pattern": "2:4"}}, "prunes 0.5, and phase[0].sparsity says 0.9", "remove"),
        (
            phase() | {"prune": {"pattern": "2:4", "layers": {"a": 0.6}}},
            "prune.layers.'a' = 0.6 is no whole number of each 4",
            "or 0 for a layer that is not pruned",
        ),
        (phase() | {"prune": {"pattern": "2:4", "scope": "global"}}, "no meaning with prune.scope", "remove the scope"),
        (
            phase() | {"prune": {"pattern": "rows", "scope": "global"}},
            "no meaning with prune.scope",
            "remove the scope",
        ),
        (phase() | {"prune": {"pattern": "1x4", "alive": True}}, "prune.alive does not go with", "remove one"),
        (phase(sparsity=RISE | {"initial": 0.95}), "is to rise from 0.95 to 0.9", "lower initial"),
        (phase(sparsity=RISE | {"final": 1.0}), "phase[0].sparsity.final = 1 is outside [0, 1)", "share"),
        (phase(sparsity=RISE | {"every": 0}), "phase[0].sparsity.every = 0 is not positive", "updates"),
        (phase(sparsity=RISE | {"stairs": 0}), "phase[0].sparsity.stairs = 0 is not positive", "as 4"),
        (phase(sparsity=RISE | {"over": 0.0}), "phase[0].sparsity.over = 0 is outside (0, 1]", "0.75"),
        (phase(sparsity=RISE | {"schedule": "sine"}), "phase[0].sparsity.schedule is wrong", "README"),
        (phase(sparsity={"from": 0.1, "final": 0.9}), "unknown key 'phase.sparsity.from'", "initial"),
        (phase(kind="dense"), "phase[0] is dense but has a sparsity", "remove it"),
        ({"phase": [{"repeat": 2}]}, "phase[0] is repeated but has no phases of its own", "[[phase.phase]]"),
        ({"phase": [{"repeat": 0, "phase": [DENSE]}]}, "phase[0].repeat = 0 is no number of times", "as 4"),
        ({"phase": [{"repeat": True, "phase": [DENSE]}]}, "phase[0].repeat = True is no number of times", "as 4"),
        ({"phase": [{"repeat": 2, "epochs": 3, "phase": [DENSE]}]}, "has a key 'epochs' besides", "[[phase.phase]]"),
        ({"phase": [{"repeat": 2, "phase": [{"repeat": 2, "phase": [DENSE]}]}]}, "phases that are repeated", "out"),
        ({"phase": [{"repeat": 2, "phase": [DENSE | {"epoch": 1}]}]}, "unknown key 'phase.epoch'", "'epochs'"),
    ],
)
def test_bad_values_are_refused_with_what_and_fix(table: dict[str, Any], what: str, fix: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_dict(table)
    assert what in caught.value.what
    assert fix in (caught.value.fix or "")


def test_n_of_m_says_the_sparsity_where_a_phase_does_not() -> None:
    table = {"phase": [{k: v for k, v in SPARSE.items() if k != "sparsity"}, DENSE], "prune": {"pattern": "1:4"}}
    recipe = Recipe.from_dict(table)
    assert [p.sparsity for p in recipe.phase] == [0.75, None]
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(RecipeError, match="sparse but has no sparsity"):
        Recipe.from_dict(table | {"prune": {}})


def test_repeated_phases_are_unrolled_in_their_place() -> None:
    recipe = Recipe.from_dict({"phase": [DENSE, {"repeat": 3, "phase": [SPARSE, DENSE | {"epochs": 2}]}, SPARSE]})
    assert [p.kind for p in recipe.phase] == ["dense", *["sparse", "dense"] * 3, "sparse"]
    assert [p.epochs for p in recipe.phase] == [1, 1, 2, 1, 2, 1, 2, 1]
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_a_rising_sparsity_survives_toml() -> None:
    recipe = Recipe.from_dict(phase(sparsity=RISE | {"schedule": "steps", "every": 7}))
    assert isinstance(recipe.phase[0].sparsity, Rise) and recipe.phase[0].final_sparsity == 0.9
    assert Recipe.from_dict(tomllib.loads(to_toml(recipe))) == recipe


def test_another_sparsity_is_what_it_rises_to_and_is_held_to_the_pattern() -> None:
    recipe = Recipe.from_dict({"phase": [SPARSE | {"sparsity": RISE}, DENSE, SPARSE]}).at_sparsity(0.7)
    assert [p.final_sparsity for p in recipe.phase] == [0.7, None, 0.7]
    assert isinstance(recipe.phase[0].sparsity, Rise)
    with pytest.raises(RecipeError, match=r"says 0\.7"):
        Recipe.from_dict(phase() | {"prune": {"pattern": "2:4"}}).at_sparsity(0.7)


def test_dense_only_takes_a_rising_sparsity_too() -> None:
    assert [p.sparsity for p in Recipe.from_dict(phase(sparsity=RISE)).dense_only().phase] == [None]


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("one-shot", ["sparse"]),
        ("gradual", ["sparse"]),
        ("dsd", ["dense", "sparse", "dense"]),
        ("acdc", ["sparse", "dense"] * 4 + ["sparse"]),
    ],
)
def test_the_well_known_ways_are_recipes_of_one_length(name: str, kinds: list[str]) -> None:
    assert name in builtin_names()
    recipe = Recipe.load(name)
    assert [p.kind for p in recipe.phase] == kinds
    assert sum(p.epochs or 0 for p in recipe.phase) == sum(p.epochs or 0 for p in Recipe.load("default").phase)
