"""Files of kinds that people meet (``tests/cases.py``), through all verbs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

import dsd_ort
from dsd_ort.graph.program import open_program
from dsd_ort.recipe import BUILTIN, BuilderName, Recipe
from tests import cases


def stored(path: Path) -> dict[str, cases.Array]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def trained(model: Path, data: Path, folder: Path, **options: object) -> dict[str, cases.Array]:
    """What the exported file holds after a sparse and a dense phase."""
    phases = [{"kind": "sparse", "sparsity": 0.5, "epochs": 1}, {"kind": "dense", "epochs": 1}]
    table = dsd_ort.default_recipe(model).to_dict() | {"batch_size": 8, **options}
    table["phase"] = [{**phase, "learning_rate": 0.05} for phase in phases]
    dsd_ort.prepare(model, folder / "run", Recipe.from_dict(table))
    dsd_ort.train(folder / "run", data)
    dsd_ort.export(folder / "run", folder / "final.onnx")
    assert dsd_ort.verify(model, folder / "final.onnx").same
    return stored(folder / "final.onnx")


@pytest.mark.parametrize("builder", ["own", pytest.param("ort", marks=pytest.mark.training_build)])
@pytest.mark.parametrize("by", cases.ROUTED)
def test_a_weight_that_no_gradient_reaches_stays_and_the_others_train(
    tmp_path: Path, by: str, builder: BuilderName
) -> None:
    model = cases.routed(tmp_path / "m.onnx", by)
    found = dsd_ort.inspect(model, builder=builder)
    (note,) = [note.words for note in found.notes if note.kind == "weights"]
    assert note.startswith("no gradient reaches the parameter 'V': ") and note.endswith("; it stays as it is")
    assert found.pruned == {"W"}
    report = dsd_ort.check(model, builder=builder, isolate=False)
    assert report.ok and note in report.notes
    assert {name for row in report.rows for name in row.tensors} == {"W", "table"}
    before, after = stored(model), trained(model, cases.data(tmp_path / "d.npz", x=(8,)), tmp_path, builder=builder)
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {"W", "table"}


def test_a_head_that_the_loss_does_not_read_is_named(tmp_path: Path) -> None:
    text = "(float[N, 8] x) => (float[N, 5] y, float[N, 3] z) { y = MatMul (x, W) z = MatMul (x, V) }"
    model = cases.write(tmp_path / "m.onnx", text, {"W": cases.drawn(8, 5), "V": cases.drawn(8, 3)})
    found = dsd_ort.inspect(model, output="y")
    assert [note.words for note in found.notes] == ["the loss does not depend on 'V': not trained"]
    assert found.pruned == {"W"}


OPTIMIZERS = [
    {"name": "sgd", "momentum": 0.9, "weight_decay": 0.1, "clip_norm": 1.0},
    {"name": "adamw", "weight_decay": 0.1},
]


def ids(path: Path, classes: int = 4) -> Path:
    rng = np.random.default_rng(1)
    np.savez(path, ids=rng.integers(0, 9, (32, 6)), label=rng.integers(0, classes, 32))
    return path


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer["name"])
@pytest.mark.parametrize("builder", ["own", pytest.param("ort", marks=pytest.mark.training_build)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_entries_of_minus_infinity_keep_their_bits_and_the_others_train(
    tmp_path: Path, optimizer: dict[str, object], builder: BuilderName, dtype: type[np.generic]
) -> None:
    model = cases.hidden(tmp_path / "m.onnx", dtype=dtype)
    words = [note.words for note in dsd_ort.inspect(model).notes if note.kind == "weights"]
    assert words == [
        "'table' has 12 infinite entries: not trained, stay as they are",
        "'hide' has 1 infinite entry: not trained, stays as it is",
    ]
    after = trained(model, ids(tmp_path / "d.npz"), tmp_path, optimizer=optimizer, builder=builder)
    for name, old in stored(model).items():
        finite = np.isfinite(old)
        assert np.array_equal(old[~finite], after[name][~finite]) and np.isfinite(after[name][finite]).all()
        assert name == "axis" or (after[name] != old).any()


@pytest.mark.parametrize("opset", [10, 13, 18])
def test_gradients_beside_minus_infinity_are_right_at_every_opset(tmp_path: Path, opset: int) -> None:
    report = dsd_ort.check(cases.hidden(tmp_path / "m.onnx", opset=opset), isolate=False)
    assert report.ok and report.count("right") == 3


def test_a_label_that_the_model_hides_is_said(tmp_path: Path) -> None:
    model = cases.hidden(tmp_path / "m.onnx")
    with pytest.raises(dsd_ort.errors.DivergedError, match="the score of a label that they hide"):
        trained(model, ids(tmp_path / "d.npz", classes=5), tmp_path)


def test_nan_in_the_file_is_named(tmp_path: Path) -> None:
    table = cases.drawn(9, 5)
    table[3, :2], table[4, 0] = np.nan, np.inf
    text = "(int64[N] ids) => (float[N, 4] y) { t = Gather (table, ids) y = MatMul (t, W) }"
    model = cases.write(tmp_path / "m.onnx", text, {"table": table, "W": cases.drawn(5, 4)})
    words = [note.words for note in dsd_ort.inspect(model).notes]
    assert words == ["'table' has 2 NaN and 1 infinite entries: not trained, stay as they are"]


ENDS = {
    "ArgMax": "(int64[N] c) { c = ArgMax <axis = 1, keepdims = 0> (scores) }",
    "positions of TopK": "(int64[N, 1] c) { v, c = TopK (scores, one) }",
    "ArgMax of probabilities": "(int64[N, 1] c) { q = Softmax (scores) c = ArgMax <axis = 1> (q) }",
    "a label map": "(int64[N] c, seq(map(int64, float)) maps) { q = Softmax (scores) "
    "c = ArgMax <axis = 1, keepdims = 0> (q) maps = ai.onnx.ml.ZipMap <classlabels_int64s = [0, 1, 2, 3, 4]> (q) }",
    "a label map alone": "(seq(map(int64, float)) maps) { q = Softmax (scores) "
    "maps = ai.onnx.ml.ZipMap <classlabels_int64s = [0, 1, 2, 3, 4]> (q) }",
}


@pytest.mark.parametrize("end", ENDS)
def test_the_loss_reads_what_stands_in_front_of_an_end_without_a_gradient(tmp_path: Path, end: str) -> None:
    model = cases.chosen(tmp_path / "m.onnx", ENDS[end])
    read = "q" if "Softmax" in ENDS[end] else "scores"
    found = dsd_ort.inspect(model)
    assert found.trainable and found.loss is not None
    assert (found.loss.name, found.loss.output) == ("cross-entropy", read)
    (note,) = [note.words for note in found.notes]
    assert note.startswith(f"the loss reads {read!r}, in front of ")
    report = dsd_ort.check(model, isolate=False)
    assert report.ok and report.count("right") == 2
    before, after = stored(model), trained(model, cases.data(tmp_path / "d.npz", x=(8,)), tmp_path)
    assert all((before[name] != after[name]).any() for name in ("W", "V"))
    assert dsd_ort.evaluate(tmp_path / "final.onnx", tmp_path / "d.npz")["loss"] > 0


def detector(path: Path) -> Path:
    text = (
        "(float[N, 16, 8] x) => (int64[K, 3] kept) { boxes = MatMul (x, B) c = MatMul (x, W) "
        "t = Transpose <perm = [0, 2, 1]> (c) scores = Sigmoid (t) kept = NonMaxSuppression (boxes, scores) }"
    )
    return cases.write(path, text, {"B": cases.drawn(8, 4), "W": cases.drawn(8, 2)})


def test_of_several_values_in_front_of_an_end_one_has_to_be_named(tmp_path: Path) -> None:
    model = detector(tmp_path / "m.onnx")
    (error,) = dsd_ort.inspect(model).refusals
    assert error.what == (
        "no gradient passes NonMaxSuppression 'kept', and several values stand in front: 'boxes', 'scores'"
    )
    assert error.fix == "name the one that the loss reads, as --output scores"
    found = dsd_ort.inspect(model, output="scores")
    assert found.trainable and found.loss is not None and found.loss.name == "bce-with-logits"
    report = dsd_ort.check(model, output="scores", isolate=False)
    assert report.ok and [row.tensors for row in report.rows] == [["W"]]


@pytest.mark.parametrize("what", cases.CLASSICAL)
def test_a_classical_model_is_called_what_it_is(tmp_path: Path, what: str) -> None:
    model = cases.write(tmp_path / "m.onnx", cases.CLASSICAL[what], {}, domains=', "ai.onnx.ml" : 1')
    (error,) = dsd_ort.inspect(model, loss="mse").refusals
    assert error.what == f"the model is {what}, through which no gradient passes"
    with pytest.raises(dsd_ort.errors.UnsupportedError, match="through which no gradient passes"):
        dsd_ort.prepare(model, tmp_path / "run", dsd_ort.default_recipe(model))


def test_a_tensor_that_serves_two_layers_is_named(tmp_path: Path) -> None:
    text = (
        "(float[N, 8] x) => (float[N, 5] y) { h = MatMul (x, W) [one] n = LayerNormalization (h, scale, shift) "
        "g = MatMul (n, V) [two] m = LayerNormalization (g, scale, shift) y = MatMul (m, U) }"
    )
    weights = {"W": cases.drawn(8, 12), "V": cases.drawn(12, 12), "U": cases.drawn(12, 5)}
    weights |= {"scale": np.ones(12, np.float32), "shift": np.zeros(12, np.float32)}
    model = cases.write(tmp_path / "m.onnx", text, weights)
    words = [note.words for note in dsd_ort.inspect(model).notes if note.kind == "weights"]
    layers = "'LayerNormalization one', 'LayerNormalization two'"
    assert words == [
        f"{name!r} is stored once and serves 2 layers, {layers}: trained as one" for name in ("scale", "shift")
    ]


def pruned(path: Path) -> Path:
    weights = {"W": cases.drawn(8, 20), "V": cases.drawn(20, 5)}
    for value in weights.values():
        value[np.abs(value) < np.quantile(np.abs(value), 0.7)] = 0
    return cases.write(path, "(float[N, 8] x) => (float[N, 5] y) { h = MatMul (x, W) y = MatMul (h, V) }", weights)


def test_zeros_of_a_pruned_file_are_named_and_a_sparse_phase_at_the_end_keeps_them(tmp_path: Path) -> None:
    model = pruned(tmp_path / "m.onnx")
    (note,) = [note.words for note in dsd_ort.inspect(model).notes]
    assert note.startswith("pruned already, by zeros: 'W' 70.0 %, 'V' 70.0 %. These come alive in a dense phase")
    assert "prune.keep_zeros = true keeps them zero in all phases" in note
    phases = [{"kind": "sparse", "sparsity": 0.7, "epochs": 1, "learning_rate": 0.05}]
    table = dsd_ort.default_recipe(model).to_dict() | {"batch_size": 8, "phase": phases}
    dsd_ort.prepare(model, tmp_path / "run", Recipe.from_dict(table))
    dsd_ort.train(tmp_path / "run", cases.data(tmp_path / "d.npz", x=(8,)))
    dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx")
    before, after = stored(model), stored(tmp_path / "final.onnx")
    assert all(np.array_equal(before[name] == 0, after[name] == 0) for name in before)
    assert all((before[name] != after[name]).any() for name in before)


def test_zeros_of_a_pruned_file_come_alive_in_a_dense_phase(tmp_path: Path) -> None:
    model = pruned(tmp_path / "m.onnx")
    after = trained(model, cases.data(tmp_path / "d.npz", x=(8,)), tmp_path)
    assert all((after[name][old == 0] != 0).any() for name, old in stored(model).items())


@pytest.mark.parametrize("opset", [13, 18])
def test_axes_that_are_a_number_train_as_onnx_runtime_runs_them(tmp_path: Path, opset: int) -> None:
    text = (
        "(float[N, 8] x) => (float[N, 5] y) { h = MatMul (x, W) c = Unsqueeze (h, axis) w = MatMul (c, V) "
        "y = Squeeze (w, v) }"
    )
    weights = {"W": cases.drawn(8, 12), "V": cases.drawn(12, 5), "axis": np.array(1), "v": np.array([1])}
    model = cases.write(tmp_path / "m.onnx", text, weights, opset=opset)
    report = dsd_ort.check(model, isolate=False)
    assert report.ok and report.count("right") == 2
    after = trained(model, cases.data(tmp_path / "d.npz", x=(8,)), tmp_path)
    assert after["axis"].shape == () and (after["W"] != weights["W"]).any()


def test_an_unsqueeze_inside_of_a_branch_takes_a_number_too(tmp_path: Path) -> None:
    text = (
        "(float[N, 8] x) => (float[N, 5] y) { h = MatMul (x, W) s = ReduceSum <keepdims = 0> (x) "
        "z = Constant <value_float = 0.0> () b = Greater (s, z) "
        "c = If (b) <then_branch = t () => (float[N, 1, 5] p) { p = Unsqueeze (h, axis) }, "
        "else_branch = e () => (float[N, 1, 5] q) { n = Neg (h) q = Unsqueeze (n, axis) }> y = Flatten (c) }"
    )
    model = cases.write(tmp_path / "m.onnx", text, {"W": cases.drawn(8, 5), "axis": np.array(1)})
    report = dsd_ort.check(model, isolate=False)
    assert report.ok and report.count("right") == 1


@pytest.mark.parametrize("at", [16000, 8000])
def test_the_line_that_fixes_a_sample_rate_is_told_and_works(tmp_path: Path, at: int) -> None:
    model = cases.switched(tmp_path / "m.onnx", at)
    line = f"[input.sr] value = {at}"
    (note,) = dsd_ort.inspect(model).notes
    assert note.kind == "recipe"
    assert note.words == f"input 'sr' is one number for a batch: data has it, or the recipe: {line}"
    table, key = line.split("] ")
    (tmp_path / "recipe.toml").write_text(f"{(BUILTIN / 'default.toml').read_text()}\n{table}]\n{key}\n")
    fixed = Recipe.load(tmp_path / "recipe.toml").to_dict()["input"]
    before, after = stored(model), trained(model, cases.data(tmp_path / "d.npz", x=(8,)), tmp_path, input=fixed)
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {"W", "V"}


@pytest.mark.training_build
def test_where_a_builder_cannot_pass_the_switch_its_message_has_the_line(tmp_path: Path) -> None:
    (error,) = dsd_ort.inspect(cases.switched(tmp_path / "m.onnx"), builder="ort").refusals
    assert error.fix == "fix the input in the recipe: [input.sr] value = 16000; or use dsd-ort's own builder"


@pytest.mark.parametrize("kind", cases.OUTSIDE)
def test_weights_that_sit_in_no_slot_are_trained_exactly(tmp_path: Path, kind: str) -> None:
    text, weights, others = cases.OUTSIDE[kind]
    model = cases.write(tmp_path / "m.onnx", text, weights)
    found = dsd_ort.inspect(model)
    assert {p.name for p in found.parameters if p.role == "other"} == others
    assert not others & found.pruned
    assert not any("normalises by the batch" in note.words for note in found.notes)  # a kernel is none
    report = dsd_ort.check(model, isolate=False)
    assert report.ok and {name for row in report.rows for name in row.tensors} >= others
    shape = {x.name: x.shape[1:] for x in found.inputs}["x"]
    data = cases.data(tmp_path / "d.npz", x=tuple(map(int, shape)))  # type: ignore[arg-type]
    prune = {} if found.pruned else {"include": list(others)}
    after = trained(model, data, tmp_path, prune=prune)
    assert all((after[name] != weights[name]).any() for name in others)


def test_what_sits_in_no_slot_has_no_weight_decay_unless_a_group_says_so(tmp_path: Path) -> None:
    text, weights, _ = cases.OUTSIDE["centres and widths of radial basis functions"]
    model = cases.write(tmp_path / "m.onnx", text, weights)
    table = dsd_ort.default_recipe(model).to_dict()
    groups = [{"match": ["widths"], "weight_decay": 0.5}]
    table["optimizer"] |= {"weight_decay": 0.1, "groups": groups}
    program = dsd_ort.prepare(model, tmp_path / "run", Recipe.from_dict(table))
    decays = {p.name: p.weight_decay for p in program.manifest.parameters}
    assert decays == {"centres": 0.0, "widths": 0.5, "U": 0.1}


def test_single_numbers_are_named_and_train_where_the_recipe_includes_them(tmp_path: Path) -> None:
    model = cases.counted(tmp_path / "m.onnx")
    found = dsd_ort.inspect(model)
    assert [p.name for p in found.parameters] == ["W", "U"]
    (note,) = [note.words for note in found.notes if note.kind == "constants"]
    assert note == (
        "2 constants, not trained: one number: 'gem', 'temperature' (to train one: parameters.include = [\"gem\"])"
    )
    wanted = {"include": ["gem", "temp*"]}
    recipe = Recipe.from_dict(dsd_ort.default_recipe(model).to_dict() | {"parameters": wanted})
    report = dsd_ort.check(model, recipe, isolate=False)
    assert report.ok and {name for row in report.rows for name in row.tensors} == {"W", "U", "gem", "temperature"}
    data = cases.data(tmp_path / "d.npz", x=(3, 8, 8))
    before, after = stored(model), trained(model, data, tmp_path, parameters=wanted)
    assert all((before[name] != after[name]).all() for name in ("gem", "temperature"))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_tables_that_a_formula_made_stay_and_are_named_with_their_rules(
    tmp_path: Path, dtype: type[np.generic]
) -> None:
    model = cases.spectral(tmp_path / "m.onnx", dtype=dtype)
    found = dsd_ort.inspect(model)
    assert found.trainable and [p.name for p in found.parameters] == ["M", "U"]
    words = [note.words for note in found.notes if note.kind == "constants"]
    assert [line.partition(" (to train")[0].partition("not trained: ")[2] for line in words] == [
        "between an input of the model and all layers: its mean, or its deviation: 'mean', 'deviation'",
        "a window: it rises, and falls as it rose: 'window'",
        "sampled waves: a cosine or Fourier transform, or sinusoidal positions: 'cosine', 'places'",
        "a filter bank: bands one behind the other: 'bank'",
    ]
    before, after = stored(model), trained(model, cases.data(tmp_path / "d.npz", x=(6, 24)), tmp_path)
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {"M", "U"}


def test_a_table_that_a_formula_made_is_trained_where_the_recipe_includes_it(tmp_path: Path) -> None:
    model = cases.spectral(tmp_path / "m.onnx")
    wanted = {"include": ["bank", "window"], "exclude": ["M"]}
    recipe = Recipe.from_dict(dsd_ort.default_recipe(model).to_dict() | {"parameters": wanted})
    report = dsd_ort.check(model, recipe, isolate=False)
    assert report.ok and {name for row in report.rows for name in row.tensors} == {"bank", "window", "U"}
    assert any("excluded by the recipe: 'M'" in note for note in report.notes)
    data = cases.data(tmp_path / "d.npz", x=(6, 24))
    before, after = stored(model), trained(model, data, tmp_path, parameters=wanted)
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {"bank", "window", "U"}


@pytest.mark.parametrize(
    ("wanted", "what"),
    [
        ({"include": ["tempo"]}, "the pattern 'tempo' matches no parameter"),
        ({"exclude": ["role:matrices"]}, "the pattern 'role:matrices' matches no parameter"),
        ({"include": ["low"]}, "no gradient arrives at 'low', so it cannot be trained"),
    ],
)
def test_a_recipe_that_names_what_cannot_be_a_parameter_is_told(
    tmp_path: Path, wanted: dict[str, list[str]], what: str
) -> None:
    model = cases.counted(tmp_path / "m.onnx")
    recipe = Recipe.from_dict(dsd_ort.default_recipe(model).to_dict() | {"parameters": wanted})
    with pytest.raises(dsd_ort.errors.RecipeError, match=what):
        dsd_ort.prepare(model, tmp_path / "run", recipe)


@pytest.mark.parametrize("key", ["prune.exclude", "prune.include"])
def test_a_constant_that_a_recipe_names_elsewhere_is_called_one(tmp_path: Path, key: str) -> None:
    model = cases.counted(tmp_path / "m.onnx")
    table = dsd_ort.default_recipe(model).to_dict()
    wanted = {"prune": {key.partition(".")[2]: ["temp*"]}}
    with pytest.raises(dsd_ort.errors.RecipeError) as caught:
        dsd_ort.prepare(model, tmp_path / "run", Recipe.from_dict(table | wanted))
    assert caught.value.what == (
        "the pattern 'temp*' matches no parameter: 'temperature' is a constant, not trained: one number"
    )
    assert caught.value.where == f"recipe, {key}"
    assert caught.value.fix == 'leave it out; to train it: parameters.include = ["temperature"]'


def test_a_run_that_was_prepared_when_other_tensors_counted_goes_on_with_these(tmp_path: Path) -> None:
    """As version 0.x prepared it: the cosine transform a matrix that is trained, and no list of constants."""
    model = cases.spectral(tmp_path / "m.onnx")
    table = dsd_ort.default_recipe(model).to_dict() | {"batch_size": 8, "parameters": {"include": ["cosine", "places"]}}
    table["phase"] = [{"kind": "dense", "epochs": 1, "learning_rate": 0.05}]
    dsd_ort.prepare(model, tmp_path / "run", Recipe.from_dict(table))
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["recipe"]["parameters"], manifest["digest"]
    path.write_text(json.dumps(manifest))
    dsd_ort.train(tmp_path / "run", cases.data(tmp_path / "d.npz", x=(6, 24)))
    dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx")
    assert dsd_ort.verify(model, tmp_path / "final.onnx").same
    before, after = stored(model), stored(tmp_path / "final.onnx")
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {"M", "U", "cosine", "places"}
    manifest["parameters"][0]["name"] = "lost"
    path.write_text(json.dumps(manifest))
    with pytest.raises(dsd_ort.errors.RunError, match="the run trains 'lost', which this version") as caught:
        open_program(tmp_path / "run").source()
    assert caught.value.fix == "prepare the model anew into another folder"


def test_where_nothing_is_pruned_the_default_recipe_is_dense_and_says_so(tmp_path: Path) -> None:
    text, weights, others = cases.OUTSIDE["weights behind an activation, and behind a projection"]
    model = cases.write(tmp_path / "m.onnx", text, weights)
    program = dsd_ort.prepare(model, tmp_path / "run", dsd_ort.default_recipe(model))
    assert {p.name for p in program.manifest.trained} == others and not program.manifest.prunable
    assert {phase.kind for phase in program.recipe.phase} == {"dense"}
    (note,) = [note.words for note in program.notes if note.kind == "weights"]
    assert note.startswith("no weight sits where a sparse phase prunes by itself: the default recipe is dense only")
    named = dsd_ort.default_recipe().to_dict() | {"prune": {"include": ["W"]}}
    assert [p.name for p in dsd_ort.prepare(model, tmp_path / "named", Recipe.from_dict(named)).manifest.prunable] == [
        "W"
    ]
