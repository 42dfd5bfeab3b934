"""Very deep networks of 3×3 convolutions (Simonyan & Zisserman 2015, arXiv 1409.1556): configurations A, B, D and E.

Layers, names and parameters are torchvision's.  Five groups of convolutions, of 1, 2, 4, 8 and 8 times ``width`` maps,
each group followed by a max-pooling, then three linear layers, the first two of 64 times ``width`` units.  Each of
these two is followed by a Dropout of 0.5 as in the paper: a node, which training makes active.

Initial weights are those of He et al. 2015, which were derived for such networks, biases 0.  From its own N(0, 0.01²)
the paper could train the shallowest only, whose weights the deeper ones then started from.
"""

# mypy: disable-error-code="no-any-return"
# onnxscript gives no type to what an operator returns.

from collections.abc import Iterator

import onnx_ir as ir
from onnxscript import OpBuilder, nn

from graphs.init import he, he_in, initialise, zeros
from graphs.layers import Conv, Linear, dropout, inference_model, max_pool

GROUPS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Layers with weights → convolutions of each group."""


class Relu(nn.Module):
    """``max(x, 0)``; a module, as torchvision counts it in the names of the others."""

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        return op.Relu(x)


class MaxPool(nn.Module):
    """``f32[N, C, H, W] → f32[N, C, H/2, W/2]``."""

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        return max_pool(op, x, 2, stride=2)


class Dropout(nn.Module):
    """In training; x as it is otherwise."""

    def __init__(self, percent: int) -> None:
        super().__init__()
        self.percent = percent

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        return dropout(op, x, self.percent)


class Vgg(nn.Module):
    """``f32[N, 3, size, size] → f32[N, classes]``."""

    def __init__(self, groups: tuple[int, ...], size: int, width: int, classes: int, percent: int) -> None:
        super().__init__()
        units, side = 64 * width, size // 32
        self.features = nn.Sequential(*_features(groups, width))
        self.classifier = nn.Sequential(
            *(Linear(8 * width * side * side, units), Relu(), Dropout(percent)),
            *(Linear(units, units), Relu(), Dropout(percent)),
            Linear(units, classes),
        )

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        return self.classifier(op, op.Flatten(self.features(op, x)))


def _features(groups: tuple[int, ...], width: int) -> Iterator[nn.Module]:
    inputs = 3
    for group, convolutions in enumerate(groups):
        outputs = width * min(2**group, 8)
        for _ in range(convolutions):
            yield from (Conv(inputs, outputs, 3, padding=1, bias=True), Relu())
            inputs = outputs
        yield MaxPool()


def vgg16(
    *, seed: int = 0, classes: int = 1000, size: int = 224, width: int = 64, depth: int = 16, dropout: int = 50
) -> ir.Model:
    """VGG-16 (Simonyan & Zisserman 2015, arXiv 1409.1556); ``width`` is the maps of its first convolution.

    Of 138,357,544 parameters; ``depth`` is how many layers have weights: 11, 13, 16 or 19,
    and ``dropout`` is in percent.

    Raises:
        ValueError: another depth, a ``dropout`` that is no percentage, or images smaller than 32×32, of which the
            poolings leave nothing.
    """
    if depth not in GROUPS:
        raise ValueError(f"VGG has 11, 13, 16 or 19 layers, not {depth}")
    if size < 32:
        raise ValueError(f"VGG needs images of at least 32×32, not {size}×{size}")
    network = Vgg(GROUPS[depth], size, width, classes, dropout)
    initialise(network, seed, {Conv: (he, zeros), Linear: (he_in, zeros)})
    return inference_model(network, f"vgg{depth}", (3, size, size))
