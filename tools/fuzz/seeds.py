"""Sound files that mutations begin with: models of most kinds that dsd-ort treats differently, with data for each."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser

_LOOP = (
    "n = Constant <value_int = 3> () t = Constant <value = bool {1}> () "
    "h = Loop (n, t, a) <body = b (int64 j, bool p, float[N, 4] u) => (bool q, float[N, 4] r) "
    "{ q = Identity (p) r = Tanh (u) }>"
)
_TEXTS = {
    "mlp": "(float[N, 4] x) => (float[N, 3] y) <float[4, 5] w, float[5] b, float[5, 3] v> "
    "{ a = MatMul (x, w) c = Add (a, b) h = Relu (c) y = MatMul (h, v) }",
    "cnn": "(float[N, 1, 6, 6] x) => (float[N, 3] y) <float[2, 1, 3, 3] k, float[2] kb, float[2] s, float[2] b, "
    "float[2] m, float[2] u, float[3, 8] w, float[3] wb> { a = Conv <kernel_shape = [3, 3]> (x, k, kb) "
    "c = BatchNormalization (a, s, b, m, u) d = Relu (c) e = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (d) "
    "f = Flatten (e) g = Gemm <transB = 1> (f, w, wb) y = Softmax <axis = -1> (g) }",
    "if": "(float[N, 4] x) => (float[N, 3] y) <float[4, 4] w, float[4, 3] v, float[4] t, float[4] u> "
    "{ a = MatMul (x, w) z = ReduceSum <keepdims = 0> (a) o = Constant <value_float = 0.0> () p = Greater (z, o) "
    "h = If (p) <then_branch = g1 () => (float[N, 4] r) { r = Mul (a, t) }, "
    "else_branch = g2 () => (float[N, 4] q) { q = Add (a, u) }> y = MatMul (h, v) }",
    "loop": f"(float[N, 4] x) => (float[N, 3] y) <float[4, 4] w, float[4, 3] v> "
    f"{{ a = MatMul (x, w) {_LOOP} y = MatMul (h, v) }}",
    "scan": "(float[N, 4] x) => (float[N, 3] y) <float[4, 4] w, float[4, 3] v, float[4] z> "
    "{ f, s = Scan <num_scan_inputs = 1, body = b (float[4] i, float[4] e) => (float[4] o, float[4] r) "
    "{ t = Mul (i, z) o = Add (t, e) r = Tanh (o) }> (z, x) h = MatMul (s, w) y = MatMul (h, v) }",
    "attention": "(float[N, 3, 4] x) => (float[N, 3, 4] y) <float[4, 4] q, float[4, 4] k, float[4, 4] v, float[4] g, "
    "float[4] b> { a = LayerNormalization <axis = -1> (x, g, b) c = MatMul (a, q) d = MatMul (a, k) "
    "e = Transpose <perm = [0, 2, 1]> (d) f = MatMul (c, e) h = Softmax <axis = -1> (f) i = MatMul (a, v) "
    "j = MatMul (h, i) y = Add (x, j) }",
    "lstm": "(float[3, N, 4] x) => (float[3, N, 2] y) <float[1, 8, 4] w, float[1, 8, 2] r, float[1, 16] b> "
    "{ a, c, d = LSTM <hidden_size = 2> (x, w, r, b) e = Constant <value_ints = [1]> () y = Squeeze (a, e) }",
    "shapes": "(float[N, 2, 6] x) => (float[N, 3] y) <float[4, 3] w, float[12, 4] v> "
    "{ s = Shape (x) i = Constant <value_ints = [0]> () n = Gather <axis = 0> (s, i) "
    "m = Constant <value_ints = [-1]> () t = Concat <axis = 0> (n, m) r = Reshape (x, t) h = MatMul (r, v) "
    "c = Constant <value_ints = [0]> () d = Constant <value_ints = [4]> () e = Constant <value_ints = [1]> () "
    "g = Slice (h, c, d, e) y = MatMul (g, w) }",
    "quantised": "(float[N, 4] x) => (float[N, 3] y) <float[4, 4] v, int8[4, 3] w, float s = {0.1}, int8 z = {0}> "
    "{ h = MatMul (x, v) d = DequantizeLinear (w, s, z) y = MatMul (h, d) }",
    "filled": "(float[N, 4] x) => (float[N, 3] y) <float[4, 4] w> { a = MatMul (x, w) "
    "s = Constant <value_ints = [4, 3]> () v = ConstantOfShape <value = float[1] {0.5}> (s) y = MatMul (a, v) }",
    "embedding": "(int64[N, 3] x) => (float[N, 2] y) <float[7, 4] w, float[12, 2] v> "
    "{ a = Gather (w, x) b = Flatten (a) y = MatMul (b, v) }",
}
EXTERNAL = "external.bin"
"""What the file of the seed ``external`` names."""


def _drawn(text: str, seed: int) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    rng = np.random.default_rng(seed)
    for value in model.graph.value_info:  # what is declared without numbers
        kind = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        drawn = rng.uniform(0.2, 1.0, [d.dim_value for d in kind.shape.dim]) * (100 if dtype == np.int8 else 1)
        model.graph.initializer.append(onnx.numpy_helper.from_array(drawn.astype(dtype), value.name))
    del model.graph.value_info[:]
    return model


def _models() -> dict[str, onnx.ModelProto]:
    found = {name: _drawn(text, number) for number, (name, text) in enumerate(_TEXTS.items())}
    half = onnx.ModelProto()
    half.CopyFrom(found["mlp"])
    for tensor in half.graph.initializer:  # numbers as a field of floats
        value = onnx.numpy_helper.to_array(tensor)
        tensor.ClearField("raw_data")
        tensor.float_data.extend(value.ravel().tolist())
    found["fields"] = half
    external = onnx.ModelProto()
    external.CopyFrom(found["mlp"])
    at = 0
    for tensor in external.graph.initializer:
        size = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", EXTERNAL), ("offset", at), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        at += size
    found["external"] = external
    return found


MODELS = _models()
EXTERNAL_BYTES = b"".join(tensor.raw_data for tensor in MODELS["mlp"].graph.initializer)


def arrays(name: str, examples: int = 6) -> dict[str, Any]:
    """Data that the model *name* takes."""
    graph, rng = MODELS[name].graph, np.random.default_rng(0)
    value, result = graph.input[0], graph.output[0]
    sizes = [d.dim_value or examples for d in value.type.tensor_type.shape.dim]
    whole = value.type.tensor_type.elem_type == onnx.TensorProto.INT64
    x = rng.integers(0, 7, sizes) if whole else rng.uniform(-1, 1, sizes).astype(np.float32)
    if name == "lstm":
        x = x.transpose(1, 0, 2)
    if result.name == "y" and name in ("attention", "lstm"):
        shape = [d.dim_value or examples for d in result.type.tensor_type.shape.dim]
        label: Any = rng.uniform(-1, 1, sorted(shape, reverse=True) if name == "lstm" else shape).astype(np.float32)
    else:
        label = rng.integers(0, 2, examples)
    return {value.name: x, "label": label}
