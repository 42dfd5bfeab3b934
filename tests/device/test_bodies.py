"""Step graphs with Ifs and Scans in the forms of a session: on the CPU they compute what they computed before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from dsd_ort.device import portable
from dsd_ort.device.forms import for_session
from dsd_ort.device.lower import lower
from dsd_ort.device.mixed import Precision, mix
from dsd_ort.device.recording import obstacles
from dsd_ort.device.specialize import specialize
from dsd_ort.device.unroll import unroll
from dsd_ort.graph import masks
from tests.graph.differentiate.control import CONTROL
from tests.graph.gradient import Arrays, loss_weights, model, random_inputs, step_graph
from tests.session import opened

IMAGES = """(float[N, 3, 6, 6] x, float[4, 3, 3, 3] w, float[4] b, float[4, 2] v, bool c) => (float[N, 2] y) {
    h = Sin (x)
    i = If (c) <
        then_branch = yes () => (float[N, 4, 3, 3] p) {
            q = Conv <pads = [1, 1, 1, 1]> (h, w, b) r = Relu (q)
            p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
        },
        else_branch = no () => (float[N, 4, 3, 3] s) {
            t = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (h, w, b) s = Softmax <axis = 1> (t)
        }
    >
    g = GlobalAveragePool (i) f = Flatten (g) y = MatMul (f, v)
}"""
GRAPHS = CONTROL | {"images in branches": IMAGES}
each = pytest.mark.parametrize(("name", "c"), [(name, c) for name in GRAPHS for c in (True, False)])


class Trial:
    """A step graph, and what it gives."""

    def __init__(self, name: str, c: bool) -> None:
        proto = model(GRAPHS[name])
        given = {key: c for key in "cd" if key in {value.name for value in proto.graph.input}}
        self.inputs = random_inputs(proto, given)
        self.weights = [key for key, value in self.inputs.items() if value.dtype == np.float32]
        forward = ir.from_proto(proto)
        outputs = run(forward, self.inputs)
        self.step = step_graph(forward, self.weights, loss_weights(outputs))
        self.expected = run(self.step.model, self.inputs)
        self.shapes = {key: list(value.shape) for key, value in self.inputs.items()}

    def check(self, *changes: Callable[[ir.Model], object], tolerance: float = 0.0) -> ir.Model:
        """The step graph after *changes*, which gives the same up to *tolerance*, relative to the norm."""
        changed = self.step.model.clone()
        for change in changes:
            change(changed)
        for key, value in run(changed, self.inputs).items():
            expected = self.expected[key]
            np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance * np.linalg.norm(expected), err_msg=key)
        return changed


def run(graph: ir.Model, inputs: Arrays) -> Arrays:
    session = opened(graph)
    known, names = {v.name for v in session.get_inputs()}, [v.name for v in session.get_outputs()]
    return dict(zip(names, session.run(names, {k: v for k, v in inputs.items() if k in known}), strict=True))


@each
def test_standard_operators_take_the_place_of_training_operators_in_bodies(name: str, c: bool) -> None:
    changed = Trial(name, c).check(lower, portable.expand, tolerance=1e-6)
    assert all(portable.is_portable(node) for node in changed.graph.all_nodes())


@each
def test_sizes_of_one_batch_reach_bodies(name: str, c: bool) -> None:
    trial = Trial(name, c)
    changed = trial.check(lambda graph: specialize(graph, trial.shapes), tolerance=1e-6)
    computed = any(node.op_type == "Shape" for node in changed.graph.all_nodes())
    assert computed == (name == "branches of different ranks")
    trial.check(lambda graph: for_session(graph, "cuda", trial.shapes), tolerance=1e-6)


@each
def test_steps_of_a_scan_and_of_its_gradient_become_nodes(name: str, c: bool) -> None:
    trial = Trial(name, c)
    changed = trial.check(lambda graph: specialize(graph, trial.shapes), unroll, tolerance=1e-6)
    stays = any(node.op_type == "If" for node in changed.graph.all_nodes())
    assert bool(obstacles(changed)) == stays
    assert stays == ("If (" in GRAPHS[name])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@each
def test_mixed_precision_goes_into_bodies(name: str, c: bool, precision: Precision) -> None:
    trial = Trial(name, c)
    lines: list[str] = []
    trial.check(lambda graph: lines.extend(mix(graph, precision)), tolerance=0.1 if precision == "bf16" else 0.01)
    products = [node for node in trial.step.model.graph.all_nodes() if node.op_type in ("MatMul", "Gemm", "Conv")]
    assert bool(lines) == bool(products)


@each
def test_masks_reach_what_bodies_read_and_leave_no_trace(name: str, c: bool) -> None:
    """Weights that are masked to 0 have gradients of 0, and their zeros count in bodies too."""
    trial = Trial(name, c)
    step = trial.step
    masked = step.model.clone()
    masks.insert(masked, step.gradients)
    zeros = {masks.mask_name(key): np.zeros_like(trial.inputs[key]) for key in trial.weights}
    found = run(masked, trial.inputs | zeros)
    at_zero = run(step.model, trial.inputs | {key: np.zeros_like(trial.inputs[key]) for key in trial.weights})
    np.testing.assert_array_equal(found["L"], at_zero["L"])
    assert not any(found[gradient].any() for gradient in step.gradients.values())
    masks.strip(masked)
    assert ir.to_proto(masked) == ir.to_proto(step.model)
