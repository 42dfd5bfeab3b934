"""LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998, Gradient-Based Learning Applied to Document Recognition).

The paper's layers and sizes (6 and 16 maps of 5×5, then 120, 84 and the classes; 61,706 parameters) in the shape that
is usual today and that the DSD paper's generation of networks has: ReLU for the scaled tanh, max-pooling for trained
averages, every map of the second convolution reading all maps of the first, and a linear last layer for radial basis
functions.  As in the paper, images of 28×28 are padded to 32×32.
"""

# mypy: disable-error-code="no-any-return"
# onnxscript gives no type to what an operator returns.

import onnx_ir as ir
from onnxscript import OpBuilder, nn

from graphs.init import initialise, lecun, zeros
from graphs.layers import Conv, Linear, inference_model, max_pool


class LeNet(nn.Module):
    """``f32[N, channels, size, size] → f32[N, classes]``."""

    def __init__(self, channels: int, size: int, width: int, classes: int) -> None:
        super().__init__()
        side = (size // 2 - 4) // 2
        self.conv1 = Conv(channels, 6 * width, 5, padding=2, bias=True)
        self.conv2 = Conv(6 * width, 16 * width, 5, bias=True)
        self.fc1 = Linear(16 * width * side * side, 120 * width)
        self.fc2 = Linear(120 * width, 84 * width)
        self.fc3 = Linear(84 * width, classes)

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        for conv in (self.conv1, self.conv2):
            x = max_pool(op, op.Relu(conv(op, x)), 2, stride=2)
        x = op.Flatten(x)
        for linear in (self.fc1, self.fc2):
            x = op.Relu(linear(op, x))
        return self.fc3(op, x)


def lenet(*, seed: int = 0, classes: int = 10, channels: int = 1, size: int = 28, width: int = 1) -> ir.Model:
    """LeNet-5 (LeCun et al. 1998) with ReLU and max-pooling; ``width`` multiplies its maps and units.

    Raises:
        ValueError: images smaller than 12×12, of which the convolutions leave nothing.
    """
    if size < 12:
        raise ValueError(f"LeNet-5 needs images of at least 12×12, not {size}×{size}")
    network = LeNet(channels, size, width, classes)
    initialise(network, seed, {Conv: (lecun, zeros), Linear: (lecun, zeros)})
    return inference_model(network, "lenet", (channels, size, size))
