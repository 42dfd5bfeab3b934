"""GoogLeNet (Szegedy et al. 2015, Going Deeper with Convolutions, arXiv 1409.4842), with local response normalisation.

The network of the paper's table 1 as the Caffe Model Zoo has it, of 7.0 million parameters: biases and no batch norm,
5×5 convolutions where torchvision has 3×3, and poolings whose last window may reach beyond the image (``ceil_mode``).
An inception block puts side by side what four branches make of x::

    conv1×1(x),  conv3×3(conv1×1(x)),  conv5×5(conv1×1(x)),  conv1×1(maxpool3×3(x))

LRN divides each entry by ``(1 + 10⁻⁴/5 · Σ x²)^0.75``, the sum being over five neighbouring maps.  The weights' names
are torchvision's without the ``conv`` that stands beside a batch norm there: ``inception4a.branch2.1.weight``.

Initial weights are the Model Zoo's: uniform with variance 1/fan_in (its "xavier"), biases 0.2 in front of a ReLU and
0 at the end; the paper gives none.
"""

# mypy: disable-error-code="no-any-return"
# onnxscript gives no type to what an operator returns.

from collections.abc import Sequence

import onnx_ir as ir
from onnxscript import OpBuilder, nn

from graphs.init import initialise, lecun, positive, zeros
from graphs.layers import Conv, Linear, dropout, inference_model, max_pool

BLOCKS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Maps of 1×1; of the 1×1 in front of 3×3, and 3×3; of the 1×1 in front of 5×5, and 5×5; behind the pooling.

In front of 3a, 4a and 5a the image is halved.
"""
AUXILIARY = {"4a": "aux1", "4d": "aux2"}
"""Blocks → the classifiers that read what they put out."""


class ConvRelu(Conv):
    """``max(conv(x), 0)``, the image's size kept but for the stride."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=True)

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        return op.Relu(super().forward(op, x))


class LinearRelu(Linear):
    """``max(linear(x), 0)``."""

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        return op.Relu(super().forward(op, x))


class MaxPool(nn.Module):
    """Of 3×3 around each pixel: the shape is kept."""

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        return max_pool(op, x, 3, stride=1, padding=1)


class Inception(nn.Module):
    """Four branches side by side: ``f32[N, inputs, H, W] → f32[N, outputs, H, W]``."""

    def __init__(self, inputs: int, maps: Sequence[int]) -> None:
        super().__init__()
        ones, before_threes, threes, before_fives, fives, pooled = maps
        self.branch1 = ConvRelu(inputs, ones, 1)
        self.branch2 = nn.Sequential(ConvRelu(inputs, before_threes, 1), ConvRelu(before_threes, threes, 3))
        self.branch3 = nn.Sequential(ConvRelu(inputs, before_fives, 1), ConvRelu(before_fives, fives, 5))
        self.branch4 = nn.Sequential(MaxPool(), ConvRelu(inputs, pooled, 1))
        self.outputs = ones + threes + fives + pooled

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return op.Concat(*(branch(op, x) for branch in branches), axis=1)


class Auxiliary(nn.Module):
    """A classifier beside the network, for training: ``f32[N, inputs, side, side] → f32[N, classes]``.

    Its average pooling is of 5×5 at a stride of 3, or of the whole image where that is smaller.
    """

    def __init__(self, inputs: int, side: int, width: int, classes: int, percent: int) -> None:
        super().__init__()
        self.percent = percent
        self.window = min(5, side)
        pooled = (side - self.window) // 3 + 1
        self.conv = ConvRelu(inputs, 2 * width, 1)
        self.fc1 = LinearRelu(2 * width * pooled * pooled, 16 * width)
        self.fc2 = Linear(16 * width, classes)

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        x = op.AveragePool(x, kernel_shape=[self.window] * 2, strides=[3, 3])
        x = self.fc1(op, op.Flatten(self.conv(op, x)))
        return self.fc2(op, dropout(op, x, self.percent))


class GoogLeNet(nn.Module):
    """``f32[N, 3, size, size] → f32[N, classes]``; with *aux* three of these, the network's own first."""

    def __init__(self, size: int, width: int, classes: int, percent: int, *, aux: bool) -> None:
        super().__init__()
        self.percent = percent
        self.conv1 = ConvRelu(3, width, 7, stride=2)
        self.conv2 = ConvRelu(width, width, 1)
        self.conv3 = ConvRelu(width, 3 * width, 3)
        self.blocks: dict[str, Inception] = {}
        inputs = 3 * width
        for name, maps in BLOCKS.items():
            self.blocks[name] = Inception(inputs, [max(1, m * width // 64) for m in maps])
            setattr(self, f"inception{name}", self.blocks[name])
            inputs = self.blocks[name].outputs
        self.fc = Linear(inputs, classes)
        # Last, so that the same seed gives the network the same weights with them and without.
        self.heads: dict[str, Auxiliary] = {}
        for block, name in AUXILIARY.items() if aux else ():
            side, dropped = (size + 1) // 16, 70 if percent else 0
            self.heads[block] = Auxiliary(self.blocks[block].outputs, side, width, classes, dropped)
            setattr(self, name, self.heads[block])

    def forward(self, op: OpBuilder, x: ir.Value) -> list[ir.Value]:
        x = _lrn(op, _halve(op, self.conv1(op, x)))
        x = _lrn(op, self.conv3(op, self.conv2(op, x)))
        auxiliary = []
        for name, block in self.blocks.items():
            x = block(op, _halve(op, x) if name.endswith("a") else x)
            if name in self.heads:
                auxiliary.append(self.heads[name](op, x))
        x = dropout(op, op.Flatten(op.GlobalAveragePool(x)), self.percent)
        return [self.fc(op, x), *auxiliary]


def _halve(op: OpBuilder, x: ir.Value) -> ir.Value:
    """``f32[N, C, H, W] → f32[N, C, ⌊H/2⌋, ⌊W/2⌋]``"""
    return max_pool(op, x, 3, stride=2, ceil=True)


def _lrn(op: OpBuilder, x: ir.Value) -> ir.Value:
    return op.LRN(x, size=5, alpha=1e-4, beta=0.75, bias=1.0)


def googlenet(
    *, seed: int = 0, classes: int = 1000, size: int = 224, width: int = 64, aux: int = 0, dropout: int = 40
) -> ir.Model:
    """GoogLeNet (Szegedy et al. 2015, arXiv 1409.4842); ``width`` is the maps of its first convolution.

    Of 6,998,552 parameters.  With ``aux`` 1 it has the paper's two auxiliary classifiers too: outputs ``logits_aux1``
    and ``logits_aux2``, for losses of the weight 0.3, and 13,378,280 parameters in all.  ``dropout`` is in percent, in
    front of the logits; auxiliary classifiers drop 70, or nothing where that is 0.

    Raises:
        ValueError: another ``aux``, a ``dropout`` that is no percentage, or images smaller than 31×31, of which the
            poolings leave nothing.
    """
    if aux not in (0, 1):
        raise ValueError(f"GoogLeNet has its auxiliary classifiers (aux 1) or not (aux 0), not aux {aux}")
    if size < 31:
        raise ValueError(f"GoogLeNet needs images of at least 31×31, not {size}×{size}")
    network = GoogLeNet(size, width, classes, dropout, aux=bool(aux))
    initialise(network, seed, {ConvRelu: (lecun, positive), LinearRelu: (lecun, positive), Linear: (lecun, zeros)})
    outputs = ["logits", *(f"logits_{name}" for name in AUXILIARY.values() if aux)]
    return inference_model(network, "googlenet", (3, size, size), outputs)
