"""What data mean to an exported file: the verbs take up what stands beside it, and say so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import dsd_ort as package
from dsd_ort.errors import RunError
from tests import cases
from tests.cli.conftest import Command

NOTE = "final.toml beside the model says how it is used: loss, data\n"
RECIPE = """
batch_size = 8
[data]
mean = [0.5]
std = [0.02]
[[phase]]
kind = "dense"
steps = 3
learning_rate = 1e-3
"""


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``final.onnx``, trained on 8-bit numbers near 128, which are normalised, and a ``final.toml`` beside it."""
    monkeypatch.chdir(tmp_path)
    text = "(float[N, 6] x) => (float[N, 3] y) { y = Gemm (x, W, b) }"
    numbers = np.random.default_rng(0).integers(118, 138, (60, 6)).astype(np.uint8)
    weights = {"W": cases.drawn(6, 3), "b": np.zeros(3, np.float32)}
    label = ((numbers / 255 - 0.5) / 0.02 @ weights["W"]).argmax(1)
    cases.write(tmp_path / "model.onnx", text, weights)
    np.savez(tmp_path / "data.npz", x=numbers, label=label)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    package.prepare("model.onnx", "run", package.Recipe.load("recipe.toml"))
    package.train("run", "data.npz", measure_first=False)
    package.export("run", "final.onnx")
    return tmp_path


def top(dsd_ort: Command, *arguments: object) -> tuple[float, str]:
    answer = dsd_ort("evaluate", *arguments, "--data", "data.npz", "--json")
    assert answer.status == 0, answer.err
    return json.loads(answer.out)["top-1"], answer.err


def test_evaluate_takes_up_what_stands_beside_the_file_and_says_so(exported: Path, dsd_ort: Command) -> None:
    of_run, told = top(dsd_ort, "run")
    assert of_run > 0.95 and told == ""
    assert top(dsd_ort, "final.onnx") == (of_run, f"note: {NOTE}")
    notes: list[str] = []
    assert package.evaluate("final.onnx", "data.npz", listener=notes.append)["top-1"] == of_run
    assert [f"{note}\n" for note in notes] == [NOTE]
    assert package.verify("model.onnx", "final.onnx").same


def test_without_it_a_note_names_what_that_costs(exported: Path, dsd_ort: Command) -> None:
    (exported / "final.toml").unlink()
    found, told = top(dsd_ort, "final.onnx")
    assert found < 0.8
    assert "note: data: array 'x' is 8-bit and goes in as numbers from 0 to 1" in told


def test_evaluate_takes_a_part_of_a_recipe_and_settings(exported: Path, dsd_ort: Command) -> None:
    (exported / "part.toml").write_text("[data]\nmean = [0.5]\nstd = [0.02]\n")
    assert top(dsd_ort, "model.onnx", "--recipe", "part.toml") == (pytest.approx(1.0), "")
    assert top(dsd_ort, "model.onnx", "--set", "data.mean=[0.5]", "--set", "data.std=[0.02]")[0] == 1.0
    assert top(dsd_ort, "final.onnx", "--set", "data.mean=[0.9]")[0] < 0.8
    found, told = top(dsd_ort, "final.onnx", "--recipe", "part.toml", "--set", "metrics=['top-1']")
    assert found > 0.95 and told == "note: final.toml beside the model says how it is used: loss\n"
    (exported / "loss.toml").write_text("[loss]\nname = 'mse'\n")
    refused = dsd_ort("evaluate", "final.onnx", "--data", "data.npz", "--recipe", "loss.toml")
    assert refused.status == 3 and "label 'label'" in refused.err


def test_other_verbs_take_it_up_too(exported: Path, dsd_ort: Command) -> None:
    inspected = json.loads(dsd_ort("inspect", "final.onnx", "--json").out)
    assert [note["words"] for note in inspected["notes"]] == [NOTE.strip()]
    checked = json.loads(dsd_ort("check", "final.onnx", "--data", "data.npz", "--json").out)
    assert checked["notes"][0] == NOTE.strip()
    made = dsd_ort("prepare", "final.onnx", "-o", "on")
    assert made.status == 0 and NOTE in made.err
    whole = dsd_ort("prepare", "final.onnx", "-o", "whole", "--recipe", "default")
    assert whole.status == 0 and NOTE in whole.err
    for run in ("on", "whole"):
        recipe = json.loads((exported / run / "manifest.json").read_text())["recipe"]
        assert (recipe["data"]["mean"], recipe["data"]["std"]) == ([0.5], [0.02])
        assert recipe["loss"]["name"] == "cross-entropy"
    dsd_ort("prepare", "final.onnx", "-o", "own", "--recipe", "recipe.toml", "--set", "data.mean=[0.4]")
    assert json.loads((exported / "own" / "manifest.json").read_text())["recipe"]["data"]["mean"] == [0.4]


def test_what_compare_and_experiments_export_is_accompanied_too(exported: Path, dsd_ort: Command) -> None:
    beside = (exported / "final.toml").read_text()
    recipe = ("--recipe", "recipe.toml", "--set", "phase.0.kind=sparse", "--set", "phase.0.sparsity=0.3")
    data = ("--data", "data.npz", "--eval-data", "data.npz")
    one = dsd_ort("compare", "model.onnx", *recipe, *data, "-o", "one", "--json")
    assert one.status == 0 and (exported / "one" / "final.toml").read_text() == beside
    many = ("--seeds", 1, "--arms", "dense-only,dsd", "--by", "loss")
    several = dsd_ort("compare", "model.onnx", *recipe, *data, "-o", "several", *many, "--json")
    assert several.status == 0, several.err
    found = {str(path.relative_to(exported / "several")) for path in (exported / "several").rglob("final.toml")}
    assert found == {"final.toml", "arms/dense-only/final.toml", "arms/dsd/final.toml"}
    assert {path.read_text() for path in exported.rglob("final.toml")} == {beside}


def test_nothing_of_somebody_else_is_overwritten_and_nothing_left_half(exported: Path, dsd_ort: Command) -> None:
    shutil.copy("recipe.toml", "better.toml")
    refused = dsd_ort("export", "run", "-o", "better.onnx")
    assert refused.status == 3 and "better.toml is there" in refused.err
    assert (exported / "better.toml").read_text() == RECIPE and not (exported / "better.onnx").exists()
    (exported / "taken.toml").mkdir()
    with pytest.raises(RunError, match=r"taken\.toml is there"):
        package.export("run", "taken.onnx")
    assert not list(exported.glob("*.part")) and not list(exported.glob(".*"))
