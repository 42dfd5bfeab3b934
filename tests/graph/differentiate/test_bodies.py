"""If and Scan: the way back through their bodies, as graphs and in numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest

from dsd_ort.device.specialize import specialize
from dsd_ort.device.unroll import unroll
from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.differentiate import StepGraph, differentiate
from dsd_ort.rewrite.parts import bodies
from tests.graph.differentiate.control import CONTROL
from tests.graph.gradient import Arrays, Exact, disagreement, loss_weights, model, random_inputs, step
from tests.session import opened

TOLERANCE = 2e-6
"""Some roundings to float32, each 6e-8, at each of a few steps, relative to the norm of the gradient."""


def lines(graph: ir.Graph, depth: int = 0) -> Iterator[str]:
    """A node a line, those of bodies indented: ``y = If (c)``, ``  then: => p``, ``    p = Exp (w)``."""
    for node in graph:
        names = [", ".join(str(value and value.name) for value in values) for values in (node.outputs, node.inputs)]
        yield f"{'  ' * depth}{names[0]} = {node.op_type} ({names[1]})"
        for body in bodies(node):
            inputs, outputs = (", ".join(str(v.name) for v in values) for values in (body.inputs, body.outputs))
            yield f"{'  ' * depth}  {body.name}: {inputs} => {outputs}"
            yield from lines(body, depth + 2)


def written(text: str, *trainable: str) -> list[str]:
    """The step graph of the loss L, line by line."""
    return list(lines(differentiate(ir.from_proto(model(text)), trainable, loss="L").model.graph))


def test_the_gradient_of_an_if_is_an_if() -> None:
    """What the way back reads, e, is an output more; dw is 0 where the branch does not read w."""
    text = """(float[3] w, float[3] x, bool c) => (float L) {
        [y] y = If (c) <
            then_branch = yes () => (float[3] p) { e = Exp (w) p = Sin (e) },
            else_branch = no () => (float[3] q) { q = Mul (x, x) }
        >
        L = ReduceSum <keepdims = 0> (y)
    }"""
    assert written(text, "w") == [
        "y, e/kept = If (c)",
        "  yes:  => p, e",
        "    e = Exp (w)",
        "    p = Sin (e)",
        "  no:  => q, y/grad/Constant",
        "    q = Mul (x, x)",
        "    y/grad/Constant = Constant ()",
        "L = ReduceSum (y)",
        "L/grad/Expand = Expand (L_grad, grad/constant)",
        "w_grad = If (c)",
        "  y/grad/yes:  => y/grad/Identity_2",
        "    y/grad/Identity_3 = Identity (e/kept)",
        "    y/grad/Identity = Identity (L/grad/Expand)",
        "    p/grad/Cos = Cos (y/grad/Identity_3)",
        "    p/grad/Mul = Mul (y/grad/Identity, p/grad/Cos)",
        "    e/grad/Mul = Mul (p/grad/Mul, y/grad/Identity_3)",
        "    y/grad/Identity_2 = Identity (e/grad/Mul)",
        "  y/grad/no:  => y/grad/ConstantOfShape",
        "    y/grad/ConstantOfShape = ConstantOfShape (grad/constant)",
    ]


def test_the_gradient_of_a_scan_is_a_scan_from_the_last_step_to_the_first() -> None:
    """Its states are dS and the sum dw; it reads dY, and what the forward Scan read and stacks up of each step."""
    text = """(float[T, 3] x, float[3] s, float[3] w) => (float L) {
        [f] f, y = Scan <num_scan_inputs = 1, body = body (float[3] a, float[3] b) => (float[3] c, float[3] d) {
            e = Mul (a, w) c = Add (e, b) d = Sin (c)
        }> (s, x)
        L = ReduceSum <keepdims = 0> (y)
    }"""
    assert written(text, "w", "x") == [
        "f, y, c/kept, a/kept = Scan (s, x)",
        "  body: a, b => c, d, f/grad/Identity_2, f/grad/Identity_3",
        "    e = Mul (a, w)",
        "    c = Add (e, b)",
        "    d = Sin (c)",
        "    f/grad/Identity_2 = Identity (c)",
        "    f/grad/Identity_3 = Identity (a)",
        "L = ReduceSum (y)",
        "L/grad/Shape = Shape (y)",
        "L/grad/Expand = Expand (L_grad, L/grad/Shape)",
        "f/grad/ConstantOfShape = ConstantOfShape (grad/constant)",
        "f/grad/ConstantOfShape_1 = ConstantOfShape (grad/constant)",
        "f/grad/Scan, w_grad, x_grad = Scan (f/grad/ConstantOfShape, f/grad/ConstantOfShape_1, L/grad/Expand, "
        "c/kept, a/kept)",
        "  f/grad/body: f/grad/s, f/grad/w, f/grad/d, f/grad/c, f/grad/a => "
        "f/grad/Identity, f/grad/Add, f/grad/Identity_1",
        "    d/grad/Cos = Cos (f/grad/c)",
        "    d/grad/Mul = Mul (f/grad/d, d/grad/Cos)",
        "    c/grad/Add = Add (f/grad/s, d/grad/Mul)",
        "    e/grad/Mul = Mul (c/grad/Add, w)",
        "    e/grad/Mul_1 = Mul (c/grad/Add, f/grad/a)",
        "    f/grad/Identity = Identity (e/grad/Mul)",
        "    f/grad/Add = Add (f/grad/w, e/grad/Mul_1)",
        "    f/grad/Identity_1 = Identity (c/grad/Add)",
    ]


def test_of_what_the_way_back_reads_for_its_shape_alone_a_body_hands_out_the_shape() -> None:
    text = """(float[N, M] w, bool c, int64[2] s) => (float L) {
        y = If (c) <
            then_branch = yes () => (float[A, B] p) { e = Neg (w) p = Reshape (e, s) },
            else_branch = no () => (float[A, B] q) { q = Sin (w) }
        >
        L = ReduceSum <keepdims = 0> (y)
    }"""
    found = written(text, "w")
    assert found[0] == "y, p/grad/Shape/kept = If (c)"
    assert "    p/grad/Shape = Shape (e)" in found[:5]


def test_what_is_the_same_at_each_step_is_computed_once() -> None:
    text = """(float[T, 3] x, float[3, 3] w) => (float L) {
        y = Scan <num_scan_inputs = 1, body = body (float[3] b) => (float[3] d) {
            t = Transpose (w) z = Constant <value_float = 2.0> () e = Mul (b, z) d = MatMul (e, t)
        }> (x)
        L = ReduceSum <keepdims = 0> (y)
    }"""
    assert written(text, "w")[:4] == [
        "t = Transpose (w)",
        "z = Constant ()",
        "y, e/kept = Scan (x)",
        "  body: b => d, y/grad/Identity",
    ]


@pytest.mark.parametrize("c", [True, False])
@pytest.mark.parametrize("name", CONTROL)
def test_gradients_are_those_of_float64_differences(name: str, c: bool) -> None:
    for d in (True, False):
        proto = model(CONTROL[name])
        flags = {"c": c, "d": d}
        inputs = random_inputs(proto, {k: flags[k] for k in flags if k in {i.name for i in proto.graph.input}})
        exact = Exact(proto)
        outputs = exact(inputs)
        weights = loss_weights(outputs)
        trained = [key for key, value in inputs.items() if value.dtype == np.float32]
        done = step(ir.from_proto(proto), trained, inputs, weights)
        for key, value in outputs.items():
            np.testing.assert_allclose(done.outputs[key], value, rtol=1e-5, atol=1e-6)
        assert max(disagreement(exact, inputs, weights, done.gradients).values()) <= TOLERANCE


UNROLLED = [name for name, text in CONTROL.items() if " Scan <" in text and "If (" not in text]


@pytest.mark.parametrize("name", UNROLLED)
def test_a_scan_has_the_gradients_of_its_steps_as_nodes(name: str) -> None:
    proto = model(CONTROL[name])
    inputs = random_inputs(proto)
    weights = loss_weights(Exact(proto)(inputs))
    trained = [key for key, value in inputs.items() if value.dtype == np.float32]
    found = step(ir.from_proto(proto), trained, inputs, weights).gradients

    unrolled = ir.from_proto(proto)
    specialize(unrolled, {key: list(value.shape) for key, value in inputs.items()})
    unroll(unrolled)
    assert not any(node.op_type == "Scan" for node in unrolled.graph)
    for key, expected in step(unrolled, trained, inputs, weights).gradients.items():
        np.testing.assert_allclose(found[key], expected, rtol=0, atol=TOLERANCE * np.linalg.norm(expected))


def run(made: StepGraph, inputs: Arrays) -> Arrays:
    session = opened(made.model)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


@pytest.mark.parametrize(
    "body",
    [
        """y = If (c) <
            then_branch = yes () => (float[T, 100] p) { p, m = Dropout (h, half, c) },
            else_branch = no () => (float[T, 100] q) { q = Neg (h) }
        >""",
        """y = Scan <num_scan_inputs = 1, body = step (float[100] t) => (float[100] z) { z, m = Dropout (t, half, c) }
        > (h)""",
    ],
)
def test_dropout_in_a_body_drops_the_same_on_the_way_back(body: str) -> None:
    """Y is 0 or 2·H, and so dH is 0 or 2 there: a body that ran twice would drop twice."""
    text = f"""(float[T, 100] x, float[T, 100] w, bool c) => (float[T, 100] y, float L) <float half = {{0.5}}> {{
        h = Add (x, w) {body} L = ReduceSum <keepdims = 0> (y)
    }}"""
    made = differentiate(ir.from_proto(model(text)), ["w"], loss="L")
    ones = np.ones((3, 100), np.float32)
    found = run(made, {"x": ones, "w": ones, "c": np.array(True)})
    np.testing.assert_array_equal(found["w_grad"], found["y"] / 2)
    assert 50 < np.count_nonzero(found["y"]) < 250
    assert len({row.tobytes() for row in found["y"]}) == 3


def test_a_loop_is_refused_by_name_and_a_node_inside_of_a_body_too() -> None:
    text = """(float[3] w, int64 n, bool t) => (float L) {
        [l] h = Loop (n, t, w) <body = b (int64 i, bool c, float[3] s) => (bool d, float[3] r) {
            d = Identity (c) r = Sin (s)
        }>
        y = If (t) <
            then_branch = yes () => (float[3] p) { [c] p = CumSum (w, n) },
            else_branch = no () => (float[3] q) { q = Sin (w) }
        >
        z = Add (y, h) L = ReduceSum <keepdims = 0> (z)
    }"""
    with pytest.raises(UnsupportedError, match="Loop repeats a subgraph") as caught:
        differentiate(ir.from_proto(model(text)), ["w"], loss="L")
    assert [cause.where for cause in caught.value.causes] == ["Loop 'l'", "CumSum 'c'"]
