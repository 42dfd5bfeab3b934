"""What is fixed is computed, and conditions that are fixed give way to their branches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

import dsd_ort
from dsd_ort.errors import RecipeError, UnsupportedError
from dsd_ort.graph.prepare import build
from dsd_ort.graph.training_copy import training_copy
from dsd_ort.model import source
from dsd_ort.rewrite.fold import fold
from tests.graph.gradient import Exact, disagreement, loss_weights, step
from tests.model.test_source import run, write


def folded(text: str, opset: int = 17) -> onnx.ModelProto:
    model = ir.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {text}'))
    fold(model)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def operators(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node if node.op_type != "Constant"]


IF = """y = If (c) <
    then_branch = yes () => (float[N, 3, 8] p) { p = Relu (x) },
    else_branch = no () => (float[N, 3, 8] q) { q = Neg (x) }
>"""

CONDITIONS = {
    "a constant": ("c = Constant <value = bool {1}> ()", "Relu"),
    "a negation": ("d = Constant <value = bool {1}> () c = Not (d)", "Neg"),
    "a fixed length beside one that is not": (
        """s = Shape (x) i = Constant <value = int64 {-1}> () l = Gather (s, i)
        eight = Constant <value = int64 {8}> () c = Equal (l, eight)""",
        "Relu",
    ),
    "fixed lengths, sliced, joined and multiplied": (
        """s = Shape (x) one = Constant <value = int64[1] {1}> () three = Constant <value = int64[1] {3}> ()
        t = Slice (s, one, three) u = Concat <axis = 0> (t, one) v = ReduceProd <keepdims = 0> (u)
        limit = Constant <value = int64 {24}> () w = Less (v, limit) e = Cast <to = 9> (w) c = Not (e)""",
        "Relu",
    ),
    "the rank": (
        "s = Shape (x) r = Size (s) two = Constant <value = int64 {2}> () c = Equal (r, two)",
        "Neg",
    ),
}


@pytest.mark.parametrize("case", CONDITIONS)
def test_a_fixed_condition_leaves_one_branch(case):
    text, expected = CONDITIONS[case]
    proto = folded(f"(float[N, 3, 8] x) => (float[N, 3, 8] y) {{ {text} {IF} }}")
    assert [op for op in operators(proto) if op != "Identity"] == [expected]
    x = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)
    np.testing.assert_array_equal(run(proto, {"x": x})[0], np.maximum(x, 0) if expected == "Relu" else -x)


def test_a_length_that_is_not_fixed_decides_nothing():
    text = """s = Shape (x) i = Constant <value = int64 {0}> () l = Gather (s, i)
        one = Constant <value = int64 {1}> () c = Equal (l, one)"""
    assert "If" in operators(folded(f"(float[N, 3, 8] x) => (float[N, 3, 8] y) {{ {text} {IF} }}"))


def test_conditions_inside_branches_and_behind_them():
    text = """(float[N, 4] x) => (float[N, 2] y) {
        t = Constant <value = bool {1}> ()
        a = If (t) <
            then_branch = yes () => (float[N, M] p) {
                p = If (t) <
                    then_branch = inner () => (float[N, 2] q) <int64[2] i = {3, 1}> { q = Gather <axis = 1> (x, i) },
                    else_branch = other () => (float[N, 4] r) { r = Neg (x) }
                >
            },
            else_branch = no () => (float[N, 4] s) { s = Relu (x) }
        >
        l = Shape <start = 1> (a) two = Constant <value = int64[1] {2}> () c = Equal (l, two)
        y = If (c) <
            then_branch = narrow () => (float[N, 2] u) { u = Exp (a) },
            else_branch = wide () => (float[N, 2] v) { v = Neg (a) }
        >
    }"""
    proto = folded(text)
    assert [op for op in operators(proto) if op != "Identity"] == ["Gather", "Exp"]
    x = np.float32([[1, 2, 3, 4]])
    np.testing.assert_allclose(run(proto, {"x": x})[0], np.exp([[4, 2]]), rtol=1e-6)


def test_chance_and_inputs_are_not_fixed():
    text = """(float[3] x) => (float[3] y) {
        s = Constant <value = float[3] {1, 2, 3}> () r = RandomUniformLike (s) d = Dropout (s) e = Add (r, d)
        y = Add (e, x)
    }"""
    assert operators(folded(text)) == ["RandomUniformLike", "Dropout", "Add", "Add"]


# --- from the file to the gradient

BRANCHES = """(float[N, 3] x, int64 rate) => (float[N, 2] y) <int64 high = {16000}> {
    c = Equal (rate, high)
    a = MatMul (x, w)
    y = If (c) <
        then_branch = yes () => (float[N, 2] p) <float[4, 2] v = {1, 2, 3, 4, 5, 6, 7, 8}> {
            b = Constant <value = float[2] {1, -1}> () q = MatMul (a, v) p = Add (q, b)
        },
        else_branch = no () => (float[N, 2] r) <float[4, 2] v = {8, 7, 6, 5, 4, 3, 2, 1}> {
            b = Constant <value = float[2] {3, 4}> () s = MatMul (a, v) r = Sub (s, b)
        }
    >
}"""
THEN, ELSE = "If_2.then_branch", "If_2.else_branch"
PHASES = [{"kind": "dense", "steps": 2, "learning_rate": 0.01}]


@pytest.fixture
def branches(tmp_path: Path) -> Path:
    return write(tmp_path / "m.onnx", BRANCHES, {"w": (3, 4)})


def recipe(**changes) -> dsd_ort.Recipe:
    return dsd_ort.Recipe.from_dict({"phase": PHASES, "loss": {"name": "mse"}} | changes)


def test_weights_of_both_branches_are_parameters_under_names_of_their_own(branches):
    found = source.load(branches)
    assert {p.name: p.storage for p in found.parameters} == {
        "w": "initializer",
        f"{THEN}/v": "initializer",
        f"{THEN}/b": "constant",
        f"{ELSE}/v": "initializer",
    }
    assert found.value(f"{ELSE}/v").ravel().tolist() == [8, 7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("rate", [16000, 8000])
def test_the_training_copy_computes_the_same_in_both_branches(branches, rate):
    found = source.load(branches)
    copy = ir.to_proto(training_copy(found))
    onnx.checker.check_model(copy, full_check=True)
    feeds = {"x": np.float32([[1, 2, 3]]), "rate": np.array(rate)}
    weights = {p.name: found.value(p.name) for p in found.parameters}
    np.testing.assert_allclose(run(copy, feeds | weights)[0], run(branches, feeds)[0], rtol=1e-6)


def test_a_fixed_input_decides_which_branch_is_trained_and_only_its_bytes_change(branches, tmp_path):
    chosen = recipe(input={"rate": {"value": 16000}})
    program = dsd_ort.prepare(branches, tmp_path / "run", chosen)
    assert [p.name for p in program.manifest.trained] == ["w", f"{THEN}/v", f"{THEN}/b"]
    assert [f.name for f in program.manifest.inputs] == ["x"]
    rng = np.random.default_rng(0)
    data = {"x": rng.standard_normal((64, 3)).astype(np.float32), "label": np.zeros((64, 2), np.float32)}
    dsd_ort.train(tmp_path / "run", data, threads=1)
    verdict = dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx")
    assert verdict.same
    assert {change.name for change in verdict.changed} == {"w", f"{THEN}/v", f"{THEN}/b"}
    trained = dsd_ort.inspect(tmp_path / "final.onnx")
    final, old = onnx.load(tmp_path / "final.onnx"), onnx.load(branches)
    inner = final.graph.node[2].attribute
    assert onnx.numpy_helper.to_array(inner[0].g.initializer[0]).tolist() == trained.value(f"{THEN}/v").tolist()
    assert inner[1] == old.graph.node[2].attribute[1]
    expected = run(tmp_path / "final.onnx", {"x": data["x"], "rate": np.array(16000)})[0]
    assert dsd_ort.evaluate(tmp_path / "run", data)["loss"] == pytest.approx(float((expected**2).mean()), rel=1e-5)


def test_gradients_of_weights_in_a_branch_are_those_of_the_file(branches):
    found = source.load(branches)
    copy = training_copy(found)
    rate = next(value for value in copy.graph.inputs if value.name == "rate")
    constant = ir.node("Constant", [], {"value": ir.tensor(np.array(16000))}, name="rate/value")
    constant.outputs[0].name = "rate/value"
    rate.replace_all_uses_with(constant.outputs[0])
    copy.graph.inputs.remove(rate)
    copy.graph.insert_before(copy.graph[0], constant)
    original = ir.to_proto(copy)
    fold(copy)
    names = ["w", f"{THEN}/v", f"{THEN}/b"]
    inputs = {"x": np.float32([[1, 2, 3], [0, 1, -1]])} | {p.name: found.value(p.name) for p in found.parameters}
    exact = Exact(original)
    weights = loss_weights(exact(inputs))
    gradients = step(copy, names, inputs, weights).gradients
    assert max(disagreement(exact, inputs, weights, gradients).values()) < 1e-5


def test_where_data_decides_both_branches_are_trained(branches, tmp_path):
    program = dsd_ort.prepare(branches, tmp_path / "run", recipe())
    assert {p.name for p in program.manifest.trained} == {"w", f"{THEN}/v", f"{THEN}/b", f"{ELSE}/v"}
    rng = np.random.default_rng(0)

    def both(epoch, seed):
        for rate in (16000, 8000):
            x = rng.standard_normal((8, 3)).astype(np.float32)
            yield {"x": x, "rate": np.array(rate), "label": np.zeros((8, 2), np.float32)}

    dsd_ort.train(tmp_path / "run", both, threads=1)
    verdict = dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx")
    assert verdict.same
    assert {change.name for change in verdict.changed} == {"w", f"{THEN}/v", f"{THEN}/b", f"{ELSE}/v"}


def test_the_builder_of_onnx_runtime_refuses_a_condition_of_data_by_name(branches):
    with pytest.raises(UnsupportedError, match="runs a subgraph by a condition") as caught:
        build(source.load(branches), recipe(builder="ort"))
    assert caught.value.where == "If 'y'"
    assert "[input.rate] value = 16000" in caught.value.fix


def test_what_is_fixed_inside_of_a_branch_or_a_step_is_folded_there():
    text = """(float[N, 3] x, bool c) => (float[N, 3] y) {
        y = If (c) <
            then_branch = yes () => (float[N, 3] p) {
                s = Shape <start = 1> (x) three = Constant <value = int64[1] {3}> () d = Equal (s, three)
                p = If (d) <
                    then_branch = wide () => (float[N, 3] u) { u = Exp (x) },
                    else_branch = narrow () => (float[N, 3] v) { v = Neg (x) }
                >
            },
            else_branch = no () => (float[N, 3] q) {
                q = Scan <num_scan_inputs = 1, body = step (float[3] t) => (float[3] z) {
                    s = Shape (t) k = Size (s) e = Cast <to = 1> (k) z = Mul (t, e)
                }> (x)
            }
        >
    }"""
    proto = folded(text, 18)
    then, other = (attribute.g for attribute in proto.graph.node[0].attribute)
    assert [node.op_type for node in then.node] == ["Exp", "Identity"]
    (step,) = (attribute.g for attribute in other.node[0].attribute if attribute.name == "body")
    assert [node.op_type for node in step.node] == ["Constant", "Mul"]
    for c in (True, False):
        x = np.float32([[1, 2, 3]])
        np.testing.assert_allclose(run(proto, {"x": x, "c": np.array(c)})[0], np.exp(x) if c else x, rtol=1e-6)


def test_lengths_inside_of_a_loop_are_left_to_it():
    """What a Loop carries may be longer at each step, whatever is noted of it."""
    text = """(float[3] x, int64 n) => (float[M] y) {
        t = Constant <value = bool {1}> ()
        y = Loop (n, t, x) <body = step (int64 i, bool c, float[3] a) => (bool d, float[3] b) {
            d = Identity (c) s = Shape (a) l = Cast <to = 1> (s) b = Concat <axis = 0> (a, l)
        }>
    }"""
    proto = ir.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g {text}'))
    fold(proto)
    (body,) = (attribute.as_graph() for attribute in proto.graph[-1].attributes.values())
    assert [node.op_type for node in body] == ["Identity", "Shape", "Cast", "Concat"]


def test_a_weight_of_a_constant_of_shape_in_a_branch_is_stored_there(tmp_path):
    text = """(float[N, 3] x, bool c) => (float[N, 2] y) {
        y = If (c) <
            then_branch = yes () => (float[N, 2] p) <int64[2] s = {3, 2}> {
                v = ConstantOfShape <value = float[1] {0.5}> (s) p = MatMul (x, v)
            },
            else_branch = no () => (float[N, 2] q) <float[3, 2] u = {1, 2, 3, 4, 5, 6}> { q = MatMul (x, u) }
        >
    }"""
    path = write(tmp_path / "m.onnx", text)
    dsd_ort.prepare(path, tmp_path / "run", recipe(input={"c": {"value": True}}))
    rng = np.random.default_rng(0)
    data = {"x": rng.standard_normal((64, 3)).astype(np.float32), "label": np.zeros((64, 2), np.float32)}
    dsd_ort.train(tmp_path / "run", data, threads=1)
    verdict = dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx")
    assert (verdict.same, verdict.initialized) == (True, ("v",))
    onnx.checker.check_model(str(tmp_path / "final.onnx"))
    trained = dsd_ort.inspect(tmp_path / "final.onnx").value("v")
    assert (trained != 0.5).all()
    got = run(tmp_path / "final.onnx", {"x": data["x"], "c": np.array(True)})[0]
    np.testing.assert_allclose(got, data["x"] @ trained, rtol=1e-5)


@pytest.mark.parametrize(
    ("table", "what", "fix"),
    [
        ({"rat": {"value": 1}}, "the model has no input 'rat'", "did you mean 'rate'?"),
        (
            {"x": {"shape": [2, 5]}},
            r"the shape \[2, 5\] does not fit the input 'x'",
            "the lengths that the model fixes",
        ),
        ({"x": {"value": [1, 2]}}, "the value does not fit the input 'x'", "nested lists"),
        ({"w": {"value": 1}}, "the model has no input 'w'", "its inputs are x, rate"),
    ],
)
def test_what_cannot_be_fixed_is_refused(branches, table, what, fix):
    with pytest.raises(RecipeError, match=what) as caught:
        build(source.load(branches), recipe(input=table))
    assert caught.value.where == f"recipe, input.{next(iter(table))}"
    assert fix in caught.value.fix


def test_an_unknown_key_of_an_input_is_named():
    with pytest.raises(RecipeError, match=r"unknown key 'input\.valu'"):
        recipe(input={"x": {"valu": 1}})


def test_an_initial_state_without_a_fixed_batch_is_as_long_as_the_batch(tmp_path):
    text = """(float[N, 3] x, float[2, M, 4] state) => (float[N, 4] y) <int64 one = {1}> {
        a = MatMul (x, w) b = Gather <axis = 0> (state, one) c = MatMul (b, u) y = Add (a, c)
    }"""
    path = write(tmp_path / "m.onnx", text.replace("M, 4]", "N, 4]"), {"w": (3, 4), "u": (4, 4)})
    found = source.load(path)
    made, graphs = build(found, recipe(input={"state": {"value": 0.5}}))
    assert [field.name for field in made.inputs] == ["x"]
    x = np.float32([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    weights = {p.name: found.value(p.name) for p in found.parameters}
    got = run(graphs["evaluate"], {"x": x, "label": np.zeros((3, 4), np.float32), **weights})[0]
    np.testing.assert_allclose(got, run(path, {"x": x, "state": np.full((2, 3, 4), 0.5, np.float32)})[0], rtol=1e-6)
    other = write(tmp_path / "other.onnx", text, {"w": (3, 4), "u": (4, 4)})
    with pytest.raises(RecipeError, match="no other input has an axis 'M'") as caught:
        build(source.load(other), recipe(input={"state": {"value": 0}}))
    assert caught.value.where == "recipe, input.state"
    build(source.load(other), recipe(input={"state": {"value": 0, "shape": [2, "N", 4]}}))
