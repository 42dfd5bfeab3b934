"""A recipe as TOML: what is read from it is the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dsd_ort.recipe import Recipe, builtin_names, to_toml

ROOT = Path(__file__).parent.parent.parent
DENSE = {"kind": "dense", "epochs": 1, "learning_rate": 1e-3}
TABLES: dict[str, dict[str, Any]] = {
    "several losses": {
        "loss": [{"name": "mse", "output": "a/b"}, {"name": "cross-entropy", "class_weights": [1.0, 2]}]
    },
    "names": {"prune": {"layers": {"fc.*": 0.5, 'a "b"\\': 0.25}}, "freeze": ["cnn.*", "ü\n\x7f\x01"]},
    "inputs": {"input": {"rate": {"value": 16000}, "x.y": {"shape": ["N", 3], "value": [[1, 2], [3, 4]]}}},
    "texts": {"data": {"alphabet": ["_", "😀", '"', "\\"], "image": {"flip": True}, "audio": {"hop": 0.02}}},
    "groups": {"optimizer": {"groups": [{"match": ["role:bias"], "weight_decay": 0.0}], "clip_norm": 5}},
    "phases": {
        "phase": [DENSE | {"epochs": 1.25}, {"kind": "sparse", "steps": 3, "sparsity": 0.3, "learning_rate": 0}]
    },
    "schedules": {"phase": [DENSE | {"learning_rate": {"schedule": "step", "initial": 1e-10, "every": 0.5}}]},
}


def read_back(recipe: Recipe, folder: Path) -> Recipe:
    (folder / "recipe.toml").write_text(to_toml(recipe), "utf-8")
    return Recipe.load(folder / "recipe.toml")


@pytest.mark.parametrize("name", TABLES)
def test_what_is_written_is_read_back(name: str, tmp_path: Path) -> None:
    recipe = Recipe.from_dict({"phase": [DENSE], "seed": 3} | TABLES[name])
    assert read_back(recipe, tmp_path) == recipe


def test_so_are_all_recipes_that_there_are(tmp_path: Path) -> None:
    paths = [*builtin_names(), *(ROOT / "examples").rglob("*.toml")]
    assert len(paths) >= 12
    for path in paths:
        assert read_back(Recipe.load(path), tmp_path) == Recipe.load(path), path


def test_defaults_are_left_out_and_schedules_are_inline() -> None:
    phase = {"kind": "sparse", "epochs": 5, "sparsity": 0.3, "learning_rate": {"schedule": "cosine", "initial": 1e-3}}
    recipe = Recipe.from_dict({"phase": [phase], "optimizer": {"name": "adam"}, "data": {"image": {"flip": True}}})
    assert to_toml(recipe) == (
        '[[phase]]\nkind = "sparse"\nlearning_rate = { schedule = "cosine", initial = 0.001 }\nepochs = 5\n'
        'sparsity = 0.3\n\n[optimizer]\nname = "adam"\n\n[data.image]\nflip = true\n'
    )
