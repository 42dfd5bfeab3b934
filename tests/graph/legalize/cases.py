"""One line an operator: a small graph, and what legalize makes of it.

``expected`` is the output in terms of the inputs (:func:`tests.graph.expression.expression`) if a rule rewrites it, None
if it stays as it is.  ``original`` computes the same by other operators, where the reference evaluator's own version
works in single precision or has a bug; the gradient is then compared with its.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import onnx

from tests.graph.gradient import model


class Case(NamedTuple):
    text: str
    expected: str | None = None
    opset: int = 18
    original: str | None = None
    given: Mapping[str, Any] | None = None
    frozen: tuple[str, ...] = ()
    """Inputs that get no gradient."""

    @property
    def proto(self) -> onnx.ModelProto:
        return model(self.text, self.opset)

    def __str__(self) -> str:
        return self.text.partition("{")[2].strip(" }")


def _unary(node: str, expected: str | None = None, **more: Any) -> Case:
    return Case(f"(float[N, 7] x) => (float[N, 7] y) {{ y = {node} }}", expected, **more)


def _reduction(node: str, expected: str | None = None, opset: int = 18) -> Case:
    given = {"x": [[[1, 3, 2], [4, 1.5, 0.5]], [[0.3, 0.7, 2.5], [1.2, 2.2, 0.1]]]}
    axes = "<int64[1] a = {1}, int64[2] b = {-1, 1}>"
    return Case(f"(float[N, 2, 3] x) => (float[] y) {axes} {{ y = {node} }}", expected, opset, given=given)


_SOFTPLUS = "Add(Mul(Add(x, Abs(x)), 0.5), Log(Add(Exp(Neg(Abs(x))), 1)))"
_GELU = "(float[N, 7] x) => (float[N, 7] y) <float r = {0.70710678118654757}, float one = {1}, float half = {0.5}> "
_POSITIVE = {"x": [[1, 2, 3, 4, 5, 6, 7], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]]}

ACTIVATIONS = [
    _unary("Elu <alpha = 2.0> (x)", "Add(Relu(x), Mul(Sub(Exp(Clip(x, _, 0)), 1), 2))"),
    _unary("Selu (x)", "Mul(Add(Relu(x), Mul(Sub(Exp(Clip(x, _, 0)), 1), 1.673)), 1.051)"),
    _unary("Celu <alpha = 2.0> (x)", "Add(Relu(x), Mul(Sub(Exp(Div(Clip(x, _, 0), 2)), 1), 2))"),
    _unary("ThresholdedRelu <alpha = 0.5> (x)", "Mul(x, Cast(Greater(x, 0.5), to=1))"),
    _unary("HardSigmoid (x)", "Clip(Add(Mul(x, 0.2), 0.5), 0, 1)"),
    _unary("HardSwish (x)", "Mul(x, Clip(Add(Div(x, 6), 0.5), 0, 1))"),
    _unary("Softplus (x)", _SOFTPLUS),
    _unary("Mish (x)", f"Mul(x, Tanh({_SOFTPLUS}))"),
    _unary("Softsign (x)", "Div(x, Add(Abs(x), 1))"),
    _unary(
        "Shrink <lambd = 0.4, bias = 0.2> (x)",
        "Add(Mul(Sub(x, 0.2), Cast(Greater(x, 0.4), to=1)), Mul(Add(x, 0.2), Cast(Less(x, -0.4), to=1)))",
    ),
    Case(
        "(float[N, 7] x, float[7] s) => (float[N, 7] y) { y = PRelu (x, s) }",
        "Add(Relu(x), Mul(s, Clip(x, _, 0)))",
    ),
    _unary(
        "Gelu (x)",
        "Gelu(x)",
        opset=20,
        original=_GELU + "{ a = Mul (x, r) b = Erf (a) c = Add (b, one) d = Mul (c, x) y = Mul (d, half) }",
    ),
    _unary('Gelu <approximate = "tanh"> (x)', "FastGelu(x)", opset=20),
    _unary("Swish <alpha = 1.5> (x)", "Mul(x, Sigmoid(Mul(x, 1.5)))", opset=24),
    *(
        Case(
            f"(float[N, 7] x) => (float[N, 7] y) {{ h = {name} (x) y = Mul (x, h) }}",
            f"Mul(x, Cast(Cast({name}(x), to=7), to=1))",
        )
        for name in ("Floor", "Ceil", "Round", "Sign", "Hardmax")
    ),
    *(_unary(f"{name} (x)") for name in ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Erf", "Softmax", "LogSoftmax")),
    _unary("Softmax <axis = 0> (x)"),
    _unary("Clip (x, low, high)").with_constants("float low = {-0.5}, float high = {0.5}")
    if False
    else Case("(float[N, 7] x) => (float[N, 7] y) <float a = {-0.5}, float b = {0.5}> { y = Clip (x, a, b) }"),
]
