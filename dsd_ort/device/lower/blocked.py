"""MLAS's blocked layout, in which ``b`` channels stand together (b = 16 with AVX-512, 8 with AVX2).

f32[N, C, H, W] lies in memory as [N, C/b, H, W, b] and W as [M/b, C/b, K, b of C, b of M].  Its convolution needs no
im2col.  ONNX Runtime uses it by itself only for constant weights; here the weights are inputs that change with each
step, so they are laid out anew each time, once for both directions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from dsd_ort import runtime
from dsd_ort.device.lower.convolution import Convolution
from dsd_ort.rewrite.nodes import Nodes
from dsd_ort.rewrite.site import Site

BLOCKED = "com.microsoft.nchwc"
MANY = 64
"""Products for an entry of Y that pay for its reordering in a first convolution without stride."""


@functools.cache
def channel_block() -> int:
    """How many channels stand together in MLAS's blocked layout on this machine; 1 if it has none."""
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, 4, 1, 1]))
    new = Nodes()
    y = new.op(f"{BLOCKED}.ReorderInput", x)
    y.type = x.type
    graph = ir.Graph([x], [y], nodes=new.nodes, opset_imports={"": 17, BLOCKED: 1}, name="probe")
    try:
        session = runtime.session(ir.to_proto(ir.Model(graph, ir_version=8)), runtime.session_options(1))
        (blocked,) = session.run(None, {"x": np.zeros((1, 4, 1, 1), np.float32)})
    except Exception:  # a build without the blocked operators: whatever the error, it says no
        return 1
    channels = int(blocked.shape[1])
    return channels if channels > 4 else 1


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
        few = conv.in_channels < b and conv.out_channels % b == 0 and max(conv.kernel) > 1
        enough = max(conv.strides) > 1 or conv.in_channels * math.prod(conv.kernel) >= MANY
        return b > 1 and len(conv.kernel) == 2 and enough and conv.group == 1 and few

    def convolve(
        self, site: Site, x: ir.Value, kernel: ir.Value, conv: Convolution, bias: Sequence[ir.Value | None] = ()
    ) -> ir.Value:
        """X ∗ W (+ bias) for a blocked kernel; X and the result are not blocked."""
        if conv.in_channels >= self.block:
            x = self.laid_out(site, x)
        y = site.op(f"{BLOCKED}.Conv", x, kernel, *bias, **conv.attributes)
        return site.op(f"{BLOCKED}.ReorderOutput", y, channels=conv.out_channels)

    def laid_out(self, site: Site, x: ir.Value) -> ir.Value:
        """X blocked, once for all who read it so."""
        if x not in self.data:
            self.data[x] = lay_out(site, x)
        return self.data[x]

    def kernel(self, site: Site, weight: ir.Value, conv: Convolution) -> ir.Value:
        """W blocked: [M, C, K] → [M, C/b, K, b] → [M/b, C/b, K, b, b]; for C < b the first step falls away.

        Each arrow is ReorderInput, which moves an axis of b elements behind everything that follows it.
        """
        if weight not in self.kernels:
            b, m, c, size = self.block, conv.out_channels, conv.in_channels, int(np.prod(conv.kernel))
            value = weight
            if c >= b:
                value = lay_out(site, site.Reshape(value, [m * c // b, b, size, 1]))
            value = lay_out(site, site.Reshape(value, [m // b, b, c * size, 1]))
            self.kernels[weight] = site.Reshape(value, [m, c, *conv.kernel])
        return self.kernels[weight]

    def flipped_kernel(self, site: Site, weight: ir.Value, conv: Convolution) -> ir.Value:
        """flip(Wᵀ) blocked, from W blocked: its b × b matrices in another order, each of them transposed."""
        b, m, c, size = self.block, conv.out_channels, conv.in_channels, int(np.prod(conv.kernel))
        order = np.arange(m * c * size // b**2).reshape(m // b, c // b, size)[:, :, ::-1].transpose(1, 0, 2)
        matrices = site.Reshape(self.kernel(site, weight, conv), [-1, b, b, 1])
        picked = site.Gather(matrices, order.ravel().astype(np.int64), axis=0)
        return site.Reshape(lay_out(site, picked), [c, m, *conv.kernel])


def lay_out(site: Site, value: ir.Value) -> ir.Value:
    """[N, C, …] → [N, C/b, …, b], under the shape that it has."""
    return site.op(f"{BLOCKED}.ReorderInput", value)
