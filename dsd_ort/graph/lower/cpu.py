"""Operators of a differentiated graph in the form that this machine's ONNX Runtime computes fastest.

Requires a training graph as the gradient builder made it, masked or not.  Ensures the same outputs under the same
names, equal up to the order of float32 sums.  Every rule is one small function with its algebra; where a rule's
conditions do not hold the node stays as it is.

Notation: a convolution Y = X ∗ W with strides s, dilations d and pads p, X: f32[N, C, H…], W: f32[M, C/g, K…],
Y: f32[N, M, H'…]; dX, dW, dY are the gradients of the loss.

*Blocked* means MLAS's own layout, in which ``b`` channels stand together (b = 16 with AVX-512, 8 with AVX2):
f32[N, C, H, W] lies in memory as [N, C/b, H, W, b] and W as [M/b, C/b, K, b of C, b of M].  Its convolution needs no
im2col.  ONNX Runtime uses it by itself only for constant weights; here the weights are inputs that change with each
step, so they are laid out anew each time, once for both directions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape

from dsd_ort import runtime

MICROSOFT = "com.microsoft"
BLOCKED = "com.microsoft.nchwc"

LARGEST_FLIPPED = 1 << 20
"""Elements: above this, flipping and transposing a kernel costs more than ConvGrad's own way to dX."""


def lower(model: ir.Model, device: str = "cpu", *, block: int | None = None) -> tuple[str, ...]:
    """Rewrites the training graph *model* in place for *device*, one line for each rule that applied.

    Args:
        model: a differentiated graph.
        device: ``"cpu"`` or ``"cuda"``; for CUDA nothing is rewritten.
        block: channels in a block of MLAS's layout; this machine's if None, 1 for no blocked convolution.
    """
    if device != "cpu":
        return ()
    model.graph.sort()
    layout = Layout(channel_block() if block is None else block)
    counts = dict.fromkeys(RULES, 0)
    for node in list(model.graph):
        for rule in RULES:
            tape = Tape()
            replacement = rule(node, tape, layout)
            if replacement is not None:
                _replace(node, tape, replacement)
                counts[rule] += 1
                break
    if layout.used:
        model.graph.opset_imports[BLOCKED] = 1
    return tuple(f"{RULES[rule]} ({count}×)" for rule, count in counts.items() if count)


@functools.cache
def channel_block() -> int:
    """How many channels stand together in MLAS's blocked layout on this machine; 1 if it has none."""
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, 4, 1, 1]))
    node = ir.node("ReorderInput", [x], domain=BLOCKED)
    y = node.outputs[0]
    y.name, y.type = "y", x.type
    graph = ir.Graph([x], [y], nodes=[node], opset_imports={"": 17, BLOCKED: 1}, name="probe")
    try:
        session = runtime.session(ir.to_proto(ir.Model(graph, ir_version=8)), runtime.session_options(1))
        (blocked,) = session.run(None, {"x": np.zeros((1, 4, 1, 1), np.float32)})
    except Exception:  # a build without the blocked operators: whatever the error, it says no
        return 1
    channels = int(blocked.shape[1])
    return channels if channels > 4 else 1


class Convolution(NamedTuple):
    """The attributes of a Conv or ConvGrad with a kernel of known shape."""

    out_channels: int
    in_channels: int
    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[int]
    group: int

    @property
    def attributes(self) -> dict[str, int | list[int]]:
        return {
            "kernel_shape": self.kernel,
            "strides": self.strides,
            "dilations": self.dilations,
            "pads": self.pads,
            "group": self.group,
        }

    @property
    def backward(self) -> Convolution | None:
        """The gradient dX as a convolution: for s = 1, dX = dY ∗ flip(Wᵀ) with pads d·(K-1) - p.

        None where it is not one (s > 1, or padding wider than the kernel reaches).
        """
        reach = [d * (k - 1) for d, k in zip(self.dilations, self.kernel, strict=True)] * 2
        pads = [r - p for r, p in zip(reach, self.pads, strict=True)]
        if any(s != 1 for s in self.strides) or min(pads) < 0:
            return None
        return self._replace(out_channels=self.in_channels, in_channels=self.out_channels, pads=pads)


