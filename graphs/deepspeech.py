"""Deep Speech (Hannun et al. 2014, arXiv 1412.5567): letters from speech, by connectionist temporal classification.

Five layers, all with the clipped ReLU ``min(max(x, 0), 20)``: three of each frame, the first of which sees ``context``
frames on each side too; a recurrent one both ways, whose directions are added; and a fifth of each frame; then the
letters' scores.  Behind the ends of a sequence the first layer sees zeros.  The window is made of the features, so that
the first layer is a matrix product, not a convolution: the DSD paper prunes matrices and recurrent weights here.  Of
1024 units the network has 7,883,805 parameters; the DSD paper has about 8 million.

Dropout is behind the layers that are not recurrent, of 10 % (the paper: 5–10 %), as nodes, which training makes active.
The paper gives no initial weights: matrices start as He et al. 2015 derived for ReLU (eq. 10), and recurrent layers
from U(−1/√width, 1/√width), PyTorch's.
"""

# mypy: disable-error-code="no-any-return"
# onnxscript gives no type to what an operator returns.

import onnx_ir as ir
from onnxscript import OpBuilder, nn

from graphs.init import he_in, initialise, uniform, zeros
from graphs.layers import dropout, model_of
from graphs.sequence import ClippedRnn, FrameLinear, clipped_relu, speech, zero_behind


class DeepSpeech(nn.Module):
    """``f32[N, T, bands], i64[N] → f32[N, T, classes]``."""

    def __init__(self, classes: int, bands: int, *, context: int, width: int, depth: int, dropout: int) -> None:
        super().__init__()
        self.fc1 = FrameLinear((2 * context + 1) * bands, width)
        self.fc2, self.fc3 = FrameLinear(width, width), FrameLinear(width, width)
        self.rnns = nn.ModuleList([ClippedRnn(width, width) for _ in range(depth)])
        self.fc5 = FrameLinear(width, width)
        self.fc6 = FrameLinear(width, classes)
        self.context, self.dropout = context, dropout

    def forward(self, op: OpBuilder, features: ir.Value, lengths: ir.Value) -> ir.Value:
        x = op.Transpose(zero_behind(op, features, lengths, time=1, rank=3), perm=[1, 0, 2])
        x = _windows(op, x, self.context)
        for linear in (self.fc1, self.fc2, self.fc3):
            x = dropout(op, clipped_relu(op, linear(op, x)), self.dropout)
        steps = op.Cast(lengths, to=ir.DataType.INT32)
        for rnn in self.rnns:
            x = rnn(op, x, steps)
        x = dropout(op, clipped_relu(op, self.fc5(op, x)), self.dropout)
        return op.Transpose(self.fc6(op, x), perm=[1, 0, 2])


def _windows(op: OpBuilder, x: ir.Value, context: int) -> ir.Value:
    """Each frame with *context* frames in front and behind: ``f32[T, N, F] → f32[T, N, (2·context + 1)·F]``."""
    padded = op.Pad(x, op.Constant(value_ints=[context, 0, 0, context, 0, 0]))
    # From i on, without the last 2·context − i; in ONNX an end of 0 would be the beginning.
    bounds = [(i, i - 2 * context or 2**31 - 1) for i in range(2 * context + 1)]
    axis = op.Constant(value_ints=[0])
    parts = [op.Slice(padded, *(op.Constant(value_ints=[i]) for i in pair), axis) for pair in bounds]
    return op.Concat(*parts, axis=2)


def deepspeech(
    *,
    seed: int = 0,
    classes: int = 29,
    bands: int = 26,
    context: int = 9,
    width: int = 1024,
    depth: int = 1,
    dropout: int = 10,
) -> ir.Model:
    """Deep Speech (Hannun et al. 2014, arXiv 1412.5567): letters from speech, with one recurrent layer.

    ``classes`` are CTC's blank, which is 0, space, apostrophe and a–z; ``bands`` the features of a frame; ``width`` the
    units of each layer; ``depth`` the recurrent layers; ``dropout`` is in percent.

    Raises:
        ValueError: a dropout of 100 percent or more.
    """
    network = DeepSpeech(classes, bands, context=context, width=width, depth=depth, dropout=dropout)
    initialise(network, seed, {FrameLinear: (he_in, zeros), ClippedRnn: (uniform(width**-0.5),) * 3})
    return model_of(network, "deepspeech", speech(bands), {"logits": ["N", "T", classes]})
