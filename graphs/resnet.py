"""Residual networks (He, Zhang, Ren, Sun 2016, Deep Residual Learning for Image Recognition, arXiv 1512.03385).

Layers, names and parameters are torchvision's.  A block computes ``relu(x' + f(x))``, where x' is x, or x through a
1×1 convolution where f changes the shape; four stages of blocks, of 1, 2, 4 and 8 times ``width`` maps, the last
three beginning with stride 2.  From 50 layers on a block is a bottleneck, whose stride is in its 3×3 convolution as in
torchvision (known as version 1.5); the paper's is in its first.
"""

# mypy: disable-error-code="no-any-return"
# onnxscript gives no type to what an operator returns.

from collections.abc import Sequence

import onnx_ir as ir
from onnxscript import OpBuilder, nn

from graphs.init import fan_in, he, initialise, zeros
from graphs.layers import BatchNorm, Conv, Linear, inference_model, max_pool


class BasicBlock(nn.Module):
    """Two 3×3 convolutions: ``f32[N, inputs, H, W] → f32[N, maps · expansion, H/stride, W/stride]``."""

    expansion = 1

    def __init__(self, inputs: int, maps: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = Conv(inputs, maps, 3, stride=stride, padding=1), BatchNorm(maps)
        self.conv2, self.bn2 = Conv(maps, maps, 3, padding=1), BatchNorm(maps)
        self.downsample = shortcut(inputs, maps * self.expansion, stride)

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        y = op.Relu(self.bn1(op, self.conv1(op, x)))
        y = self.bn2(op, self.conv2(op, y))
        return op.Relu(op.Add(y, x if self.downsample is None else self.downsample(op, x)))


class Bottleneck(nn.Module):
    """A 3×3 convolution between two of 1×1: ``f32[N, inputs, H, W] → f32[N, maps · expansion, H/stride, W/stride]``."""

    expansion = 4

    def __init__(self, inputs: int, maps: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = Conv(inputs, maps, 1), BatchNorm(maps)
        self.conv2, self.bn2 = Conv(maps, maps, 3, stride=stride, padding=1), BatchNorm(maps)
        self.conv3, self.bn3 = Conv(maps, maps * self.expansion, 1), BatchNorm(maps * self.expansion)
        self.downsample = shortcut(inputs, maps * self.expansion, stride)

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        y = op.Relu(self.bn1(op, self.conv1(op, x)))
        y = op.Relu(self.bn2(op, self.conv2(op, y)))
        y = self.bn3(op, self.conv3(op, y))
        return op.Relu(op.Add(y, x if self.downsample is None else self.downsample(op, x)))


Block = type[BasicBlock] | type[Bottleneck]


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """The projection of a block's input to its output's shape; None where they are equal."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(Conv(inputs, outputs, 1, stride=stride), BatchNorm(outputs))


class ResNet(nn.Module):
    """``f32[N, 3, H, W] → f32[N, classes]``."""

    def __init__(self, block: Block, depths: Sequence[int], width: int, classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = Conv(3, width, 7, stride=2, padding=3), BatchNorm(width)
        self.layer1 = _stage(block, depths[0], width, width, stride=1)
        self.layer2 = _stage(block, depths[1], width * block.expansion, 2 * width, stride=2)
        self.layer3 = _stage(block, depths[2], 2 * width * block.expansion, 4 * width, stride=2)
        self.layer4 = _stage(block, depths[3], 4 * width * block.expansion, 8 * width, stride=2)
        self.fc = Linear(8 * width * block.expansion, classes)

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        x = op.Relu(self.bn1(op, self.conv1(op, x)))
        x = max_pool(op, x, 3, stride=2, padding=1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(op, x)
        return self.fc(op, op.Flatten(op.GlobalAveragePool(x)))


def _stage(block: Block, depth: int, inputs: int, maps: int, *, stride: int) -> nn.Sequential:
    rest = [block(maps * block.expansion, maps, 1) for _ in range(depth - 1)]
    return nn.Sequential(block(inputs, maps, stride), *rest)


def resnet18(*, seed: int = 0, classes: int = 1000, size: int = 224, width: int = 64, depth: int = 2) -> ir.Model:
    """ResNet-18 (He et al. 2016, arXiv 1512.03385); ``width`` is the maps of its first convolution.

    Of 11,689,512 parameters; ``depth`` is the most blocks that a stage may have: 1 makes it shallower.
    """
    depths = [min(blocks, depth) for blocks in (2, 2, 2, 2)]
    return _model("resnet18", ResNet(BasicBlock, depths, width, classes), seed, size)


def resnet50(*, seed: int = 0, classes: int = 1000, size: int = 224, width: int = 64, depth: int = 6) -> ir.Model:
    """ResNet-50, version 1.5 (He et al. 2016, arXiv 1512.03385); ``width`` is the maps of its first convolution.

    Of 25,557,032 parameters; ``depth`` is the most blocks that a stage may have: less than 6 makes it shallower.
    """
    depths = [min(blocks, depth) for blocks in (3, 4, 6, 3)]
    return _model("resnet50", ResNet(Bottleneck, depths, width, classes), seed, size)


def _model(name: str, network: ResNet, seed: int, size: int) -> ir.Model:
    initialise(network, seed, {Conv: (he, zeros), Linear: (fan_in, fan_in)})
    return inference_model(network, name, (3, size, size))
