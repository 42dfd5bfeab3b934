"""Shapes and types that a file declares wrongly: what runs is right, and what is wrong is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import dsd_ort
from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.training_copy import training_copy
from dsd_ort.model import source
from dsd_ort.recipe import BuilderName, Recipe
from dsd_ort.rewrite.shapes import dims_of
from tests import cases

LAYERS = "h = MatMul (x, W) r = Relu (h) y = MatMul (r, V)"
MICROSOFT = "h = com.microsoft.FusedMatMul (x, W) r = com.microsoft.Gelu (h) y = com.microsoft.FusedMatMul (r, V)"
COMPUTED = (
    LAYERS.replace("y =", "z =")
    + """ s = Shape (x) first = Constant <value = int64[1] {0}> () second = Constant <value = int64[1] {1}> ()
    one = Constant <value = int64[1] {1}> () classes = Constant <value = int64[1] {5}> () n0 = Gather (s, first)
    n1 = Gather (s, second) m0 = Max (n0, one) m1 = Max (n1, one) sizes = Concat <axis = 0> (m0, m1, classes)
    y = Reshape (z, sizes)"""
)
LIES = {
    "an axis less": ("n, 7", "n, 5", "", LAYERS, "output 'y' as [n, 5]", "[n, 7, 5]"),
    "an axis more": ("n", "n, 1, 5", "", LAYERS, "output 'y' as [n, 1, 5]", "[n, 5]"),
    "a number": ("n", "", "", LAYERS, "output 'y' as []", "[n, 5]"),
    "other classes": ("n", "n, 4", "", LAYERS, "output 'y' as [n, 4]", "[n, 5]"),
    "one example": ("n", "1, 5", "", LAYERS, "output 'y' as [1, 5]", "[n, 5]"),
    "an axis less in between": ("n, 7", "n, 7, 5", "<float[n, 12] h>", LAYERS, "value 'h' as [n, 12]", "[n, 7, 12]"),
    "other features in between": ("n", "n, 5", "<float[n, 11] r>", LAYERS, "value 'r' as [n, 11]", "[n, 12]"),
    "three examples in between": ("n", "n, 5", "<float[3, 12] h>", LAYERS, "value 'h' as [3, 12]", "[n, 12]"),
    "behind operators of ONNX Runtime's": ("n, 7", "n, 5", "", MICROSOFT, "output 'y' as [n, 5]", "[n, 7, 5]"),
    "between them": ("n, 7", "n, 7, 5", "<float[n, 12] r>", MICROSOFT, "value 'r' as [n, 12]", "[n, 7, 12]"),
    "probabilities": (
        "n, 7",
        "n, 5",
        "",
        LAYERS.replace("y =", "s =") + " y = Softmax (s)",
        "output 'y' as [n, 5]",
        "[n, 7, 5]",
    ),
    "squeezed by one example": (
        "n",
        "5",
        "",
        LAYERS.replace("y =", "z =")
        + " last = Constant <value = int64[2] {2, 3}> () u = Unsqueeze (z, last) y = Squeeze (u)",
        "output 'y' as [5]",
        "[n, 5]",
    ),
}
"""The batch of x and y's shape as declared, declarations in between, the nodes; and what is said of it."""


BY_LENGTH = ("n, 7", "n, 5", "", COMPUTED, "output 'y' as [n, 5]", "[?, ?, ?]")
"""Of a Reshape, where only the number of its sizes tells the rank: ONNX's inference at opset 13 does not know them."""


def lying(path: Path, what: str, *, opset: int = 18) -> Path:
    batch, y, between, nodes, _, _ = LIES.get(what, BY_LENGTH)
    text = f"(float[{batch}, 8] x) => ({f'float[{y}]' if y else 'float'} y) {between} {{ {nodes} }}"
    weights = {"W": cases.drawn(8, 12), "V": cases.drawn(12, 5)}
    return cases.write(path, text, weights, opset=opset, domains=', "com.microsoft" : 1')


@pytest.mark.parametrize("builder", ["own", pytest.param("ort", marks=pytest.mark.training_build)])
@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("what", LIES)
def test_what_runs_is_right_and_the_declaration_is_told(
    tmp_path: Path, what: str, opset: int, builder: BuilderName
) -> None:
    model = lying(tmp_path / "m.onnx", what, opset=opset)
    *_, declared, runs = LIES[what]
    words = f"the file declares the {declared}, and what runs is {runs}"
    found = dsd_ort.inspect(model, builder=builder)
    assert [note.words for note in found.notes if note.kind == "file"] == [words] and found.loss is not None
    assert found.loss.name == ("mse" if "7" in runs else "cross-entropy")
    report = dsd_ort.check(model, builder=builder, isolate=False)
    assert report.ok and report.count("right") == 2 and words in report.notes


def test_a_rank_that_only_the_number_of_sizes_tells(tmp_path: Path) -> None:
    report = dsd_ort.check(lying(tmp_path / "m.onnx", "by length", opset=13), isolate=False)
    assert report.ok and report.count("right") == 2
    assert "the file declares the output 'y' as [n, 5], and what runs is [?, ?, ?]" in report.notes


