"""Layers that own weights, as onnxscript modules, and the model around a network of them.

Weights are float32, in PyTorch's shapes and under its names; a module's place in the network is its weights' prefix.
They have no values yet (batch norm's apart): :mod:`graphs.init` draws those.
"""

# mypy: disable-error-code="no-any-return"
# onnxscript gives no type to what an operator returns.

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from onnxscript import GraphBuilder, OpBuilder, nn

OPSET = 17
IR_VERSION = 8
"""What came with opset 17: old enough for every runtime in use, ONNX Runtime's last training release among them."""

Shape = Sequence[int | str]
"""Sizes, and names of those that are known with the data."""
Pair = int | tuple[int, int]
"""Of both axes of an image, or of its height and width."""


class Conv(nn.Module):
    """Convolution with a kernel of k × l: ``f32[N, in, H, W] → f32[N, out, H', W']``; ``weight f32[out, in, k, l]``."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Pair, *, stride: Pair = 1, padding: Pair = 0, bias: bool = False
    ) -> None:
        super().__init__()
        size, steps, pads = ([x, x] if isinstance(x, int) else [*x] for x in (kernel, stride, padding))
        self.weight = nn.Parameter([outputs, inputs, *size])
        self.bias = nn.Parameter([outputs]) if bias else None
        self.attributes = {"kernel_shape": size, "strides": steps, "pads": pads * 2}

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


def max_pool(op: OpBuilder, x: ir.Value, kernel: int, *, stride: int, padding: int = 0, ceil: bool = False) -> ir.Value:
    """The maximum of each window: ``f32[N, C, H, W] → f32[N, C, H', W']``; with *ceil* the last may reach beyond x."""
    rounding = {"ceil_mode": 1} if ceil else {}
    return op.MaxPool(x, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[padding] * 4, **rounding)


def dropout(op: OpBuilder, x: ir.Value, percent: int) -> ir.Value:
    """A node in evaluation mode, which puts out x; training makes it active: each entry is then 0 with this chance.

    Raises:
        ValueError: no percentage below 100.
    """
    if not 0 <= percent < 100:
        raise ValueError(f"dropout is a percentage of 0 to 99, not {percent}")
    return op.Dropout(x, op.Constant(value_float=percent / 100)) if percent else x


def inference_model(
    network: nn.Module, name: str, image: tuple[int, int, int], outputs: Sequence[str] = ("logits",)
) -> ir.Model:
    """The model ``image f32[N, C, H, W] → outputs`` of *network*, for images of the shape (C, H, W)."""
    return model_of(network, name, {"image": (ir.DataType.FLOAT, ["N", *image])}, dict.fromkeys(outputs))


def model_of(
    network: nn.Module, name: str, inputs: Mapping[str, tuple[ir.DataType, Shape]], outputs: Mapping[str, Shape | None]
) -> ir.Model:
    """The model of *network*, which takes the *inputs* in order and returns the *outputs*.

    Shapes of outputs are what the operators say where none is given.
    """
    graph = ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name=name)
    builder = GraphBuilder(graph)
    values = network(builder.op, *(builder.input(name, dtype, [*shape]) for name, (dtype, shape) in inputs.items()))
    values = [values] if isinstance(values, ir.Value) else values
    for value, (output, shape) in zip(values, outputs.items(), strict=True):
        builder.add_output(value, output)
        value.shape = value.shape if shape is None else ir.Shape(shape)
    for node in graph:
        node.metadata_props.clear()  # onnxscript's own notes: large, and no part of IR version 8
    return ir.Model(graph, ir_version=IR_VERSION, producer_name="dsd-ort graphs")
