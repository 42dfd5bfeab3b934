"""NeuralTalk: captions from an image's features (Karpathy & Fei-Fei 2015, arXiv 1412.2306).

The network is that of NeuralTalk's code, which is Show and Tell's (Vinyals et al. 2015, arXiv 1411.4555): an LSTM reads
the image's embedding at its first step, then START and the caption's words; what it says after the image is left out.
So ``logits[:, t]`` score the word that follows ``words[:, t]``, given the image and ``words[:, :t + 1]``, and a caption
w₁…w_k is learned from ``words = [START, w₁, …, w_k]`` with the labels ``[w₁, …, w_k, END]``.  Word 0 is START among the
inputs and END among the outputs.

The image's features are those of a VGG-16 (4096, its fc7) that is not trained; with the 2538 words of Flickr8K the
network has 6,800,362 parameters.  A network for pictures (``picture`` pixels a side) has an image part of its own
instead, ``cnn.*``: four 3×3 convolutions of 1, 2, 4 and 8 times ``maps`` maps with batch norm, ReLU and max-pooling.
With ``every_step`` the image's embedding is also added to every word's: a small LSTM forgets what it saw first.

Dropout of 0.5 is in front of the LSTM and behind it, as nodes, which training makes active.  Weights start from
U(−0.1, 0.1) and biases at 0, but the LSTM's are drawn too: NeuralTalk has them in the same matrix, and gives the forget
gate none of its own.  The image part starts as He et al. 2015 have it, and the embedding of what it sees from
U(−1/√fan_in, 1/√fan_in).
"""

# mypy: disable-error-code="no-any-return"
# onnxscript gives no type to what an operator returns.

from itertools import pairwise

import onnx_ir as ir
from onnxscript import OpBuilder, nn

from graphs.init import fan_in, he, initialise, uniform, zeros
from graphs.layers import BatchNorm, Conv, Linear, Shape, dropout, max_pool, model_of
from graphs.sequence import Embedding, FrameLinear, Lstm


class Block(nn.Module):
    """``f32[N, inputs, H, W] → f32[N, maps, H/2, W/2]``."""

    def __init__(self, inputs: int, maps: int) -> None:
        super().__init__()
        self.conv, self.bn = Conv(inputs, maps, 3, padding=1), BatchNorm(maps)

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        return max_pool(op, op.Relu(self.bn(op, self.conv(op, x))), 2, stride=2)


class NeuralTalk(nn.Module):
    """``f32[N, features], i64[N, T] → f32[N, T, vocabulary]``; with an image part, ``f32[N, 3, H, W], …``."""

    def __init__(
        self, cnn: nn.Sequential | None, features: int, vocabulary: int, width: int, *, every_step: bool, dropout: int
    ) -> None:
        super().__init__()
        self.cnn = cnn
        self.image_encoder = Linear(features, width)
        self.word_encoder = Embedding(vocabulary, width)
        self.lstm = Lstm(width, width)
        self.decoder = FrameLinear(width, vocabulary)
        self.every_step, self.dropout = every_step, dropout

    def forward(self, op: OpBuilder, image: ir.Value, words: ir.Value) -> ir.Value:
        features = image if self.cnn is None else op.Flatten(self.cnn(op, image))
        seen = op.Unsqueeze(self.image_encoder(op, features), op.Constant(value_ints=[1]))
        said = self.word_encoder(op, words)
        if self.every_step:
            said = op.Add(said, seen)
        x = op.Transpose(op.Concat(seen, said, axis=1), perm=[1, 0, 2])
        y = self.lstm(op, dropout(op, x, self.dropout))
        y = op.Slice(y, *(op.Constant(value_ints=[i]) for i in (1, 2**31 - 1, 0)))
        return op.Transpose(self.decoder(op, dropout(op, y, self.dropout)), perm=[1, 0, 2])


def _image_part(maps: int) -> nn.Sequential:
    """``f32[N, 3, H, W] → f32[N, 8·maps, H/16, W/16]``"""
    counts = [3, maps, 2 * maps, 4 * maps, 8 * maps]
    return nn.Sequential(*(Block(inputs, outputs) for inputs, outputs in pairwise(counts)))


def neuraltalk(
    *,
    seed: int = 0,
    vocabulary: int = 2538,
    features: int = 4096,
    width: int = 512,
    every_step: int = 0,
    picture: int = 0,
    maps: int = 24,
    dropout: int = 50,
) -> ir.Model:
    """NeuralTalk (Karpathy & Fei-Fei 2015, arXiv 1412.2306): a caption word by word, from features or pictures.

    ``vocabulary`` counts START and END as one; ``width`` is the LSTM's units; ``every_step`` 1 shows the image at each
    step; ``picture`` pixels a side are seen by a convolutional part of its own with ``maps``, in place of ``features``;
    ``dropout`` is in percent.

    Raises:
        ValueError: an ``every_step`` or ``dropout`` out of its range, or a picture that cannot be halved four times.
    """
    if every_step not in (0, 1):
        raise ValueError(f"NeuralTalk sees the image first (every_step 0) or at each step (1), not {every_step}")
    if picture % 16:
        raise ValueError(f"NeuralTalk's pictures are halved four times: a multiple of 16 pixels, not {picture}")
    cnn = _image_part(maps) if picture else None
    name, image = ("image", [3, picture, picture]) if picture else ("feature", [features])
    features = 8 * maps * (picture // 16) ** 2 if picture else features
    network = NeuralTalk(cnn, features, vocabulary, width, every_step=bool(every_step), dropout=dropout)
    drawn = uniform(0.1)
    rules = {Embedding: (drawn,), Lstm: (drawn, drawn, drawn), FrameLinear: (drawn, zeros)}
    initialise(network, seed, {Conv: (he,), Linear: (fan_in if picture else drawn, zeros), **rules})
    inputs: dict[str, tuple[ir.DataType, Shape]] = {
        name: (ir.DataType.FLOAT, ["N", *image]),
        "words": (ir.DataType.INT64, ["N", "T"]),
    }
    return model_of(network, "neuraltalk", inputs, {"logits": ["N", "T", vocabulary]})
