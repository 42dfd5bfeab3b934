"""Small networks for handwritten digits of 8×8.

The MLP, that of ``dsd-ort demo``, has 85,002 parameters: enough to learn the labels of 1,287 digits by heart, be they
right or wrong.  The CNN has three convolutions of 3×3 with batch norm, the second and third followed by a max-pooling,
and a linear layer; 56,242 parameters.
"""

# mypy: disable-error-code="no-any-return"
# onnxscript gives no type to what an operator returns.

import onnx_ir as ir
from onnxscript import OpBuilder, nn

from graphs.init import fan_in, he, initialise, zeros
from graphs.layers import BatchNorm, Conv, Linear, inference_model, max_pool


class DigitsCnn(nn.Module):
    """``f32[N, 1, 8, 8] → f32[N, classes]``."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = Conv(1, width, 3, padding=1), BatchNorm(width)
        self.conv2, self.bn2 = Conv(width, 2 * width, 3, padding=1), BatchNorm(2 * width)
        self.conv3, self.bn3 = Conv(2 * width, 4 * width, 3, padding=1), BatchNorm(4 * width)
        self.fc = Linear(4 * width * 2 * 2, classes)

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        x = op.Relu(self.bn1(op, self.conv1(op, x)))
        x = max_pool(op, op.Relu(self.bn2(op, self.conv2(op, x))), 2, stride=2)
        x = max_pool(op, op.Relu(self.bn3(op, self.conv3(op, x))), 2, stride=2)
        return self.fc(op, op.Flatten(x))


class DigitsMlp(nn.Module):
    """``f32[N, 1, 8, 8] → f32[N, classes]``."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = Linear(64, width), Linear(width, width), Linear(width, classes)

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        x = op.Relu(self.fc1(op, op.Flatten(x)))
        return self.fc3(op, op.Relu(self.fc2(op, x)))


def digits_mlp(*, seed: int = 0, classes: int = 10, width: int = 256) -> ir.Model:
    """Small MLP for digits of 8×8 (our own); ``width`` is that of its hidden layers."""
    network = DigitsMlp(width, classes)
    initialise(network, seed, {Linear: (he, zeros)})
    return inference_model(network, "digits_mlp", (1, 8, 8))


def digits_cnn(*, seed: int = 0, classes: int = 10, width: int = 24) -> ir.Model:
    """Small CNN with batch norm for digits of 8×8 (our own); ``width`` is the maps of its first convolution."""
    network = DigitsCnn(width, classes)
    initialise(network, seed, {Conv: (he, zeros), Linear: (fan_in, fan_in)})
    return inference_model(network, "digits_cnn", (1, 8, 8))
