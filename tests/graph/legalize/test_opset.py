"""One opset for all rules, and one that ONNX Runtime runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.defs
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.legalize import legalize
from dsd_ort.graph.legalize.opset import to_opset, to_supported
from tests.graph.expression import expression
from tests.graph.gradient import Exact, disagreement, loss_weights, model, quiet, random_inputs, step
from tests.graph.legalize.cases.opset import NEW, OLD, New, Old

CNN = """(float[N, 3, 6, 6] x, float[4, 3, 3, 3] w, float[4] s, float[4] b, float[4] m, float[4] v, float[16, 5] f)
=> (float[N, 5] y) {
    c = Conv <kernel_shape = [3, 3]> (x, w)
    n = BatchNormalization <epsilon = 0.01> (c, s, b, m, v)
    r = Relu (n)
    p = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (r)
    q = Flatten (p)
    t = MatMul (q, f)
    y = Softmax <axis = 1> (t)
}"""
NODES = ["Conv", "BatchNormalization", "Relu", "AveragePool", "Flatten", "MatMul", "Softmax"]


def output(proto: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), quiet(), providers=["CPUExecutionProvider"])
    return session.run(["y"], inputs)[0]


@pytest.mark.parametrize("opset", range(7, 25))
def test_a_cnn_of_any_opset_keeps_its_nodes_names_and_output(opset: int) -> None:
    proto = model(CNN, opset)
    for i, node in enumerate(proto.graph.node):
        node.name = f"layer {i}"
    inputs = random_inputs(proto, {"v": [1, 2, 3, 4]})
    converted = to_opset(ir.from_proto(proto))
    assert [node.op_type for node in converted.graph] == NODES
    assert [node.name for node in converted.graph] == [f"layer {i}" for i in range(7)]
    assert (converted.opset_imports[""], converted.ir_version) == (18, 10)
    np.testing.assert_allclose(output(ir.to_proto(converted), inputs), Exact(model(CNN, 18))(inputs)["y"], atol=1e-6)


@pytest.mark.parametrize(("opset", "expected"), [(9, 18), (12, 18), (13, 13), (17, 17), (21, 21), (22, 21), (24, 21)])
def test_only_what_onnx_runtime_cannot_run_is_converted_for_evaluation(opset: int, expected: int) -> None:
    converted = to_supported(ir.from_proto(model(CNN, opset)))
    assert (converted.opset_imports[""], converted.ir_version) == (expected, 10)
    assert [node.op_type for node in converted.graph] == NODES


def test_attributes_become_inputs() -> None:
    proto = model(
        "(float[N, 6] x) => (float[N, 3] y) { a, b = Split <axis = 1> (x) c = Add (a, b) d = Clip <max = 1.0> (c) "
        "e = ReduceMax <axes = [1]> (d) y = Sub (d, e) }",
        opset=10,
    )
    (y,) = to_opset(ir.from_proto(proto)).graph.outputs
    d = expression(y).partition(", ReduceMax")[0].removeprefix("Sub(")
    assert d.startswith("Clip(Add(Split(x, axis=1, num_outputs=2), Split(x, axis=1, num_outputs=2).1), ")
    assert expression(y) == f"Sub({d}, ReduceMax({d}, [1]))"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("float[N, 5, 1, 1]", "Softmax(Relu(x), axis=1)"),
        ("float[N, 5, 2, 1]", "Reshape(Softmax(Flatten(Relu(x), axis=1), axis=-1), Shape(Relu(x)))"),
    ],
)
def test_an_old_softmax_stays_one_where_only_its_axis_is_longer_than_1(shape: str, expected: str) -> None:
    proto = model(f"({shape} x) => ({shape} y) {{ r = Relu (x) y = Softmax (r) }}", opset=9)
    (y,) = to_opset(ir.from_proto(proto)).graph.outputs
    assert expression(y) == expected


def test_functions_are_inlined() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[N, 3] x, float[3] w) => (float[N, 3] y) { h = local.twice (x) y = Mul (h, w) }
        <domain: "local", opset_import: ["" : 17]> twice (a) => (b) { b = Add (a, a) }"""
    )
    converted = to_opset(ir.from_proto(proto))
    assert expression(converted.graph.outputs[0]) == "Mul(Add(x, x), w)"
    assert not converted.functions


