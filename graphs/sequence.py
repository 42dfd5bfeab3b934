"""Layers of the networks that read sequences: recurrent layers, and what is done frame by frame.

A sequence is ``f32[T, N, width]``, time first as ONNX's recurrent layers have it.  Where sequences have lengths, frames
behind the end are in no result: recurrent layers stop there, and convolutions and windows read zeros.  Frames
themselves may be anything there, in what comes in and in what comes out.
"""

# mypy: disable-error-code="no-any-return"
# onnxscript gives no type to what an operator returns.

import onnx_ir as ir
from onnxscript import OpBuilder, nn

from graphs.layers import BatchNorm, Linear, Shape

CEILING = 20.0
"""Of the clipped ReLU ``min(max(x, 0), 20)`` (Hannun et al. 2014, arXiv 1412.5567, §2)."""


class Embedding(nn.Module):
    """The rows of a table: ``i64[…] → f32[…, width]``; ``weight f32[rows, width]``."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter([rows, width])

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        return op.Gather(self.weight, x, axis=0)


class FrameLinear(Linear):
    """:class:`Linear` of every frame: ``f32[T, N, in] → f32[T, N, out]``; ``weight f32[out, in]``."""

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        return op.Add(op.MatMul(x, op.Transpose(self.weight, perm=[1, 0])), self.bias)


class FrameBatchNorm(BatchNorm):
    """Batch norm over ``f32[T, N, channels]``, its statistics those of all frames of a batch."""

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        return op.Transpose(super().forward(op, op.Transpose(x, perm=[0, 2, 1])), perm=[0, 2, 1])


class Recurrent(nn.Module):
    """Weights of a recurrent layer as ONNX has them, with K gates and D directions.

    ``weight_ih f32[D, K·units, inputs]``, ``weight_hh f32[D, K·units, units]`` and ``bias f32[D, 2·K·units]``: what is
    added to the product with the first, then with the second, as PyTorch and cuDNN have it too.
    """

    def __init__(self, inputs: int, units: int, *, gates: int, directions: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter([directions, gates * units, inputs])
        self.weight_hh = nn.Parameter([directions, gates * units, units])
        self.bias = nn.Parameter([directions, 2 * gates * units])
        self.units = units


class Lstm(Recurrent):
    """LSTM without a tanh behind the cell: ``f32[T, N, inputs] → f32[T, N, units]``; gates i, o, f, g as in ONNX.

    c = σ(f)·c′ + σ(i)·tanh(g) and h = σ(o)·c, c′ the cell before (Vinyals et al. 2015, arXiv 1411.4555, eq. 7 and 8;
    NeuralTalk's default).
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(inputs, units, gates=4, directions=1)

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        functions = {"activations": ["Sigmoid", "Tanh", "Affine"], "activation_alpha": [1.0], "activation_beta": [0.0]}
        weights = (self.weight_ih, self.weight_hh, self.bias)
        y, _, _ = op.LSTM(x, *weights, hidden_size=self.units, _outputs=3, **functions)
        return op.Squeeze(y, op.Constant(value_ints=[1]))


class ClippedRnn(Recurrent):
    """Both ways over a sequence, and the sum of both: ``f32[T, N, inputs], i32[N] → f32[T, N, units]``.

    h = min(max(W·x + R·h′ + b, 0), 20), h′ the state before, or after on the way back.  ONNX's ``clip`` is for what
    goes into Relu, to ±20, which is the same.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(inputs, units, gates=1, directions=2)

    def forward(self, op: OpBuilder, x: ir.Value, lengths: ir.Value) -> ir.Value:
        weights = (self.weight_ih, self.weight_hh, self.bias, lengths)
        kind = {"direction": "bidirectional", "activations": ["Relu", "Relu"], "clip": CEILING}
        y, _ = op.RNN(x, *weights, hidden_size=self.units, _outputs=2, **kind)
        return op.ReduceSum(y, op.Constant(value_ints=[1]), keepdims=0)


def speech(bands: int) -> dict[str, tuple[ir.DataType, Shape]]:
    """The inputs of networks that hear: frames, and how many of each sequence count."""
    return {"features": (ir.DataType.FLOAT, ["N", "T", bands]), "lengths": (ir.DataType.INT64, ["N"])}


def clipped_relu(op: OpBuilder, x: ir.Value) -> ir.Value:
    """``min(max(x, 0), 20)``"""
    return op.Clip(x, op.Constant(value_float=0.0), op.Constant(value_float=CEILING))


def zero_behind(op: OpBuilder, x: ir.Value, lengths: ir.Value, *, time: int, rank: int) -> ir.Value:
    """Zeros behind each sequence's end, x before it: ``f32[N, …, T, …]`` with T the axis *time*, and ``i64[N]``.

    A choice, not a product with 0: what is there may be no number.
    """
    steps = op.Range(
        op.Constant(value_int=0), op.Squeeze(op.Shape(x, start=time, end=time + 1)), op.Constant(value_int=1)
    )
    inside = op.Less(
        op.Unsqueeze(steps, op.Constant(value_ints=[0])), op.Unsqueeze(lengths, op.Constant(value_ints=[1]))
    )
    others = [axis for axis in range(1, rank) if axis != time]
    return op.Where(op.Unsqueeze(inside, op.Constant(value_ints=others)), x, op.Constant(value_float=0.0))
