"""Quantisation that a model simulates: forward as ONNX Runtime computes it, backward straight through."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.legalize import legalize
from dsd_ort.graph.legalize.opset import to_supported
from dsd_ort.model import source
from tests.graph.gradient import model, quiet, step
from tests.graph.legalize.cases.quantization import PAIRS, Pair

X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32) * 6
RANGES = {"int4": (-8, 7), "uint4": (0, 15)}


def proto_of(pair: Pair) -> onnx.ModelProto:
    attributes = f"<{pair.attributes}>" if pair.attributes else ""
    zero = "" if pair.zero is None else ", z"
    q, d = (f"{pair.domain}{name}Linear {attributes}" for name in ("Quantize", "Dequantize"))
    proto = model(f"(float[3, 4] x) => (float[3, 4] y) {{ q = {q} (x, s{zero}) y = {d} (q, s{zero}) }}", pair.opset)
    proto.ir_version = 10
    proto.graph.initializer.append(numpy_helper.from_array(np.asarray(pair.scale, np.float32), "s"))
    if pair.zero is not None:
        four_bits = getattr(ml_dtypes, pair.dtype, None)
        numbers = np.asarray(pair.zero, four_bits or pair.dtype)
        proto.graph.initializer.append(numpy_helper.from_array(numbers, "z"))
    return proto


def spread(values: object, pair: Pair) -> np.ndarray:
    """A scale or zero point at every entry of X."""
    array = np.asarray(values, np.float64)
    if array.ndim == 1 and array.size > 1:
        return np.broadcast_to(array[:, None] if pair.attributes == "axis = 0" else array, X.shape)
    if array.ndim == 2:
        axis = 0 if "axis = 0" in pair.attributes else 1
        return np.repeat(array, 2, axis=axis)[: X.shape[0], : X.shape[1]]
    return np.broadcast_to(array, X.shape)


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_pair_rounds_forward_and_lets_the_gradient_of_what_is_not_clipped_through(pair: Pair) -> None:
    info = None if pair.dtype in RANGES else np.iinfo(pair.dtype)
    low, high = RANGES.get(pair.dtype) or (info.min, info.max)
    scale, zero = spread(pair.scale, pair), spread(pair.zero or 0, pair)
    level = np.round(X.astype(np.float64) / scale) + zero
    weights = np.random.default_rng(1).standard_normal(X.shape).astype(np.float32)

    legal = legalize(ir.from_proto(proto_of(pair)), ["x"], outputs=["y"]).model
    done = step(legal, ["x"], {"x": X}, {"y": weights})

    np.testing.assert_allclose(done.outputs["y"], (np.clip(level, low, high) - zero) * scale, rtol=1e-6, atol=1e-7)
    inside = (low <= level) & (level <= high)
    assert 0 < inside.sum() < inside.size
    np.testing.assert_array_equal(done.gradients["x"], weights * inside)


@pytest.mark.parametrize("pair", [p for p in PAIRS if p.dtype not in RANGES and "block" not in p.attributes], ids=str)
def test_what_is_evaluated_computes_the_same_as_what_is_trained(pair: Pair) -> None:
    evaluated = ir.to_proto(to_supported(ir.from_proto(proto_of(pair))))
    session = onnxruntime.InferenceSession(evaluated.SerializeToString(), quiet(), providers=["CPUExecutionProvider"])
    legal = legalize(ir.from_proto(proto_of(pair)), ["x"], outputs=["y"]).model
    trained = step(legal, ["x"], {"x": X}, {"y": np.ones_like(X)}).outputs["y"]
    np.testing.assert_allclose(trained, session.run(["y"], {"x": X})[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("[here] d = DequantizeLinear (k, s) y = Mul (d, x)", "the weight 'k' exists in quantised form only"),
        (
            "h = Relu (x) q, s2, z2 = DynamicQuantizeLinear (h) [here] d = DequantizeLinear (q, s2, z2) y = Mul (d, x)",
            "the operator DequantizeLinear reads quantised numbers, through which no gradient passes",
        ),
        (
            "[here] q = QuantizeLinear (x, s) m = MaxPool <kernel_shape = [1]> (q) d = DequantizeLinear (m, s) "
            "y = Add (d, x)",
            "the operator QuantizeLinear ends in quantised numbers, through which no gradient passes",
        ),
        (
            "q = QuantizeLinear (x, s) [here] d = DequantizeLinear (q, t) y = Add (d, x)",
            "has another scale or zero point than the QuantizeLinear in front of it",
        ),
        ("[here] y = MatMulInteger (k, k) d = Cast <to = 1> (y)", "MatMulInteger computes with quantised numbers"),
    ],
)
def test_what_is_quantised_for_good_is_refused(body: str, what: str) -> None:
    constants = "uint8[3] k = {1, 2, 3}, float s = {0.1}, float t = {0.2}"
    proto = model(f"(float[1, 1, 3] x) => (float[] y) <{constants}> {{ {body} }}")
    with pytest.raises(UnsupportedError, match=what) as refused:
        legalize(ir.from_proto(proto), ["x"], outputs=["y"])
    assert "'here'" in str(refused.value.where)
    assert "dsd-ort dequantize MODEL -o float.onnx" in str(refused.value.fix)


def test_float_weights_in_front_of_a_pair_are_parameters(tmp_path: Path) -> None:
    proto = model(
        "(float[N, 4] x) => (float[N, 5] y) <float s = {0.1}, int8 z = {0}, float t = {0.02}> "
        "{ a = QuantizeLinear (x, s, z) b = DequantizeLinear (a, s, z) q = QuantizeLinear (w, t, z) "
        "d = DequantizeLinear (q, t, z) m = MatMul (b, d) y = Add (m, c) }"
    )
    for name, shape in (("w", (4, 5)), ("c", (5,))):
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    (tmp_path / "qdq.onnx").write_bytes(proto.SerializeToString())
    loaded = source.load(tmp_path / "qdq.onnx")
    assert [(p.name, p.role) for p in loaded.parameters] == [("w", "matrix"), ("c", "bias")]