@pytest.mark.parametrize("case", NEW, ids=str)
def test_operators_of_newer_opsets_compute_the_same_and_have_the_right_gradient(case: New) -> None:
    proto = model(case.text, case.opset)
    proto.ir_version = 13
    inputs = random_inputs(proto, case.given)
    exact = Exact(proto)
    y = exact(inputs)["y"]
    supported = to_supported(ir.from_proto(proto))
    assert (supported.opset_imports[""], supported.ir_version) == (21, 10)
    np.testing.assert_allclose(output(ir.to_proto(supported), inputs), y, atol=1e-6)
    check_gradient(proto, inputs, exact, y)


@pytest.mark.parametrize("case", OLD, ids=str)
def test_operators_of_older_opsets_compute_the_same_and_have_the_right_gradient(case: Old) -> None:
    for opset in case.opsets:
        if opset not in (7, 9, 11, 12, 17):
            continue
        proto = model(case.text, opset)
        inputs = random_inputs(proto, case.given)
        before = output(proto, inputs)
        for convert in (to_supported, to_opset):
            after = output(ir.to_proto(convert(ir.from_proto(proto))), inputs)
            np.testing.assert_allclose(after, before, atol=1e-6, err_msg=f"opset {opset}")
    if case.smooth:
        proto = model(case.text, case.opsets[0])
        inputs = random_inputs(proto, case.given)
        raised = Exact(ir.to_proto(to_opset(ir.from_proto(proto))))
        check_gradient(proto, inputs, raised, output(proto, inputs))


def check_gradient(proto: onnx.ModelProto, inputs: dict[str, np.ndarray], exact: Exact, y: np.ndarray) -> None:
    floats = {name for name, value in inputs.items() if value.dtype == np.float32}
    trainable = sorted(floats - ({"m", "v"} if "BatchNormalization" in str(proto) else set()))
    weights = loss_weights({"y": y})
    legal = legalize(ir.from_proto(proto), trainable, outputs=["y"], batch_norm="frozen")
    done = step(legal.model, trainable, inputs, weights)
    np.testing.assert_allclose(done.outputs["y"], y, atol=2e-6)
    assert max(disagreement(exact, inputs, weights, done.gradients).values()) <= 2e-6


@pytest.mark.parametrize("opset", [1, 6])
@pytest.mark.parametrize(
    ("node", "shape", "expected"),
    [
        ("Add <broadcast = 1, axis = 1> (x, z)", (3,), lambda x, z: x + z[:, None]),
        ("Div <broadcast = 1, axis = 0> (x, z)", (2,), lambda x, z: x / z[:, None, None]),
        ("Mul <broadcast = 1, axis = -1> (x, z)", (4,), lambda x, z: x * z),
        ("Sub <broadcast = 1> (x, z)", (3, 4), lambda x, z: x - z),
        ("Dropout <is_test = 1> (x)", (1,), lambda x, z: x),
    ],
)
def test_before_opset_7_axis_said_what_is_broadcast(
    opset: int, node: str, shape: tuple[int, ...], expected: Any
) -> None:
    proto = model(f"(float[N, 3, 4] x, float[{str(shape)[1:-1].rstrip(',')}] z) => (float[] y) {{ y = {node} }}", opset)
    inputs = random_inputs(proto)
    for convert in (to_opset, to_supported):
        y = output(ir.to_proto(convert(ir.from_proto(proto))), inputs)
        np.testing.assert_allclose(y, expected(inputs["x"], inputs["z"]), rtol=1e-6)


def test_operators_that_only_onnx_runtime_knows_pass_through_the_conversion() -> None:
    body = (
        "h = SimplifiedLayerNormalization (x, s) "
        'k = com.microsoft.FusedGemm <activation = "Relu"> (h, w) y = Dropout <ratio = 0.5> (k)'
    )
    proto = model(f"(float[N, 4] x, float[4] s, float[4, 5] w) => (float[] y) {{ {body} }}", 11)
    for convert, opset in ((to_opset, 18), (to_supported, 18)):
        converted = convert(ir.from_proto(proto))
        assert converted.opset_imports == {"": opset, "com.microsoft": 1}
        kept = [(node.domain, node.op_type) for node in converted.graph if node.op_type not in ("Constant", "Dropout")]
        assert kept == [("", "SimplifiedLayerNormalization"), ("com.microsoft", "FusedGemm")]
        arrays = random_inputs(proto)
        np.testing.assert_allclose(output(ir.to_proto(converted), arrays), output(proto, arrays), rtol=1e-6)


