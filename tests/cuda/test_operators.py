"""The rewrites of a session on every operator's gradient: forms for CUDA, portable ones, 16 bits; on the CPU.

The graphs are those of :mod:`tests.graph.legalize.cases`, each as it is differentiated; their gradients are compared
with the reference elsewhere, and here with what the rewrites make of them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dsd_ort import runtime
from dsd_ort.device.forms import for_session
from dsd_ort.device.mixed import LOSS_SCALE, Precision, mix, scale_loss
from dsd_ort.device.unroll import unroll
from dsd_ort.graph.differentiate import differentiate
from dsd_ort.graph.legalize import legalize
from tests.graph.gradient import Arrays, Exact, _with_loss, loss_weights, model, random_inputs
from tests.graph.legalize.cases import CASES, Case
from tests.session import opened

DISTINCT = {str(case).rpartition(" / ")[0]: case for listed in CASES for case in listed.everywhere()}
"""Each case at its last opset."""


def in_turn(*options: tuple[Any, ...]) -> list[Any]:
    """Every case with each of *options*, of which all but one, in turn, are slow."""
    return [
        pytest.param(name, *option, marks=[pytest.mark.slow] * ((number + turn) % len(options) > 0))
        for number, name in enumerate(DISTINCT)
        for turn, option in enumerate(options)
    ]


@cache
def prepared(name: str) -> tuple[onnx.ModelProto, Arrays, Arrays]:
    """The step graph of a case, its inputs, and all that it computes as it was prepared."""
    case: Case = DISTINCT[name]
    inputs = random_inputs(case.proto, case.given)
    trained = [n for n, value in inputs.items() if value.dtype == np.float32 and n not in case.untrained]
    y = Exact(model(case.reference, max(case.opset, 18)) if case.reference else case.proto)(inputs)["y"]
    legal = legalize(ir.from_proto(case.proto), trained, outputs=["y"], batch_norm="frozen").model
    with_loss = ir.from_proto(_with_loss(ir.to_proto(legal), loss_weights({"y": y})))
    step = ir.to_proto(differentiate(with_loss, trained, loss="L").model)
    return step, inputs, outputs(ir.from_proto(step), inputs)


def outputs(step: ir.Model, inputs: Arrays) -> Arrays:
    session = opened(step)
    names, known = [v.name for v in session.get_outputs()], {v.name for v in session.get_inputs()}
    return dict(zip(names, session.run(names, {k: v for k, v in inputs.items() if k in known}), strict=True))


def assert_close(got: Arrays, expected: Arrays, tolerance: float) -> None:
    for name, value in expected.items():
        assert got[name].shape == value.shape, name
        if value.dtype.kind == "f" and name != "L":  # a sum of both signs
            difference = got[name].astype(np.float64) - value
            assert np.linalg.norm(difference) <= tolerance * (np.linalg.norm(value) + 1e-3), name


@pytest.mark.parametrize(("name", "trains", "deterministic"), in_turn((True, False), (True, True), (False, False)))
def test_the_forms_of_cuda_compute_the_same(
    name: str, trains: bool, deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, inputs, expected = prepared(name)
    shapes = {value.name: inputs[value.name].shape for value in step.graph.input}
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "trains", lambda: trains)
        graph = ir.from_proto(step)
        for_session(graph, "cuda", shapes, deterministic=deterministic)
    unroll(graph)
    assert_close(outputs(graph, inputs), expected, 1e-5)


@pytest.mark.parametrize(("name", "precision", "tolerance"), in_turn(("fp16", 0.02), ("bf16", 0.1)))
def test_16_bits_are_close(name: str, precision: Precision, tolerance: float) -> None:
    step, inputs, expected = prepared(name)
    graph = ir.from_proto(step)
    scale_loss(graph, "L")
    for_session(graph, "cpu")
    mix(graph, precision)
    got = outputs(graph, {**inputs, LOSS_SCALE: np.array(1, np.float32)})
    assert_close(got, expected, tolerance)
