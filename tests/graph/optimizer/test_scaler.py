"""The loss scaler against its NumPy twin, and optimizers under its guard against those without."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from dsd_ort import runtime
from dsd_ort.graph.optimizer.guard import guarded, scalars
from dsd_ort.graph.optimizer.scaler import LARGEST, SCHEDULES, scaler_graph
from dsd_ort.graph.optimizer.update import OPTIMIZERS, update_graph
from dsd_ort.recipe import Optimizer
from tests.graph.optimizer.test_update import CASES, every_case, run_bound, start

STATE = ("scale", "good", "done", "skipped")
BAD = [math.inf, -math.inf, math.nan]


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def fresh(
    scale: float = 1024.0, *, interval: float = 2000, limit: float = math.inf, count: float = 1
) -> dict[str, Any]:
    """The scaler's inputs but the gradient, before the first update."""
    state = {"scale": scale, "good": 0, "done": 0, "skipped": 0, "count": count, "limit": limit, "interval": interval}
    return {name: number(value) for name, value in state.items()}


def scale_once(gradient: Any, state: dict[str, np.ndarray]) -> dict[str, float]:
    """One run, the state written in place."""
    session = runtime.session(scaler_graph(), runtime.session_options(1))
    binding = session.io_binding()
    results = {"gradient_scale": number(-1), "keep": np.array(False), "norm": number(-1)}
    for name, array in (state | {"gradient": np.asarray(gradient, np.float32)}).items():
        binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    for name, array in (results | {f"{name}_new": state[name] for name in STATE}).items():
        binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
    session.run_with_iobinding(binding)
    return {name: array.item() for name, array in (results | {name: state[name] for name in STATE}).items()}


def test_the_factor_undoes_scale_and_count_and_clips_the_mean_gradient() -> None:
    gradient = np.random.default_rng(0).standard_normal(10_000).astype(np.float32) * 4096
    norm = float(np.linalg.norm(gradient.astype(np.float64))) / (1024 * 3)
    free = scale_once(gradient, fresh(count=3))
    assert free["keep"] is True
    assert free["norm"] == pytest.approx(norm, rel=1e-6)
    assert free["gradient_scale"] == pytest.approx(1 / (1024 * 3), rel=1e-6)
    clipped = scale_once(gradient, fresh(count=3, limit=norm / 2))
    assert clipped["gradient_scale"] == pytest.approx(0.5 / (1024 * 3), rel=1e-5)
    above = scale_once(gradient, fresh(count=3, limit=norm * 2))
    assert above["gradient_scale"] == free["gradient_scale"]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("limit", [1.0, math.inf])
def test_one_element_that_is_not_finite_skips_the_update_and_halves_the_scale(bad: float, limit: float) -> None:
    gradient = np.ones(5000)
    gradient[1234] = bad
    state = fresh(limit=limit) | {"good": number(7), "done": number(9), "skipped": number(2)}
    got = scale_once(gradient, state)
    assert (got["keep"], got["gradient_scale"]) == (False, 0.0)
    assert [got[name] for name in STATE] == [512, 0, 9, 3]


def test_the_scale_doubles_after_the_interval_and_stays_within_its_bounds() -> None:
    state = fresh(interval=3)
    scales = [scale_once([1.0], state)["scale"] for _ in range(7)]
    assert scales == [1024, 1024, 2048, 2048, 2048, 4096, 4096]
    assert scale_once([math.nan], state)["scale"] == 2048
    assert [scale_once([1.0], state)["scale"] for _ in range(3)] == [2048, 2048, 4096]
    assert [state[name].item() for name in STATE] == [4096, 0, 10, 1]
    assert scale_once([1.0], fresh(LARGEST, interval=1))["scale"] == LARGEST
    assert scale_once([math.inf], fresh(1.0))["scale"] == 1


def test_bfloat16_keeps_a_scale_of_1() -> None:
    initial, interval = SCHEDULES["bf16"]
    state = fresh(initial, interval=interval)
    assert [scale_once([value], state)["scale"] for value in (1.0, math.inf, 1.0, 1.0)] == [1, 1, 1, 1]


@pytest.mark.parametrize(("size", "kept"), [(1e18, True), (1e-30, True), (0.0, True), (1.9e19, False)])
def test_the_range_of_the_norm_is_that_of_the_docstring(size: float, kept: bool) -> None:
    got = scale_once([size], fresh(1.0))
    assert got["keep"] is kept
    assert got["gradient_scale"] == float(kept)
    if 1e-22 < size < 1e19:
        assert got["norm"] == pytest.approx(size, rel=1e-6)


def readers_come_first(model: onnx.ModelProto, pairs: dict[str, str]) -> bool:
    """Is every reader of an input (keys) computed before, or as, the node that writes the output (values)?"""
    before: dict[str, set[str]] = {}
    for node in model.graph.node:
        for output in node.output:
            before[output] = set(node.input).union(*(before.get(name, set()) for name in node.input))
    readers = {old: [node.output[0] for node in model.graph.node if old in node.input] for old in pairs}
    return all(readers[old] and set(readers[old]) <= before[new] | {new} for old, new in pairs.items())


