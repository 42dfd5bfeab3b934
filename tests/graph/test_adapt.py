"""Files as they come: what is merged, left over, optional, of several kinds, or a function of functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import onnx_ir as ir
import pytest

import dsd_ort
from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.legalize import legalize
from dsd_ort.graph.prepare import build
from dsd_ort.graph.training_copy import training_copy
from dsd_ort.model import source
from dsd_ort.rewrite.fold import fold
from tests.graph.gradient import Exact, disagreement, loss_weights, random_inputs, step
from tests.model.test_roles import ROLES
from tests.model.test_source import run, write

PHASES = [{"kind": "dense", "steps": 3, "learning_rate": 0.05}]


def recipe(**changes) -> dsd_ort.Recipe:
    return dsd_ort.Recipe.from_dict({"phase": PHASES, "loss": {"name": "mse"}} | changes)


def train(path: Path, folder: Path, data: dict[str, np.ndarray], **changes) -> Path:
    """Prepares, trains and exports; the exported file has to verify."""
    dsd_ort.prepare(path, folder / "run", recipe(**changes))
    dsd_ort.train(folder / "run", data, threads=1)
    assert dsd_ort.export(folder / "run", folder / "final.onnx").same
    return folder / "final.onnx"


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_tokens_masks_lengths_and_numbers_feed_one_model(tmp_path):
    text = """(int64[N, 3] ids, bool[N, 3] hidden, int32[N] kind, float[N, 4] x) => (float[N, 4] y, int64[N] best)
    <int64[1] two = {2}, int64[1] one = {1}, float none = {0}> {
        a = Gather (words, ids) h = Unsqueeze (hidden, two) b = Where (h, none, a)
        c = ReduceSum <keepdims = 0> (b, one) d = Gather (kinds, kind) e = Add (c, d) f = Add (e, x)
        y = MatMul (f, w) best = ArgMax <axis = 1, keepdims = 0> (y)
    }"""
    path = write(tmp_path / "m.onnx", text, {"words": (9, 4), "kinds": (3, 4), "w": (4, 4)})
    rng = np.random.default_rng(0)
    data = {
        "ids": rng.integers(0, 9, (40, 3)),
        "hidden": rng.integers(0, 2, (40, 3)).astype(bool),
        "kind": rng.integers(0, 3, 40).astype(np.int32),
        "x": floats(40, 4),
    }
    label = {"label": np.zeros((40, 4), np.float32)}
    final = train(path, tmp_path, data | label, loss={"name": "mse", "output": "y"})
    before, after = (float((run(model, data)[0] ** 2).mean()) for model in (path, final))
    assert after < before
    changed = {change.name for change in dsd_ort.verify(path, final).changed}
    assert changed == {"words", "kinds", "w"}


def test_inputs_and_outputs_that_the_loss_does_not_need_are_not_asked_for(tmp_path):
    text = """(float[N, 3] x, float[N, 3] other, seq(float[N, 3]) list, optional(float[N]) maybe)
    => (float[N, 2] y, float[N, 2] z, seq(float[1, 3]) parts, float[N, 3] first) <int64 zero = {0}> {
        y = MatMul (x, w) z = MatMul (other, w) parts = SplitToSequence (x) first = SequenceAt (list, zero)
    }"""
    path = write(tmp_path / "m.onnx", text, {"w": (3, 2)})
    loss = {"name": "mse", "output": "y"}
    made, graphs = build(source.load(path), recipe(loss=loss))
    assert [field.name for field in made.inputs] == ["x"]
    assert {value.name for value in graphs["evaluate"].graph.input} == {"x", "w", "label"}
    train(path, tmp_path, {"x": floats(40, 3), "label": np.zeros((40, 2), np.float32)}, loss=loss)


def test_an_input_that_is_needed_and_no_tensor_is_refused(tmp_path):
    text = """(seq(float[N, 3]) list) => (float[N, 2] y) <int64 zero = {0}> {
        x = SequenceAt (list, zero) y = MatMul (x, w)
    }"""
    with pytest.raises(UnsupportedError, match="the input 'list' is no tensor of a known rank") as caught:
        build(source.load(write(tmp_path / "m.onnx", text, {"w": (3, 2)})), recipe())
    assert "inputs that are tensors" in caught.value.fix


def test_functions_of_functions_with_the_same_names_inside(tmp_path):
    text = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        main (float[N, 3] x) => (float[N, 3] y)
        <float[3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}, float[3] b = {1, 2, 3},
         float[3, 3] v = {1, 0, 1, 2, 0, 2, 1, 1, 1}> {
            h = own.block (x, w, b) t = own.linear (h, v, b) y = own.block (t, w, b)
        }
        <domain: "own", opset_import: ["" : 17]> linear (x, w, b) => (y) { h = MatMul (x, w) y = Add (h, b) }
        <domain: "own", opset_import: ["" : 17, "own" : 1]> block (x, w, b) => (y) {
            h = own.linear (x, w, b) t = Tanh (h) y = Add (t, x)
        }"""
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    found = source.load(path)
    assert {p.name: p.role for p in found.parameters} == {"w": "matrix", "b": "bias", "v": "matrix"}
    copy = ir.to_proto(training_copy(found))
    weights = {p.name: found.value(p.name) for p in found.parameters}
    x = floats(5, 3)
    np.testing.assert_allclose(run(copy, {"x": x, **weights})[0], run(path, {"x": x})[0], rtol=1e-6)
    train(path, tmp_path, {"x": x, "label": np.zeros((5, 3), np.float32)}, batch_size=5)


