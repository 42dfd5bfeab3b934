"""The recipes that ship with the package: listed, printed, and taken by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsd_ort.recipe import Recipe, builtin_names
from tests.cli.conftest import Command
from tests.cli.test_bad_input import refuse


def test_every_recipe_is_listed_with_what_its_first_line_says(dsd_ort: Command) -> None:
    answer = dsd_ort("recipes")
    assert answer.status == 0
    rows = [[cell.strip() for cell in line.split("│")[1:3]] for line in answer.out.splitlines() if "│" in line]
    about = json.loads(dsd_ort("recipes", "--json").out)
    assert list(about) == builtin_names()
    assert [name for name, _ in rows if name] == builtin_names()
    assert all(len(text) > 10 and not text.startswith("#") for text in about.values())


@pytest.mark.parametrize("name", builtin_names())
def test_a_recipe_is_printed_as_it_is_to_be_copied_and_changed(dsd_ort: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.toml").write_text(dsd_ort("recipes", name).out)
    assert Recipe.load(tmp_path / "mine.toml") == Recipe.load(name)
    assert Recipe.from_dict(json.loads(dsd_ort("recipes", name, "--json").out)) == Recipe.load(name)


def test_a_recipe_is_taken_by_its_name(dsd_ort: Command, folder: Path) -> None:
    answer = dsd_ort("prepare", "model.onnx", "-o", "run", "--recipe", "default")
    assert answer.status == 0, answer


def test_a_name_that_is_none_is_told_with_those_there_are(dsd_ort: Command, folder: Path) -> None:
    refuse(dsd_ort, folder, ("recipes", "defualt"), "no built-in recipe 'defualt'", "did you mean 'default'?")
    refuse(dsd_ort, folder, ("recipes", "zzz"), "the built-in ones are ", "default")