@pytest.mark.parametrize("y", ["float", "float[]"], ids=["a number", "of unknown rank"])
@pytest.mark.parametrize("opset", [11, 13, 18])
def test_a_number_an_example_that_was_squeezed_by_one(tmp_path: Path, opset: int, y: str) -> None:
    """``x.squeeze()`` of PyTorch's: the mean was over as many as the file said, one, and so its gradient too large."""
    layers = "h = MatMul (x, W) r = Relu (h) z = MatMul (r, V) s = Squeeze (z) y = Tanh (s)"
    text = f"(float[n, 8] x) => ({y} y) {{ {layers} }}"
    model = cases.write(tmp_path / "m.onnx", text, {"W": cases.drawn(8, 12), "V": cases.drawn(12, 1)}, opset=opset)
    report = dsd_ort.check(model, isolate=False)
    assert report.ok and report.count("right") == 2
    words = "the file declares the output 'y' as [], and what runs is [n]"
    assert (words in report.notes) == (y == "float")
    rng = np.random.default_rng(0)  # the last batch is of one
    data = {"x": rng.standard_normal((9, 8)).astype(np.float32), "label": rng.standard_normal(9).astype(np.float32)}
    recipe = dsd_ort.default_recipe(model).to_dict() | {"batch_size": 4}
    recipe["phase"] = [{"kind": "dense", "epochs": 1, "learning_rate": 0.05}]
    dsd_ort.prepare(model, tmp_path / "run", Recipe.from_dict(recipe))
    dsd_ort.train(tmp_path / "run", data, eval_data=data)
    assert dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx").same


def test_of_a_file_for_one_example_that_is_squeezed_the_export_is_compared(tmp_path: Path) -> None:
    text = "(float[1, 8] x) => (float y) { h = MatMul (x, W) z = MatMul (h, V) y = Squeeze (z) }"
    model = cases.write(tmp_path / "m.onnx", text, {"W": cases.drawn(8, 12), "V": cases.drawn(12, 1)})
    assert dsd_ort.check(model, isolate=False).ok


def test_a_rank_that_only_a_run_tells(tmp_path: Path) -> None:
    text = (
        "(float[n, 8] x) => (float y) { h = MatMul (x, W) s = Shape (h) all = Compress <axis = 0> (s, keep) "
        "r = Reshape (h, all) y = Tanh (r) }"
    )
    weights = {"W": cases.drawn(8, 5), "keep": np.array([True, True])}
    report = dsd_ort.check(cases.write(tmp_path / "m.onnx", text, weights), isolate=False)
    assert report.ok and report.count("right") == 1
    assert "the file declares the output 'y' as [], and what runs is [?, ?]" in report.notes


@pytest.mark.parametrize("what", LIES)
def test_it_trains_and_ships_with_the_declaration_that_it_had(tmp_path: Path, what: str) -> None:
    model, rng = lying(tmp_path / "m.onnx", what), np.random.default_rng(0)
    steps = (7,) if "7" in LIES[what][0] else ()
    data = {"x": rng.standard_normal((24, *steps, 8)).astype(np.float32), "label": rng.integers(0, 5, (24, *steps))}
    phases = [{"kind": "dense", "epochs": 1, "learning_rate": 0.05}]
    recipe = Recipe.from_dict({"phase": phases, "batch_size": 8, "loss": {"class_axis": -1}})
    program = dsd_ort.prepare(model, tmp_path / "run", recipe)
    assert [note.words for note in program.notes if note.kind == "file"]
    dsd_ort.train(tmp_path / "run", data)
    assert dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx").same
    before, after = (onnx.load(path).graph for path in (model, tmp_path / "final.onnx"))
    assert [*before.output, *before.value_info] == [*after.output, *after.value_info]
    assert before.initializer != after.initializer


def test_names_and_sizes_that_nothing_contradicts_stay(tmp_path: Path) -> None:
    """What inference does not know, the file may: the length that a computed shape gives."""
    text = (
        "(float[n, 8] x, int64[2] size) => (float[rows, 5] y) <float[rows, 12] k> { h = MatMul (x, W) "
        "k = Reshape (h, size) y = MatMul (k, V) }"
    )
    weights = {"W": cases.drawn(8, 12), "V": cases.drawn(12, 5)}
    found = source.load(cases.write(tmp_path / "m.onnx", text, weights))
    values = {value.name: dims_of(value) for node in training_copy(found).graph for value in node.outputs}
    assert values["k"] == ("rows", 12) and values["y"] == ("rows", 5)


@pytest.mark.parametrize(
    ("y", "between", "says"),
    [("float16[n, 5] y", "", "'y' as float16"), ("float[n, 5] y", "<int64[n, 12] h>", "'h' as int64")],
)
def test_a_type_that_onnx_runtime_does_not_take_is_refused_before_anything_is_made(
    tmp_path: Path, y: str, between: str, says: str
) -> None:
    weights = {"W": cases.drawn(8, 12), "V": cases.drawn(12, 5)}
    model = cases.write(tmp_path / "m.onnx", f"(float[n, 8] x) => ({y}) {between} {{ {LAYERS} }}", weights)
    (error,) = dsd_ort.inspect(model).refusals
    assert error.what == f"the file declares {says}, and it is float: ONNX Runtime runs no such file"
    assert error.where == f"MatMul {says[:3]}"
    with pytest.raises(UnsupportedError, match="ONNX Runtime runs no such file"):
        dsd_ort.prepare(
            model, tmp_path / "run", Recipe.from_dict({"phase": [{"kind": "dense", "steps": 1, "learning_rate": 0.1}]})
        )
    assert not (tmp_path / "run").exists()
