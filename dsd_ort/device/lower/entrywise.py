"""Forms for the CPU of what is done entry by entry, in vector code.

ONNX Runtime's kernels for these choose one of two numbers for each entry, and a processor that guesses wrong waits:
five nanoseconds an entry where signs are random, ten times what an addition takes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dsd_ort.device.lower.bounded import is_bounded
from dsd_ort.device.lower.form import Choices
from dsd_ort.device.lower.picked import put_together
from dsd_ort.rewrite.names import is_of_gradient
from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.site import Site

MOST_QUARTERS = 12
"""A quarter of this is the largest exponent that roots and products take the place of."""


def relu_gradient(site: Site, choices: Choices) -> ir.Value | None:
    """ReluGrad: dX = dY · [Y > 0]."""
    dy, y = site.input(0), site.input(1)
    return site.Mul(dy, _is_positive(site, y)) if is_bounded(dy) else None


def _is_positive(site: Site, y: ir.Value) -> ir.Value:
    """[Y > 0] = max(0, min(1, L·Y)) for the largest float32 L: inexact only where Y is below 1/L, a denormal."""
    return site.HardSigmoid(y, alpha=float(np.finfo(np.float32).max), beta=0.0)


def leaky_relu(site: Site, choices: Choices) -> ir.Value | None:
    """LeakyRelu: Y = max(X, α·X) for 0 < α ≤ 1.  One behind a convolution becomes a part of it as it is."""
    x, before = site.input(0), site.input(0).producer()
    alpha = _slope(site)
    if not alpha or x.dtype != ir.DataType.FLOAT or (before is not None and before.op_type == "Conv"):
        return None
    return site.Max(x, site.Mul(x, alpha))


def leaky_relu_gradient(site: Site, choices: Choices) -> ir.Value | None:
    """LeakyReluGrad: dX = dY · max(α, [Y > 0]) for 0 ≤ α ≤ 1."""
    dy, y = site.input(0), site.input(1)
    alpha = _slope(site)
    if alpha is None or dy.dtype not in (None, ir.DataType.FLOAT) or not (alpha or is_bounded(dy)):
        return None
    return site.Mul(dy, site.Max(_is_positive(site, y), alpha))


def _slope(site: Site) -> float | None:
    alpha = site.node.attributes.get_float("alpha", 0.01)
    return alpha if 0 <= alpha <= 1 else None


def chosen_gradient(site: Site, choices: Choices) -> ir.Value | None:
    """Where(C, dY, 0): dX = dY · C, and Where(C, 0, dY): dX = dY · (1 - C).  Of gradients only, which are finite."""
    condition, a, b = (site.input(i) for i in range(3))
    dy, where = (a, True) if _is_zero(b) else (b, False)
    if not (where or _is_zero(a)) or dy.dtype != ir.DataType.FLOAT:
        return None
    if not (is_of_gradient(site.node) and _depends_on_numbers(condition) and is_bounded(dy)):
        return None
    mask = site.Cast(condition, to=ir.DataType.FLOAT)
    return site.Mul(dy, mask if where else site.Sub(1.0, mask))


def _is_zero(value: ir.Value) -> bool:
    number = constant_value(value)
    return number is not None and not np.any(number)


def _depends_on_numbers(condition: ir.Value) -> bool:
    """What is the same in whole rows, as the mask of attention, a processor guesses right."""
    node = condition.producer()
    return node is not None and any(x is not None and x.dtype == ir.DataType.FLOAT for x in node.inputs)


def power(site: Site, choices: Choices) -> ir.Value | None:
    """Pow(X, 2) and Pow(X, 3) as products; and Pow(X, q/4) of finite numbers, as in LRN: X^i · (√X)^j · (√√X)^k with
    4i + 2j + k = |q|.
    """
    x, exponent = site.input(0), constant_value(site.node.inputs[1])
    if exponent is None or exponent.ndim > 0 or x.dtype != ir.DataType.FLOAT:
        return None
    quarters = 4 * float(exponent.item())
    if quarters in (8, 12):
        return functools.reduce(site.Mul, [x] * int(quarters / 4))
    if not quarters.is_integer() or quarters % 4 == 0 or abs(quarters) > MOST_QUARTERS:
        return None
    root = site.Sqrt(x)
    parts = [x] * (int(abs(quarters)) // 4)
    parts += [root] if abs(quarters) % 4 >= 2 else []
    parts += [site.Sqrt(root)] if quarters % 2 else []
    found = functools.reduce(site.Mul, parts)
    return site.Reciprocal(found) if quarters < 0 else found


def addition(site: Site, choices: Choices) -> ir.Value | None:
    """Sums of gradients that are one node, whatever their parts are."""
    silu = silu_gradient(site) if len(site.node.inputs) == 2 else None
    return silu if silu is not None or not choices.recent else put_together(site)


def silu_gradient(site: Site) -> ir.Value | None:
    """DY · S + SigmoidGrad(dY · X, S), which is the gradient of X · S with S = sigmoid(X): one node, which reads X."""
    for direct, inner in (site.node.inputs, site.node.inputs[::-1]):
        gate, product = _made_by(inner, "SigmoidGrad"), _made_by(direct, "Mul")
        through, sigmoid = (_made_by(gate[0], "Mul"), _made_by(gate[1], "Sigmoid")) if gate else (None, None)
        if not (gate and product and through and sigmoid) or gate[1] not in product:
            continue
        s, x = gate[1], sigmoid[0]
        dy = product[1] if product[0] is s else product[0]
        if dy is not None and {dy, x} == {*through}:
            return site.op("com.microsoft.QuickGeluGrad", dy, x, alpha=1.0)
    return None


def _made_by(value: ir.Value | None, op_type: str) -> Sequence[ir.Value | None]:
    """The inputs of the *op_type* that gives *value*; none if something else does."""
    node = None if value is None else value.producer()
    return node.inputs if node is not None and node.op_type == op_type else ()
