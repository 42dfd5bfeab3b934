"""``dsd-ort scan``: what it measures, the files that it writes, and the recipe that follows."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

import dsd_ort as package
from dsd_ort.recipe import Recipe
from dsd_ort.run.prune import lowest
from tests.cli.conftest import Command
from tests.cli.test_bad_input import refuse
from tests.models import cnn_data

SCAN = ("scan", "model.onnx", "--data", "data.npz", "--threads", 1)
CLASSES = ("--loss", "cross-entropy")


@pytest.fixture(autouse=True)
def more_data(folder: Path) -> None:
    np.savez(folder / "data.npz", **cnn_data(120))


def pruned_by_hand(folder: Path, name: str, sparsity: float) -> Path:
    """The model with one weight pruned."""
    proto = onnx.load(folder / "model.onnx")
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            value = onnx.numpy_helper.to_array(tensor).copy()
            value[lowest(np.abs(value).reshape(1, -1), sparsity).reshape(value.shape)] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, name))
    path = folder / f"{name}-{sparsity}.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_each_number_is_what_the_model_measures_with_that_layer_pruned(dsd_ort: Command, folder: Path) -> None:
    answer = dsd_ort(*SCAN, "--examples", 0, "--sparsity", "0.9,0.5", "--json")
    assert (answer.status, answer.err) == (0, "")
    found = json.loads(answer.out)
    assert (found["sparsities"], found["examples"], found["monitor"]) == ([0.5, 0.9], 120, "top-1")
    assert [layer["name"] for layer in found["layers"]] == ["conv2.weight", "fc.weight"]
    assert found["came"] == pytest.approx(package.evaluate("model.onnx", "data.npz"))
    for layer in found["layers"]:
        for sparsity, zeros, metrics in zip(found["sparsities"], layer["pruned"], layer["metrics"], strict=True):
            assert zeros == round(layer["weights"] * sparsity)
            other = package.evaluate(pruned_by_hand(folder, layer["name"], sparsity), "data.npz")
            assert metrics == pytest.approx(other, rel=1e-5)


def test_a_scan_of_a_run_has_its_weights_and_its_recipe(dsd_ort: Command, folder: Path) -> None:
    package.prepare("model.onnx", "run", Recipe.load("recipe.toml"))
    package.train("run", "data.npz")
    found = package.scan("run", "data.npz", phase=1, sparsities=(0.5,), examples=0)
    assert found.came == pytest.approx(package.evaluate("run", "data.npz", phase=1))
    assert package.evaluate("run", "data.npz", phase=2) != pytest.approx(found.came)
    assert Recipe.from_dict(found.recipe) == Recipe.load("recipe.toml")


def test_a_recipe_for_a_total_prunes_exactly_that_and_says_what_it_costs(dsd_ort: Command, folder: Path) -> None:
    files = ("-o", "r.toml", "-o", "s.json", "-o", "s.csv", "-o", "s.svg")
    answer = dsd_ort(*SCAN, "--recipe", "recipe.toml", "--total", 0.6, *files)
    assert answer.status == 0, answer
    assert "2 layers at 11 sparsities on 120 examples: about" in answer.err
    for text in ("of 60 %", "as it came", "60 % of all, by layer", "60 % of each layer", "s.svg written"):
        assert text in answer.out
    recipe, found = Recipe.load(folder / "r.toml"), json.loads((folder / "s.json").read_text())
    assert [phase.sparsity for phase in recipe.phase] == [None, 0.6]
    sizes = {layer["name"]: layer["weights"] for layer in found["layers"]}
    total = sum(sizes[name] * sparsity for name, sparsity in recipe.prune.layers.items()) / sum(sizes.values())
    assert total == pytest.approx(0.6, abs=1e-4)
    assert recipe.prune.layers == found["total"]["layers"]
    rows = list(csv.DictReader((folder / "s.csv").read_text().splitlines()))
    assert len(rows) == 1 + 2 * 11
    assert float(rows[1]["loss"]) == found["layers"][0]["metrics"][0]["loss"]
    drawn = ElementTree.parse(folder / "s.svg").getroot()
    assert len(drawn.findall("{http://www.w3.org/2000/svg}rect")) == 1 + 2 * 11
    assert dsd_ort("prepare", "model.onnx", "-o", "new", "--recipe", "r.toml").status == 0
    package.train("new", "data.npz")
    end = package.phases("new")[-1]
    assert end["densities"] == pytest.approx(
        {name: 1 - round(size * recipe.prune.layers[name]) / size for name, size in sizes.items()}, abs=1e-5
    )


def test_names_that_are_globs_name_themselves(dsd_ort: Command, folder: Path) -> None:
    proto = onnx.load(folder / "model.onnx")
    for tensor in proto.graph.initializer:
        tensor.name = tensor.name.replace("fc.weight", "fc[0]*")
    for node in proto.graph.node:
        node.input[:] = [name.replace("fc.weight", "fc[0]*") for name in node.input]
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    found = package.scan("model.onnx", "data.npz", total=0.5)
    package.prepare("model.onnx", "run", Recipe.from_dict(found.recipe))


@pytest.mark.parametrize("pattern", ["1:2", "channels", "rows"])
def test_patterns_are_scanned_as_they_are_pruned(dsd_ort: Command, folder: Path, pattern: str) -> None:
    given = ("--set", f"prune.pattern={pattern}", "--set", 'prune.exclude=["first-conv", "fc.weight"]')
    answer = dsd_ort(*SCAN, *CLASSES, *given, "--set", "prune.criterion=wanda", "--json")
    assert answer.status == 0, answer
    found = json.loads(answer.out)
    assert (found["pattern"], found["criterion"]) == (pattern, "wanda")
    assert found["sparsities"] == ([0.5] if pattern == "1:2" else found["sparsities"])
    (layer,) = found["layers"]
    units = {"1:2": 2, "channels": 5, "rows": 36}[pattern]
    assert layer["pruned"] == [round(units * s) * 180 // units for s in found["sparsities"]]


def test_a_recipe_that_has_only_a_pattern_leaves_the_sparsity_to_it(dsd_ort: Command, folder: Path) -> None:
    (folder / "part.toml").write_text('prune = { pattern = "1:2", exclude = ["first-conv", "fc.*"] }')
    answer = dsd_ort(*SCAN, "--recipe", "part.toml", "--json")
    assert answer.status == 0, answer
    assert json.loads(answer.out)["sparsities"] == [0.5]


def test_the_sample_is_as_large_as_asked(dsd_ort: Command) -> None:
    assert json.loads(dsd_ort(*SCAN, "--examples", 60, "--sparsity", "0.5", "--json").out)["examples"] == 64


@pytest.mark.parametrize(
    ("given", "what", "fix"),
    [
        (("--total", 1.5), "a total of 1.5 is outside (0, 1)", "as 0.8"),
        (("--total", 0.995), "a total of 0.995 is out of reach: what was scanned goes up to 0.99", "lower total"),
        (("--sparsity", "0.5,1"), "a sparsity of 1 is outside (0, 1)", "as 0.5,0.9"),
        (("--set", "prune.exclude=['*']"), "no parameter of the model may be pruned", "exclude less"),
        (
            ("--set", "prune.pattern=2:4"),
            "'2:4' does not fit 'fc.weight': its 5 inputs are no multiple of 4",
            "exclude",
        ),
        (("--set", "prune.pattern=1:2", "--set", "prune.exclude=['fc.*']", "--total", 0.5), "'1:2' says", "leave"),
        (("-o", "missing/s.json"), "the scan cannot be written", "choose another place"),
    ],
)
def test_bad_input_is_one_message(dsd_ort: Command, folder: Path, given: tuple[str, ...], what: str, fix: str) -> None:
    refuse(dsd_ort, folder, (*SCAN, *given), what, fix)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (("-o", "s.png"), "ends with .json, .csv, .svg, .toml"),
        (("-o", "r.toml"), "give --total"),
        (("--sparsity", "much"), "'much' is no list of numbers"),
    ],
)
def test_wrong_usage_is_told(dsd_ort: Command, given: tuple[str, ...], what: str) -> None:
    answer = dsd_ort(*SCAN, *given)
    assert answer.status == 2 and what in answer.err
