"""What a quantised file stands for, against ONNX Runtime's own quantisation of a float model."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_ir as ir
import onnxruntime as ort
import pytest

import dsd_ort
from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.dequantize import dequantized
from dsd_ort.rewrite.nodes import constant_value
from tests import cases
from tests.quantised import FORMS, NETWORKS, inputs, quantised


def run(model: Path, x: cases.Array) -> cases.Array:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    (found,) = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    return np.asarray(found)


def tensors(model: Path) -> dict[str, cases.Array]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(model).graph.initializer}


def rounded(model: Path, weights: dict[str, cases.Array], path: Path) -> Path:
    """The float *model* with other weights."""
    proto = onnx.load(model)
    for tensor in proto.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights[tensor.name], tensor.name))
    onnx.save(proto, path)
    return path


def by_hand(made: dict[str, cases.Array], name: str, like: cases.Array) -> cases.Array:
    """Scale · (q - zero), of a weight that the tools call *name*: a number, or one a column, or one a kernel."""
    q, scale, zero = (made[f"{name}_{part}"] for part in ("quantized", "scale", "zero_point"))
    shape = [] if scale.size == 1 else [-1] if scale.size == like.shape[-1] else [-1, *[1] * (like.ndim - 1)]
    return np.float32((q.astype(np.float64) - zero.reshape(shape)) * scale.reshape(shape))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("weights", ["int8", "uint8"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("network", NETWORKS)
def test_outputs_are_those_of_the_float_model_with_rounded_weights(
    tmp_path: Path, network: str, form: str, weights: str, per_channel: bool
) -> None:
    model, made = quantised(tmp_path, network, form, weights, per_channel=per_channel)
    found = dsd_ort.dequantize(made, tmp_path / "again.onnx")
    onnx.checker.check_model(found.file, full_check=True)
    new, old, x = tensors(found.file), tensors(model), inputs(network)
    turned = network == "convolutions" and form == "dynamic"  # the tool makes a MatMul of a Gemm
    if turned:
        new["W"] = new["W" if "W" in new else "W_Transposed"].T
    same = {name: new[name] for name in old if name in new and new[name].shape == old[name].shape}
    assert set(same) >= {name for name in old if name.isupper()}
    expected = run(rounded(model, same, tmp_path / "rounded.onnx"), x)
    got, size = run(found.file, x), np.abs(expected).max()
    # Static ranges are those of the float model: what rounded weights move beyond them is cut, by a step or two.
    np.testing.assert_allclose(got, expected, atol=1e-5 * size if form == "dynamic" else 0.02 * size)
    if not (form == "dynamic" and weights == "int8" and "K" in old):  # ONNX Runtime has no kernel of that
        assert np.abs(got - run(made, x)).max() < 0.06 * size
    for name in set(same) - {"W"} if turned else same:
        if name.isupper():
            np.testing.assert_allclose(same[name], by_hand(tensors(made), name, same[name]), rtol=1e-6)
    assert not any(node.op_type.startswith(("Q", "Dequ")) for node in onnx.load(found.file).graph.node)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("network", ["convolutions", "layers", "a table"])
def test_it_trains_and_check_proves_it(tmp_path: Path, network: str, form: str) -> None:
    _, made = quantised(tmp_path, network, form, "int8")
    if form != "QDQ" or network == "a table":
        assert not dsd_ort.inspect(made).trainable
    found = dsd_ort.dequantize(made, tmp_path / "float.onnx")
    report = dsd_ort.check(found.file, isolate=False, seconds=20)
    assert report.ok and report.count("wrong") == 0
    assert {name for row in report.rows for name in row.tensors} >= set(found.weights) - {"b", "k", "l"}


@pytest.mark.parametrize("form", ["QOperator", "QDQ"])
def test_a_relu_that_was_left_out_as_its_range_says_it_is_there_again(tmp_path: Path, form: str) -> None:
    _, made = quantised(tmp_path, "convolutions", form, "int8")
    assert "Relu" not in {node.op_type for node in onnx.load(made).graph.node}
    graph = dequantized(made).model.graph
    conv = next(node for node in graph if node.op_type == "Conv")
    (clip,) = (use.node for use in conv.outputs[0].uses())
    assert clip.op_type == "Clip"
    assert constant_value(clip.inputs[1]) == 0.0


CONSTANTS = {
    "s": np.float32(0.02),
    "t": np.float32(0.05),
    "u": np.float32(1 / 256),
    "z": np.uint8(100),
    "o": np.uint8(0),
    "q": np.array([[1, 2, 3], [40, 50, 60], [70, 80, 90], [200, 250, 255]], np.uint8),
    "w": np.array([[1, 20, 3, 90], [40, 150, 60, 1], [70, 80, 190, 2]], np.uint8),
    "b": cases.drawn(4),
    "i": np.array([100, -500, 900, 0], np.int32),
    "c": np.array([[True], [False], [True], [False]]),
    "d": np.array([1, 1, 4, 3]),
}
OPERATORS = {
    "QLinearAdd": ("y = com.microsoft.QLinearAdd (q, s, z, v, t, z, t, z)", 1, 9),
    "QLinearMul": ("y = com.microsoft.QLinearMul (q, s, z, v, t, z, t, z)", 3, 6),
    "QLinearSigmoid": ("y = com.microsoft.QLinearSigmoid (v, t, z, u, o)", 2, 9),
    "QLinearLeakyRelu": ("y = com.microsoft.QLinearLeakyRelu <alpha = 0.2> (v, t, z, t, z)", 1, 8),
    "QLinearSoftmax": ("y = com.microsoft.QLinearSoftmax <axis = -1, opset = 13> (v, t, z, u, o)", 3, 8),
    "QLinearConcat": ("y = com.microsoft.QLinearConcat <axis = 0> (t, z, q, s, z, v, t, z)", 1, 12),
    "QLinearWhere": ("y = com.microsoft.QLinearWhere (c, q, s, z, v, t, z, t, z)", 1, 9),
    "QLinearAveragePool": (
        "r = Reshape (v, d) p = com.microsoft.QLinearAveragePool <kernel_shape = [2, 2]> (r, t, z, t, z) "
        "a = Constant <value_ints = [3, 2]> () y = Reshape (p, a)",
        1,
        3,
    ),
    "QLinearGlobalAveragePool": (
        "r = Reshape (v, d) p = com.microsoft.QLinearGlobalAveragePool (r, t, z, t, z) "
        "a = Constant <value_ints = [1, 1]> () y = Reshape (p, a)",
        1,
        1,
    ),
    "QGemm": ("y = com.microsoft.QGemm <alpha = 0.5, transB = 1> (v, t, z, q, s, z, i, t, z)", 3, 4),
    "DynamicQuantizeMatMul": ("y = com.microsoft.DynamicQuantizeMatMul (x, w, s, z, b)", 0, 0),
    "MatMulIntegerToFloat": ("y = com.microsoft.MatMulIntegerToFloat (v, w, t, s, z, z, b)", 0, 0),
}
"""Operator → a graph of it, how many steps its output may be off (0: it is of floats), and how many numbers it has."""


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_is_the_float_one_up_to_its_steps(tmp_path: Path, operator: str) -> None:
    body, steps, levels = OPERATORS[operator]
    into = "" if operator == "DynamicQuantizeMatMul" else "v = QuantizeLinear (x, t, z) "
    text = f"(float[4, 3] x) => ({'uint8' if steps else 'float'}[a, b] y) {{ {into}{body} }}"
    words = re.findall(r"\w+", into + body)
    used = {name: np.array(value) for name, value in CONSTANTS.items() if name in words}
    model = cases.write(tmp_path / "m.onnx", text, used, domains=', "com.microsoft" : 1')
    found = dequantized(model)
    ir.save(found.model, tmp_path / "f.onnx")
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    want, got = (run(path, x).astype(np.float64) for path in (model, tmp_path / "f.onnx"))
    if steps:  # both end in quantised numbers
        assert np.abs(got - want).max() <= steps
        assert len(np.unique(want)) >= levels
    else:
        np.testing.assert_allclose(got, want, atol=0.05 * np.abs(want).max())
    assert operator in {old for old, _ in found.became}
    assert operator not in {node.op_type for node in onnx.load(tmp_path / "f.onnx").graph.node}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{ y = Relu (x) }", "the model has no quantised operators"),
        (
            "{ a, k, l = DynamicQuantizeLinear (x) r = MatMulInteger (a, w, l) c = Cast <to = 1> (r) y = Mul (c, k) }",
            "MatMulInteger is not followed by a Cast and a Mul by the scales of both factors",
        ),
        (
            "{ v = QuantizeLinear (x, s, z) y = DequantizeLinear (v, t, z) }",
            "DequantizeLinear reads 'v' by another scale or zero point than it was made with",
        ),
    ],
)
def test_what_nothing_can_be_made_of_is_refused_by_name(tmp_path: Path, text: str, what: str) -> None:
    weights = {"w": np.ones((3, 4), np.uint8), "s": np.array(np.float32(0.1)), "t": np.array(np.float32(0.2))}
    weights |= {"z": np.array(np.uint8(3))}
    model = cases.write(tmp_path / "m.onnx", f"(float[4, 3] x) => (float[4, a] y) {text}", weights)
    with pytest.raises(UnsupportedError, match=what) as caught:
        dsd_ort.dequantize(model, tmp_path / "f.onnx")
    assert caught.value.fix and not (tmp_path / "f.onnx").exists()
