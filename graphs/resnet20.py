"""ResNet-20 and its siblings for pictures of 32×32 (He, Zhang, Ren, Sun 2016, arXiv 1512.03385, section 4.2).

Three stages of blocks of 1, 2 and 4 times ``width`` maps, the last two beginning with stride 2.  The shortcut has no
weights (the paper's option A): where the shape changes, x is every second row and column, and the maps that are new
are zero.
"""

# mypy: disable-error-code="no-any-return"
# onnxscript gives no type to what an operator returns.

import onnx_ir as ir
from onnxscript import OpBuilder, nn

from graphs.init import fan_in, he, initialise, zeros
from graphs.layers import BatchNorm, Conv, Linear, inference_model


class Block(nn.Module):
    """Two 3×3 convolutions: ``f32[N, inputs, H, W] → f32[N, maps, H/stride, W/stride]``; ``stride = maps / inputs``."""

    def __init__(self, inputs: int, maps: int) -> None:
        super().__init__()
        self.stride, self.new = maps // inputs, maps - inputs
        self.conv1, self.bn1 = Conv(inputs, maps, 3, stride=self.stride, padding=1), BatchNorm(maps)
        self.conv2, self.bn2 = Conv(maps, maps, 3, padding=1), BatchNorm(maps)

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        y = op.Relu(self.bn1(op, self.conv1(op, x)))
        y = self.bn2(op, self.conv2(op, y))
        return op.Relu(op.Add(y, self.shortcut(op, x)))

    def shortcut(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        if not self.new:
            return x
        every = op.AveragePool(x, kernel_shape=[1, 1], strides=[self.stride] * 2)
        before = self.new // 2
        return op.Pad(every, op.Constant(value_ints=[0, before, 0, 0, 0, self.new - before, 0, 0]))


class ResNet20(nn.Module):
    """``f32[N, channels, H, W] → f32[N, classes]``."""

    def __init__(self, depth: int, width: int, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = Conv(channels, width, 3, padding=1), BatchNorm(width)
        self.layer1 = _stage(depth, width, width)
        self.layer2 = _stage(depth, width, 2 * width)
        self.layer3 = _stage(depth, 2 * width, 4 * width)
        self.fc = Linear(4 * width, classes)

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        x = op.Relu(self.bn1(op, self.conv1(op, x)))
        for stage in (self.layer1, self.layer2, self.layer3):
            x = stage(op, x)
        return self.fc(op, op.Flatten(op.GlobalAveragePool(x)))


def _stage(depth: int, inputs: int, maps: int) -> nn.Sequential:
    return nn.Sequential(Block(inputs, maps), *(Block(maps, maps) for _ in range(depth - 1)))


def resnet20(
    *, seed: int = 0, classes: int = 10, size: int = 32, width: int = 16, depth: int = 3, channels: int = 3
) -> ir.Model:
    """ResNet-20 for CIFAR-10 (He et al. 2016, arXiv 1512.03385); ``width`` is the maps of its first convolution.

    Of 269,722 parameters and 6 · ``depth`` + 2 layers: 1 makes it ResNet-8, 2 ResNet-14.
    """
    network = ResNet20(depth, width, channels, classes)
    initialise(network, seed, {Conv: (he, zeros), Linear: (fan_in, fan_in)})
    return inference_model(network, "resnet20", (channels, size, size))
