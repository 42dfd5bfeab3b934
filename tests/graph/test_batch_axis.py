"""The batch in another axis than the first: found or named, moved for training, and where it was in what ships."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import dsd_ort
from dsd_ort.errors import DataError, RecipeError
from dsd_ort.recipe import Recipe
from tests import cases

PHASES = [
    {"kind": "sparse", "sparsity": 0.5, "epochs": 1, "learning_rate": 0.05},
    {"kind": "dense", "epochs": 1, "learning_rate": 0.05},
]
BY_STEP = {"name": "cross-entropy", "output": "scores", "class_axis": -1}


def recipe(**options: object) -> Recipe:
    return Recipe.from_dict({"phase": PHASES, "batch_size": 8, "loss": BY_STEP} | options)


def data(examples: int = 30, **states: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Examples first, whatever the file has first."""
    rng = np.random.default_rng(1)
    arrays = {name: rng.standard_normal((examples, *shape)).astype(np.float32) for name, shape in states.items()}
    arrays["sequence"] = rng.standard_normal((examples, 7, 4)).astype(np.float32)
    return arrays | {"label": rng.integers(0, 5, (examples, 7))}


def trained(model: Path, folder: Path, arrays: dict[str, np.ndarray], **options: object) -> Path:
    """The file that training *model* ships."""
    folder.mkdir()
    dsd_ort.prepare(model, folder / "run", recipe(**options))
    dsd_ort.train(folder / "run", arrays)
    assert dsd_ort.export(folder / "run", folder / "final.onnx").same
    return folder / "final.onnx"


