"""What a convolution Y = X ∗ W is: its sizes and attributes, and the kernel of its gradient dX as a convolution."""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

from dsd_ort.rewrite.shapes import sizes_of
from dsd_ort.rewrite.site import Site


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
    sizes = None if weight is None else sizes_of(weight)
    if sizes is None or len(sizes) < 3:
        return None
    if node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return None
    out_channels, per_group, *kernel = sizes
    group, rank = node.attributes.get_int("group", 1), len(kernel)

    def integers(name: str, default: list[int]) -> list[int]:
        return list(node.attributes.get_ints(name, default))

    ones, zeros = [1] * rank, [0] * (2 * rank)
    strides, dilations, pads = integers("strides", ones), integers("dilations", ones), integers("pads", zeros)
    return Convolution(out_channels, per_group * group, kernel, strides, dilations, pads, group)


def flip_transpose(site: Site, weight: ir.Value, conv: Convolution) -> ir.Value:
    """flip(Wᵀ): M and C exchanged within each group, the kernel's axes reversed."""
    g, m, c, rank = conv.group, conv.out_channels, conv.in_channels, len(conv.kernel)
    if max(conv.kernel) > 1:
        weight = site.Slice(weight, [-1] * rank, [-(1 << 31)] * rank, list(range(2, 2 + rank)), [-1] * rank)
    if g == 1:
        return site.Transpose(weight, perm=[1, 0, *range(2, 2 + rank)])
    if m == c == g:
        return weight
    grouped = site.Reshape(weight, [g, m // g, c // g, *conv.kernel])
    swapped = site.Transpose(grouped, perm=[0, 2, 1, *range(3, 3 + rank)])
    return site.Reshape(swapped, [c, m // g, *conv.kernel])
