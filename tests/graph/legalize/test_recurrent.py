"""Recurrent layers beyond the table's cases: one parameter at a time, shared states, other opsets, refusals."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.differentiate import differentiate
from dsd_ort.graph.legalize import legalize
from dsd_ort.graph.legalize.rules import recurrent
from tests.graph.gradient import Exact, disagreement, loss_weights, model, random_inputs, step
from tests.graph.legalize.cases.recurrent import BOTH, FULL, functions, layer
from tests.graph.legalize.test_table import TOLERANCE

KINDS = ("LSTM", "GRU", "RNN")


@pytest.mark.parametrize("kind", KINDS)
def test_each_input_alone_has_the_gradient_that_it_has_among_all(kind: str) -> None:
    case = layer(kind, BOTH, FULL[kind])
    inputs = random_inputs(case.proto, case.given)
    weights = loss_weights({"y": Exact(case.proto)(inputs)["y"]})
    names = [name for name, value in inputs.items() if value.dtype == np.float32]

    def gradients(trained: list[str]) -> dict[str, np.ndarray]:
        legal = legalize(ir.from_proto(case.proto), trained, outputs=["y"]).model
        return step(legal, trained, inputs, weights).gradients

    together = gradients(names)
    for name in names:
        np.testing.assert_array_equal(gradients([name])[name], together[name])


@pytest.mark.parametrize("opset", [7, 22, 23])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_right_at_the_oldest_and_the_newest_opsets(kind: str, opset: int) -> None:
    case = layer(kind, BOTH, FULL[kind], opset=opset)
    assert_right(case.text, opset, case.given)


@pytest.mark.parametrize("inputs", ["with lengths", "without"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_right_in_the_form_for_large_weights(
    kind: str, inputs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recurrent, "LARGE", 0)
    attributes = f"{BOTH}, linear_before_reset = 1" if kind == "GRU" else BOTH
    case = layer(kind, attributes, FULL[kind] if inputs == "with lengths" else "x, W, R, B")
    assert_right(case.text, given=case.given)


def test_layers_may_share_all_that_they_read() -> None:
    node = "LSTM <hidden_size = 3> (x, W, R, B, , h, h)"
    text = "(float[T, N, 3] x, float[1, 12, 3] W, float[1, 12, 3] R, float[1, 24] B, float[1, N, 3] h) => (float[] y) "
    second = "u, v, w = LSTM <hidden_size = 3> (s, W, R, B, , h, h)"
    assert_right(f"{text} <int64[1] one = {{1}}> {{ a, b, c = {node} s = Squeeze (a, one) {second} y = Add (u, a) }}")


def assert_right(text: str, opset: int = 18, given: dict[str, np.ndarray] | None = None) -> None:
    proto = model(text, opset)
    inputs = random_inputs(proto, given)
    names = [name for name, value in inputs.items() if value.dtype == np.float32]
    exact = Exact(proto)
    y = exact(inputs)["y"]
    weights = loss_weights({"y": y})
    done = step(legalize(ir.from_proto(proto), names, outputs=["y"]).model, names, inputs, weights)
    assert np.abs(done.outputs["y"] - y).max() <= TOLERANCE * np.abs(y).max()
    assert max(disagreement(exact, inputs, weights, done.gradients).values()) <= TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_one_scan_each_way_however_long_the_sequences(kind: str) -> None:
    def operators(steps: int) -> list[str]:
        case = layer(kind, BOTH, steps=steps, fixed=True)
        legal = legalize(ir.from_proto(case.proto), ["x", "W", "R", "B"], outputs=["y"]).model
        total = ir.node("ReduceSum", [legal.graph.outputs[0]], {"keepdims": 0}, name="total")
        total.outputs[0].name = "L"
        legal.graph.append(total)
        legal.graph.outputs.append(total.outputs[0])
        return [node.op_type for node in differentiate(legal, ["x", "W", "R", "B"], loss="L").model.graph]

    short, long = operators(2), operators(50)
    assert short == long
    assert short.count("Scan") == 4 and kind not in short


@pytest.mark.parametrize(
    ("kind", "attributes", "inputs"),
    [
        ("LSTM", BOTH, "x, W, R, B, , h, c, P"),
        ("GRU", BOTH, "x, W, R, B, , h"),
        ("GRU", f"{BOTH}, linear_before_reset = 1", "x, W, R, B, , h"),
        ("RNN", "", "x, W, R, B, , h"),
    ],
)
def test_the_tests_own_layers_are_those_of_onnx_where_its_evaluator_has_them(
    kind: str, attributes: str, inputs: str
) -> None:
    case = layer(kind, attributes, inputs)
    given = random_inputs(case.proto, case.given)
    (theirs,) = ReferenceEvaluator(case.proto).run(["y"], given)
    np.testing.assert_allclose(Exact(case.proto)(given)["y"], theirs, rtol=0, atol=1e-6)


WITHOUT = "for its activation {}, where ONNX and ONNX Runtime do not take the same".format


@pytest.mark.parametrize(
    ("kind", "attributes", "what"),
    [
        ("LSTM", functions("Sigmoid", "Sine", "Tanh"), "has the activation 'Sine', which ONNX does not know"),
        ("GRU", functions("Sigmoid"), "has too few activations"),
        ("RNN", functions("tanh"), "has the activation 'tanh', which ONNX does not know"),
        ("GRU", functions("Sigmoid", "ThresholdedRelu"), f"has no alpha {WITHOUT('ThresholdedRelu')}"),
        ("LSTM", functions("Sigmoid", "Affine", "Tanh", alpha="0.5"), f"has no beta {WITHOUT('Affine')}"),
        ("RNN", functions("LeakyRelu"), f"has no alpha {WITHOUT('LeakyRelu')}"),
        ("RNN", f"{BOTH}, {functions('Tanh', 'Elu', alpha='0.5')}", f"has no alpha {WITHOUT('Elu')}"),
    ],
)
def test_what_a_layer_leaves_open_is_refused(kind: str, attributes: str, what: str) -> None:
    case = layer(kind, attributes)
    with pytest.raises(UnsupportedError) as refused:
        legalize(ir.from_proto(case.proto), ["W", "R", "B"], outputs=["y"])
    assert refused.value.what == f"the operator {kind} {what}"
    assert refused.value.where == f"{kind} 'a'" and refused.value.fix