def weights(path: Path) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def scores(path: Path, inputs: dict[str, np.ndarray], *, axis: int) -> np.ndarray:
    """The scores of plain inference, examples first in and out."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}
    feeds = {name: np.moveaxis(array, 0, axis) for name, array in inputs.items() if name in wanted}
    return np.moveaxis(session.run(["scores"], feeds)[0], axis, 0)


SEQUENCES: dict[str, Callable[[Path], Path]] = {
    "LSTM": lambda path: cases.recurrent(path, "LSTM"),
    "GRU": lambda path: cases.recurrent(path, "GRU"),
    "RNN": lambda path: cases.recurrent(path, "RNN"),
    "attention": cases.attentive,
    "LSTM with states": lambda path: cases.stateful(path, "LSTM"),
    "GRU with states": lambda path: cases.stateful(path, "GRU"),
    "LSTM, probabilities": lambda path: cases.recurrent(path, end="y = MatMul (z, V) scores = Softmax (y)"),
    "GRU, two symbols": lambda path: cases.recurrent(path, "GRU", shape="time, batch"),
}


def states(model: Path) -> dict[str, tuple[int, ...]]:
    names = {value.name for value in onnx.load(model).graph.input}
    return {name: (1, 6) for name in ("h0", "c0") if name in names}


@pytest.mark.parametrize("kind", SEQUENCES)
def test_gradients_are_those_of_plain_inference_and_the_axis_is_told(tmp_path: Path, kind: str) -> None:
    model = SEQUENCES[kind](tmp_path / "m.onnx")
    before = model.read_bytes()
    report = dsd_ort.check(model, recipe(), isolate=False)
    assert report.ok and report.count("right") == len(weights(model)) - (kind != "attention")
    (note,) = [note.words for note in dsd_ort.inspect(model).notes if note.kind == "file"]
    places = ["sequence", *states(model), "scores"]
    listed = ", ".join(f"axis 1 of {name!r}" for name in places)
    assert note == f"the batch is {listed}; data have it first, as everywhere"
    assert note in report.notes and model.read_bytes() == before


@pytest.mark.parametrize("kind", SEQUENCES)
def test_what_is_measured_is_what_the_shipped_file_computes(tmp_path: Path, kind: str) -> None:
    model = SEQUENCES[kind](tmp_path / "m.onnx")
    arrays = data(**states(model))
    final = trained(model, tmp_path / "t", arrays, metrics=["loss", "top-1"])
    before, after = weights(model), weights(final)
    assert all((before[name] != after[name]).any() for name in before if before[name].dtype == np.float32)
    right = scores(final, arrays, axis=1).argmax(-1) == arrays["label"]
    assert dsd_ort.evaluate(tmp_path / "t/run", arrays)["top-1"] == pytest.approx(right.mean())
    assert dsd_ort.evaluate(final, arrays, recipe=recipe(metrics=["top-1"]))["top-1"] == pytest.approx(right.mean())


@pytest.mark.parametrize("layer", cases.LAYERS)
def test_it_trains_as_the_same_network_with_the_batch_first(tmp_path: Path, layer: str) -> None:
    arrays = data()
    ours = trained(cases.recurrent(tmp_path / "m.onnx", layer), tmp_path / "a", arrays)
    theirs = trained(cases.recurrent(tmp_path / "n.onnx", layer, first=True), tmp_path / "b", arrays)
    for name, value in weights(theirs).items():
        np.testing.assert_allclose(weights(ours)[name], value, rtol=0, atol=1e-6)


@pytest.mark.training_build
def test_onnx_runtimes_builder_differentiates_it_too(tmp_path: Path) -> None:
    report = dsd_ort.check(cases.attentive(tmp_path / "m.onnx"), recipe(builder="ort"), isolate=False)
    assert report.ok and report.count("right") == 4


@pytest.mark.parametrize("shape", ["7, 8", "7, 1", "time, rows", "7, n"])
def test_the_recipe_names_the_axis(tmp_path: Path, shape: str) -> None:
    """Where all is fixed, where two symbols may be meant, and where the signature says it anyway."""
    model, arrays = cases.recurrent(tmp_path / "m.onnx", shape=shape), data()
    named = {"input": {"sequence": {"batch_axis": 1}}}
    assert dsd_ort.check(model, recipe(**named), isolate=False).ok
    final = trained(model, tmp_path / "t", arrays, **named)
    twin = trained(cases.recurrent(tmp_path / "n.onnx"), tmp_path / "u", arrays)
    for name, value in weights(twin).items():
        np.testing.assert_allclose(weights(final)[name], value, rtol=0, atol=1e-6)


def test_the_recipe_may_say_that_it_is_the_first(tmp_path: Path) -> None:
    """Each of the seven steps is an example then, of any length."""
    table = recipe(loss={"name": "mse"}, batch_size=7, input={"sequence": {"batch_axis": 0}})
    program = dsd_ort.prepare(cases.recurrent(tmp_path / "m.onnx"), tmp_path / "run", table)
    assert program.manifest.inputs[0].shape[0] == 7
    assert [note for note in program.notes if note.kind == "file"] == []


def test_an_axis_that_is_not_there_is_refused(tmp_path: Path) -> None:
    table = recipe(input={"sequence": {"batch_axis": 3}})
    with pytest.raises(RecipeError, match=r"the input 'sequence' has no axis 3: its shape is \[7, n, 4\]") as caught:
        dsd_ort.prepare(cases.recurrent(tmp_path / "m.onnx"), tmp_path / "run", table)
    assert caught.value.where == "recipe, input.sequence.batch_axis"


def test_data_that_have_the_steps_first_are_told_what_is_wanted(tmp_path: Path) -> None:
    arrays = {name: np.moveaxis(array, 0, 1) for name, array in data().items()}
    dsd_ort.prepare(cases.recurrent(tmp_path / "m.onnx"), tmp_path / "run", recipe())
    with pytest.raises(DataError, match=r"takes \[n, 7, 4\]: axis 1 is 30, not 7"):
        dsd_ort.train(tmp_path / "run", arrays)


def test_steps_of_one_example_are_no_batch(tmp_path: Path) -> None:
    """One example of any length, as speech models have it: the batch is the first axis, fixed at 1."""
    text = (
        "(float[1, T, 4] x) => (float[1, T, 5] scores) { t = Transpose <perm = [1, 0, 2]> (x) "
        "a = GRU <hidden_size = 6> (t, W, R) s = Squeeze (a, one) z = Transpose <perm = [1, 0, 2]> (s) "
        "scores = MatMul (z, V) }"
    )
    stored = {"W": cases.drawn(1, 18, 4), "R": cases.drawn(1, 18, 6), "V": cases.drawn(6, 5), "one": np.array([1])}
    found = dsd_ort.inspect(cases.write(tmp_path / "m.onnx", text, stored))
    assert found.trainable and [note for note in found.notes if note.kind == "file"] == []


def test_a_symbol_along_which_steps_depend_on_each_other_is_no_batch(tmp_path: Path) -> None:
    """Four examples of any length: only running it shows that the symbol is the time."""
    text = (
        "(float[4, s0, 8] x) => (float[4, s0, 5] scores) { t = Transpose <perm = [1, 0, 2]> (x) "
        "a = GRU <hidden_size = 6> (t, W, R) s = Squeeze (a, one) z = Transpose <perm = [1, 0, 2]> (s) "
        "scores = MatMul (z, V) }"
    )
    stored = {"W": cases.drawn(1, 18, 8), "R": cases.drawn(1, 18, 6), "V": cases.drawn(6, 5), "one": np.array([1])}
    model = cases.write(tmp_path / "m.onnx", text, stored)
    program = dsd_ort.prepare(model, tmp_path / "run", recipe(batch_size=4))
    assert program.manifest.inputs[0].shape[1:] == ("s0", 8)
    assert [note for note in program.notes if note.kind == "file"] == []


def test_states_stand_beside_sequences_that_have_the_batch_first(tmp_path: Path) -> None:
    """PyTorch's batch_first moves the batch in sequences only."""
    text = (
        "(float[n, 7, 4] sequence, float[1, n, 6] h0) => (float[n, 7, 5] scores, float[1, n, 6] h1) { "
        "t = Transpose <perm = [1, 0, 2]> (sequence) a, h1 = GRU <hidden_size = 6> (t, W, R, , , h0) "
        "s = Squeeze (a, one) z = Transpose <perm = [1, 0, 2]> (s) scores = MatMul (z, V) }"
    )
    stored = {"W": cases.drawn(1, 18, 4), "R": cases.drawn(1, 18, 6), "V": cases.drawn(6, 5), "one": np.array([1])}
    model, arrays = cases.write(tmp_path / "m.onnx", text, stored), data(h0=(1, 6))
    assert dsd_ort.check(model, recipe(), isolate=False).ok
    final = trained(model, tmp_path / "t", arrays)
    assert (weights(final)["R"] != stored["R"]).any()


