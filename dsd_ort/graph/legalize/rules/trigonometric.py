"""Trigonometric and hyperbolic functions and their inverses: a forward by ONNX Runtime's kernel, and its derivative."""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.rewrite.autograd import Operator, operator
from dsd_ort.rewrite.site import Site

_SLOPES = {
    "Acos": "q = Sub (one, square)  r = Sqrt (q)  s = Neg (r)  dx = Div (dy, s)",  # -1 / √(1 - x²)
    "Acosh": "q = Sub (square, one)  r = Sqrt (q)  dx = Div (dy, r)",  # 1 / √(x² - 1)
    "Asin": "q = Sub (one, square)  r = Sqrt (q)  dx = Div (dy, r)",  # 1 / √(1 - x²)
    "Asinh": "q = Add (square, one)  r = Sqrt (q)  dx = Div (dy, r)",  # 1 / √(x² + 1)
    "Atan": "q = Add (square, one)  dx = Div (dy, q)",  # 1 / (1 + x²)
    "Atanh": "q = Sub (one, square)  dx = Div (dy, q)",  # 1 / (1 - x²)
    "Cosh": "s = Sinh (x)  dx = Mul (dy, s)",
    "Sinh": "s = Cosh (x)  dx = Mul (dy, s)",
    "Tan": "c = Cos (x)  q = Mul (c, c)  dx = Div (dy, q)",  # 1 / cos²x
}


def _operator(name: str) -> Operator:
    return operator(
        name,
        forward=f"(x) => (y) {{ y = {name} (x) }}",
        backward="(dy, x) => (dx) { one = Constant <value_float = 1.0> ()  square = Mul (x, x)  "
        + _SLOPES[name]
        + " }",
    )


_OPERATORS = {name: _operator(name) for name in _SLOPES}


def function(site: Site) -> ir.Value:
    """The same with its derivative from calculus"""
    return site.call(_OPERATORS[site.node.op_type], site.input(0))[0]
