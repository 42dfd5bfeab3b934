"""Slopes by complex numbers are those of central differences, or are not to be had."""

from __future__ import annotations

import warnings

import numpy as np
import onnxruntime
import pytest

from dsd_ort.proof import operators
from dsd_ort.proof.evaluator import Evaluator, TooSlow
from dsd_ort.proof.reference import TINY, InNumPy, in_double
from tests.graph.gradient import model, random_inputs
from tests.graph.legalize.cases import CASES, Case

TRIED = [case for case in CASES if case.opset >= 13][::3]
KNOWN = 0.8
"""The part of the cases that a slope is known of, at least."""


def slope(case: Case) -> tuple[float, float] | None:
    """Of a weighted sum of the case's output along a random direction: by complex numbers, and by differences."""
    inputs = random_inputs(case.proto, case.given)
    random = np.random.default_rng(0)
    along = {n: random.standard_normal(v.shape) for n, v in inputs.items() if v.dtype == np.float32}
    along = {n: d for n, d in along.items() if n not in case.untrained}
    try:
        run = Evaluator(in_double(case.proto), ["y"], operators.ALWAYS)
        (y,) = run(inputs)
    except Exception:  # ONNX's own evaluator does not run it
        return None
    weights = random.standard_normal(y.shape)

    def at(step: complex) -> complex:
        moved = {n: (lambda v=inputs[n], d=d: v.astype(np.float64) + step * d) for n, d in along.items()}
        return complex((weights * run({**inputs, **moved})[0]).sum())

    h = 1e-6
    difference = (at(h) - at(-h)).real / (2 * h)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return at(1j * TINY).imag / TINY, difference
        except Exception:
            return None


def test_slopes_are_those_of_differences_or_are_not_known() -> None:
    found = {str(case): slope(case) for case in TRIED}
    known = {name: pair for name, pair in found.items() if pair is not None and np.isfinite(pair[0])}
    assert {n: pair for n, pair in known.items() if abs(pair[0] - pair[1]) > 1e-6 * max(1, abs(pair[1]))} == {}
    assert len(known) >= KNOWN * len(found)


def test_an_evaluation_ends_in_time_and_keeps_what_is_asked_for() -> None:
    graph = model("(float[2, 3] x) => (float[2, 3] y) { a = Relu (x) y = Neg (a) }", 17)
    run = Evaluator(graph, ["a", "y"], ())
    x = np.array([[-1, 0, 2], [3, -4, 5]], np.float32)
    a, y = run({"x": x, "unknown": x})
    assert np.array_equal(a, np.maximum(x, 0)) and np.array_equal(y, -a)
    with pytest.raises(TooSlow):
        run({"x": x}, limit=-1.0)


def test_a_reference_that_was_fast_enough_once_is_not_given_up_when_the_machine_is_busy() -> None:
    graph = model("(float[2, 3] x) => (float y) { a = Relu (x) y = ReduceSum <keepdims = 0> (a) }", 17)
    inputs = {"x": np.array([[-1, 0, 2], [3, -4, 5]], np.float32)}
    with pytest.raises(TooSlow):
        InNumPy(graph, "y", limit=-1.0)(inputs)
    reference = InNumPy(graph, "y", limit=60.0)
    assert reference(inputs) == 10
    reference.limit = -1.0
    assert reference(inputs) == 10


@pytest.mark.parametrize("size", [1, 3, 5])
def test_response_normalisation_is_over_all_channels(size: int) -> None:
    """ONNX's own evaluator stops behind as many channels as the batch has examples."""
    text = f"y = LRN <size = {size}, alpha = 0.3, beta = 0.6, bias = 2.0> (x)"
    graph = model(f"(float[2, 7, 3, 4] x) => (float[2, 7, 3, 4] y) {{ {text} }}", 17)
    inputs = random_inputs(graph)
    (truth,) = onnxruntime.InferenceSession(graph.SerializeToString()).run(None, inputs)
    (found,) = Evaluator(in_double(graph), ["y"], operators.ALWAYS)(inputs)
    np.testing.assert_allclose(found, truth, rtol=1e-6)
