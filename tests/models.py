"""Small models and data that several tests train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser

# ONNX text has no dots in names; "__" becomes one.
CNN = """
<ir_version: 8, opset_import: ["" : 17]>
cnn (float[N, 1, 6, 6] image) => (float[N, 3] scores) {
    a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (image, conv1__weight)
    b = BatchNormalization (a, bn__weight, bn__bias, bn__mean, bn__var)
    c = Relu (b)
    d = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
    e = Conv <kernel_shape = [3, 3]> (d, conv2__weight, conv2__bias)
    f = Relu (e)
    g = Flatten (f)
    logits = Gemm <transB = 1> (g, fc__weight, fc__bias)
    scores = Softmax <axis = -1> (logits)
}
"""
CNN_SHAPES = {
    "conv1.weight": (4, 1, 3, 3),
    "bn.weight": (4,),
    "bn.bias": (4,),
    "bn.mean": (4,),
    "bn.var": (4,),
    "conv2.weight": (5, 4, 3, 3),
    "conv2.bias": (5,),
    "fc.weight": (3, 5),
    "fc.bias": (3,),
}


def write_cnn(path: Path, *, seed: int = 0, dropout: bool = False) -> Path:
    """A CNN with batch norm and a softmax at its end, for 6×6 images of three classes."""
    text = CNN
    if dropout:
        text = text.replace("g = Flatten (f)", "h = Dropout (f)\n    g = Flatten (h)")
    model = onnx.parser.parse_model(text)
    for node in model.graph.node:
        node.input[:] = [name.replace("__", ".") for name in node.input]
    rng = np.random.default_rng(seed)
    for name, shape in CNN_SHAPES.items():
        value = rng.standard_normal(shape) * 0.4
        if name == "bn.var":
            value = np.abs(value) + 0.5
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), name))
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def cnn_data(examples: int, *, seed: int = 1) -> dict[str, np.ndarray]:
    """Three kinds of stripes with noise: ``image`` f32[N, 1, 6, 6] and ``label`` i64[N]."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, examples)
    stripes = np.stack([np.sin(np.arange(36) * step).reshape(1, 6, 6) for step in (0.5, 1.0, 2.0)])
    noise = rng.standard_normal((examples, 1, 6, 6))
    return {"image": (stripes[label] + 0.5 * noise).astype(np.float32), "label": label}


TYPES = {
    "float": (1, np.float32),
    "float16": (10, np.float16),
    "double": (11, np.float64),
    "bfloat16": (16, ml_dtypes.bfloat16),
}
"""ONNX's names → ``TensorProto.data_type`` and NumPy's type."""


def retyped(message: Any, name: str, old: str = "float") -> Any:
    """*message* (a model or a part of one), changed: every tensor, input and output of type *old* has another type."""
    code, dtype = TYPES[name]
    for part, value in message.ListFields():
        if part.message_type is not None:
            for inner in [value] if hasattr(value, "ListFields") else value:
                retyped(inner, name, old)
    if isinstance(message, onnx.TensorProto) and message.data_type == TYPES[old][0]:
        array = onnx.numpy_helper.to_array(message).astype(dtype)
        message.CopyFrom(
            onnx.TensorProto(name=message.name, dims=message.dims, data_type=code, raw_data=array.tobytes())
        )
    elif isinstance(message, onnx.TypeProto.Tensor) and message.elem_type == TYPES[old][0]:
        message.elem_type = code
    return message
