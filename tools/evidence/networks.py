"""The networks that labels are learned by heart with, as ONNX files with weights drawn as PyTorch draws them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import onnx_ir as ir

from graphs import resnet20

CNN = """
  a = Conv <pads = [1, 1, 1, 1]> (image, w1, b1)
  b = Relu (a)
  c = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)
  d = Conv <pads = [1, 1, 1, 1]> (c, w2, b2)
  e = Relu (d)
  f = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (e)
  g = Flatten (f)
  h = Gemm <transB = 1> (g, w3, b3)
  i = Relu (h)
  logits = Gemm <transB = 1> (i, w4, b4)"""
MLP = """
  x = Flatten (image)
  a = Gemm <transB = 1> (x, w1, b1)
  b = Relu (a)
  c = Gemm <transB = 1> (b, w2, b2)
  d = Relu (c)
  logits = Gemm <transB = 1> (d, w3, b3)"""


def mlp(path: Path, seed: int, *, pixels: tuple[int, int, int], width: int) -> None:
    """Two hidden layers: ``image f32[N, *pixels] → logits f32[N, 10]``."""
    inputs = int(np.prod(pixels))
    _write(path, seed, pixels, MLP, [(width, inputs), (width, width), (10, width)])


def cnn(path: Path, seed: int, *, pixels: tuple[int, int, int], width: int) -> None:
    """Two convolutions, each before a max-pooling, and two linear layers: ``image f32[N, *pixels] → logits``."""
    channels, height, _ = pixels
    shapes = [(width, channels, 3, 3), (2 * width, width, 3, 3), (32 * width, 2 * width * (height // 4) ** 2)]
    _write(path, seed, pixels, CNN, [*shapes, (10, 32 * width)])


def residual(path: Path, seed: int, *, pixels: tuple[int, int, int], width: int, depth: int) -> None:
    """ResNet of ``6 · depth + 2`` layers with batch norm: ``image f32[N, *pixels] → logits f32[N, 10]``."""
    ir.save(resnet20(seed=seed, channels=pixels[0], size=pixels[1], width=width, depth=depth), path)


def weights(path: Path) -> int:
    """How many numbers the products of a network have."""
    tensors = onnx.load(path).graph.initializer
    return sum(int(np.prod(tensor.dims)) for tensor in tensors if len(tensor.dims) > 1)


def _write(path: Path, seed: int, pixels: tuple[int, int, int], nodes: str, shapes: list[tuple[int, ...]]) -> None:
    """Weights and biases are uniform, of variance 1 / (3 · inputs)."""
    signature = f"(float[N, {', '.join(map(str, pixels))}] image) => (float[N, 10] logits)"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> net {signature} {{{nodes}\n}}')
    rng = np.random.default_rng(seed)
    for number, shape in enumerate(shapes, 1):
        bound = 1 / np.sqrt(np.prod(shape[1:]))
        for name, size in ((f"w{number}", shape), (f"b{number}", shape[:1])):
            values = rng.uniform(-bound, bound, size).astype(np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, path)
