"""The 16-bit types; what each operator computes in, :class:`dsd_ort.rewrite.operators.Half` and its rows say."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import onnx_ir as ir

Precision: TypeAlias = Literal["fp16", "bf16"]
TYPES: dict[Precision, ir.DataType] = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}

RANGES: dict[Precision, tuple[float, float]] = {
    "fp16": (2.0**-14, 65504.0),
    "bf16": (float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)),
}
"""Least normal and greatest number: constants but 0 that are not between them keep their operator in float32."""
