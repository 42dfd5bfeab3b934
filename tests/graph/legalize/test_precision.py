"""Graphs of float16, bfloat16 and double that compute in float32, against ONNX Runtime and their float32 twins."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest

from dsd_ort.graph.legalize.opset import to_opset
from dsd_ort.graph.legalize.precision import OTHERS, other_types, round_inputs, to_float32
from dsd_ort.notes import Note
from dsd_ort.rewrite.operators import Does, those_that
from tests.models import retyped

TWIN = """
<ir_version: 9, opset_import: ["" : 18]>
main (float[2, 3] x, bool c, int64[2] ids) => (float[2, 3] y, float[2, 3] probabilities)
<TYPE[3] scale = {0.5, -1.25, 2}, TYPE[4, 3] table = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> {
    a = Cast <to = CODE> (x)
    shift = Constant <value = TYPE[3] {0.25, 0.5, -4}> ()
    b = Mul (a, scale)
    d = If (c) <
        then_branch = yes () => (TYPE[2, 3] f) <TYPE[1] two = {2}> { e = Mul (b, two) f = Add (e, shift) },
        else_branch = no () => (TYPE[2, 3] g) { h = Constant <value = TYPE[1] {-7}> () g = Mul (b, h) }
    >
    shape = Shape (x)
    ones = ConstantOfShape <value = TYPE[1] {1.5}> (shape)
    i = Add (d, ones)
    row = Gather (table, ids)
    j = Sub (i, row)
    k = CastLike (ids, j)
    axes = Constant <value = int64[1] {1}> ()
    l = Unsqueeze (k, axes)
    m = Add (j, l)
    n = Softmax (m)
    probabilities = Cast <to = 1> (n)
    y = Cast <to = 1> (m)
}
"""
NAMES = {10: "float16", 16: "bfloat16", 11: "double", 1: "float"}


def parsed(text: str, code: int = 1) -> onnx.ModelProto:
    """ONNX text has no numbers of float16: they are doubles first."""
    model: onnx.ModelProto = onnx.parser.parse_model(text.replace("TYPE", "double").replace("CODE", str(code)))
    return retyped(model, NAMES[code], "double") if "TYPE" in text else model


def converted(proto: onnx.ModelProto) -> tuple[ir.Model, str | None]:
    model = to_opset(ir.from_proto(proto))
    note = to_float32(model)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    return model, note


def run(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    outputs: list[np.ndarray] = ort.InferenceSession(proto.SerializeToString(), options).run(None, feeds)
    return outputs


def types(model: ir.Model) -> set[ir.DataType]:
    return {value.dtype for node in model.graph.all_nodes() for value in node.outputs if value.dtype is not None}


@pytest.mark.parametrize("code", [10, 11, 16])
@pytest.mark.parametrize("condition", [True, False])
def test_a_converted_graph_computes_what_its_float32_twin_computes_to_the_bit(code, condition):
    model, note = converted(parsed(TWIN, code))
    assert note == Note(kind="training", words=f"{NAMES[code]}: computed in float32 for training")
    casts = [node.inputs[0] for node in model.graph.all_nodes() if node.op_type == "Cast"]
    assert {value.name for value in casts} == ({"ones", "row"} if code != 16 else set()), "what depends on no data"
    rng = np.random.default_rng(0)
    feeds = {"x": rng.standard_normal((2, 3)).astype(np.float32), "c": np.array(condition), "ids": np.array([3, 1])}
    for have, want in zip(run(ir.to_proto(model), feeds), run(parsed(TWIN), feeds), strict=True):
        np.testing.assert_array_equal(have, want)


def test_a_float32_graph_stays_as_it_is():
    model = to_opset(ir.from_proto(parsed(TWIN)))
    before = ir.to_proto(model).SerializeToString()
    assert to_float32(model) is None
    assert ir.to_proto(model).SerializeToString() == before


def test_what_is_right_in_double_stays_right():
    text = """<ir_version: 9, opset_import: ["" : 18]>
        main (double[N, 8] x) => (double[N, 8] y) <double[8] w = {0.1, 0.2, 0.3, 0.7, 1.1, 1.3, 1.7, 1.9}> {
            a = Mul (x, w) b = Tanh (a) c = ReduceMean <keepdims = 1> (b) y = Sub (b, c)
        }"""
    proto = parsed(text)
    model, _ = converted(proto)
    assert types(model) == {ir.DataType.FLOAT}
    assert model.graph.inputs[0].dtype == ir.DataType.DOUBLE, "data comes as the file says"
    x = np.random.default_rng(0).standard_normal((5, 8))
    (have,), (want,) = run(ir.to_proto(model), {"x": x}), run(proto, {"x": x})
    assert have.dtype == np.float32
    np.testing.assert_allclose(have, want, atol=3e-7)


POSITIONS = """<ir_version: 9, opset_import: ["" : 18]>
    main (float[N, 4] x, int64 at) => (float[N, 4] y) <double[4] w = {1, 0.1, 0.01, 0.001}> {
        a = Cast <to = 11> (at) b = Mul (a, w) c = Sin (b) d = Cast <to = 1> (c) y = Mul (x, d)
    }"""


def test_positions_in_double_stay_in_double():
    model, note = converted(parsed(POSITIONS))
    assert note is None
    assert ir.DataType.DOUBLE in types(model)
    feeds = {"x": np.ones((1, 4), np.float32), "at": np.array(123456789)}
    want = np.sin(123456789 * np.array([[1, 0.1, 0.01, 0.001]])).astype(np.float32)
    np.testing.assert_array_equal(run(ir.to_proto(model), feeds)[0], want)


def test_where_they_meet_the_rest_they_become_float32():
    model, note = converted(parsed(POSITIONS.replace("float[N, 4]", "double[N, 4]").replace("<to = 1>", "<to = 11>")))
    assert note == Note(kind="training", words="double: computed in float32 for training")
    feeds = {"x": np.ones((1, 4)), "at": np.array(123456789)}
    want = np.sin(123456789 * np.array([[1, 0.1, 0.01, 0.001]])).astype(np.float32)
    np.testing.assert_array_equal(run(ir.to_proto(model), feeds)[0], want)


def test_what_has_no_kernel_for_double_is_float32_also_where_nothing_is_trained():
    model, note = converted(parsed(POSITIONS.replace("Sin", "Cos")))
    assert note == Note(kind="training", words="double: computed in float32 for training")
    feeds = {"x": np.ones((1, 4), np.float32), "at": np.array(12)}
    want = np.cos(12 * np.array([[1, 0.1, 0.01, 0.001]]))
    np.testing.assert_allclose(run(ir.to_proto(model), feeds)[0], want, atol=1e-6)


@pytest.mark.training_build
@pytest.mark.parametrize("operator", sorted(those_that(Does.NO_DOUBLE)))
def test_operators_without_a_kernel_for_double_are_those(operator):
    shapes = {"Conv": "[1, 1, 2, 2]", "ConvTranspose": "[1, 1, 2, 2]", "InstanceNormalization": "[2]"}
    inputs = ["x", "w", "b"][: onnx.defs.get_schema(operator, 18).min_input]
    others = ", ".join(["", *(f"TYPE{shapes[operator]} {name}" for name in inputs[1:])])
    text = f"""<ir_version: 9, opset_import: ["" : 18]>
        main (TYPE[1, 2, 2, 2] x{others}) => (TYPE y) {{ y = {operator} ({", ".join(inputs)}) }}"""
    text = text.replace("[1, 2, 2, 2]", "[1, 1, 2, 2]") if "Conv" in operator else text
    ort.InferenceSession(retyped(parsed(text, 11), "float", "double").SerializeToString())
    with pytest.raises(Exception, match="Could not find an implementation"):
        ort.InferenceSession(parsed(text, 11).SerializeToString())


@pytest.mark.parametrize(("code", "low"), [(10, "-65504"), (11, "-1.7e308"), (11, "-1e30"), (16, "-3.3e38")])
def test_masks_stay_finite(code, low):
    text = """<ir_version: 9, opset_import: ["" : 18]>
        main (TYPE[1, 3] x) => (TYPE[1, 3] y) <TYPE[3] mask = {0, LOW, LOW}> { a = Add (x, mask) y = Softmax (a) }"""
    proto = parsed(text.replace("LOW", low), code)
    model, _ = converted(proto)
    dtype = {10: np.float16, 11: np.float64, 16: ml_dtypes.bfloat16}[code]
    (mask,) = [node.attributes["value"].as_tensor().numpy() for node in model.graph if node.op_type == "Constant"] or [
        value.const_value.numpy() for value in model.graph.initializers.values()
    ]
    assert mask.dtype == np.float32
    assert np.isfinite(mask).all()
    assert mask.min() <= np.float32(-65504)
    if code != 16:
        (y,) = run(ir.to_proto(model), {"x": np.array([[-3.0, 5, 7]], dtype)})
        np.testing.assert_array_equal(y, [[1, 0, 0]])


def test_attributes_that_name_a_type_are_float32():
    text = """<ir_version: 9, opset_import: ["" : 18]>
        main (float16[4, 3] x) => (float16[4, 3] y) <float16[3] s = {1, 2, 3}> {
            n = RandomNormalLike <dtype = 10, seed = 1.0> (x)
            a = LayerNormalization <stash_type = 1> (x, s)
            e = EyeLike <dtype = 10> (x)
            b = Mul (a, n)
            y = Add (b, e)
        }"""
    model, _ = converted(parsed(text))
    assert types(model) == {ir.DataType.FLOAT}
    assert run(ir.to_proto(model), {"x": np.ones((4, 3), np.float16)})[0].dtype == np.float32


@pytest.mark.parametrize("code", [10, 16])
def test_inputs_are_rounded_though_onnx_runtime_drops_casts(code):
    dtype = {10: np.float16, 16: ml_dtypes.bfloat16}[code]
    text = """<ir_version: 9, opset_import: ["" : 18]>
        main (float[8] w, float16[8] x) => (float16[8] y) { a = Cast <to = 10> (w) y = Add (x, a) }"""
    if code == 16:
        text = text.replace("float16[8]", "float[8]").replace("a = Cast <to = 10> (w)", "a = Identity (w)")
    model = to_opset(ir.from_proto(parsed(text)))
    round_inputs(model, {"w": ir.DataType(code)})
    for node in model.graph:  # the sum in float32, to see whether the operand was rounded
        if node.op_type == "Add" and code == 10:
            sum_ = ir.node("Cast", node.outputs, {"to": 1})
            sum_.outputs[0].name = "wide"
            model.graph.insert_after(node, sum_)
            model.graph.outputs[0] = sum_.outputs[0]
            sum_.outputs[0].type, sum_.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), node.outputs[0].shape
            break
    w = np.random.default_rng(0).standard_normal(8).astype(np.float32)
    x = np.zeros(8, np.float16 if code == 10 else np.float32)
    (y,) = run(ir.to_proto(model), {"w": w, "x": x})
    np.testing.assert_array_equal(y, w.astype(dtype).astype(np.float32))


def test_all_other_types_are_known():
    floats = {ir.DataType(code) for code in (1, 10, 11, 16)}
    assert floats - {ir.DataType.FLOAT} == OTHERS
    assert other_types(to_opset(ir.from_proto(parsed(TWIN, 10)))) == ["float16"]
