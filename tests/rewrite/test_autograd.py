"""The registry of operators with a backward of their own."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from dsd_ort.graph.differentiate import differentiate
from dsd_ort.rewrite import autograd
from tests.graph.gradient import model
from tests.session import opened

TWICE = autograd.operator(
    "Twice",
    forward="(x, z) => (y, s) { y = Mul (x, z) s = Add (x, z) }",
    backward="(dy, s, z) => (dx) { t = Mul (s, z) dx = Mul (dy, t) }",
)
"""Its backward is not its derivative, so that one sees which of the two was used: dx = dy · (x + z) · z."""


def graph(text: str) -> ir.Model:
    made = ir.from_proto(model(text))
    autograd.add(made, {"": TWICE})
    return made


@pytest.mark.parametrize("repetition", ["first", "once more in the same process"])
def test_the_builder_calls_the_backward_function_and_nothing_of_ours_is_left(repetition: str) -> None:
    text = f"(float[N, 3] w, float[3] z) => (float L) {{ h = Abs (w) y, s = dsd_ort.{TWICE.name} (h, z) "
    step = differentiate(graph(f"{text} L = ReduceSum <keepdims = 0> (y) }}"), ["w"], loss="L").model

    assert not step.functions and autograd.DOMAIN not in step.opset_imports
    assert {node.domain for node in step.graph} <= {"", "com.microsoft"}
    session = opened(step)
    w, z = np.array([[1, 2, 3]], np.float32), np.array([4, 5, 6], np.float32)
    (gradient,) = session.run(["w_grad"], {"w": w, "z": z})
    np.testing.assert_array_equal(gradient, (w + z) * z)


def test_what_an_operator_gives_gradients_of_follows_from_the_names() -> None:
    assert TWICE.differentiable == {0}
    assert TWICE.outputs_with_gradient == {0}


def test_an_operator_is_named_after_all_of_its_text() -> None:
    again = autograd.operator("Twice", forward="(x) => (y) { y = Neg (x) }", backward="(dy) => (dx) { dx = Neg (dy) }")
    assert again.name != TWICE.name and again.backward.name == f"{again.name}_grad"


def test_an_argument_of_unknown_meaning_is_a_mistake_in_the_operator() -> None:
    with pytest.raises(ValueError, match="arguments of unknown meaning: dq, q"):
        autograd.operator("Bad", forward="(x) => (y) { y = Neg (x) }", backward="(dy, q) => (dq) { dq = Neg (dy) }")
