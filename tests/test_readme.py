"""The README says what is true: its recipe, its commands, its Python."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import dsd_ort
from tests.cli.test_commands import commands
from tests.models import cnn_data, write_cnn

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_recipe_is_one(tmp_path: Path) -> None:
    (block,) = blocks("toml")
    (tmp_path / "recipe.toml").write_text(block)
    recipe = dsd_ort.Recipe.load(tmp_path / "recipe.toml")
    assert [p.kind for p in recipe.phase] == ["dense", "sparse", "dense"]


def test_parts_of_recipes_are_parts_of_recipes(tmp_path: Path) -> None:
    parts = blocks("toml recipe")
    assert len(parts) == 4
    for part in parts:
        phase = '[[phase]]\nkind = "dense"\nepochs = 1\nlearning_rate = 0.1\n'
        (tmp_path / "recipe.toml").write_text(part + phase)
        dsd_ort.Recipe.load(tmp_path / "recipe.toml")


def test_every_command_exists_with_the_options_that_are_shown() -> None:
    lines = [line.partition("#")[0] for line in re.findall(r"^ {4}(dsd-ort .*)$", README, re.MULTILINE)]
    assert len(lines) >= 6
    for line in lines:
        name, *rest = line.split()[1:]
        options = {option for parameter in commands()[name].params for option in parameter.opts}
        assert {word for word in rest if word.startswith("-")} <= options, line


def test_the_python_runs_and_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_cnn(tmp_path / "model.onnx")
    data = cnn_data(16)
    np.save("images.npy", data["image"])
    np.save("labels.npy", data["label"])
    np.savez("test.npz", **cnn_data(8, seed=2))
    recipe = (ROOT / "dsd_ort" / "recipe" / "builtin" / "default.toml").read_text("utf-8")
    (tmp_path / "recipe.toml").write_text(re.sub(r"epochs = \d+", "epochs = 1", recipe))
    (block,) = blocks("python")
    exec(compile(block, "README.md", "exec"), {})
    assert (tmp_path / "better.onnx").exists()


def test_the_files_that_it_links_to_exist() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_errors_with_wrong_labels_are_those_that_were_measured() -> None:
    rows = json.loads((ROOT / "docs" / "evidence_wrong_labels.json").read_text())
    measured = {(row["network"], row["arm"]): row["error"] for row in rows if row["sparsities"] != "auto"}
    for network in ("MLP", "CNN"):
        [line] = [line for line in README.splitlines() if line.startswith(f"| {network}, ")]
        dense, early, *others = [cell.strip() for cell in line.split("|")[2:-1]]
        name = network.lower()
        assert [float(dense), float(early)] == [measured[name, "dense-only"], measured[name, "early-stopping"]]
        for kind, cells in (("dsd", others[:3]), ("drop-suspects", others[3:])):
            shown = dict(cell.split(" %: ") for cell in cells if cell)
            assert {f"{kind}-{float(s) / 100:g}": float(e) for s, e in shown.items()} == {
                arm: error for (n, arm), error in measured.items() if n == name and arm.startswith(f"{kind}-")
            }


def test_what_auto_chose_is_what_was_measured() -> None:
    rows = json.loads((ROOT / "docs" / "evidence_wrong_labels.json").read_text())
    [line] = [line for line in README.splitlines() if line.startswith("`--sparsity auto` chose")]
    shown = re.findall(r"([\d.]+) % for the (MLP|CNN)[^(]*\(([\d.]+), ([\d.]+)", line)
    for percent, network, dsd, dropped in shown:
        of = {r["arm"]: r["error"] for r in rows if r["sparsities"] == "auto" and r["network"] == network.lower()}
        assert of[f"dsd-{float(percent) / 100:g}-alive"] == float(dsd)
        assert of[f"drop-suspects-{float(percent) / 100:g}-alive"] == float(dropped)
    assert len(shown) == 2
