"""The walk back: what it passes, what it sums, what it leaves, and what it is called."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dsd_ort.device.mixed import LOSS_SCALE, scale_loss
from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.differentiate import StepGraph, differentiate, seed
from dsd_ort.rewrite import autograd
from tests.graph.gradient import model
from tests.session import opened


def step(text: str, *trainable: str, opset: int = 18) -> StepGraph:
    return differentiate(ir.from_proto(model(text, opset)), trainable, loss="L")


def operators(made: StepGraph) -> list[str]:
    return [node.op_type for node in made.model.graph]


def run(made: StepGraph, **inputs: object) -> dict[str, np.ndarray]:
    """The gradients by their parameters."""
    proto = ir.to_proto(made.model)
    onnx.checker.check_model(proto)
    session = opened(made.model)
    types = {value.name: onnx.helper.tensor_dtype_to_np_dtype(v.elem_type) for value, v in types_of(proto)}
    feeds = {value.name: np.asarray(inputs[value.name], types[value.name]) for value in session.get_inputs()}
    return dict(zip(made.gradients, session.run(list(made.gradients.values()), feeds), strict=True))


def types_of(proto: onnx.ModelProto) -> list[tuple[onnx.ValueInfoProto, onnx.TypeProto.Tensor]]:
    return [(value, value.type.tensor_type) for value in proto.graph.input]


TWO_LAYERS = """(float[N, 3] x, float[3, 4] w1, float[4] b1, float[4, 2] w2) => (float L, float[N, 4] h)
  { p = MatMul (x, w1) a = Add (p, b1) h = Relu (a) y = MatMul (h, w2) L = ReduceSum <keepdims = 0> (y) }"""


def test_the_outputs_are_the_old_ones_and_a_gradient_each_in_the_order_asked_for() -> None:
    made = step(TWO_LAYERS, "w2", "b1", "w1")
    assert [value.name for value in made.model.graph.outputs] == ["L", "h", "w2_grad", "b1_grad", "w1_grad"]
    assert made.gradients == {"w2": "w2_grad", "b1": "b1_grad", "w1": "w1_grad"}
    shapes = {str(value.name): str(value.shape) for value in made.model.graph.outputs}
    assert shapes["w1_grad"] == "[3,4]" and shapes["b1_grad"] == "[4]"


def test_the_model_stays_as_it_is_and_the_answer_is_always_the_same() -> None:
    forward = ir.from_proto(model(TWO_LAYERS))
    before = ir.to_proto(forward).SerializeToString(deterministic=True)
    once, again = (ir.to_proto(differentiate(forward, ["w1", "w2"], loss="L").model) for _ in range(2))
    assert ir.to_proto(forward).SerializeToString(deterministic=True) == before
    assert once.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)


def test_only_what_a_parameter_needs_is_computed() -> None:
    forward = ["MatMul", "Add", "Relu", "MatMul", "ReduceSum"]
    assert operators(step(TWO_LAYERS, "w2")) == [*forward, "Shape", "Expand", "Gemm"]
    assert operators(step(TWO_LAYERS, "b1")) == [*forward, "Shape", "Expand", "Gemm", "ReluGrad", "ReduceSum"]
    graph = step(TWO_LAYERS, "w1", "b1", "w2").model.graph
    assert all(output.uses() or output.is_graph_output() for node in graph for output in node.outputs)
    assert all(value.uses() for value in graph.initializers.values())


def test_a_convolution_computes_no_gradient_of_an_image() -> None:
    text = """(float[N, 3, 5, 5] x, float[4, 3, 3, 3] w, float[4] b) => (float L)
      { y = Conv (x, w, b) L = ReduceSum <keepdims = 0> (y) }"""
    (conv,) = (node for node in step(text, "w").model.graph if node.op_type == "ConvGrad")
    assert [output.name for output in conv.outputs] == ["", "w_grad", ""]


def test_gradients_of_a_value_that_several_nodes_read_are_summed_at_once() -> None:
    text = """(float[3] w) => (float L)
      { a = Exp (w) b = Sin (a) c = Mul (a, b) d = Add (a, c) L = ReduceSum <keepdims = 0> (d) }"""
    made = step(text, "w")
    assert operators(made).count("Sum") == 1
    w = np.array([0.1, -0.5, 1.0])
    a = np.exp(w)
    expected = a * (1 + np.sin(a) + a * np.cos(a))
    np.testing.assert_allclose(run(made, w=w)["w"], expected, rtol=1e-6)


def test_a_parameter_that_a_node_reads_twice_gets_both_gradients() -> None:
    made = step("(float[3] w) => (float L) { y = Mul (w, w) L = ReduceSum <keepdims = 0> (y) }", "w")
    np.testing.assert_array_equal(run(made, w=[1, 2, 3])["w"], [2, 4, 6])


def test_a_parameter_that_no_gradient_reaches_gets_zeros_of_its_shape() -> None:
    text = """(float[3] w, float[N, 2] u, float[2] v) => (float L)
      { h = Floor (w) y = Add (h, w) z = Shape (u) L = ReduceSum <keepdims = 0> (y) }"""
    found = run(step(text, "w", "u", "v"), w=[1, 2, 3], u=np.ones((4, 2)), v=[1, 1])
    assert {name: gradient.shape for name, gradient in found.items()} == {"w": (3,), "u": (4, 2), "v": (2,)}
    assert not found["u"].any() and not found["v"].any()
    np.testing.assert_array_equal(found["w"], 1)


def test_a_gradient_that_several_parameters_have_is_an_output_for_each() -> None:
    made = step("(float v, float w) => (float L) { L = Add (v, w) }", "v", "w")
    assert [value.name for value in made.model.graph.outputs] == ["L", "v_grad", "w_grad"]
    found = run(made, v=1, w=2)
    assert found["v"] == found["w"] == 1 and found["v"].shape == ()


def test_the_loss_itself_may_be_the_parameter() -> None:
    made = step("(float w) => (float L) { L = Identity (w) }", "w")
    assert run(made, w=3)["w"] == 1


def test_numbers_have_gradients_without_axes() -> None:
    text = """(float[N, 3] x, float s) => (float L)
      { y = Mul (x, s) z = Div (y, s) a = Mul (z, y) L = ReduceSum <keepdims = 0> (a) }"""
    found = run(step(text, "s"), x=[[1, 2, 3]], s=2)
    assert found["s"].shape == () and found["s"] == 14


@pytest.mark.parametrize("taken", ["w_grad", "L_grad", "y/grad/Mul", "grad/constant"])
def test_names_are_free_whatever_the_model_calls_its_own(taken: str) -> None:
    text = """(float[3] w, float[3] x) => (float L)
      { [y] y = Mul (w, x) [n] z = Exp (y) [m] t = Mul (z, x) L = ReduceSum <keepdims = 0> (t) }"""
    x = np.array([0.1, 0.2, 0.3])
    expected = x * x * np.exp(x * x)
    for name in ("x", "z", "y"):
        forward = ir.from_proto(model(text))
        value = next(
            v for v in (*forward.graph.inputs, *(o for n in forward.graph for o in n.outputs)) if v.name == name
        )
        value.name = taken
        made = differentiate(forward, ["w"], loss="L")
        names = [v.name for node in made.model.graph for v in node.outputs]
        names += [v.name for v in (*made.model.graph.inputs, *made.model.graph.initializers.values())]
        assert len(set(names)) == len(names)
        assert seed(made.model.graph, "L").uses()
        np.testing.assert_allclose(run(made, w=x, **{taken if name == "x" else "x": x})["w"], expected, rtol=1e-6)


def test_an_operator_without_a_rule_is_refused_by_name_with_all_others() -> None:
    text = """(float[3, 3] w, float[3] u) => (float L)
      { [d] d = Det (w) [c] c = CumSum (u, a) s = ReduceSum <keepdims = 0> (c) L = Mul (d, s) }"""
    text = text.replace("=> (float L)", "=> (float L) <int64 a = {0}>")
    with pytest.raises(UnsupportedError, match="the operator Det has no gradient") as caught:
        step(text, "w", "u")
    assert [cause.where for cause in caught.value.causes] == ["Det 'd'", "CumSum 'c'"]
    assert operators(step(text.replace("Mul (d, s)", "Identity (s)").replace("CumSum (u, a)", "Exp (u)"), "u"))


@pytest.mark.parametrize(
    ("node", "why"),
    [
        ('y = Conv <auto_pad = "SAME_UPPER"> (x, w)', "Conv has no gradient with auto_pad = SAME_UPPER"),
        ('y = Pad <mode = "edge"> (x, p)', "the operator Pad has no gradient in the mode 'edge'"),
        (
            'y = ScatterND <reduction = "mul"> (x, i, u)',
            "ScatterND has no gradient with the reduction 'mul'",
        ),
        ("y = Clip (x, s)", "the operator Clip has no gradient with respect to its input 1"),
        (
            "z, y = LayerNormalization (x, g)",
            "LayerNormalization has a gradient for its first output only",
        ),
    ],
)
def test_a_form_that_no_rule_is_for_is_refused_by_name(node: str, why: str) -> None:
    text = f"""(float[N, 2, 4, 4] x, float[2, 2, 3, 3] w, int64[1, 1] i, float[1, 2, 4, 4] u, float s, float[4] g)
      => (float L) <int64[8] p = {{0, 0, 1, 1, 0, 0, 1, 1}}> {{ {node} L = ReduceSum <keepdims = 0> (y) }}"""
    with pytest.raises(UnsupportedError, match=why):
        step(text, "x", "s")


def test_the_seed_is_an_initializer_that_mixed_precision_scales() -> None:
    made = step(TWO_LAYERS, "w1", "w2")
    assert seed(made.model.graph, "L").const_value.numpy() == 1
    inputs = {"x": [[1, -2, 3]], "w1": np.eye(3, 4), "b1": np.zeros(4), "w2": np.ones((4, 2))}
    plain = run(made, **inputs)
    scale_loss(made.model, "L")
    scaled = run(made, **inputs, **{LOSS_SCALE: 8})
    for name, gradient in plain.items():
        np.testing.assert_array_equal(scaled[name], 8 * gradient)


def test_a_graph_in_double_precision_has_gradients_in_double_precision() -> None:
    text = TWO_LAYERS.replace("float", "double").replace("h = Relu (a)", "e = Exp (a) h = Sqrt (e)")
    x, w1, b1, w2 = np.full((1, 3), 0.1), np.eye(3, 4), np.zeros(4), np.ones((4, 2))
    found = run(step(text, "b1"), x=x, w1=w1, b1=b1, w2=w2)["b1"]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.exp((x @ w1)[0] / 2), rtol=1e-14)


OPERATOR = autograd.operator(
    "Two",
    forward="(x) => (p, q) { p = Exp (x) q = Sin (x) }",
    backward="(dp, dq, x, p) => (dx) { a = Mul (dp, p) c = Cos (x) b = Mul (dq, c) dx = Add (a, b) }",
)


@pytest.mark.parametrize(("read", "slope"), [("p", np.exp), ("q", np.cos)])
def test_where_no_gradient_arrives_a_backward_function_of_its_own_reads_zeros(read: str, slope: np.ufunc) -> None:
    text = f"(float[3] w) => (float L) {{ p, q = dsd_ort.{OPERATOR.name} (w) L = ReduceSum <keepdims = 0> ({read}) }}"
    forward = ir.from_proto(model(text))
    autograd.add(forward, {"": OPERATOR})
    made = differentiate(forward, ["w"], loss="L")
    assert not made.model.functions and not any(node.domain == autograd.DOMAIN for node in made.model.graph)
    w = np.array([0.1, 0.2, 0.3])
    np.testing.assert_allclose(run(made, w=w)["w"], slope(w), rtol=1e-6)


@pytest.mark.timeout(60)
def test_ten_thousand_nodes_take_seconds() -> None:
    """Nothing in it is quadratic: that would take an hour."""
    w = ir.Value(name="w", shape=ir.Shape([4]), type=ir.TensorType(ir.DataType.FLOAT))
    nodes, y = [], w
    for i in range(10_000):
        nodes.append(ir.node(("Sin", "Mul")[i % 2], [y, w][: 1 + i % 2]))
        (y,) = nodes[-1].outputs
        y.name, y.shape, y.type = f"v{i}", w.shape, w.type
    nodes.append(ir.node("ReduceSum", [y], {"keepdims": 0}))
    (loss,) = nodes[-1].outputs
    loss.name, loss.shape, loss.type = "L", ir.Shape([]), w.type
    graph = ir.Graph([w], [loss], nodes=nodes, opset_imports={"": 18}, name="deep")
    made = differentiate(ir.Model(graph, ir_version=10), ["w"], loss="L")
    counts = {kind: operators(made).count(kind) for kind in ("Sin", "Cos", "Mul", "Sum")}
    assert counts == {"Sin": 5_000, "Cos": 5_000, "Mul": 5_000 + 5_000 + 2 * 5_000, "Sum": 1}


def test_it_needs_neither_onnx_runtime_nor_a_session() -> None:
    script = f"""
import sys
sys.modules["onnxruntime"] = None
import onnx.parser, onnx_ir as ir
from dsd_ort.graph.differentiate import differentiate
model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 18]> g {" ".join(TWO_LAYERS.split())}')
print(differentiate(ir.from_proto(model), ["w1"], loss="L").gradients)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert answer.stdout == "{'w1': 'w1_grad'}\n", answer.stderr
