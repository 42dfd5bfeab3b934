"""Forms for CUDA against the operators that they stand for, both by ONNX Runtime's CPU kernels."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from dsd_ort.device.lower import lower
from dsd_ort.device.specialize import specialize
from tests.device.portable.test_operators import outputs
from tests.graph.gradient import model, random_inputs

POOLS = {
    # attributes of the pool, shape of x, do windows overlap?
    "2x2": ("kernel_shape = [2, 2], strides = [2, 2]", "2, 3, 6, 6", False),
    "2x2-with-a-rest": ("kernel_shape = [2, 2], strides = [2, 2]", "2, 3, 7, 5", False),
    "strides-beyond": ("kernel_shape = [2, 2], strides = [3, 4]", "2, 3, 9, 8", False),
    "3x3": ("kernel_shape = [3, 3]", "2, 3, 7, 6", True),
    "3x3-padded": ("kernel_shape = [3, 3], pads = [1, 1, 1, 1]", "2, 3, 6, 5", True),
    "stride-2": ("kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]", "2, 3, 9, 8", True),
    "ceil": ("kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1", "2, 3, 8, 8", True),
    "uneven": ("kernel_shape = [4, 3], strides = [3, 1], pads = [0, 1, 2, 0]", "2, 3, 9, 8", True),
    "overlaps-along-one-axis": ("kernel_shape = [2, 3], strides = [2, 2]", "2, 3, 8, 9", True),
    "dilated": ("kernel_shape = [3, 2], dilations = [2, 3], strides = [2, 1], pads = [1, 1, 1, 1]", "2, 3, 9, 9", True),
    "dilated-with-gaps": ("kernel_shape = [2, 2], dilations = [2, 2], strides = [2, 2]", "2, 3, 8, 8", True),
    "as-wide-as-the-image": ("kernel_shape = [3, 3], pads = [1, 1, 1, 1]", "2, 3, 2, 2", True),
    "1-D": ("kernel_shape = [3], strides = [2], pads = [1, 1]", "2, 3, 9", True),
    "3-D": ("kernel_shape = [2, 3, 2], strides = [1, 2, 1]", "2, 2, 4, 5, 3", True),
}


def pool_gradient(attributes: str, x: str) -> str:
    rank = x.count(",") - 1
    y = ", ".join(["2", x.split(", ")[1], *(f"P{i}" for i in range(rank))])
    return f"""(float[{x}] x, float[{y}] g) => (float[{y}] y, float[{x}] dx)
      {{ y, i = MaxPool <{attributes}> (x)  dy = Mul (g, y)  dx = MaxPoolGrad <{attributes}> (dy, i) }}"""


def pooled(attributes: str, x: str) -> tuple[ir.Model, dict[str, np.ndarray]]:
    """The gradient with g as large as y; x has ties."""
    text = pool_gradient(attributes, x)
    size = [int(n) for n in x.split(", ")]
    image = np.random.default_rng(1).integers(0, 6, size).astype(np.float32)
    probe = ir.from_proto(model(f"(float[{x}] x) => (float[N] y) {{ y = MaxPool <{attributes}> (x) }}"))
    probe.graph.outputs[0].shape = None
    shape = outputs(probe, {"x": image})["y"].shape
    return ir.from_proto(model(text)), {"x": image, "g": np.random.default_rng(2).standard_normal(shape).astype("f")}


@pytest.mark.parametrize("fixed", [True, False], ids=["sizes-fixed", "sizes-open"])
@pytest.mark.parametrize(("attributes", "x", "overlap"), POOLS.values(), ids=POOLS)
def test_the_gradient_of_a_pool_stays(attributes: str, x: str, overlap: bool, fixed: bool) -> None:
    graph, inputs = pooled(attributes, x)
    expected = outputs(graph, inputs)["dx"]
    assert np.count_nonzero(expected)
    for deterministic in (False, True):
        form = graph.clone()
        if fixed:
            specialize(form, {name: array.shape for name, array in inputs.items()})
        assert lower(form, "cuda", deterministic=deterministic) == (
            "MaxPoolGrad → additions at MaxPool's indices (1×)",
        )
        atomic = any(node.op_type == "GatherElementsGrad" for node in form.graph)
        assert atomic == (overlap and not (deterministic and fixed))
        got = outputs(form, inputs)["dx"]
        if overlap and deterministic:
            np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)  # sums of up to nine in another order
        else:
            np.testing.assert_array_equal(got, expected)


def test_padding_that_the_runtime_chooses_is_added_up() -> None:
    attributes = 'kernel_shape = [3, 3], auto_pad = "SAME_UPPER"'
    graph, inputs = pooled(attributes, "2, 3, 6, 5")
    expected = outputs(graph, inputs)["dx"]
    lower(graph, "cuda", deterministic=True)
    np.testing.assert_array_equal(outputs(graph, inputs)["dx"], expected)


LAYERS = {
    "LSTM": 'LSTM <hidden_size = 4, direction = "bidirectional"> (x, W, R, B, l)',
    "LSTM-peepholes": 'LSTM <hidden_size = 4, direction = "bidirectional"> (x, W, R, B, l, , , P)',
    "GRU": 'GRU <hidden_size = 4, direction = "bidirectional", linear_before_reset = 1> (x, W, R, B, l)',
    "RNN": 'RNN <hidden_size = 4, direction = "bidirectional", clip = 0.5> (x, W, R, B, l)',
}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@pytest.mark.parametrize("opset", [17, 18, 21])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_recurrent_layer_in_inference_stays(layer: str, opset: int) -> None:
    kind = layer.split("-", maxsplit=1)[0]
    g = 4 * GATES[kind]
    text = f"""(float[5, 2, 3] x, float[2, {g}, 3] W, float[2, {g}, 4] R, float[2, {2 * g}] B, int32[2] l,
       float[2, 12] P) => (float[5, 2, 2, 4] y, float[2, 2, 4] h, float[2, 2, 4] z)
      {{ y, h = {LAYERS[layer]}  z = Neg (h) }}"""
    proto = model(text, opset)
    inputs = random_inputs(proto, {"l": [5, 3]})
    graph = ir.from_proto(proto)
    expected = outputs(graph, inputs)
    specialize(graph, {})
    assert lower(graph, "cuda") == (f"{kind} → Scan (1×)",)
    assert kind not in {node.op_type for node in graph.graph}
    got = outputs(graph, inputs)
    assert list(got) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=2e-6, atol=1e-6, err_msg=name)


def test_a_recurrent_layer_that_training_refuses_stays_on_the_cpu() -> None:
    text = """(float[5, 2, 3] x, float[1, 4, 3] W, float[1, 4, 4] R) => (float[5, 1, 2, 4] y)
      { y = RNN <hidden_size = 4, activations = ["LeakyRelu"]> (x, W, R) }"""
    graph = ir.from_proto(model(text))
    assert lower(graph, "cuda") == ()
    assert [node.op_type for node in graph.graph] == ["RNN"]
