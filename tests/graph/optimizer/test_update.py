"""Update graphs against NumPy twins, PyTorch's numbers and ONNX's own test vectors."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from dsd_ort import runtime
from dsd_ort.graph.optimizer.update import OPTIMIZERS, unscaled, update_graph
from dsd_ort.recipe import Optimizer

Arrays = dict[str, np.ndarray]

CASES = {
    "sgd": Optimizer(name="sgd", momentum=0.9),
    "sgd-plain": Optimizer(name="sgd", momentum=0.0, dampening=0.5),
    "sgd-dampened": Optimizer(name="sgd", momentum=0.9, dampening=0.25),
    "nesterov": Optimizer(name="sgd", momentum=0.9, nesterov=True),
    "adam": Optimizer(name="adam"),
    "adam-fast": Optimizer(name="adam", beta1=0.0, beta2=0.1, epsilon=1e-3),
    "adam-hat": Optimizer(name="adam", epsilon=1e-3, epsilon_hat=True),
    "adamw": Optimizer(name="adamw", beta1=0.8, beta2=0.99),
}
every_case = pytest.mark.parametrize("case", CASES)


def twin(
    o: Optimizer, a: Mapping[str, np.ndarray], *, learning_rate: float, weight_decay: float, step: int, scale: float
) -> Arrays:
    """The update as PyTorch writes it down, in float64."""
    w, d = a["weight"].astype(np.float64), scale * a["gradient"].astype(np.float64)
    if o.name != "adamw":
        d = d + weight_decay * w
    if o.name == "sgd":
        buffer = o.momentum * a["momentum"] + (1 - o.dampening) * d if step > 1 and o.momentum else d
        direction = d + o.momentum * buffer if o.nesterov else buffer
        return {"weight": w - learning_rate * direction, "momentum": buffer}
    if o.name == "adamw":
        w = w * (1 - learning_rate * weight_decay)
    m = o.beta1 * a["moment1"] + (1 - o.beta1) * d
    v = o.beta2 * a["moment2"] + (1 - o.beta2) * d**2
    correction = np.sqrt(1 - o.beta2**step)
    root = (np.sqrt(v) + o.epsilon) / correction if o.epsilon_hat else np.sqrt(v) / correction + o.epsilon
    return {"weight": w - learning_rate / (1 - o.beta1**step) * m / root, "moment1": m, "moment2": v}


def start(o: Optimizer, n: int, seed: int = 0) -> Arrays:
    """Random weights and zero slots."""
    weight = np.random.default_rng(seed).standard_normal(n).astype(np.float32)
    return {"weight": weight} | {slot: np.zeros(n, np.float32) for slot in OPTIMIZERS[o.name].slots}


def session(o: Optimizer) -> Any:
    return runtime.session(update_graph(o), runtime.session_options(1))


def run_bound(s: Any, inputs: Arrays, outputs: Arrays, scalars: Mapping[str, Any]) -> None:
    """One run through I/O binding; ``outputs`` may be ``inputs``."""
    binding = s.io_binding()
    fed = inputs | {name: np.asarray(value) for name, value in scalars.items()}
    for name, array in fed.items():
        binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    for output in s.get_outputs():
        array = outputs[output.name.removesuffix("_new")]
        binding.bind_output(output.name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    s.run_with_iobinding(binding)


@every_case
def test_graph_and_numpy_twin_agree_over_several_steps(case: str) -> None:
    o = CASES[case]
    graph = ReferenceEvaluator(update_graph(o))
    state, rng = start(o, 1000), np.random.default_rng(1)
    for step in range(1, 7):
        gradient = (rng.standard_normal(1000) * 10.0 ** rng.integers(-3, 2, 1000)).astype(np.float32)
        now = {"learning_rate": 0.1 / step, "weight_decay": 0.01, "step": step}
        scalars = OPTIMIZERS[o.name].scalars(o, gradient_scale=0.25, **now)
        new = dict(zip(graph.output_names, graph.run(None, state | {"gradient": gradient} | scalars), strict=True))
        wanted = twin(o, state | {"gradient": gradient}, scale=0.25, **now)
        for name, value in wanted.items():
            got = new[f"{name}_new"]
            assert got.dtype == np.float32
            assert np.linalg.norm(got - value) <= 1e-7 * np.linalg.norm(value), (name, step)
            np.testing.assert_allclose(got, value, rtol=1e-6, atol=1e-6)
        state = {name: new[f"{name}_new"] for name in wanted}


# Three steps of torch.optim (2.13, float64) from these weights with these gradients, lr=0.1, weight_decay=0.01.
WEIGHTS = [1.0, -2.0, 0.5]
GRADIENTS = [[0.3, -1.0, 0.0], [-0.2, 0.5, 2.0], [0.7, 0.1, -1.5]]
PYTORCH = {
    "sgd": [0.881188769, -1.823119498, 0.267397399],
    "sgd-plain": [0.917042969, -1.954155898, 0.448701499],
    "sgd-dampened": [0.889892645, -1.798243643, 0.325171706],
    "nesterov": [0.810231435, -1.795378416, 0.239704451],
    "adam": [0.818826109, -1.853507923, 0.317476705],
    "adam-fast": [0.888452804, -2.02905882, 0.408796647],
    "adamw": [0.822709071, -1.864224704, 0.417374789],
}


@pytest.mark.parametrize("case", PYTORCH)
def test_three_steps_end_where_pytorch_ends(case: str) -> None:
    o = CASES[case]
    s, state = session(o), start(o, 3) | {"weight": np.array(WEIGHTS, np.float32)}
    for step, gradient in enumerate(GRADIENTS, start=1):
        scalars = OPTIMIZERS[o.name].scalars(o, learning_rate=0.1, weight_decay=0.01, step=step)
        run_bound(s, state | {"gradient": np.array(gradient, np.float32)}, state, scalars)
    np.testing.assert_allclose(state["weight"], PYTORCH[case], rtol=1e-6)


@every_case
def test_graph_has_the_documented_interface_and_only_elementwise_nodes(case: str) -> None:
    o = CASES[case]
    model = update_graph(o)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 10 and model.opset_import[0].version <= 21 and not model.functions
    slots = OPTIMIZERS[o.name].slots
    scalars = OPTIMIZERS[o.name].scalars(o, learning_rate=0.1, weight_decay=0.0, step=1)
    flat = [i.name for i in model.graph.input if len(i.type.tensor_type.shape.dim) == 1]
    assert flat == ["weight", "gradient", *slots]
    assert {i.name for i in model.graph.input} - set(flat) == set(scalars)
    assert [out.name for out in model.graph.output] == ["weight_new", *(f"{slot}_new" for slot in slots)]
    assert {node.op_type for node in model.graph.node} <= {"Add", "Sub", "Mul", "Div", "Sqrt"}


def test_sgd_is_seven_nodes() -> None:
    wanted = onnx.parser.parse_graph("""
        sgd (float[n] weight, float[n] gradient, float[n] momentum, float rate, float scale, float decay, float mu)
            => (float[n] weight_new, float[n] momentum_new) {
          tmp = Mul (scale, gradient)
          tmp_0 = Mul (decay, weight)
          direction = Add (tmp, tmp_0)
          tmp_1 = Mul (mu, momentum)
          momentum_new = Add (tmp_1, direction)
          tmp_2 = Mul (rate, momentum_new)
          weight_new = Sub (weight, tmp_2)
        }""")
    got = update_graph(CASES["sgd"]).graph
    calls = [[(node.op_type, *node.input, *node.output) for node in graph.node] for graph in (got, wanted)]
    assert calls[0] == calls[1]


def test_unscaled_sgd_is_six_nodes() -> None:
    graph = unscaled(update_graph(CASES["sgd"])).graph
    assert [node.op_type for node in graph.node] == ["Mul", "Add", "Mul", "Add", "Mul", "Sub"]
    assert graph.node[1].input[0] == "gradient" and "scale" not in {value.name for value in graph.input}


@every_case
def test_unscaled_update_has_the_bytes_of_one_with_a_scale_of_one(case: str) -> None:
    o, rng = CASES[case], np.random.default_rng(4)
    fed = start(o, 1000) | {"gradient": rng.standard_normal(1000).astype(np.float32)}
    fed["gradient"][:4] = [0.0, -0.0, 1e-45, -np.inf]
    scalars = OPTIMIZERS[o.name].scalars(o, learning_rate=0.1, weight_decay=0.01, step=1)
    found = [{name: np.empty_like(array) for name, array in start(o, 1000).items()} for _ in range(2)]
    run_bound(session(o), fed, found[0], scalars)
    del scalars["scale"]
    run_bound(runtime.session(unscaled(update_graph(o)), runtime.session_options(1)), fed, found[1], scalars)
    assert {name: a.tobytes() for name, a in found[0].items()} == {name: a.tobytes() for name, a in found[1].items()}


@every_case
def test_every_reader_of_an_input_comes_before_the_node_that_writes_its_successor(case: str) -> None:
    graph = update_graph(CASES[case]).graph
    before: dict[str, set[str]] = {}  # value → every value that it is computed from
    for node in graph.node:
        (output,) = node.output
        before[output] = set(node.input).union(*(before.get(name, set()) for name in node.input))
    for output in graph.output:
        readers = [node.output[0] for node in graph.node if output.name.removesuffix("_new") in node.input]
        assert readers and set(readers) <= before[output.name] | {output.name}


@every_case
def test_binding_outputs_in_place_changes_no_bit(case: str) -> None:
    o, n = CASES[case], 4099
    s, state, rng = session(o), start(CASES[case], 4099), np.random.default_rng(2)
    apart = {name: array.copy() for name, array in state.items()}
    for step in range(1, 4):
        gradient = {"gradient": rng.standard_normal(n).astype(np.float32)}
        scalars = OPTIMIZERS[o.name].scalars(o, learning_rate=0.1, weight_decay=0.01, step=step, gradient_scale=0.5)
        new = {name: np.empty_like(array) for name, array in apart.items()}
        run_bound(s, apart | gradient, new, scalars)
        run_bound(s, state | gradient, state, scalars)
        apart = new
        assert {name: a.tobytes() for name, a in state.items()} == {name: a.tobytes() for name, a in apart.items()}
    assert not np.array_equal(state["weight"], start(o, n)["weight"])


@every_case
def test_updating_piece_by_piece_changes_no_bit(case: str) -> None:
    o, n = CASES[case], 1003
    s, state = session(o), start(CASES[case], 1003)
    fed = state | {"gradient": np.random.default_rng(3).standard_normal(n).astype(np.float32)}
    scalars = OPTIMIZERS[o.name].scalars(o, learning_rate=0.1, weight_decay=0.01, step=1)
    whole = {name: np.empty_like(array) for name, array in state.items()}
    run_bound(s, fed, whole, scalars)
    for begin in range(0, n, 100):
        piece = {name: array[begin : begin + 100] for name, array in fed.items()}
        run_bound(s, piece, piece, scalars)
    assert {name: fed[name].tobytes() for name in whole} == {name: a.tobytes() for name, a in whole.items()}


zero_to_one = st.floats(0, 0.999)


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        Optimizer,
        name=st.sampled_from(["sgd", "adam", "adamw"]),
        momentum=zero_to_one,
        dampening=zero_to_one,
        beta1=zero_to_one,
        beta2=zero_to_one,
        epsilon=st.sampled_from([0.0, 1e-45, 1e-8, 1e-3]),
    ),
    st.booleans(),
    st.integers(1, 100_000),
)
def test_weight_with_zero_slots_and_gradient_stays_exactly_zero(o: Optimizer, nesterov: bool, step: int) -> None:
    if nesterov:
        o = Optimizer(name="sgd", momentum=0.9, nesterov=True)
    graph = ReferenceEvaluator(update_graph(o))
    fed = start(o, 4) | {"gradient": np.array([0.0, -0.0, 3.0, 0.0], np.float32)}
    fed["weight"] = np.array([0.0, 0.0, 1.0, 0.0], np.float32)
    scalars = OPTIMIZERS[o.name].scalars(o, learning_rate=0.1, weight_decay=0.01, step=step, gradient_scale=0.3)
    for new in graph.run(None, fed | scalars):
        assert new[[0, 1, 3]].tobytes() == np.zeros(3, np.float32).tobytes()
        assert new[2] != 0


def vectors(monkeypatch: pytest.MonkeyPatch, operator: str) -> dict[str, tuple[dict[str, Any], list[Any], list[Any]]]:
    """ONNX's backend test vectors of a training operator: name → attributes, inputs, outputs."""
    found = {}

    def record(node: onnx.NodeProto, inputs: list[Any], outputs: list[Any], name: str, **_: object) -> None:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        found[name] = (attributes, inputs, outputs)

    module = importlib.import_module(f"onnx.backend.test.case.node.{operator.lower()}")
    monkeypatch.setattr(module, "expect", record)
    exporters = vars(getattr(module, operator))
    for name in [name for name in exporters if name.startswith("export_")]:
        getattr(getattr(module, operator), name)()
    return found


