"""Where the logits of a model are."""

from __future__ import annotations

import pytest

from dsd_ort.graph.logits import Logits, peel
from dsd_ort.graph.loss import attach
from dsd_ort.recipe import Loss
from tests.graph.test_loss import network, parse

TAILS = {
    "Softmax <axis = 1> (scores)": Logits("x", "softmax", 1, 3),
    "LogSoftmax <axis = 1> (scores)": Logits("x", "log-softmax", 1, 3),
    "Sigmoid (scores)": Logits("x", "sigmoid"),
    "Softmax <axis = 2> (scores)": Logits("x", "softmax", 2, 3),
    "Softmax (scores)": Logits("x", "softmax", 2, 3),
    "Softmax <axis = -2> (scores)": Logits("x", "softmax", 1, 3),
    "Relu (scores)": Logits("out"),
}


@pytest.mark.parametrize("tail", TAILS)
def test_peel_goes_back_through_identity_and_one_activation_over_the_classes(tail: str) -> None:
    assert peel(network((2, 5, 3), tail), "out") == TAILS[tail]


def test_peel_takes_the_rank_that_only_the_output_behind_an_identity_states() -> None:
    """As scikit-learn's classifiers behind a scaler: nothing is known of a value behind an operator of ai.onnx.ml."""
    nodes = "y = Reshape (x, s) p = Softmax (y) out = Identity (p)"
    model = parse(f"(float[n, 4] x, int64[k] s) => (float[n, 4] out) {{ {nodes} }}")
    assert peel(model, "out") == Logits("y", "softmax", 1, 2)


def test_peel_infers_the_rank_that_a_file_does_not_state() -> None:
    model = parse("(float[n, 4] x, float[4, 3] w) => (float[] out) { y = MatMul (x, w) out = Softmax (y) }")
    model.graph.outputs[0].shape = None
    assert peel(model, "out") == Logits("y", "softmax", 1, 2)
    assert attach(model, [Loss()]).labels[0].classes == 3
