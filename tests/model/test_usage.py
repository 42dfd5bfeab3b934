"""The file beside a model that says how it is used: what stands in it, and that nobody's is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsd_ort.errors import RecipeError, RunError
from dsd_ort.model import usage
from dsd_ort.recipe import Recipe

PHASE = {"kind": "dense", "epochs": 1, "learning_rate": 0.1}
RECIPE = Recipe.from_dict(
    {
        "phase": [PHASE],
        "batch_size": 8,
        "loss": {"output": "logits", "label_smoothing": 0.1},
        "data": {"mean": [0.286], "without": "suspects.csv", "image": {"crop": 24}},
        "input": {"rate": {"value": 16000}},
        "monitor": "top-1",
    }
)
TEXT = """# How final.onnx is used: its data are prepared so, and measured by this loss.
usage = "921c87c4"

monitor = "top-1"

[loss]
name = "cross-entropy"
output = "logits"
label = "label"
label_smoothing = 0.1

[data]
scale = 0.00392156862745098
mean = [0.286]
std = [1.0]

[data.image]
crop = 24

[input.rate]
value = 16000
"""


def written(folder: Path, content: str = TEXT) -> Path:
    (folder / "final.toml").write_text(content)
    return folder / "final.onnx"


def test_it_has_what_data_and_losses_mean_and_nothing_of_training(tmp_path: Path) -> None:
    assert usage.text(RECIPE, tmp_path / "final.onnx") == TEXT
    read = usage.read(written(tmp_path))
    again = Recipe.from_dict({**read, "phase": [PHASE]})
    assert (again.loss, again.input, again.monitor) == (RECIPE.loss, RECIPE.input, RECIPE.monitor)
    assert (again.data.shift, again.data.spread, again.data.image) == ((0.286,), (1.0,), RECIPE.data.image)
    assert again.data.without is None and again.data.is_normalised
    (note,) = usage.note(tmp_path / "final.onnx", given={"monitor"}, own_loss=True)
    assert note.words == "final.toml beside the model says how it is used: data, input"


def test_several_losses_and_recipes_by_default_come_back_too(tmp_path: Path) -> None:
    several = Recipe.from_dict({"phase": [PHASE], "loss": [{"output": "a"}, {"output": "b", "weight": 0.5}]})
    for recipe in (several, Recipe.from_dict({"phase": [PHASE]})):
        model = written(tmp_path, usage.text(recipe, tmp_path / "final.onnx"))
        assert Recipe.from_dict({**usage.read(model), "phase": [PHASE]}).losses == recipe.losses


@pytest.mark.parametrize(
    ("model", "name"),
    [("a.onnx", "a.toml"), ("a.v2", "a.v2.toml"), ("a.inference.onnx", "a.toml"), ("a.b.onnx", "a.b.toml")],
)
def test_its_name_is_the_models(model: str, name: str) -> None:
    assert usage.beside(Path("folder") / model) == Path("folder") / name


@pytest.mark.parametrize("content", ["[data]\nscale = 1.0\n", "no TOML", "usage = 3\n", ""])
def test_a_file_of_somebody_else_is_not_read_and_not_replaced(tmp_path: Path, content: str) -> None:
    model = written(tmp_path, content)
    assert usage.read(model) == {} and usage.note(model) == ()
    with pytest.raises(RunError, match=r"final\.toml is there, and would be replaced by how final\.onnx is used"):
        usage.refuse_others(model, TEXT)


def test_what_somebody_changed_is_read_and_not_replaced(tmp_path: Path) -> None:
    model = written(tmp_path, TEXT.replace("0.286", "0.5"))
    assert usage.read(model)["data"]["mean"] == [0.5]
    with pytest.raises(RunError, match=r"move final\.toml away"):
        usage.refuse_others(model, TEXT)


def test_what_dsd_ort_wrote_may_be_replaced(tmp_path: Path) -> None:
    usage.refuse_others(tmp_path / "final.onnx", TEXT)
    model = written(tmp_path)
    usage.refuse_others(model, TEXT)
    other = Recipe.from_dict({"phase": [PHASE]})
    usage.refuse_others(model, usage.text(other, model))
    assert usage.read(tmp_path / "other.onnx") == {}


@pytest.mark.parametrize(
    ("line", "what", "fix"),
    [
        ("batch_size = 8", "'batch_size' says nothing of how a model is used", "the keys here are loss, data, input"),
        ("metric = ['loss']", "'metric' says nothing", "did you mean 'metrics'"),
        ("monitor = 'speed'", "the recipe's monitor is wrong", "see the README"),
        ("data.without = '/etc/passwd'", "data.without says nothing", "give the list with --without"),
    ],
)
def test_a_wrong_key_in_it_is_refused_by_name(tmp_path: Path, line: str, what: str, fix: str) -> None:
    with pytest.raises(RecipeError, match=what) as caught:
        usage.read(written(tmp_path, f'usage = "x"\n{line}\n'))
    assert str(caught.value.where).endswith("final.toml") and fix in str(caught.value.fix)
