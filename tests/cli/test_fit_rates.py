"""fit-rates: the curve for people, and a recipe for the next command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from dsd_ort.recipe import Recipe
from tests.cli.conftest import Command
from tests.cli.test_bad_input import refuse
from tests.models import cnn_data

FIT = ("fit-rates", "model.onnx", "--data", "data.npz", "--threads", 1)


def test_the_recipe_is_printed_and_the_curve_beside_it(dsd_ort: Command, folder: Path) -> None:
    np.savez(folder / "data.npz", **cnn_data(120))
    answer = dsd_ort(*FIT, "--recipe", "recipe.toml", "--set=phase.1.learning_rate=0.005")
    assert answer.status == 0, answer
    (folder / "fitted.toml").write_text(answer.out)
    fitted = Recipe.load(folder / "fitted.toml")
    dense, sparse = fitted.phase
    assert (fitted.batch_size, sparse.sparsity) == (8, 0.3)
    assert dense.schedule.initial == 10 * sparse.schedule.initial
    [chosen] = re.findall(r"│ +(\S+) │ +(\S+) │ chosen │", answer.err)
    assert float(chosen[0]) == dense.schedule.initial
    assert answer.out.startswith(f"# model.onnx: a learning rate of {chosen[0]} lowers the loss on 16 examples")
    assert "as it came" in answer.err and "pruned" not in answer.err
    assert dsd_ort("prepare", "model.onnx", "-o", "new", "--recipe", "fitted.toml").status == 0


def test_without_a_recipe_it_is_the_default_ones_rates(dsd_ort: Command, folder: Path) -> None:
    np.savez(folder / "data.npz", **cnn_data(120))
    answer = dsd_ort(*FIT, "--json")
    assert (answer.status, answer.err) == (0, "")
    found = json.loads(answer.out)
    fitted = Recipe.from_dict(found["recipe"])
    default = Recipe.load("default")
    assert (fitted.at_rate(1.0).phase, fitted.optimizer) == (default.at_rate(1.0).phase, default.optimizer)
    losses = {point["rate"]: point["loss"] for point in found["curve"]["points"]}
    assert losses[found["rate"]] == min(loss for loss in losses.values() if loss is not None)
    assert "pruned" in dsd_ort(*FIT).err


def test_too_little_data_is_one_message(dsd_ort: Command, folder: Path) -> None:
    np.savez(folder / "data.npz", **cnn_data(40))
    refuse(dsd_ort, folder, FIT, "40 examples are too few to test learning rates on", "give a smaller batch_size")


def test_prepare_says_that_the_default_rates_fit_no_model_in_particular(dsd_ort: Command, folder: Path) -> None:
    assert "dsd-ort fit-rates model.onnx --data DATA" in dsd_ort("prepare", "model.onnx", "-o", "one").out
    for number, given in enumerate((("--recipe", "recipe.toml"), ("--set", "phase.0.learning_rate=0.1"))):
        assert "fit-rates" not in dsd_ort("prepare", "model.onnx", "-o", f"other{number}", *given).out
