"""Every operator of the table: it becomes what its rule says, and its gradient is right."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.defs
import onnx_ir as ir
import onnxruntime
import pytest

from dsd_ort import runtime
from dsd_ort.device import portable
from dsd_ort.graph.differentiate import BUILDERS
from dsd_ort.graph.differentiate.table import RULES as GRADIENTS
from dsd_ort.graph.legalize import Legalized, legalize, native
from dsd_ort.graph.legalize.table import RULES
from dsd_ort.recipe import BuilderName
from dsd_ort.rewrite.operators import OPERATORS, key
from dsd_ort.rewrite.path import Path
from tests.graph.expression import expression, hides_shape, operator_of, settles_number
from tests.graph.gradient import Arrays, Exact, disagreement, loss_weights, model, quiet, random_inputs, step
from tests.graph.legalize.cases import CASES, Case
from tests.graph.legalize.cases.case import OPSETS

TOLERANCE = 5e-7
"""A few roundings to float32, each 6e-8, relative to the largest output or to the norm of the gradient."""
AGREEMENT = 1e-6
"""Of two builders' gradients, relative to their norm."""

each_case = pytest.mark.parametrize("case", CASES, ids=str)
EVERYWHERE = [c for case in CASES for c in case.everywhere()]
each_case_everywhere = pytest.mark.parametrize("case", EVERYWHERE, ids=str)
each_case_somewhere = pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=[pytest.mark.slow] * (i % 3 > 0 and c not in CASES)) for i, c in enumerate(EVERYWHERE)],
    ids=str,
)
"""At its own opset, and at a third of the others; at all by hand."""
each_nth_case = pytest.mark.parametrize("case", EVERYWHERE[::8], ids=str)


def legal(case: Case, builder: BuilderName = "own") -> Legalized:
    trained = trainable(random_inputs(case.proto, case.given), case)
    return legalize(ir.from_proto(case.proto), trained, outputs=["y"], batch_norm="frozen", builder=builder)


def trainable(inputs: dict[str, np.ndarray], case: Case) -> list[str]:
    return [name for name, value in inputs.items() if value.dtype == np.float32 and name not in case.untrained]


@each_case
def test_rules_build_what_they_say_and_leave_alone_what_is_right(case: Case) -> None:
    """For ONNX Runtime's builder, which wants more than our own."""
    graph = legal(case, "ort").model.graph
    (y,) = graph.outputs
    if case.path is not None:
        weights = trainable(random_inputs(case.proto, case.given), case)
        path = Path(graph, [value for value in graph.inputs if value.name in weights], graph.outputs)
        nodes = [node for node in path.nodes() if not (settles_number(node) or hides_shape(node))]
        assert " ".join(operator_of(node) for node in nodes) == case.path
        return
    expected = case.expected or expression(ir.from_proto(case.proto).graph.outputs[0])
    assert expression(y) == expected


def operators(case: Case) -> set[str]:
    return {".".join(filter(None, (node.domain, node.op_type))) for node in case.proto.graph.node}


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.opset >= 13 and operators(case) <= {*GRADIENTS} - {*RULES, "Cast"}],
    ids=str,
)
def test_our_own_builder_wants_no_rewrite_of_what_has_a_gradient_rule(case: Case) -> None:
    before, after = ir.from_proto(case.proto).graph, legal(case).model.graph
    assert [key(node) for node in after] == [key(node) for node in before]


@each_case_somewhere
def test_output_and_gradient_are_those_of_the_original_model(case: Case) -> None:
    assert_right(case, "own")


@pytest.mark.training_build
@each_nth_case
def test_both_builders_have_the_same_gradients(case: Case) -> None:
    own, ort = (assert_right(case, builder) for builder in BUILDERS)
    for name, gradient in ort.items():
        error = np.linalg.norm(own[name] - gradient)
        assert error <= max(AGREEMENT, case.tolerance or 0) * np.linalg.norm(gradient), name


@pytest.mark.slow
@pytest.mark.training_build
@each_case_everywhere
def test_both_builders_have_the_same_gradients_in_all_cases(case: Case) -> None:
    test_both_builders_have_the_same_gradients(case)


def assert_right(case: Case, builder: BuilderName) -> Arrays:
    """The gradients by *builder*, compared with central differences of the original model; so is its output."""
    proto = case.proto
    inputs = random_inputs(proto, case.given)
    exact = Exact(model(case.reference, max(case.opset, 18)) if case.reference else proto)
    y = exact(inputs)["y"]
    weights = loss_weights({"y": y})

    done = step(legal(case, builder).model, trainable(inputs, case), inputs, weights, builder)

    assert done.outputs["y"].shape == y.shape
    tolerance = case.tolerance or TOLERANCE
    assert np.abs(done.outputs["y"] - y).max() <= tolerance * np.abs(y).max()
    assert max(disagreement(exact, inputs, weights, done.gradients).values()) <= tolerance
    return done.gradients


@pytest.mark.parametrize("case", [case for case in CASES if case.runs_here and case.opset <= 21], ids=str)
def test_onnx_runtime_computes_the_same_from_the_legalized_model(case: Case) -> None:
    proto = case.proto
    inputs = random_inputs(proto, case.given)
    legalized = legal(case).model
    if not runtime.trains():
        portable.expand(legalized)
    before, after = (run(p, inputs) for p in (proto, ir.to_proto(legalized)))
    np.testing.assert_allclose(after, before, rtol=0, atol=(case.tolerance or TOLERANCE) * np.abs(before).max())


def run(proto: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), quiet(), providers=["CPUExecutionProvider"])
    known = {value.name for value in session.get_inputs()}
    return session.run(["y"], {name: value for name, value in inputs.items() if name in known})[0]


NATIVE = {name for name, known in OPERATORS.items() if known.native}


@pytest.mark.parametrize("opset", OPSETS)
def test_every_operator_of_the_tables_has_a_case_at_every_opset_that_has_it(opset: int) -> None:
    cases = [c for case in CASES for c in case.everywhere() if c.opset == opset]
    tried = {key(node) for case in cases for node in ir.from_proto(case.proto).graph}
    tried |= {"Dropout", "BatchNormalization", "If", "Scan"}  # by their own tests
    tables = {name for name in {*RULES, *NATIVE, *native.RULES, *GRADIENTS} if "." not in name}
    known = {name for name in tables if onnx.defs.has(name, max_inclusive_version=opset)}
    assert known - tried == set()


def test_every_rule_and_every_native_operator_has_a_case() -> None:
    before = {key(node) for case in CASES for node in ir.from_proto(case.proto).graph}
    assert {*RULES, *native.RULES} - before == set()
    in_training = {"Dropout"}  # which exists there only: test_dropout.py
    after = {
        builder: {key(node) for case in CASES for node in legal(case, builder).model.graph} for builder in BUILDERS
    }
    assert set(GRADIENTS) - after["own"] == {
        *in_training,
        *("If", "Scan"),  # of which the other builder has no gradient: test_bodies.py
    }
    assert set(NATIVE) - after["ort"] == in_training
