"""Mixed precision on small graphs: what becomes of each kind of operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from dsd_ort import runtime
from dsd_ort.device.mixed import LOSS_SCALE, Precision, mix, scale_loss
from dsd_ort.device.mixed.precisions import TYPES
from dsd_ort.errors import UnsupportedError
from dsd_ort.rewrite.operators import OPERATORS, Does, Half

HEADER = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>'
FLOAT, FLOAT16, BFLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16
both = pytest.mark.parametrize("precision", TYPES)


@both
def test_the_optimizer_of_onnx_runtime_keeps_a_cast_there_and_back(precision: Precision) -> None:
    name = TYPES[precision].name
    graph = f"""{HEADER} g (float[2, 2] x, float[2, 2] w) => (float[2, 2] y, float[2, 2] z) {{
        n = Cast <to = {TYPES[precision].value}> (x)  r = Cast <to = 1> (n)
        y = Identity (r)  p = MatMul (r, w)  z = Relu (p) }}"""
    session = runtime.session(onnx.parser.parse_model(graph), runtime.session_options(1))
    x = np.random.default_rng(0).standard_normal((2, 2)).astype(np.float32)
    y, z = session.run(None, {"x": x, "w": np.eye(2, dtype=np.float32)})
    rounded = x.astype(TYPES[precision].numpy()).astype(np.float32)
    assert not np.array_equal(rounded, x), name
    np.testing.assert_array_equal(y, rounded)
    np.testing.assert_array_equal(z, np.maximum(rounded, 0))


def mixed(text: str, precision: Precision = "fp16", device: Any = "cuda") -> ir.Model:
    """The graph, with a seed that nothing reads."""
    model = ir.from_proto(onnx.parser.parse_model(f"{HEADER} {text}"))
    one = ir.Value(name="loss_grad", const_value=ir.tensor(np.array(1, np.float32), name="loss_grad"))
    one.type, one.shape = ir.TensorType(FLOAT), ir.Shape([])
    model.graph.register_initializer(one)
    scale_loss(model, "loss")
    mix(model, precision, device)
    return model


def types(model: ir.Model) -> list[str]:
    """Operator and type of the output, of each node that is no Cast, Constant or the scale's."""
    nodes = [node for node in model.graph if node.op_type not in {"Cast", "Constant"} and LOSS_SCALE not in node.name]
    return [f"{node.op_type} {node.outputs[0].dtype.name.lower()}" for node in nodes]


def test_the_golden_graph() -> None:
    model = mixed("""g (float[N, 4] x, float[4, 4] w, float[4, 4] v, float[4] b, int64[N] label) => (float loss) {
        h = Gemm (x, w, b)  r = Relu (h)  y = MatMul (r, v)
        loss, p = SoftmaxCrossEntropyLoss (y, label) }""")
    got = [
        f"{','.join(v.name for v in node.outputs)} = {node.op_type}({', '.join(v.name for v in node.inputs)})"
        for node in model.graph
        if LOSS_SCALE not in node.name
    ]
    assert sorted(got) == sorted(
        [
            "x/float16 = Cast(x)",
            "w/float16 = Cast(w)",
            "v/float16 = Cast(v)",
            "b/float16 = Cast(b)",
            "h = Gemm(x/float16, w/float16, b/float16)",
            "r = Relu(h)",
            "y = MatMul(r, v/float16)",
            "y/float = Cast(y)",
            "loss,p = SoftmaxCrossEntropyLoss(y/float, label)",
        ]
    )


def test_a_value_is_cast_once_however_many_read_it() -> None:
    model = mixed("""g (float[4, 4] x, float[4, 4] w) => (float[4, 4] y, float[4, 4] e) {
        a = MatMul (x, w)  b = MatMul (w, x)  c = MatMul (a, b)  y = Exp (c)  e = Sqrt (c) }""")
    assert [node.inputs[0].name for node in model.graph if node.op_type == "Cast"].count("x") == 1
    assert sum(node.op_type == "Cast" for node in model.graph) == 3  # x, w, and c back


