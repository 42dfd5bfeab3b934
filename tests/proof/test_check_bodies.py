"""check of models that branch, go through steps or handle sequences; and their training, from file to file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

import dsd_ort
from dsd_ort.proof import operators
from dsd_ort.proof.subject import without_dropout
from tests.graph.gradient import model
from tests.model.test_source import run, write
from tests.proof.test_check import check, verdicts

RATE = """(float[N, 8] x, int64 sr) => (float[N, 5] logits) <int64 wide = {16000}> {
    c = Equal (sr, wide)
    h = If (c) <
        then_branch = a () => (float[N, 12] p) { p = MatMul (x, w16) },
        else_branch = b () => (float[N, 12] q) { q = MatMul (x, w8) }
    >
    r = Relu (h) logits = MatMul (r, v)
}"""
DATA = """(float[N, 3, 8] x) => (float[N, 5] logits) <float zero = {0}> {
    s = ReduceSum <keepdims = 0> (x) c = Greater (s, zero)
    h = If (c) <
        then_branch = a () => (float[N, 4, 8] p) { t = Conv <pads = [1, 1]> (x, k, b) p = Dropout (t) },
        else_branch = e () => (float[N, 4, 8] q) { t = Conv <pads = [1, 1]> (x, k, b) u = Neg (t) q = Softsign (u) }
    >
    f = Flatten (h) logits = MatMul (f, v)
}"""
SCAN = """(float[N, 7, 8] x) => (float[N, 5] logits) <float none = {0}, int64[1] one = {1}> {
    a = MatMul (x, w) m = ReduceMean <axes = [1], keepdims = 0> (a) h0 = Mul (m, none)
    h, y = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_input_directions = [1], scan_output_axes = [1],
        body = step (float[N, 6] s, float[N, 6] t) => (float[N, 6] n, float[N, 6] z) {
        b = MatMul (s, u) c = Add (b, t) n = Tanh (c) d = Dropout (n) z = Mul (d, t)
    }> (h0, a)
    r = ReduceMax <axes = [1], keepdims = 0> (y) g = Add (r, h) logits = MatMul (g, v)
}"""
IMAGES = """(float[N, 3, 3, 8] x) => (float[N, 5] logits) <float none = {0}> {
    m = ReduceMean <axes = [1], keepdims = 0> (x) h0 = Mul (m, none)
    h, y = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [2], scan_output_directions = [1],
        body = step (float[N, 3, 8] s, float[N, 3, 8] t) => (float[N, 3, 8] n, float[N, 3, 8] z) {
        b = Conv <pads = [1, 1]> (t, k) c = Add (s, b) n = Tanh (c) z = Mul (n, t)
    }> (h0, x)
    r = ReduceMax <axes = [2], keepdims = 0> (y) g = Add (r, h) f = Flatten (g) logits = MatMul (f, v)
}"""
LOOP = """(float[N, 3, 8] x) => (float[N, 5] logits) <int64 three = {3}> {
    h, y = Loop (three, , x) <
        body = step (int64 i, bool on, float[N, 3, 8] s) => (bool go, float[N, 3, 8] n, float[N, 3, 8] z) {
        go = Identity (on) b = Conv <pads = [1, 1]> (s, k) n = Tanh (b) f = Cast <to = 1> (i) z = Mul (f, n)
    }>
    r = ReduceMax <axes = [0], keepdims = 0> (y) g = Add (r, h) f = Flatten (g) logits = MatMul (f, v)
}"""
SEQUENCES = """(float[N, 8] x) => (float[N, 5] logits) <int64 zero = {0}, int64 one = {1}, int64[2] parts = {5, 7}> {
    h = MatMul (x, w) s = SplitToSequence <axis = 1> (h, parts) a = SequenceAt (s, zero) b = SequenceAt (s, one)
    c = Tanh (a) d = Relu (b) t = SequenceConstruct (d, c) g = ConcatFromSequence <axis = 1> (t)
    logits = MatMul (g, v)
}"""

MODELS: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    "a condition that is an input": (RATE, {"w16": (8, 12), "w8": (8, 12), "v": (12, 5)}),
    "a condition of data, dropout in a branch": (DATA, {"k": (4, 3, 3), "b": (4,), "v": (32, 5)}),
    "a scan, dropout at each step": (SCAN, {"w": (8, 6), "u": (6, 6), "v": (6, 5)}),
    "a scan of convolutions": (IMAGES, {"k": (3, 3, 3), "v": (24, 5)}),
    "a loop of convolutions": (LOOP, {"k": (3, 3, 3), "v": (24, 5)}),
    "sequences": (SEQUENCES, {"w": (8, 12), "v": (12, 5)}),
}


@pytest.mark.parametrize("name", MODELS)
def test_check_says_yes(tmp_path: Path, name: str) -> None:
    text, shapes = MODELS[name]
    path = write(tmp_path / "m.onnx", text, shapes)
    report = check(path, loss="cross-entropy")
    assert report.ok, report
    expected = dict.fromkeys(shapes, "right")
    if text is RATE:  # the made-up rate is no 16000
        expected["w16"] = "zero"
    assert verdicts(report, "inference") == expected
    assert all(row.reference.startswith("float64") for row in report.rows)
    assert ("dropout, its masks held" in [line.what for line in report.lines]) == ("Dropout" in text)


def test_dropout_in_a_branch_is_held_for_the_comparison_in_the_branch_too(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", DATA, MODELS["a condition of data, dropout in a branch"][1])
    phase = {"kind": "dense", "steps": 1, "learning_rate": 0.1}
    program = dsd_ort.prepare(path, tmp_path / "run", dsd_ort.Recipe.from_dict({"phase": [phase]}))
    step = without_dropout(onnx.load(program.graph_path("step")))
    ratios = [node.input[1] for node in _nodes(step.graph) if node.op_type == "Dropout"]
    assert ratios == ["dsd_ort_check/ratio"]


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from _nodes(attribute.g)


def rates(epoch: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """Batches of both rates; the classes of one are not those of the other."""
    random = np.random.default_rng([epoch, seed])
    for rate in (16000, 8000) * 4:
        label = random.integers(0, 2, 16) + (3 if rate == 16000 else 0)
        yield {"x": random.standard_normal((16, 8)).astype(np.float32), "sr": np.array(rate), "label": label}


def test_both_branches_of_a_sample_rate_train_without_a_line_in_the_recipe(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", *MODELS["a condition that is an input"])
    phases = [
        {"kind": "dense", "steps": 40, "learning_rate": 0.05},
        {"kind": "sparse", "steps": 20, "learning_rate": 0.05, "sparsity": 0.5},
        {"kind": "dense", "steps": 20, "learning_rate": 0.05},
    ]
    dsd_ort.prepare(path, tmp_path / "run", dsd_ort.Recipe.from_dict({"phase": phases}))
    dsd_ort.train(tmp_path / "run", rates, threads=1)
    verdict = dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx")
    assert verdict.same and {change.name for change in verdict.changed} == {"w16", "w8", "v"}
    for batch in list(rates(99, 0))[:2]:
        (logits,) = run(tmp_path / "final.onnx", {"x": batch["x"], "sr": batch["sr"]})
        wide = batch["sr"] == 16000
        assert np.isin(logits.argmax(axis=1), (3, 4) if wide else (0, 1)).mean() > 0.9


def test_weights_stored_inside_of_the_body_of_a_scan_are_trained_where_they_stand(tmp_path: Path) -> None:
    text = """(float[N, 3] x) => (float[N, 2] y) <float[2] zeros = {0, 0}> {
        h, y = Scan <num_scan_inputs = 1, body = step (float[2] s, float[3] t) => (float[2] n, float[2] z)
            <float[3, 2] inner = {1, 2.5, -3, 4.5, 5, 6.5}> {
            a = MatMul (t, inner) n = Add (a, s) z = Identity (n)
        }> (zeros, x)
    }"""
    path = write(tmp_path / "m.onnx", text)
    recipe = dsd_ort.Recipe.from_dict(
        {"loss": {"name": "mse"}, "phase": [{"kind": "dense", "steps": 3, "learning_rate": 0.01}]}
    )
    dsd_ort.prepare(path, tmp_path / "run", recipe)
    x = np.random.default_rng(0).standard_normal((32, 3)).astype(np.float32)
    dsd_ort.train(tmp_path / "run", {"x": x, "label": np.zeros((32, 2), np.float32)}, threads=1)
    verdict = dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx")
    assert verdict.same and [change.name for change in verdict.changed] == ["inner"]
    (scan,) = onnx.load(tmp_path / "final.onnx").graph.node
    (body,) = (attribute.g for attribute in scan.attribute if attribute.name == "body")
    stored = onnx.numpy_helper.to_array(body.initializer[0])
    np.testing.assert_array_equal(stored, dsd_ort.inspect(tmp_path / "final.onnx").value("inner"))
    (y,) = run(tmp_path / "final.onnx", {"x": x})
    np.testing.assert_allclose(y, np.cumsum(x @ stored, axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_reference_goes_along_any_axis_from_either_end_as_onnx_runtime_does(axis: int, turned: int) -> None:
    text = f"""(float[4, 4, 4] x, float[4, 4] s) => (float[4, 4] f, float[4, 4, 4] y) {{
        f, y = Scan <num_scan_inputs = 1, scan_input_axes = [{axis}], scan_input_directions = [{turned}],
            scan_output_axes = [{-1 - axis if axis != 1 else 1}], scan_output_directions = [{1 - turned}],
            body = step (float[4, 4] a, float[4, 4] t) => (float[4, 4] b, float[4, 4] z) {{
            m = MatMul (a, t) b = Tanh (m) z = Add (b, t)
        }}> (s, x)
    }}"""
    compared(text)


@pytest.mark.parametrize("condition", ["", "yes"])
def test_the_reference_goes_through_a_loop_as_onnx_runtime_does(condition: str) -> None:
    text = f"""(float[4, 4] s) => (float[4, 4] f, float[K, 4, 4] y, int64[L] n)
        <int64 five = {{5}}, int64 three = {{3}}, bool yes = {{1}}> {{
        f, y, n = Loop (five, {condition}, s) <
            body = step (int64 i, bool c, float[4, 4] a) => (bool d, float[4, 4] b, float[4, 4] z, int64 j) {{
            d = Less (i, three) m = MatMul (a, a) b = Tanh (m) z = Sin (b) j = Identity (i)
        }}>
    }}"""
    assert compared(text)[2].tolist() == [0, 1, 2, 3]


def compared(text: str) -> list[np.ndarray]:
    """What the reference evaluator makes of it, which is what ONNX Runtime makes of it."""
    proto = model(text)
    random = np.random.default_rng(0)
    feeds = {
        v.name: random.standard_normal([d.dim_value for d in v.type.tensor_type.shape.dim]) for v in proto.graph.input
    }
    feeds = {name: value.astype(np.float32) for name, value in feeds.items()}
    found = onnx.reference.ReferenceEvaluator(proto, new_ops=[*operators.ALWAYS]).run(None, feeds)
    for ours, theirs in zip(found, run(proto, feeds), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    return found
