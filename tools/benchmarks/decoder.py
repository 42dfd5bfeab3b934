"""A small transformer as language models are: ``words i64[N, T] → logits f32[N, T, vocabulary]``.

Of each layer, x ← x + attention(norm x), then x ← x + W₂·gelu(W₁·norm x): attention looks at what stands before, gelu
is written with Erf as exporters do, and dropout is where GPT-2 has it (Radford et al. 2019).
"""

# mypy: disable-error-code="no-any-return"
# onnxscript gives no type to what an operator returns.

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnxscript import OpBuilder, nn

from graphs.init import fan_in, initialise, uniform, zeros
from graphs.layers import dropout, model_of
from graphs.sequence import Embedding


class Norm(nn.Module):
    """Layer norm over the last axis; it starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter([width], data=ir.tensor(np.ones(width, np.float32)))
        self.bias = nn.Parameter([width], data=ir.tensor(np.zeros(width, np.float32)))

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        return op.LayerNormalization(x, self.weight, self.bias, axis=-1)


class Product(nn.Module):
    """``f32[N, T, in] → f32[N, T, out]``; ``weight f32[in, out]``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter([inputs, outputs]), nn.Parameter([outputs])

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        return op.Add(op.MatMul(x, self.weight), self.bias)


class Layer(nn.Module):
    """``f32[N, T, width] → f32[N, T, width]``."""

    def __init__(self, width: int, heads: int, words: int, percent: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(width), Norm(width)
        self.qkv, self.out = Product(width, 3 * width), Product(width, width)
        self.wide, self.narrow = Product(width, 4 * width), Product(4 * width, width)
        self.width, self.heads, self.words, self.percent = width, heads, words, percent

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        x = op.Add(x, dropout(op, self.attention(op, self.norm1(op, x)), self.percent))
        h = self.wide(op, self.norm2(op, x))
        one, half, root = (op.Constant(value_float=v) for v in (1.0, 0.5, 2**0.5))
        h = op.Mul(op.Mul(h, op.Add(op.Erf(op.Div(h, root)), one)), half)
        return op.Add(x, dropout(op, self.narrow(op, h), self.percent))

    def attention(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        size = self.width // self.heads
        split = op.Constant(value_ints=[0, self.words, 3, self.heads, size])
        parts = op.Transpose(op.Reshape(self.qkv(op, x), split), perm=[2, 0, 3, 1, 4])
        q, k, v = (op.Gather(parts, op.Constant(value_int=i), axis=0) for i in range(3))
        scores = op.Mul(op.MatMul(q, op.Transpose(k, perm=[0, 1, 3, 2])), op.Constant(value_float=size**-0.5))
        later = np.triu(np.full((self.words, self.words), -1e9, np.float32), 1)
        p = dropout(op, op.Softmax(op.Add(scores, op.Constant(value=ir.tensor(later))), axis=-1), self.percent)
        y = op.Transpose(op.MatMul(p, v), perm=[0, 2, 1, 3])
        return self.out(op, op.Reshape(y, op.Constant(value_ints=[0, self.words, self.width])))


class Decoder(nn.Module):
    """``i64[N, T] → f32[N, T, vocabulary]``."""

    def __init__(self, layers: list[Layer], width: int, words: int, vocabulary: int) -> None:
        super().__init__()
        self.word, self.place = Embedding(vocabulary, width), nn.Parameter([words, width])
        self.place.const_value = ir.tensor(np.random.default_rng(0).normal(0, 0.1, (words, width)).astype(np.float32))
        self.layers = nn.Sequential(*layers)
        self.norm, self.head = Norm(width), Product(width, vocabulary)

    def forward(self, op: OpBuilder, words: ir.Value) -> ir.Value:
        return self.head(op, self.norm(op, self.layers(op, op.Add(self.word(op, words), self.place))))


def decoder(
    *, layers: int = 6, width: int = 256, heads: int = 4, words: int = 128, vocabulary: int = 1000, dropout: int = 10
) -> ir.Model:
    """The model; ``dropout`` is in percent."""
    network = Decoder([Layer(width, heads, words, dropout) for _ in range(layers)], width, words, vocabulary)
    initialise(network, 0, {Embedding: (uniform(0.1),), Product: (fan_in, zeros)})
    sizes = {"words": (ir.DataType.INT64, ["N", words])}
    return model_of(network, "decoder", sizes, {"logits": ["N", words, vocabulary]})