def test_the_state_may_be_written_over() -> None:
    model = scaler_graph()
    onnx.checker.check_model(model, full_check=True)
    # CastLike reads a type only, and is gone before anything runs.
    session_graph = [node for node in model.graph.node if node.op_type != "CastLike"]
    del model.graph.node[:]
    model.graph.node.extend(session_graph)
    assert readers_come_first(model, {name: f"{name}_new" for name in STATE})


@every_case
def test_a_guarded_update_may_be_written_over(case: str) -> None:
    o = CASES[case]
    model = guarded(o)
    onnx.checker.check_model(model, full_check=True)
    assert readers_come_first(model, {n: f"{n}_new" for n in ("weight", *OPTIMIZERS[o.name].slots)})


def update(o: Optimizer, state: dict[str, np.ndarray], gradient: np.ndarray, **device: Any) -> None:
    """One guarded update in place."""
    session = runtime.session(guarded(o), runtime.session_options(1))
    fed = scalars(o, learning_rate=0.1, weight_decay=0.01)
    binding = session.io_binding()
    cells = {name: np.asarray(value) for name, value in (fed | device).items()}
    for name, array in (state | {"gradient": gradient} | cells).items():
        binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
    for name, array in state.items():
        binding.bind_output(f"{name}_new", "cpu", 0, np.float32, array.shape, array.ctypes.data)
    session.run_with_iobinding(binding)


def device(*, keep: bool, done: int, scale: float = 0.5) -> dict[str, np.ndarray]:
    return {"keep": np.array(keep), "done": number(done), "scale": number(scale if keep else 0)}


def contents(state: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in state.items()}


@every_case
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("done", [0, 3])
def test_a_skipped_update_changes_no_bit(case: str, bad: float, done: int) -> None:
    o, rng = CASES[case], np.random.default_rng(4)
    state = start(o, 1003)
    for name in OPTIMIZERS[o.name].slots:
        state[name][:] = np.abs(rng.standard_normal(1003))
    state["weight"][:3] = [0.0, -0.0, 1e-45]
    gradient = rng.standard_normal(1003).astype(np.float32)
    gradient[::7] = bad
    before = contents(state)
    update(o, state, gradient, **device(keep=False, done=done))
    assert contents(state) == before
    update(o, state, np.ones_like(gradient), **device(keep=True, done=done + 1))
    assert contents(state) != before


@every_case
def test_guarded_updates_are_the_unguarded_ones_without_those_that_were_skipped(case: str) -> None:
    o, rng = CASES[case], np.random.default_rng(5)
    plain, state = start(o, 501), start(o, 501)
    bare = runtime.session(update_graph(o), runtime.session_options(1))
    done = 0
    for keep in (False, True, True, False, True, True):
        gradient = rng.standard_normal(501).astype(np.float32)
        done += keep
        if keep:
            fed = OPTIMIZERS[o.name].scalars(o, learning_rate=0.1, weight_decay=0.01, step=done, gradient_scale=0.5)
            run_bound(bare, plain | {"gradient": gradient}, plain, fed)
        update(o, state, gradient if keep else gradient * np.float32(np.nan), **device(keep=keep, done=done))
    for name, array in plain.items():
        np.testing.assert_allclose(state[name], array, rtol=2e-6, atol=1e-7)
    moved = np.linalg.norm(plain["weight"] - start(o, 501)["weight"])
    assert np.linalg.norm(state["weight"] - plain["weight"]) < 1e-6 * moved


@every_case
def test_bias_correction_is_exact_after_many_updates_too(case: str) -> None:
    o = CASES[case]
    for done in (1, 2, 1000, 1_000_000):
        plain, state = start(o, 64), start(o, 64)
        gradient = np.random.default_rng(done).standard_normal(64).astype(np.float32)
        fed = OPTIMIZERS[o.name].scalars(o, learning_rate=0.1, weight_decay=0.01, step=done, gradient_scale=0.5)
        run_bound(runtime.session(update_graph(o)), plain | {"gradient": gradient}, plain, fed)
        update(o, state, gradient, **device(keep=True, done=done))
        np.testing.assert_allclose(state["weight"], plain["weight"], rtol=2e-6, atol=1e-6)


@every_case
@pytest.mark.parametrize("epsilon", [0.0, 1e-45, 1e-8])
@pytest.mark.parametrize("keep", [True, False])
def test_law_3_a_weight_with_zero_slots_and_gradient_stays_exactly_zero(case: str, epsilon: float, keep: bool) -> None:
    o = msgspec.structs.replace(CASES[case], epsilon=epsilon)
    state = start(o, 4)
    state["weight"][:] = [0.0, 0.0, 1.0, 0.0]
    gradient = np.array([0.0, -0.0, 3.0, 0.0], np.float32)
    if o.name != "sgd":  # ε · √(1 - β₂ᵗ) would be 0, and 0/0 no number
        o = msgspec.structs.replace(o, beta2=max(o.beta2, 1 - 1e-15) if epsilon == 0 else o.beta2)
    for done in (1, 2, 3):
        update(o, state, gradient, **device(keep=keep, done=done))
        for array in state.values():
            assert array[[0, 1, 3]].tobytes() == np.zeros(3, np.float32).tobytes()
    assert (state["weight"][2] != 1) == keep