def test_an_opset_that_onnx_does_not_know_is_refused() -> None:
    with pytest.raises(UnsupportedError) as refused:
        to_opset(ir.from_proto(model("(float[N] x) => (float[N] y) { y = Relu (x) }", 99)))
    known = f"the installed onnx {onnx.__version__} knows none behind {onnx.defs.onnx_opset_version()}"
    assert refused.value.what == f"the model has opset 99, and {known}"
    assert refused.value.fix == "install a newer onnx, or export the model with opset 21"


def test_an_output_of_attention_that_has_no_form_is_refused() -> None:
    inputs = "float[N, 2, T, 4] q, float[N, 2, T, 4] k, float[N, 2, T, 4] v"
    proto = model(f"({inputs}) => (float[] y, float[] s) {{ [a] y, d, e, s = Attention (q, k, v) }}", 23)
    with pytest.raises(UnsupportedError, match="the operator Attention has its output 's' in use") as refused:
        to_opset(ir.from_proto(proto))
    assert refused.value.where == "Attention 'a'"


def test_new_attributes_with_their_default_value_are_dropped() -> None:
    proto = model('(float[N] x) => (double[N] y) { y = Cast <to = 11, round_mode = "up", saturate = 1> (x) }', 24)
    (y,) = to_opset(ir.from_proto(proto)).graph.outputs
    assert expression(y) == "Cast(x, to=11)"


def test_grid_sample_is_called_by_its_older_modes() -> None:
    text = (
        '(float[N, 1, 4, 4] x, float[N, 2, 2, 2] g) => (float[N, 1, 2, 2] y) {{ y = GridSample <mode = "{}"> (x, g) }}'
    )
    for new, old in (("linear", "bilinear"), ("cubic", "bicubic"), ("nearest", "nearest")):
        (y,) = to_opset(ir.from_proto(model(text.format(new), 20))).graph.outputs
        assert expression(y) == f"GridSample(x, g, mode={old})"


@pytest.mark.parametrize(
    ("body", "opset", "what"),
    [
        ('y = Cast <to = 1, round_mode = "down"> (x)', 24, "round_mode = down of Cast in opset 24 cannot be expressed"),
        (
            "h = StringConcat (x, x) y = Cast <to = 1> (h)",
            20,
            "StringConcat of opset 20 cannot be expressed in opset 18",
        ),
        ("y = TensorScatter (x, x)", 24, "TensorScatter of opset 24 cannot be expressed in opset 18"),
        ("d = BitCast <to = 6> (x) y = Cast <to = 1> (d)", 26, "BitCast of opset 26 cannot be expressed in opset 18"),
        ("y = DeformConv (x, x, x)", 19, "DeformConv is one that ONNX Runtime 1.19 cannot run on the CPU"),
    ],
)
def test_what_opset_18_cannot_express_is_refused_by_name(body: str, opset: int, what: str) -> None:
    proto = model(f"(float[N, 4] x) => (float[] y) <float[2] s = {{1, 2}}> {{ [here] {body} }}", opset)
    with pytest.raises(UnsupportedError, match=what) as refused:
        to_opset(ir.from_proto(proto))
    assert "'here'" in str(refused.value.where)


def test_a_failing_conversion_is_told_without_places_in_cpp() -> None:
    body = "y, a, c, d, e = BatchNormalization (x, s, s, s, s)"
    proto = model(f"(float[N, 3] x, float[3] s) => (float[N, 3] y) {{ {body} }}", 9)
    with pytest.raises(UnsupportedError) as refused:
        to_opset(ir.from_proto(proto))
    assert str(refused.value) == (
        "the model cannot be converted from opset 9 to 18: "
        "BatchNormalization outputs 4 and 5 are not supported in Opset 14.\n"
        "  fix:   export the model with opset 18"
    )
