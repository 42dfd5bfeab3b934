"""What cannot be recorded is named; its forms compute the same, and can be."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from dsd_ort.device.lower import lower
from dsd_ort.device.recording import can_be_recorded, obstacles
from dsd_ort.device.specialize import specialize
from tests.session import opened


def parsed(text: str) -> ir.Model:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18, "com.microsoft": 1]>\n{text}')
    made = ir.from_proto(model)
    specialize(made, {})
    return made


def computed(model: ir.Model) -> list[np.ndarray]:
    rng, feeds = np.random.default_rng(3), {}
    for value in model.graph.inputs:
        shape = [int(n) for n in value.shape]
        feeds[value.name] = rng.standard_normal(shape).astype(np.float32)
        if value.dtype == ir.DataType.INT64:
            feeds[value.name] = rng.integers(-3, 3, shape)
    return opened(model).run(None, feeds)


MANY = ", ".join(f"x{i}" for i in range(49))
FORMS = {
    "Concat of 49": f"f ({', '.join(f'float[1, 2] x{i}' for i in range(49))}) => (float[49, 2] r) "
    f"{{ r = Concat <axis = 0> ({MANY}) }}",
    "Concat of 49, not all equal": f"f (float[2, 3] y, {', '.join(f'float[2, 1] x{i}' for i in range(49))}) "
    f"=> (float[2, 52] r) {{ r = Concat <axis = 1> (y, {MANY}) }}",
    "Concat, by equal parts": "f (float[2, 4, 3] x, float[2, 6, 3] y, float[2, 2, 3] z) => (float[2, 12, 3] r) "
    "{ r = Concat <axis = 1> (x, y, z) }",
    "Concat from the end": "f (float[2, 3] x, float[2, 5] y) => (float[2, 8] r) { r = Concat <axis = -1> (x, y) }",
    "Concat of too many": "f (float[40, 3] x, float[7, 3] y) => (float[47, 3] r) { r = Concat <axis = 0> (x, y) }",
    "Concat of numbers": "f (int64[2, 40] x) => (int64[2, 41] r) { k = Constant <value_ints = [7, 7]> () "
    "i = Constant <value_ints = [1]> () c = Unsqueeze (k, i) r = Concat <axis = 1> (x, c) }",
    "Concat behind numbers": "f (float[2, 40, 2] x) => (float[2, 43, 2] r) { s = Constant <value_ints = [2, 3, 2]> () "
    "k = Constant <value_float = -2.5> () c = Expand (k, s) r = Concat <axis = 1> (c, x) }",
    "Concat of three": "f (float[2, 40] x, float[2, 1] y, float[2, 3] z) => (float[2, 44] r) "
    "{ r = Concat <axis = 1> (y, x, z) }",
    "Split": "f (float[2, 9] x) => (float[2, 4] a, float[2, 5] b) { k = Constant <value_ints = [4, 5]> () "
    "a, b = Split <axis = 1> (x, k) }",
    "Split from the end": "f (float[2, 9] x) => (float[2, 4] a, float[2, 5] b) "
    "{ k = Constant <value_ints = [4, 5]> () a, b = Split <axis = -1> (x, k) }",
    "GatherND": "f (float[4, 5, 6] x, int64[7, 1] i) => (float[7, 5, 6] y) { y = GatherND (x, i) }",
    "GatherND of batches": "f (float[4, 5, 6] x, int64[4, 7, 2, 1] i) => (float[4, 7, 2, 6] y) "
    "{ y = GatherND <batch_dims = 1> (x, i) }",
    "GatherND of entries": "f (float[4, 2, 5] x, int64[4, 2, 3, 1] i) => (float[4, 2, 3] y) "
    "{ y = GatherND <batch_dims = 2> (x, i) }",
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_compute_the_same_and_can_be_recorded(name: str) -> None:
    model = parsed(FORMS[name])
    (line,) = obstacles(model)
    assert "copies from the host's memory" in line
    expected = computed(model)
    assert lower(model, "cuda")
    specialize(model, {})
    assert obstacles(model) == ()
    for got, array in zip(computed(model), expected, strict=True):
        np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize("deterministic", [False, True])
def test_the_gradient_of_rows_is_a_product(deterministic: bool) -> None:
    model = parsed(
        "f (int64[2, 7] i, float[2, 7, 3] dy) => (float[5, 3] dx) { s = Constant <value_ints = [5, 3]> () "
        "n = Constant <value_int = 2> () k = Add (i, n) dx = com.microsoft.GatherGrad <axis = 0> (s, k, dy) }"
    )
    assert "waits for the device" in obstacles(model)[0]
    expected = computed(model)
    lower(model, "cuda", deterministic=deterministic)
    specialize(model, {})
    assert obstacles(model) == ()
    np.testing.assert_allclose(computed(model)[0], expected[0], rtol=1e-6, atol=1e-6)


def test_large_tables_are_added_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsd_ort.device.lower.recorded.ONE_HOT", 1)
    text = (
        "f (int64[2] i, float[2, 3] dy) => (float[5, 3] dx) { s = Constant <value_ints = [5, 3]> () "
        "dx = com.microsoft.GatherGrad <axis = 0> (s, i, dy) }"
    )
    model, repeatable = parsed(text), parsed(text)
    lower(model, "cuda")
    assert any(node.op_type == "GatherElementsGrad" for node in model.graph)
    assert lower(repeatable, "cuda", deterministic=True) == ()


@pytest.mark.parametrize("inner", ["r", "q"])
def test_turned_products_are_gemms(inner: str) -> None:
    model = parsed(
        f"""f (float[3, 4] r, float[5, {4 if inner == "r" else 3}] x) => (float[5, {3 if inner == "r" else 4}] y) {{
        q = Transpose <perm = [1, 0]> (r) t = Transpose <perm = [1, 0]> (x) p = MatMul ({inner}, t)
        y = Transpose <perm = [1, 0]> (p) }}"""
    )
    expected = computed(model)
    assert lower(model, "cuda") == ("Transpose(MatMul) → Gemm (1×)",)
    specialize(model, {})
    assert [node.op_type for node in model.graph] == ["Gemm"]
    np.testing.assert_allclose(computed(model)[0], expected[0], rtol=1e-6, atol=1e-6)


def test_forms_reach_into_scans() -> None:
    model = parsed(
        """f (float[2, 3] s, float[4, 2, 3] x) => (float[2, 3] e) {
        e = Scan <num_scan_inputs = 1, body = step (float[2, 3] h, float[2, 3] xt) => (float[2, 3] h1) {
          a, b = Split <axis = 1> (xt, k) c = Concat <axis = 1> (b, a) h1 = Add (h, c) }> (s, x)
        k = Constant <value_ints = [1, 2]> () }"""
    )
    expected = computed(model)
    assert len(lower(model, "cuda")) == 2
    np.testing.assert_array_equal(computed(model)[0], expected[0])


SAFE = {
    "f (float[2, 3] x, float[3, 4] y) => (float[2, 4] z) { z = MatMul (x, y) }": True,
    "f (float[5, 2, 3] x, float[3, 4] y) => (float[5, 2, 4] z) { z = MatMul (x, y) }": True,
    "f (float[5, 2, 3] x, float[5, 3, 4] y) => (float[5, 2, 4] z) { z = MatMul (x, y) }": True,
    "f (float[2, 3] x, float[5, 3, 4] y) => (float[5, 2, 4] z) { z = MatMul (x, y) }": False,
    "f (float[5, 2, 3] x, float[1, 3, 4] y) => (float[5, 2, 4] z) { z = MatMul (x, y) }": False,
    "f (float[3] x) => (int64[1, n] z) { z = NonZero (x) }": False,
    "f (float[3] x) => (float[3] z) { z, m = Dropout (x) }": True,
    "f (float[3] x) => (float[3] z) { r = Constant <value_float = 0.5> () t = Constant <value_int = 1> () "
    "b = Cast <to = 9> (t) z, m = Dropout (x, r, b) }": False,
    "f (float[2, 3] x, int64[2] y) => (float z) { z = SoftmaxCrossEntropyLoss (x, y) }": True,
    'f (float[2, 3] x, int64[2] y) => (float z) { z = SoftmaxCrossEntropyLoss <reduction = "sum"> (x, y) }': False,
}


@pytest.mark.parametrize("text", SAFE)
def test_whether_a_node_can_be_recorded(text: str) -> None:
    assert can_be_recorded(parsed(text)) is SAFE[text]


def test_the_first_node_of_each_operator_is_named_with_the_reason() -> None:
    model = parsed("f (float[3] x) => (int64[1, n] a, int64[1, m] b) { a = NonZero (x) b = NonZero (x) }")
    assert obstacles(model) == ("NonZero 'a': data decides how large its output is",)
