"""The depthwise convolutions of three networks at 224²."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """Of a convolution that reads f32[N, channels, size, size], padded by half of its kernel."""

    channels: int
    size: int
    kernel: int
    stride: int = 1

    @property
    def out_size(self) -> int:
        return (self.size - 1) // self.stride + 1


NETWORKS: dict[str, dict[Shape, int]] = {
    "mobilenet_v2": {
        Shape(32, 112, 3): 1,
        Shape(96, 112, 3, 2): 1,
        Shape(144, 56, 3): 1,
        Shape(144, 56, 3, 2): 1,
        Shape(192, 28, 3): 2,
        Shape(192, 28, 3, 2): 1,
        Shape(384, 14, 3): 4,
        Shape(576, 14, 3): 2,
        Shape(576, 14, 3, 2): 1,
        Shape(960, 7, 3): 3,
    },
    "efficientnet_b0": {
        Shape(32, 112, 3): 1,
        Shape(96, 112, 3, 2): 1,
        Shape(144, 56, 3): 1,
        Shape(144, 56, 5, 2): 1,
        Shape(240, 28, 5): 1,
        Shape(240, 28, 3, 2): 1,
        Shape(480, 14, 3): 2,
        Shape(480, 14, 5): 1,
        Shape(672, 14, 5): 2,
        Shape(672, 14, 5, 2): 1,
        Shape(1152, 7, 5): 3,
        Shape(1152, 7, 3): 1,
    },
    "convnext_tiny": {
        Shape(96, 56, 7): 3,
        Shape(192, 28, 7): 3,
        Shape(384, 14, 7): 9,
        Shape(768, 7, 7): 3,
    },
}
"""How many of each."""