def assert_vector_passes(
    o: Optimizer, slots: tuple[str, ...], scalars: Mapping[str, Any], inputs: list[Any], outputs: list[Any]
) -> None:
    """ONNX lists all weights, then all gradients, then all of the first slot, …; each becomes a run of its own."""
    names = ("weight", "gradient", *slots)
    count = len(inputs) // len(names)
    s = session(o)
    for i in range(count):
        feeds = dict(zip(names, inputs[i::count], strict=True)) | {k: np.asarray(v) for k, v in scalars.items()}
        for got, wanted in zip(s.run(None, feeds), outputs[i::count], strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-6)


@pytest.mark.parametrize("name", ["test_momentum", "test_momentum_multiple", "test_nesterov_momentum"])
def test_onnx_momentum_vectors_pass(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    attributes, (r, t, *inputs), outputs = vectors(monkeypatch, "Momentum")[name]
    # ONNX's beta is 1 - dampening, and its T counts the updates that were.
    nesterov = attributes["mode"] == b"nesterov"
    o = Optimizer(momentum=attributes["alpha"], dampening=1 - attributes["beta"], nesterov=nesterov)
    scalars = OPTIMIZERS["sgd"].scalars(
        o, learning_rate=float(r), weight_decay=attributes["norm_coefficient"], step=int(t) + 1
    )
    assert_vector_passes(o, ("momentum",), scalars, inputs, outputs)


@pytest.mark.parametrize("name", ["test_adam", "test_adam_multiple"])
def test_onnx_adam_vectors_pass(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    attributes, (r, t, *inputs), outputs = vectors(monkeypatch, "Adam")[name]
    assert t == 0  # where ONNX, unlike PyTorch, corrects no bias: rate and epsilon are what they are
    o = Optimizer(name="adam", beta1=attributes["alpha"], beta2=attributes["beta"], epsilon=attributes["epsilon"])
    scalars = OPTIMIZERS["adam"].scalars(
        o, learning_rate=float(r), weight_decay=attributes["norm_coefficient"], step=1
    ) | {"rate": r, "epsilon": np.float32(o.epsilon)}
    assert_vector_passes(o, ("moment1", "moment2"), scalars, inputs, outputs)