def test_a_loss_may_read_the_last_state(tmp_path: Path) -> None:
    arrays = data(h0=(1, 6))
    arrays["label"] = np.zeros((30, 1, 6), np.float32)
    table = recipe(loss={"name": "mse", "output": "h1"})
    assert dsd_ort.check(cases.stateful(tmp_path / "m.onnx", "GRU"), table, isolate=False).ok
    before = dsd_ort.evaluate(tmp_path / "m.onnx", arrays, recipe=table)["loss"]
    final = trained(tmp_path / "m.onnx", tmp_path / "t", arrays, loss={"name": "mse", "output": "h1"})
    assert dsd_ort.evaluate(final, arrays, recipe=table)["loss"] < before


def test_a_state_that_the_recipe_fixes_is_as_long_as_the_batch(tmp_path: Path) -> None:
    fixed = {"input": {"h0": {"value": 0.5}}}
    model = cases.stateful(tmp_path / "m.onnx", "GRU")
    assert dsd_ort.check(model, recipe(**fixed), isolate=False).ok
    assert trained(model, tmp_path / "t", data(), **fixed).is_file()


def test_ctc_reads_frames_where_the_file_has_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    arrays = data() | {"label": rng.integers(1, 5, (30, 2))}
    loss = {"name": "ctc", "output": "scores", "time_axis": 0}
    model = cases.recurrent(tmp_path / "m.onnx")
    assert dsd_ort.check(model, recipe(loss=loss), isolate=False).ok
    final = trained(model, tmp_path / "t", arrays, loss=loss)
    table = recipe(loss=loss, metrics=["loss"])
    after, before = (dsd_ort.evaluate(path, arrays, recipe=table)["loss"] for path in (final, model))
    assert after < before


def test_compare_and_fitted_rates_take_it_too(tmp_path: Path) -> None:
    model, arrays = cases.recurrent(tmp_path / "m.onnx"), data(60)
    assert dsd_ort.fit_rates(model, recipe(), arrays).rate > 0
    dsd_ort.compare(model, tmp_path / "out", recipe(), arrays, arrays)
    assert dsd_ort.verify(model, tmp_path / "out/final.onnx").same
