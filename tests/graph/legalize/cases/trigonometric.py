"""Trigonometric and hyperbolic functions."""

from __future__ import annotations

import numpy as np

from tests.graph.legalize.cases.case import unary

UNIT = {"x": np.linspace(-0.9, 0.9, 14).reshape(2, 7)}

CASES = [
    *(unary(f"{name} (x)", given=UNIT) for name in ("Acos", "Asin", "Atanh")),
    *(unary(f"{name} (x)") for name in ("Asinh", "Atan", "Cosh", "Sinh", "Tan")),
    unary("Acosh (x)", given={"x": np.linspace(1.1, 3, 14).reshape(2, 7)}),
]