FOLLOWING = {
    "a residual": ("z = Add (p, q)", "Add float16"),
    "one float32 among them": ("z = Add (p, x)", "Add float"),
    "a constant": ("c = Constant <value_float = 0.5> ()  z = Mul (p, c)", "Mul float16"),
    "a constant that overflows": ("c = Constant <value_float = -1e9> ()  z = Add (p, c)", "Add float"),
    "a constant that vanishes": ("c = Constant <value_float = 1e-12> ()  z = Max (p, c)", "Max float"),
    "a square": ("z = Mul (p, p)", "Mul float"),
    "a sum": ("z = ReduceSum <keepdims = 0> (p)", "ReduceSum float"),
    "an operator of no kind": ("z = Erf (p)", "Erf float"),
    "what has no 16-bit kernel anywhere": ("z = MaxPoolGrad (p, i)", "MaxPoolGrad float"),
}


@pytest.mark.parametrize("case", FOLLOWING)
def test_what_follows_a_product(case: str) -> None:
    nodes, expected = FOLLOWING[case]
    text = f"""g (float[4, 4] x, float[4, 4] w, int64[4, 4] i) => (float[4, 4] y) {{
        p = MatMul (x, w)  q = MatMul (w, x)  {nodes}  y = MatMul (z, q) }}"""
    assert expected in types(mixed(text))


UNTOUCHED = {
    "a constant factor": "c = Constant <value = float[4, 4] {1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}> ()  y = MatMul (x, c)",
    "a factor made of one": """c = Constant <value = float[16] {1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}> ()
        s = Constant <value_ints = [4, 4]> ()  m = Reshape (c, s)  y = MatMul (x, m)""",
    "one-hot labels": """d = Constant <value_int = 4> ()  v = Constant <value_floats = [0.0, 1.0]> ()
        h = OneHot (label, d, v)  y = MatMul (h, x)""",
    "sums alone": "s = ReduceMean <axes = [1]> (x)  y = Sub (x, s)",
}


@pytest.mark.parametrize("case", UNTOUCHED)
@both
def test_arithmetic_that_is_no_layer_stays_in_float32(case: str, precision: Precision) -> None:
    model = mixed(f"g (float[4, 4] x, int64[4] label) => (float[4, 4] y) {{ {UNTOUCHED[case]} }}", precision)
    assert not {value.dtype for node in model.graph for value in node.outputs} & {FLOAT16, BFLOAT16}


def test_products_of_other_types_are_not_touched() -> None:
    model = mixed("""g (int64[4, 4] i, double[4, 4] d) => (int64[4, 4] y, double[4, 4] z) {
        y = MatMul (i, i)  z = MatMul (d, d) }""")
    assert types(model) == ["MatMul int64", "MatMul double"]


def test_batch_norm_computes_in_float32_and_hands_on_what_it_was_given() -> None:
    text = """g (float[N, 4, 8, 8] x, float[4, 4, 3, 3] w, float[4] s, float[4] m) => (float[N, 4, 6, 6] y) {{
        c = {0} (x{1})  n = BatchNormalization (c, s, s, m, m)  y = Relu (n) }}"""
    given = mixed(text.format("Conv", ", w").replace("{{", "{").replace("}}", "}"))
    norm = next(node for node in given.graph if node.op_type == "BatchNormalization")
    assert {value.dtype for value in (*norm.inputs, *norm.outputs)} == {FLOAT}
    assert types(given) == ["Conv float16", "BatchNormalization float", "Relu float16"]
    plain = mixed(text.format("Exp", "").replace("{{", "{").replace("}}", "}"))
    assert types(plain) == ["Exp float", "BatchNormalization float", "Relu float"]


def test_without_a_gradient_of_the_loss_it_refuses() -> None:
    model = ir.from_proto(onnx.parser.parse_model(f"{HEADER} g (float[2] x) => (float[2] y) {{ y = Relu (x) }}"))
    with pytest.raises(UnsupportedError, match="no gradient of 'loss' that could be scaled"):
        scale_loss(model, "loss")


def test_what_has_no_kernel_would_be_16_bit_otherwise_and_products_say_what_their_factors_are() -> None:
    missing = [known for known in OPERATORS.values() if Does.NO_BFLOAT16 in known.does]
    assert {known.half for known in missing} == {Half.HALF, Half.FOLLOW}
    assert all((known.factors > 0) == (known.half is Half.HALF) for known in OPERATORS.values())
