"""Quantised pairs, and what they compute in floating point: test_quantization.py tries them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Pair(NamedTuple):
    """QuantizeLinear and DequantizeLinear of x, [3, 4], with what they read as initializers."""

    scale: object
    zero: object
    dtype: str
    attributes: str = ""
    opset: int = 18
    domain: str = ""

    def __str__(self) -> str:
        return f"{self.domain}{self.dtype} {np.shape(self.scale)} {self.attributes} / {self.opset}"


PAIRS = [
    *(Pair(0.05, 3, dtype, opset=opset) for dtype in ("int8", "uint8") for opset in (10, 13, 18, 19, 21, 23)),
    Pair(0.05, None, "uint8"),
    Pair([0.05], [3], "int8"),
    Pair([0.02, 0.05, 0.01], [3, 0, -7], "int8", "axis = 0"),
    Pair([0.02, 0.05, 0.01, 0.03], [3, 0, 100, 7], "uint8"),
    Pair([0.02, 0.05, 0.01, 0.03], [3, 0, 100, 7], "uint8", "axis = -1", opset=21),
    Pair(0.0001, 3, "int16", opset=21),
    Pair(0.0001, 30000, "uint16", opset=21),
    Pair(0.0001, 3, "int16", domain="com.microsoft."),
    Pair([[0.02, 0.05], [0.01, 0.02], [0.03, 0.01]], [[3, 0], [1, 2], [0, -5]], "int8", "axis = 1, block_size = 2", 21),
    Pair([[0.02, 0.05, 0.01, 0.03]] * 2, [[3, 0, 1, 2]] * 2, "int8", "axis = 0, block_size = 2", 21),
    Pair(0.2, 1, "int4", opset=21),
    Pair(0.2, 7, "uint4", opset=21),
]
