"""With no recipe, every command takes the loss that fits the model's output; --loss and --output say otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

import dsd_ort as package
from dsd_ort.errors import RecipeError
from tests.cli.conftest import Command
from tests.cli.test_bad_input import refuse
from tests.models import write_cnn

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 3] x) => (float[N, 1] price, float[N, 2] kind)
<float[3, 4] w = {1,2,3,4,5,6,7,8,9,1,2,3}, float[4, 1] v = {1,2,3,4}, float[3, 2] u = {1,2,3,4,5,6}>
{ h = MatMul (x, w) r = Relu (h) price = MatMul (r, v) kind = MatMul (x, u) }"""
DATA = ("--data", "data.npz")


@pytest.fixture
def values(folder: Path) -> Path:
    """The current folder with a model that has a value and two scores as outputs, and data for the value."""
    (folder / "model.onnx").write_bytes(onnx.parser.parse_model(MODEL).SerializeToString())
    random = np.random.default_rng(0)
    x = random.uniform(0, 0.1, (24, 3)).astype(np.float32)
    np.savez(folder / "data.npz", x=x, label=x.sum(1, keepdims=True))
    np.savez(folder / "kinds.npz", x=x, label=random.integers(0, 2, 24))
    return folder


def answer(dsd_ort: Command, *arguments: object) -> dict:
    given = dsd_ort(*arguments, "--json")
    assert given.status == 0, given
    return json.loads(given.out)


def test_all_commands_take_the_same_loss_and_output(dsd_ort: Command, values: Path) -> None:
    assert answer(dsd_ort, "inspect", "model.onnx")["loss"] == {"name": "mse", "output": "price"}
    assert answer(dsd_ort, "prepare", "model.onnx", "-o", "run")["losses"] == [["mse", "price"]]
    assert "  loss mse at output 'price'" in dsd_ort("prepare", "model.onnx", "-o", "another").out
    measured = answer(dsd_ort, "evaluate", "model.onnx", *DATA)
    assert set(measured) == {"loss", "mean-error"}
    found = answer(dsd_ort, "compare", "model.onnx", *DATA, "--eval-data", "data.npz", "-o", "both")
    assert found["rows"][0]["metrics"] == measured
    assert answer(dsd_ort, "check", "model.onnx", *DATA)["loss"] == "mse"
    recipe = package.default_recipe("model.onnx")
    assert (recipe.losses[0].name, recipe.losses[0].output, recipe.batch_size) == ("mse", "price", 32)


def test_another_loss_and_output_can_be_named_everywhere(dsd_ort: Command, values: Path) -> None:
    kind = ("--output", "kind")
    assert answer(dsd_ort, "inspect", "model.onnx", *kind)["loss"] == {"name": "cross-entropy", "output": "kind"}
    assert answer(dsd_ort, "inspect", "model.onnx", "--loss", "huber")["loss"] == {"name": "huber", "output": "price"}
    both = ("--loss", "l1", *kind)
    assert answer(dsd_ort, "prepare", "model.onnx", "-o", "run", *both)["losses"] == [["l1", "kind"]]
    assert "top-1" in answer(dsd_ort, "evaluate", "model.onnx", "--data", "kinds.npz", *kind)
    compare = ("compare", "model.onnx", "--data", "kinds.npz", "--eval-data", "kinds.npz", "-o", "both", *kind)
    assert "top-1" in answer(dsd_ort, *compare)["metrics"]
    assert package.default_recipe("model.onnx", loss="l1").losses[0].name == "l1"


def test_a_batch_that_the_file_fixes_is_not_the_size_of_a_step(folder: Path) -> None:
    """A proof takes it, but training has any size."""
    model = onnx.load(write_cnn(folder / "fixed.onnx"))
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, "fixed.onnx")
    assert package.default_recipe("fixed.onnx").batch_size == 32
    assert package.prepare("fixed.onnx", "run", package.default_recipe("fixed.onnx")).recipe.batch_size == 32


def test_a_loss_beside_a_run_is_refused(dsd_ort: Command, prepared: Path) -> None:
    of_run = dsd_ort("evaluate", "run", *DATA, "--output", "scores")
    assert of_run.status == 2 and "a run has its own loss" in of_run.err
    with pytest.raises(RecipeError, match="beside a recipe that has its own"):
        package.evaluate("run", "data.npz", loss="mse")
    none = ("evaluate", "model.onnx", *DATA, "--output", "score")
    refuse(dsd_ort, prepared, none, "the model has no output 'score'", "did you mean 'scores'?")
