"""Models that cannot be trained, as ONNX text; ``w``, ``v`` and the like are weights, drawn at random."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser

NO_WEIGHTS = "stores no floating-point weights"
BEHIND = "y = MatMul (h, v)"
MLP = "(float[N, 4] x) => (float[N, 3] y) <float[4, 4] w, float[4, 3] v>"


class Refused(NamedTuple):
    """``text`` is a graph; its stored tensors that are declared without numbers are drawn."""

    name: str
    text: str
    says: str
    """Part of the message."""
    opset: int = 18
    domains: str = ""


def mlp(name: str, middle: str, says: str, **more: object) -> Refused:
    """``a = MatMul(x, w)``, then *middle* from a to h, then ``y = MatMul(h, v)``."""
    return Refused(name, f"{MLP} {{ a = MatMul (x, w) {middle} {BEHIND} }}", says, **more)  # type: ignore[arg-type]


def alone(name: str, middle: str, says: str) -> Refused:
    """``a = MatMul(x, w)``, then *middle* from a to h, and no weight behind it that could be trained instead."""
    text = f"(float[N, 4] x) => (float[N, M] y) <float[4, 4] w> {{ a = MatMul (x, w) {middle} y = Tanh (h) }}"
    return Refused(name, text, says)


LOOP = (
    "k = ReduceMax <keepdims = 0> (x) i = Cast <to = 7> (k) t = Constant <value = bool {1}> () "
    "h = Loop (i, t, a) <body = b (int64 j, bool p, float[N, 4] u) => (bool q, float[N, 4] r) "
    "{ q = Identity (p) r = Tanh (u) }>"
)
ENDLESS = (
    "n = Constant <value_int = 9> () t = Constant <value = bool {1}> () "
    "h = Loop (n, t, a) <body = b (int64 j, bool p, float[N, 4] u) => (bool q, float[N, 4] r) "
    "{ r = Tanh (u) s = ReduceSum <keepdims = 0> (r) z = Constant <value_float = 0.0> () q = Greater (s, z) }>"
)
GROWING = (
    "n = Constant <value_int = 3> () t = Constant <value = bool {1}> () "
    "g = Loop (n, t, a) <body = b (int64 j, bool p, float[N, M] u) => (bool q, float[N, K] r) "
    "{ q = Identity (p) c = Tanh (u) r = Concat <axis = 1> (u, c) }> "
    "i = Constant <value_ints = [0]> () e = Constant <value_ints = [4]> () o = Constant <value_ints = [1]> () "
    "h = Slice (g, i, e, o)"
)
QUANTIZED = "(float[N, 4] x) => (float[N, 3] y) <uint8[4, 3] w, float s = {0.1}, uint8 z = {0}>"

REFUSED = [
    mlp("a Loop as long as the data say", LOOP, "Loop"),
    mlp("a Loop that goes on while a condition of data holds", ENDLESS, "Loop"),
    mlp("a Loop that carries more at each step", GROWING, "Loop"),
    alone("ArgMax behind all layers", "i = ArgMax <axis = 1> (a) h = Cast <to = 1> (i)", "ArgMax"),
    alone("rounding behind all layers", "h = Round (a)", "Round"),
    alone(
        "a comparison behind all layers",
        "t = Constant <value_float = 0.0> () b = Greater (a, t) h = Cast <to = 1> (b)",
        "",
    ),
    alone(
        "OneHot of a choice",
        "i = ArgMax <axis = 1, keepdims = 0> (a) d = Constant <value_int = 4> () "
        "o = Constant <value = float[2] {0, 1}> () h = OneHot (i, d, o)",
        "",
    ),
    alone(
        "NonMaxSuppression",
        "o = Constant <value_ints = [0]> () m = Constant <value_ints = [0, 1, 2, 0]> () "
        "t = Constant <value_ints = [2]> () b = Unsqueeze (a, o) r = ReduceSum <keepdims = 1> (b, t) "
        "q = Transpose <perm = [0, 2, 1]> (r) k = NonMaxSuppression (b, q) f = Cast <to = 1> (k) "
        "h = Gather <axis = 1> (f, m)",
        "",
    ),
    mlp("an operator that does not exist", "h = Swoosh (a)", "Swoosh"),
    mlp("an operator of an unknown domain", "h = acme.Warp (a)", "acme", domains=', "acme" : 1'),
    mlp(
        "the blocked layout of one CPU",
        "h = com.microsoft.nchwc.ReorderOutput <channels = 4> (a)",
        "nchwc",
        domains=', "com.microsoft.nchwc" : 1',
    ),
    mlp(
        "a place in a sequence that the data say",
        "b = Tanh (a) s = SequenceConstruct (a, b) m = ReduceMax <keepdims = 0> (x) i = Cast <to = 7> (m) "
        "h = SequenceAt (s, i)",
        "Sequence",
    ),
    mlp(
        "a sequence as long as a batch",
        "s = SplitToSequence <axis = 0> (a) i = Constant <value_int = 0> () h = SequenceAt (s, i)",
        "Sequence",
    ),
    mlp("an optional value", "o = Optional (a) h = OptionalGetElement (o)", "Optional"),
    mlp(
        "a quantised activation alone",
        "s = Constant <value_float = 0.1> () z = Constant <value = uint8 {0}> () "
        "q = QuantizeLinear (a, s, z) f = Cast <to = 1> (q) h = Mul (f, s)",
        "",
    ),
    mlp("dynamic quantisation", "q, s, z = DynamicQuantizeLinear (a) h = DequantizeLinear (q, s, z)", ""),
    Refused("weights in int8 alone", f"{QUANTIZED} {{ d = DequantizeLinear (w, s, z) y = MatMul (x, d) }}", ""),
    Refused(
        "MatMulInteger",
        f"{QUANTIZED} {{ q, t, u = DynamicQuantizeLinear (x) i = MatMulInteger (q, w, u, z) "
        "f = Cast <to = 1> (i) y = Mul (f, s) }",
        "",
    ),
    Refused(
        "QLinearMatMul",
        f"{QUANTIZED} {{ q = QuantizeLinear (x, s, z) i = QLinearMatMul (q, s, z, w, s, z, s, z) "
        "y = DequantizeLinear (i, s, z) }",
        "",
    ),
    Refused(
        "ConvInteger",
        "(uint8[N, 1, 5, 5] x) => (float[N, 2, 3, 3] y) <uint8[2, 1, 3, 3] w> "
        "{ i = ConvInteger (x, w) y = Cast <to = 1> (i) }",
        "",
    ),
    Refused(
        "QLinearConv",
        "(float[N, 1, 5, 5] x) => (float[N, 2, 3, 3] y) <uint8[2, 1, 3, 3] w, float s = {0.1}, uint8 z = {0}> "
        "{ q = QuantizeLinear (x, s, z) i = QLinearConv (q, s, z, w, s, z, s, z) y = DequantizeLinear (i, s, z) }",
        "",
    ),
    Refused("no weight at all", "(float[N, 4] x) => (float[N, 4] y) { y = Relu (x) }", NO_WEIGHTS),
    Refused(
        "constants that are no weights",
        "(float[N, 4] x) => (float[N, 4] y) <float low = {-1}, float high = {1}> { y = Clip (x, low, high) }",
        NO_WEIGHTS,
    ),
    Refused(
        "an output of integers, made of two values",
        f"{MLP.replace('float[N, 3] y', 'int64[N, 1] y')} {{ a = MatMul (x, w) b = MatMul (a, v) "
        "i = ArgMax <axis = 1> (a) j = ArgMax <axis = 1> (b) y = Add (i, j) }",
        "",
    ),
    Refused(
        "an output of text",
        '(string[N] x) => (string[N] y) { y = StringNormalizer <case_change_action = "LOWER"> (x) }',
        "",
    ),
    Refused(
        "a decision tree",
        "(float[N, 4] x) => (float[N, 1] y) { y = ai.onnx.ml.Binarizer <threshold = 0.5> (x) }",
        "",
        domains=', "ai.onnx.ml" : 3',
    ),
    Refused(
        "a batch norm whose statistics are computed",
        "(float[N, 4] x) => (float[N, 4] y) <float[4, 4] w, float[4] s, float[4] b> "
        "{ a = MatMul (x, w) zero = Constant <value_ints = [0]> () m = ReduceMean <keepdims = 0> (x, zero) q = Abs (m) "
        "y = BatchNormalization (a, s, b, m, q) }",
        "statistics",
    ),
    Refused("a newer opset than ONNX has", f"{MLP} {{ a = MatMul (x, w) y = MatMul (a, v) }}", "opset", opset=99),
]


def build(case: Refused) -> onnx.ModelProto:
    """The model, with random weights."""
    header = f'<ir_version: 8, opset_import: ["" : {case.opset}, "com.microsoft" : 1{case.domains}]>'
    model = onnx.parser.parse_model(f"{header} g {case.text}")
    random = np.random.default_rng(0)
    for value in model.graph.value_info:  # declared without numbers
        tensor = value.type.tensor_type
        numbers = 3 * random.standard_normal([d.dim_value for d in tensor.shape.dim])
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.abs(numbers).astype(dtype), value.name))
    del model.graph.value_info[:]
    return model


def write(case: Refused, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(build(case).SerializeToString())
    return path
