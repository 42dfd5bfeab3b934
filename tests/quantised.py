"""Float models of ``tests/cases.py``'s kind, quantised by ONNX Runtime's own tools in every form that these have."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from tests import cases

Network = tuple[str, dict[str, tuple[int, ...]], tuple[int, ...]]
NETWORKS: dict[str, Network] = {
    "convolutions": (
        "(float[N, 3, 12, 12] x) => (float[N, 5] y) { c = Conv <pads = [1, 1, 1, 1]> (x, K, k) r = Relu (c) "
        "p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r) d = Conv <pads = [1, 1, 1, 1]> (p, L, l) "
        "e = Add (d, p) s = Sigmoid (e) t = Concat <axis = 1> (s, p) a = GlobalAveragePool (t) f = Flatten (a) "
        "y = Gemm <transB = 1> (f, W, b) }",
        {"K": (8, 3, 3, 3), "k": (8,), "L": (8, 8, 3, 3), "l": (8,), "W": (5, 16), "b": (5,)},
        (3, 12, 12),
    ),
    "layers": (
        "(float[N, 8] x) => (float[N, 5] y) { h = MatMul (x, W) i = Add (h, b) r = Relu (i) g = MatMul (r, V) "
        "y = Softmax (g) }",
        {"W": (8, 16), "b": (16,), "V": (16, 5)},
        (8,),
    ),
    "attention": (
        "(float[N, 6, 8] x) => (float[N, 6, 8] y) { q = MatMul (x, Q) k = MatMul (x, K) v = MatMul (x, V) "
        "t = Transpose <perm = [0, 2, 1]> (k) s = MatMul (q, t) p = Softmax (s) o = MatMul (p, v) y = MatMul (o, W) }",
        {"Q": (8, 8), "K": (8, 8), "V": (8, 8), "W": (8, 8)},
        (6, 8),
    ),
    "leaks": (
        "(float[N, 3, 12, 12] x) => (float[N, 4] y) { c = Conv <strides = [2, 2]> (x, K) "
        "r = LeakyRelu <alpha = 0.1> (c) a = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (r) "
        "m = Mul (a, a) s = Constant <value_ints = [0, -1]> () f = Reshape (m, s) y = MatMul (f, W) }",
        {"K": (4, 3, 3, 3), "W": (16, 4)},
        (3, 12, 12),
    ),
    "a table": (
        "(int64[N, 6] x) => (float[N, 5] y) { e = Gather (T, x) m = ReduceMean <axes = [1], keepdims = 0> (e) "
        "y = MatMul (m, W) }",
        {"T": (30, 16), "W": (16, 5)},
        (),
    ),
}
FORMS = ("QOperator", "QDQ", "dynamic")
TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}


def inputs(network: str, seed: int = 0) -> cases.Array:
    """Examples for one of :data:`NETWORKS`."""
    rng, shape = np.random.default_rng(seed), NETWORKS[network][2]
    return rng.standard_normal((32, *shape)).astype(np.float32) if shape else rng.integers(0, 30, (32, 6))


class _Examples(CalibrationDataReader):
    def __init__(self, x: cases.Array) -> None:
        self.batches: Iterator[dict[str, cases.Array]] = iter([{"x": x}])

    def get_next(self) -> dict[str, cases.Array] | None:
        return next(self.batches, None)


def quantised(folder: Path, network: str, form: str, weights: str, *, per_channel: bool = False) -> tuple[Path, Path]:
    """The float model, and it quantised with the range of :func:`inputs`."""
    text, shapes, _ = NETWORKS[network]
    drawn = {name: cases.drawn(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    model, made = cases.write(folder / "float.onnx", text, drawn, opset=17), folder / "quantised.onnx"
    proto = onnx.load(model)
    proto.ir_version = 8
    onnx.save(proto, model)
    logging.disable(logging.WARNING)  # the tools advise to preprocess
    try:
        if form == "dynamic":
            quantize_dynamic(model, made, weight_type=TYPES[weights], per_channel=per_channel)
        else:
            quantize_static(
                model,
                made,
                _Examples(inputs(network)),
                quant_format=QuantFormat[form],
                weight_type=TYPES[weights],
                activation_type=QuantType.QUInt8,
                per_channel=per_channel,
            )
    finally:
        logging.disable(logging.NOTSET)
    return model, made
