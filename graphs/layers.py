"""Layers that own weights, as onnxscript modules, and the model around a network of them.

Weights are float32, in PyTorch's shapes and under its names; a module's place in the network is its weights' prefix.
They have no values yet (batch norm's apart): :mod:`graphs.init` draws those.
"""

# mypy: disable-error-code="no-any-return"
# onnxscript gives no type to what an operator returns.

import numpy as np
import onnx_ir as ir
from onnxscript import GraphBuilder, OpBuilder, nn

OPSET = 17
IR_VERSION = 8
"""What came with opset 17: old enough for every runtime in use, ONNX Runtime's last training release among them."""


class Conv(nn.Module):
    """Convolution with a square kernel: ``f32[N, in, H, W] → f32[N, out, H', W']``; ``weight f32[out, in, k, k]``."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0, bias: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter([outputs, inputs, kernel, kernel])
        self.bias = nn.Parameter([outputs]) if bias else None
        self.attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [padding] * 4}

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        weights = (self.weight,) if self.bias is None else (self.weight, self.bias)
        return op.Conv(x, *weights, **self.attributes)


class BatchNorm(nn.Module):
    """Batch norm over axis 1 in evaluation mode: ``(x − running_mean) / √(running_var + ε) · weight + bias``.

    It starts as the identity.  ONNX's momentum 0.9 is PyTorch's 0.1: what the running statistics keep at each step.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        one, zero = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        self.weight = nn.Parameter([channels], data=ir.tensor(one))
        self.bias = nn.Parameter([channels], data=ir.tensor(zero))
        self.running_mean = nn.Parameter([channels], data=ir.tensor(zero))
        self.running_var = nn.Parameter([channels], data=ir.tensor(one))

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        return op.BatchNormalization(
            x, self.weight, self.bias, self.running_mean, self.running_var, epsilon=1e-5, momentum=0.9
        )


class Linear(nn.Module):
    """``x · weightᵀ + bias``: ``f32[N, in] → f32[N, out]``; ``weight f32[out, in]``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter([outputs, inputs])
        self.bias = nn.Parameter([outputs])

    def forward(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        return op.Gemm(x, self.weight, self.bias, transB=1)


def max_pool(op: OpBuilder, x: ir.Value, kernel: int, *, stride: int, padding: int = 0) -> ir.Value:
    """The maximum of each window: ``f32[N, C, H, W] → f32[N, C, H', W']``."""
    return op.MaxPool(x, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[padding] * 4)


def inference_model(network: nn.Module, name: str, image: tuple[int, int, int]) -> ir.Model:
    """The model ``image f32[N, C, H, W] → logits`` of *network*, for images of the shape (C, H, W)."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name=name)
    builder = GraphBuilder(graph)
    logits = network(builder.op, builder.input("image", ir.DataType.FLOAT, ["N", *image]))
    builder.add_output(logits, "logits")
    for node in graph:
        node.metadata_props.clear()  # onnxscript's own notes: large, and no part of IR version 8
    return ir.Model(graph, ir_version=IR_VERSION, producer_name="dsd-ort graphs")
