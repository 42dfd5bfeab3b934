"""Deep Speech 2 (Amodei et al. 2016, arXiv 1512.02595): letters from speech, by connectionist temporal classification.

Two convolutions over frequency × time, of 41×11 and 21×11 with strides 2×2 and 2×1, batch norm and the clipped ReLU
``min(max(x, 0), 20)``; seven recurrent layers both ways with the same ReLU, directions added; a linear layer.  From the
second recurrent layer on, and before the linear one, a batch norm has its statistics over all frames of a batch.  It
stands in front of the layer, as in the PyTorch implementations in use and for their reason: in the paper it is between
W·x and R·h, which are in one node here, as in cuDNN.  Frames behind a sequence's end are zeros to convolutions, and
count in the statistics of training.

The DSD paper has about 67 million parameters and gives no width; of 1552 units the network has 67,060,077.
Convolutions start as He et al. 2015 have it, recurrent layers from U(−1/√width, 1/√width) and the linear layer from
U(−1/√fan_in, 1/√fan_in), as PyTorch's do: the paper gives none.
"""

# mypy: disable-error-code="no-any-return"
# onnxscript gives no type to what an operator returns.

import onnx_ir as ir
from onnxscript import OpBuilder, nn

from graphs.init import fan_in, he, initialise, uniform
from graphs.layers import BatchNorm, Conv, Shape, dropout, model_of
from graphs.sequence import ClippedRnn, FrameBatchNorm, FrameLinear, clipped_relu, speech, zero_behind


class DeepSpeech2(nn.Module):
    """``f32[N, T, bands], i64[N] → f32[N, ⌈T/2⌉, classes], i64[N]``: the second result is ⌈lengths/2⌉."""

    def __init__(self, classes: int, bands: int, *, maps: int, width: int, depth: int, dropout: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = Conv(1, maps, (41, 11), stride=(2, 2), padding=(20, 5)), BatchNorm(maps)
        self.conv2, self.bn2 = Conv(maps, maps, (21, 11), stride=(2, 1), padding=(10, 5)), BatchNorm(maps)
        self.inputs = maps * -(-bands // 4)
        self.rnns = nn.ModuleList([ClippedRnn(self.inputs if i == 0 else width, width) for i in range(depth)])
        self.norms = nn.ModuleList([FrameBatchNorm(width) for _ in range(depth)])
        self.fc = FrameLinear(width, classes)
        self.dropout = dropout

    def forward(self, op: OpBuilder, features: ir.Value, lengths: ir.Value) -> tuple[ir.Value, ir.Value]:
        frames = op.Div(op.Add(lengths, op.Constant(value_int=1)), op.Constant(value_int=2))
        x = op.Transpose(zero_behind(op, features, lengths, time=1, rank=3), perm=[0, 2, 1])
        x = op.Unsqueeze(x, op.Constant(value_ints=[1]))
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2)):
            x = zero_behind(op, clipped_relu(op, norm(op, conv(op, x))), frames, time=3, rank=4)
        x = op.Reshape(op.Transpose(x, perm=[3, 0, 1, 2]), op.Constant(value_ints=[0, 0, self.inputs]))
        x = dropout(op, x, self.dropout)
        steps = op.Cast(frames, to=ir.DataType.INT32)
        for rnn, frame_norm in zip(self.rnns, self.norms, strict=True):
            x = dropout(op, frame_norm(op, rnn(op, x, steps)), self.dropout)
        return op.Transpose(self.fc(op, x), perm=[1, 0, 2]), frames


def deepspeech2(
    *,
    seed: int = 0,
    classes: int = 29,
    bands: int = 161,
    maps: int = 32,
    width: int = 1552,
    depth: int = 7,
    dropout: int = 0,
) -> ir.Model:
    """Deep Speech 2 (Amodei et al. 2016, arXiv 1512.02595): letters from speech, with seven recurrent layers.

    ``classes`` are CTC's blank, which is 0, space, apostrophe and a–z; ``bands`` the frequencies of a frame; ``maps``
    those of each convolution; ``width`` the units of each recurrent layer, ``depth`` how many there are; ``dropout``,
    in percent, in front of each of them and of the scores, is for small sets of recordings: the paper has none.

    Raises:
        ValueError: a ``dropout`` that is no percentage.
    """
    network = DeepSpeech2(classes, bands, maps=maps, width=width, depth=depth, dropout=dropout)
    rules = {Conv: (he,), ClippedRnn: (uniform(width**-0.5),) * 3, FrameLinear: (fan_in, fan_in)}
    initialise(network, seed, rules)
    outputs: dict[str, Shape | None] = {"logits": ["N", "T_out", classes], "frames": ["N"]}
    return model_of(network, "deepspeech2", speech(bands), outputs)