def convolution_of(node: ir.Node, weight: ir.Value | None) -> Convolution | None:
    """What *node* computes; None if the kernel's shape is not known, or padding is left to the runtime."""
    shape = None if weight is None or weight.shape is None else list(weight.shape)
    if shape is None or len(shape) < 3 or not all(isinstance(size, int) for size in shape):
        return None
    if node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return None
    out_channels, per_group, *kernel = (int(size) for size in shape)  # type: ignore[arg-type]
    group, rank = node.attributes.get_int("group", 1), len(kernel)

    def integers(name: str, default: list[int]) -> list[int]:
        return list(node.attributes.get_ints(name, default))

    ones, zeros = [1] * rank, [0] * (2 * rank)
    strides, dilations, pads = integers("strides", ones), integers("dilations", ones), integers("pads", zeros)
    return Convolution(out_channels, per_group * group, kernel, strides, dilations, pads, group)


@dataclass
class Layout:
    """Values in MLAS's blocked layout, each made once and shared by all that read it."""

    block: int
    data: dict[ir.Value, ir.Value] = field(default_factory=dict)
    kernels: dict[ir.Value, ir.Value] = field(default_factory=dict)

    @property
    def used(self) -> bool:
        return bool(self.kernels)

    def suits(self, conv: Convolution) -> bool:
        """Two dimensions, whole blocks, one group, and enough arithmetic per element to pay for the reordering."""
        b = self.block
        whole = conv.out_channels % b == 0 and conv.in_channels % b == 0
        return b > 1 and len(conv.kernel) == 2 and max(conv.kernel) > 1 and conv.group == 1 and whole

    def reads_plain(self, conv: Convolution) -> bool:
        """Fewer input channels than a block (a first convolution): X is read as it is, only W and Y are blocked."""
        b = self.block
        few = conv.in_channels < b and conv.out_channels % b == 0
        return b > 1 and len(conv.kernel) == 2 and max(conv.kernel) > 1 and conv.group == 1 and few

    def convolve(
        self, tape: Tape, x: ir.Value, kernel: ir.Value, conv: Convolution, bias: Sequence[ir.Value | None] = ()
    ) -> ir.Value:
        """X ∗ W (+ bias) for a blocked kernel; X and the result are not blocked."""
        if conv.in_channels >= self.block:
            if x not in self.data:
                self.data[x] = _block(tape, x)
            x = self.data[x]
        y = tape.op("Conv", [x, kernel, *bias], conv.attributes, domain=BLOCKED)
        return tape.op("ReorderOutput", [y], {"channels": conv.out_channels}, domain=BLOCKED)

    def kernel(self, tape: Tape, weight: ir.Value, conv: Convolution) -> ir.Value:
        """W blocked: [M, C, K] → [M, C/b, K, b] → [M/b, C/b, K, b, b]; for C < b the first step falls away.

        Each arrow is ReorderInput, which moves an axis of b elements behind everything that follows it.
        """
        if weight not in self.kernels:
            b, m, c, size = self.block, conv.out_channels, conv.in_channels, int(np.prod(conv.kernel))
            value = weight
            if c >= b:
                value = _block(tape, _reshape(tape, value, [m * c // b, b, size, 1]))
            value = _block(tape, _reshape(tape, value, [m // b, b, c * size, 1]))
            self.kernels[weight] = _reshape(tape, value, [m, c, *conv.kernel])
        return self.kernels[weight]

    def flipped_kernel(self, tape: Tape, weight: ir.Value, conv: Convolution) -> ir.Value:
        """flip(Wᵀ) blocked, from W blocked: its b × b matrices in another order, each of them transposed."""
        b, m, c, size = self.block, conv.out_channels, conv.in_channels, int(np.prod(conv.kernel))
        order = np.arange(m * c * size // b**2).reshape(m // b, c // b, size)[:, :, ::-1].transpose(1, 0, 2)
        matrices = _reshape(tape, self.kernel(tape, weight, conv), [-1, b, b, 1])
        picked = tape.op("Gather", [matrices, _integers(tape, order.ravel())], {"axis": 0})
        return _reshape(tape, _block(tape, picked), [c, m, *conv.kernel])


def relu_gradient(node: ir.Node, tape: Tape, layout: Layout) -> ir.Value | None:
    """ReluGrad: dX = dY · [Y > 0], with [Y > 0] = min(1, L·Y) for Y ≥ 0 and L the largest float32.

    The operator selects element by element (a mispredicted branch each); HardSigmoid and Mul are vector code.  The
    factor is inexact only where Y is below 1/L, a denormal.
    """
    if (node.domain, node.op_type) != (MICROSOFT, "ReluGrad"):
        return None
    dy, y = node.inputs
    largest = float(np.finfo(np.float32).max)
    return tape.op("Mul", [dy, tape.op("HardSigmoid", [y], {"alpha": largest, "beta": 0.0})])


def convolution(node: ir.Node, tape: Tape, layout: Layout) -> ir.Value | None:
    """Conv: Y = X ∗ W (+ bias), blocked."""
    if (node.domain, node.op_type) != ("", "Conv"):
        return None
    x, weight, *bias = node.inputs
    conv = convolution_of(node, weight)
    if conv is None or not (layout.suits(conv) or layout.reads_plain(conv)):
        return None
    assert x is not None and weight is not None
    return layout.convolve(tape, x, layout.kernel(tape, weight, conv), conv, bias)


def convolution_gradient(node: ir.Node, tape: Tape, layout: Layout) -> ir.Value | None:
    """ConvGrad: dX = dY ∗ flip(Wᵀ) for stride 1; the node keeps dW and the bias's gradient, at half its cost.

    Wᵀ exchanges M and C (within each group); flip reverses the kernel's axes.
    """
    if (node.domain, node.op_type) != (MICROSOFT, "ConvGrad") or not node.outputs[0].name:
        return None
    dy, _, weight = node.inputs
    conv = convolution_of(node, weight)
    backward = conv and conv.backward
    if conv is None or backward is None:
        return None
    assert dy is not None and weight is not None
    if layout.suits(conv):
        return layout.convolve(tape, dy, layout.flipped_kernel(tape, weight, conv), backward)
    if max(conv.kernel) > 1 and conv.out_channels * conv.in_channels * np.prod(conv.kernel) > LARGEST_FLIPPED:
        return None
    return tape.op("Conv", [dy, _flip_transpose(tape, weight, conv)], backward.attributes)


Rule = Callable[[ir.Node, Tape, Layout], "ir.Value | None"]
"""From a node to the value that takes the place of its first output; None where the rule does not apply."""

RULES: dict[Rule, str] = {
    relu_gradient: "ReluGrad → HardSigmoid · Mul",
    convolution: "Conv → blocked Conv",
    convolution_gradient: "ConvGrad → ConvGrad for dW, Conv for dX",
}


def _replace(node: ir.Node, tape: Tape, new: ir.Value) -> None:
    """*new* takes over name and readers of the first output; the node goes if nothing of it is left."""
    graph, old = node.graph, node.outputs[0]
    assert isinstance(graph, ir.Graph)
    graph.insert_before(node, tape.nodes)
    new.shape, new.type = old.shape, old.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    new.name, old.name = old.name, ""
    if not any(output.name for output in node.outputs):
        graph.remove(node, safe=True)


def _flip_transpose(tape: Tape, weight: ir.Value, conv: Convolution) -> ir.Value:
    g, m, c, rank = conv.group, conv.out_channels, conv.in_channels, len(conv.kernel)
    if max(conv.kernel) > 1:
        axes = _integers(tape, range(2, 2 + rank))
        last, end, step = (_integers(tape, [value] * rank) for value in (-1, -(1 << 31), -1))
        weight = tape.op("Slice", [weight, last, end, axes, step])
    if g == 1:
        return tape.op("Transpose", [weight], {"perm": [1, 0, *range(2, 2 + rank)]})
    if m == c == g:
        return weight
    grouped = _reshape(tape, weight, [g, m // g, c // g, *conv.kernel])
    swapped = tape.op("Transpose", [grouped], {"perm": [0, 2, 1, *range(3, 3 + rank)]})
    return _reshape(tape, swapped, [c, m // g, *conv.kernel])


def _block(tape: Tape, value: ir.Value) -> ir.Value:
    return tape.op("ReorderInput", [value], domain=BLOCKED)


def _reshape(tape: Tape, value: ir.Value, shape: Sequence[int]) -> ir.Value:
    return tape.op("Reshape", [value, _integers(tape, shape)])


def _integers(tape: Tape, values: Sequence[int] | range | np.ndarray) -> ir.Value:
    return tape.op("Constant", [], {"value": ir.tensor(np.asarray(values, np.int64))})
