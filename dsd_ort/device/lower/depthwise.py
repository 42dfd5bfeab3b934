"""Depthwise convolutions in MLAS's blocked layout: Y[n, c] = X[n, c] ∗ W[c], a group for each channel.

ONNX Runtime computes each channel as a matrix product of its own, of one row, and its gradient likewise; MLAS has a
kernel for blocks of channels, which it takes by itself only for constant weights.  That kernel gives all three::

    Y                 = X ∗ W
    dX                = dY ∗ flip(W), for each remainder of the position by the stride with the taps that reach it
    dW[c]             = Σₙ X[n, c] ∗ dY[n, c], strides and dilations exchanged: dY is the kernel

In the last one each example has a kernel of its own, so a Scan goes through the batch, whose size need not be known.
X is laid out again there, from another view of it: one that was kept from the forward pass would be the largest value
of the step, twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from dsd_ort.device.lower.blocked import BLOCKED, Layout, lay_out
from dsd_ort.device.lower.convolution import Convolution
from dsd_ort.rewrite.site import Site

WHOLE = 4
"""MLAS lays out multiples of so many channels; what a last block lacks, it fills with zeros."""


class Depthwise:
    """A depthwise convolution *conv* at *site*, in blocks of *layout*."""

    def __init__(self, site: Site, layout: Layout, conv: Convolution) -> None:
        self.site, self.layout, self.conv = site, layout, conv
        self.channels, self.block = conv.in_channels, layout.block
        self.padded = -(-self.channels // self.block) * self.block

    @staticmethod
    def suits(layout: Layout, conv: Convolution) -> bool:
        """Two dimensions, a group for each channel, and no more than half of a block empty."""
        one_each = conv.group == conv.in_channels == conv.out_channels
        filled = conv.in_channels % WHOLE == 0 and 2 * conv.in_channels >= layout.block
        return layout.block > 1 and len(conv.kernel) == 2 and max(conv.kernel) > 1 and one_each and filled

    def forward(self, x: ir.Value, weight: ir.Value, bias: Sequence[ir.Value | None]) -> ir.Value:
        """Y, with what is read in front as it is laid out for others too."""
        wide = [value if value is None else self._fill(value) for value in bias]
        self.layout.kernels[weight] = kernel = self.layout.kernels.get(weight) or self._kernel(weight)
        return self._plain(self._convolve(self.layout.laid_out(self.site, x), kernel, self.conv, wide))

    def gradients(self) -> Sequence[ir.Value | None] | None:
        """Of ConvGrad(dY, X, W): dX, dW and db, those of them that are read and have this form; None if none has."""
        dy, x, weight = (self.site.input(i) for i in range(3))
        names = [output.name for output in self.site.node.outputs]
        data = self._data_gradient(dy, weight, x) if names[0] else None
        kernel = self._kernel_gradient(dy, x) if any(names[1:]) else None
        bias = self.site.ReduceSum(dy, [0, 2, 3], keepdims=0) if kernel and any(names[2:]) else None
        return [data, kernel, bias][: len(names)] if data or kernel else None

    def _data_gradient(self, dy: ir.Value, weight: ir.Value, x: ir.Value) -> ir.Value | None:
        """The gradient dX; None where the sizes are not known, or a stride leaves positions that no tap reaches."""
        site, conv = self.site, self.conv
        if conv.backward is not None:
            return self._plain(self._reach(dy, weight, [(0, 1)] * 2, conv.backward))
        sizes = [*site.shape(x)[2:], *site.shape(dy)[2:]]
        lengths, counts = ([n for n in part if isinstance(n, int)] for part in (sizes[:2], sizes[2:]))
        if len(lengths) + len(counts) < 4 or max(conv.dilations) > 1:
            return None
        axes = [self._remainders(axis, lengths[axis], counts[axis]) for axis in range(2)]
        if not all(axes):
            return None
        rows = []
        for first_row, top, bottom in axes[0]:
            parts = []
            for first_column, left, right in axes[1]:
                taps = [(first_row, conv.strides[0]), (first_column, conv.strides[1])]
                kernel = [len(range(first, k, s)) for (first, s), k in zip(taps, conv.kernel, strict=True)]
                part = conv._replace(kernel=kernel, strides=[1, 1], pads=[top, left, bottom, right])
                parts.append(self._reach(dy, weight, taps, part))
            rows.append(self._in_turn(parts, self.block))
        height, width = (-(-n // s) * s for n, s in zip(lengths, conv.strides, strict=True))
        whole = self._in_turn(rows, width * self.block)
        if [height, width] != lengths:
            whole = site.Slice(site.Reshape(whole, [-1, height, width, self.block]), [0, 0], lengths, [1, 2])
        return self._plain(site.Reshape(whole, [-1, self.padded, *lengths]))

    def _kernel_gradient(self, dy: ir.Value, x: ir.Value) -> ir.Value | None:
        """The gradient dW; None where the sizes are not known."""
        site, conv, c = self.site, self.conv, self.padded
        lengths, counts = ([n for n in site.shape(value)[2:] if isinstance(n, int)] for value in (x, dy))
        if len(lengths) + len(counts) < 4:
            return None
        inside = zip(conv.dilations, conv.kernel, conv.strides, counts, lengths, conv.pads, strict=False)
        behind = [d * (k - 1) + s * (o - 1) + 1 - n - p for d, k, s, o, n, p in inside]
        unread = [max(0, -n) // d for n, d in zip(behind, conv.dilations, strict=True)]
        wide = [k + more for k, more in zip(conv.kernel, unread, strict=True)]
        pads = [*conv.pads[:2], *(max(0, n) for n in behind)]
        exchanged = conv._replace(kernel=counts, strides=conv.dilations, dilations=conv.strides, pads=pads)
        again = lay_out(site, site.Reshape(x, [0, 0, -1, 1]))
        examples = site.Reshape(again, [-1, 1, c, *lengths])
        kernels = site.Reshape(self.layout.laid_out(site, dy), [-1, c, 1, *counts])
        each = self._each({examples: [1, c, *lengths], kernels: [c, 1, *counts]}, exchanged, [1, c, *wide])
        summed = site.ReduceSum(site.Reshape(each, [-1, c, *wide]), [0], keepdims=1)
        plain = self._plain(summed)
        if any(unread):
            plain = site.Slice(plain, [0, 0], conv.kernel, [2, 3])
        return site.Reshape(plain, [self.channels, 1, *conv.kernel])

    def _each(self, cut: Mapping[ir.Value, Sequence[int]], conv: Convolution, shape: Sequence[int]) -> ir.Value:
        """Each example with its kernel: both are *cut* along their first axis, and results of *shape* stacked up."""
        site = self.site
        inner = Site(site.node, site.path, names=site.names)
        arguments = [self._argument(f"{site.name}/one", sizes) for sizes in cut.values()]
        y = inner.op(f"{BLOCKED}.Conv", *arguments, **conv._replace(group=self.padded).attributes)
        y.type, y.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(shape)
        body = ir.Graph(arguments, [y], nodes=inner.nodes, name=f"{site.name}/each")
        return site.Scan(*cut, body=body, num_scan_inputs=len(cut))

    def _argument(self, name: str, sizes: Sequence[int]) -> ir.Value:
        free = name if self.site.names is None else self.site.names.free(name)
        return ir.Value(name=free, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(sizes))

    def _remainders(self, axis: int, length: int, count: int) -> list[tuple[int, int, int]]:
        """For each remainder of the position by the stride: the first tap that reaches it, and the pads of dY.

        Position i = r + s·j gets Σₘ dY[(i + p - a)/s - m] · W[a + s·m] with a = (r + p) mod s.  Empty where a kernel is
        narrower than the stride or the padding wider than what is read.
        """
        s, p, k = self.conv.strides[axis], self.conv.pads[axis], self.conv.kernel[axis]
        found = []
        for r in range(s):
            first = (r + p) % s
            taps, begin = len(range(first, k, s)), (r + p - first) // s
            front = taps - 1 - begin
            behind = -(-length // s) - count - front + taps - 1
            if taps == 0 or min(front, behind) < 0:
                return []
            found.append((first, front, behind))
        return found

    def _reach(self, dy: ir.Value, weight: ir.Value, taps: Sequence[tuple[int, int]], conv: Convolution) -> ir.Value:
        """In blocks dY ∗ flip(W), of the taps from the first on with the stride of *taps*, an axis each."""
        lasts = [first + step * (k - 1) for (first, step), k in zip(taps, conv.kernel, strict=True)]
        steps = [-step for _, step in taps]
        flipped = self.site.Slice(weight, lasts, [-(1 << 31)] * 2, [2, 3], steps)
        return self._convolve(self.layout.laid_out(self.site, dy), self._kernel(flipped, conv.kernel), conv, ())

    def _in_turn(self, parts: Sequence[ir.Value], size: int) -> ir.Value:
        """One of *size* numbers from each of *parts*, then the next of each."""
        return self.site.Concat(*(self.site.Reshape(part, [-1, 1, size]) for part in parts), axis=1)

    def _kernel(self, weight: ir.Value, kernel: Sequence[int] | None = None) -> ir.Value:
        """[C, 1, K] → [C/b, b, K] → [C/b, K, b]."""
        site, sizes = self.site, list(kernel or self.conv.kernel)
        narrow = site.Reshape(self._fill(weight), [self.padded // self.block, self.block, sizes[0] * sizes[1], 1])
        return site.Reshape(lay_out(site, narrow), [self.padded, 1, *sizes])

    def _fill(self, value: ir.Value) -> ir.Value:
        """Zeros for the channels that the last block lacks."""
        missing, rank = self.padded - self.channels, self.site.rank(value)
        return self.site.Pad(value, [0] * rank + [missing] + [0] * (rank - 1)) if missing else value

    def _convolve(self, x: ir.Value, kernel: ir.Value, conv: Convolution, bias: Sequence[ir.Value | None]) -> ir.Value:
        return self.site.op(f"{BLOCKED}.Conv", x, kernel, *bias, **conv._replace(group=self.padded).attributes)

    def _plain(self, value: ir.Value) -> ir.Value:
        return self.site.op(f"{BLOCKED}.ReorderOutput", value, channels=self.channels)
