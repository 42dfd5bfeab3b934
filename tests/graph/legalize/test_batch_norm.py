"""Batch norm in training: PyTorch's rule for the running statistics, stated here in float64."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.legalize import Legalized, legalize
from dsd_ort.notes import Note
from tests.graph.gradient import Arrays, Exact, Step, disagreement, loss_weights, model, random_inputs, step

TOLERANCE = 1e-6
PARAMETERS = "float[3] s, float[3] b, float[3] m, float[3] v"
VARIANCE = {"v": [0.5, 2, 1e-3]}
EVALUATION = "y = BatchNormalization <momentum = 0.8> (x, s, b, m, v)"
TRAINING = "y, p, q = BatchNormalization <momentum = 0.8, training_mode = 1> (x, s, b, m, v)"


def graph(body: str, x: str = "float[N, 3, H, W] x") -> str:
    return f"({x}, {PARAMETERS}) => (float[] y) {{ {body} }}"


def trained(text: str, inputs: Arrays, batch_norm: str = "train") -> tuple[Legalized, Step]:
    legal = legalize(ir.from_proto(model(text)), ["x", "s", "b"], outputs=["y"], batch_norm=batch_norm)
    weights = {"y": np.random.default_rng(1).standard_normal(inputs["x"].shape)}
    return legal, step(legal.model, ["x", "s", "b"], inputs, weights)


def followed(x: np.ndarray, mean: np.ndarray, variance: np.ndarray, momentum: float) -> tuple[np.ndarray, np.ndarray]:
    """torch.nn.BatchNorm's running mean and variance after a batch; momentum as ONNX defines it."""
    x = np.moveaxis(x.astype(np.float64), 1, -1).reshape(-1, x.shape[1])
    unbiased = x.var(axis=0, ddof=1) if len(x) > 1 else np.zeros(x.shape[1])
    return momentum * mean + (1 - momentum) * x.mean(axis=0), momentum * variance + (1 - momentum) * unbiased


@pytest.mark.parametrize(
    "x", ["float[N, 3] x", "float[N, 3, 7] x", "float[N, 3, H, W] x", "float[N, 3, 2, 3, 2] x", "float[1, 3] x"]
)
def test_running_statistics_follow_the_rule_of_pytorch(x: str) -> None:
    inputs = random_inputs(model(graph(EVALUATION, x)), VARIANCE)
    inputs["x"] = inputs["x"] * 3 + 5
    legal, done = trained(graph(EVALUATION, x), inputs)
    assert set(legal.statistics) == {"m", "v"}
    for name, expected in zip("mv", followed(inputs["x"], inputs["m"], inputs["v"], 0.8), strict=True):
        np.testing.assert_allclose(done.outputs[legal.statistics[name]], expected, rtol=2 * TOLERANCE)


def test_the_running_statistics_that_are_fed_stay_as_they_are() -> None:
    inputs = random_inputs(model(graph(EVALUATION)), VARIANCE)
    before = {name: inputs[name].copy() for name in "mv"}
    trained(graph(EVALUATION), inputs)
    assert all((inputs[name] == before[name]).all() for name in "mv")


def test_the_running_variance_of_a_constant_channel_decays_and_stays_positive() -> None:
    inputs = random_inputs(model(graph(EVALUATION)), VARIANCE)
    inputs["x"] = np.full_like(inputs["x"], 3)
    inputs["v"][:] = 0, 1e-12, 1
    legal, done = trained(graph(EVALUATION), inputs)
    variance = done.outputs[legal.statistics["v"]]
    np.testing.assert_allclose(variance, 0.8 * inputs["v"], atol=1e-11)
    assert (variance >= 0).all()


@pytest.mark.parametrize("body", [EVALUATION, TRAINING])
def test_output_and_gradient_are_those_of_training_mode(body: str) -> None:
    text = graph(body)
    inputs = random_inputs(model(text), VARIANCE)
    exact = Exact(model(graph(TRAINING)))
    _, done = trained(text, inputs)
    y = exact(inputs)
    np.testing.assert_allclose(done.outputs["y"], y["y"], rtol=0, atol=TOLERANCE * np.abs(y["y"]).max())
    assert max(disagreement(exact, inputs, loss_weights(y), done.gradients).values()) < TOLERANCE


def test_a_module_that_is_applied_twice_moves_its_statistics_twice() -> None:
    text = graph(f"{EVALUATION.replace('y =', 'h =')} y = BatchNormalization <momentum = 0.8> (h, s, b, m, v)")
    inputs = random_inputs(model(text), VARIANCE)
    legal, done = trained(text, inputs)

    h = Exact(model(graph(TRAINING)))(inputs)["y"]
    once = followed(inputs["x"], inputs["m"], inputs["v"], 0.8)
    for name, expected in zip("mv", followed(h, *once, 0.8), strict=True):
        np.testing.assert_allclose(done.outputs[legal.statistics[name]], expected, rtol=2 * TOLERANCE, atol=1e-7)


def test_frozen_batch_norm_has_no_new_statistics() -> None:
    inputs = random_inputs(model(graph(EVALUATION)), VARIANCE)
    legal, done = trained(graph(EVALUATION), inputs, "frozen")
    assert legal.statistics == {}
    y = Exact(model(graph(EVALUATION)))(inputs)["y"]
    np.testing.assert_allclose(done.outputs["y"], y, rtol=0, atol=TOLERANCE * np.abs(y).max())


def test_what_the_file_trains_stays_in_training_mode_though_batch_norm_is_frozen() -> None:
    legal = legalize(ir.from_proto(model(graph(TRAINING))), ["s"], outputs=["y"], batch_norm="frozen")
    assert [node.op_type for node in legal.model.graph] == ["Neg", "Neg", "BatchNormInternal"]
    assert legal.statistics == {}


def test_batch_norm_in_front_of_all_trained_parameters_trains_too() -> None:
    text = graph(f"{EVALUATION.replace('y =', 'h =')} y = Mul (h, w)").replace("float[3] s", "float[3] s, float w")
    legal = legalize(ir.from_proto(model(text)), ["w"], outputs=["y"])
    assert set(legal.statistics) == {"m", "v"}


def test_computed_statistics_are_refused() -> None:
    text = graph(f"k = Neg (v) {EVALUATION.replace('v)', 'k)')}")
    with pytest.raises(UnsupportedError, match="running statistics that are computed"):
        legalize(ir.from_proto(model(text)), ["s"], outputs=["y"])


def test_notes_say_what_became_of_each_batch_norm() -> None:
    for batch_norm, words in (
        ("train", "Batch statistics, and running statistics that follow"),
        ("frozen", "Scale and shift by the running statistics"),
    ):
        legal = legalize(ir.from_proto(model(graph(EVALUATION))), ["s"], outputs=["y"], batch_norm=batch_norm)
        assert legal.notes == (Note(kind="rewrite", node="BatchNormalization 'y'", words=words),)