def test_leftovers_are_carried_along(tmp_path):
    """Nodes without names, unused initializers, an initializer that is an output, optional outputs, IR version 3."""
    text = """(float[N, 1, 6, 6] x) => (float[N, 4] y, float[2, 1, 3, 3] k) {
        a = Conv (x, k) b, indices = MaxPool <kernel_shape = [2, 2]> (a) c = Flatten (b) d = MatMul (c, w)
        y = Add (d, b1)
    }"""
    shapes = {"k": (2, 1, 3, 3), "w": (18, 4), "b1": (4,), "unused": (7, 7)}
    path = write(tmp_path / "m.onnx", text, shapes, opset=9)
    model = onnx.load(path)
    model.ir_version = 3
    for name, shape in shapes.items():
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    assert not any(node.name for node in model.graph.node)
    path.write_bytes(model.SerializeToString())
    assert [p.name for p in source.load(path).parameters] == ["k", "w", "b1"]
    loss = {"name": "mse", "output": "y"}
    data = {"x": floats(40, 1, 6, 6), "label": np.zeros((40, 4), np.float32)}
    final = train(path, tmp_path, data, loss=loss)
    new = onnx.load(final)
    assert onnx.numpy_helper.to_array(new.graph.initializer[3]).shape == (7, 7)
    np.testing.assert_array_equal(run(final, {"x": data["x"][:1]})[1], dsd_ort.inspect(final).value("k"))


def test_a_branch_that_gives_a_weight_itself(tmp_path):
    text = """(float[N, 2] x) => (float[N, 2] y) <bool on = {1}> {
        w = If (on) <
            then_branch = yes () => (float[2, 2] p) { p = Constant <value = float[2, 2] {1.5, 2, 3, 4}> () },
            else_branch = no () => (float[2, 2] q) <float[2, 2] q = {4, 3, 2, 1.5}> { unused = Neg (q) }
        >
        y = MatMul (x, w)
    }"""
    path = write(tmp_path / "m.onnx", text)
    model = onnx.load(path)
    del model.graph.node[0].attribute[1].g.node[:]  # an initializer that is the branch's output, as ONNX allows
    path.write_bytes(model.SerializeToString())
    found = source.load(path)
    assert [(p.name, p.role) for p in found.parameters] == [("p", "matrix"), ("q", "matrix")]
    made, _ = build(found, recipe())
    assert [p.name for p in made.trained] == ["p"]


MERGED = """(float[N, 2, 3] x) => (float[N, 2, 3] y) {
    a = BatchNormalization (x, s1, b1, m, v1) y = BatchNormalization (a, s2, b2, m, v2)
}"""


def test_statistics_that_an_exporter_merged_are_not_moved_by_two_layers(tmp_path):
    names = ("s1", "b1", "m", "v1", "s2", "b2", "v2")
    path = write(tmp_path / "m.onnx", MERGED, dict.fromkeys(names, (2,)))
    with pytest.raises(UnsupportedError, match="shares running statistics with BatchNormalization 'y'") as caught:
        build(source.load(path), recipe())
    assert 'set batch_norm = "frozen"' in caught.value.fix
    assert "optimize=False" in caught.value.fix
    build(source.load(path), recipe(batch_norm="frozen"))


def test_a_model_that_is_in_training_mode_in_its_file_is_freed_from_its_batch(tmp_path):
    text = """(float[4, 2, 3] x) => (float[4, 2, 3] y) {
        a, n, p = BatchNormalization <training_mode = 1> (x, s, b, m, v) y = MatMul (a, w)
    }"""
    path = write(tmp_path / "m.onnx", text, {"s": (2,), "b": (2,), "m": (2,), "v": (2,), "w": (3, 3)})
    model = onnx.load(path)
    model.graph.initializer[3].CopyFrom(onnx.numpy_helper.from_array(np.float32([1, 2]), "v"))
    path.write_bytes(model.SerializeToString())
    assert build(source.load(path), recipe())[0].inputs[0].shape == ("batch", 2, 3)


COMPUTED = (
    "a class token, also before any training, and positions that are cut to length",
    "a bias by relative position, and a mask token",
    "weight norm, a low-rank update and a fixed mask",
    "a layer norm over more than one axis",
)


@pytest.mark.parametrize("case", COMPUTED)
def test_gradients_reach_the_tensors_that_weights_are_computed_from(tmp_path, case):
    text, shapes, _ = ROLES[case]
    found = source.load(write(tmp_path / "m.onnx", text, shapes))
    copy = training_copy(found)
    original = ir.to_proto(copy)
    names = [p.name for p in found.parameters]
    fold(copy)
    legal = legalize(copy, names, outputs=["y"]).model
    inputs = random_inputs(original) | {name: found.value(name) for name in names}
    exact = Exact(original)
    weights = loss_weights(exact(inputs))
    gradients = step(legal, names, inputs, weights).gradients
    errors = disagreement(exact, inputs, weights, gradients)
    assert set(errors) == set(names)
    assert max(errors.values()) < 1e-4
    assert all(np.abs(gradient).max() > 0 for gradient in gradients.values())


def test_an_input_that_only_a_body_behind_another_output_reads_is_not_asked_for(tmp_path: Path) -> None:
    text = """(float[N, 4] x, float[N, 4] z, bool c) => (float[N, 4] y, float[N, 4] other) {
        y = MatMul (x, w)
        other = If (c) <
            then_branch = a () => (float[N, 4] t) { t = Neg (z) },
            else_branch = b () => (float[N, 4] e) { e = Abs (z) }
        >
    }"""
    path = write(tmp_path / "m.onnx", text, {"w": (4, 4)})
    manifest, graphs = build(source.load(path), recipe(loss={"name": "mse", "output": "y"}))
    assert [field.name for field in manifest.inputs] == ["x"]
    assert {value.name for value in graphs["evaluate"].graph.input} == {"x", "w", "label"}
