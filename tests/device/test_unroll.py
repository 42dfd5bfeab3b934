"""A Scan taken apart gives the bits that ONNX Runtime gives going through it, whatever its attributes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsd_ort.device.specialize import specialize
from dsd_ort.device.unroll import unroll
from tests.session import opened

N, H = 3, 4


def parsed(text: str, *, opset: int = 18) -> ir.Model:
    model = ir.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]>\n{text}'))
    specialize(model, {})
    return model


def layer(
    body: str,
    *,
    length: int = 5,
    axes: tuple[int, int] = (0, 0),
    turned: tuple[int, int] = (0, 0),
    axis_out: int = 0,
    turned_out: int = 0,
    opset: int = 18,
) -> ir.Model:
    """States h, c; sequences x, z; an outer matrix w; *body* is nodes of (h, c, xt, zt) => (h1, c1, yt)."""
    shapes = [[N, H], [N, H]]
    for shape, axis in zip(shapes, axes, strict=True):
        shape.insert(axis, length)
    x, z = (", ".join(map(str, shape)) for shape in shapes)
    step = f"float[{N}, {H}]"
    return parsed(
        f"""layer ({step} h0, {step} c0, float[{x}] x, float[{z}] z, float[{H}, {H}] w)
          => (float[?, ?] e, float[?, ?] f, float[?, ?, ?] y) {{
          one = Constant <value_float = 1.0> ()
          e, f, y = Scan <num_scan_inputs = 2, scan_input_axes = [{axes[0]}, {axes[1]}],
            scan_input_directions = [{turned[0]}, {turned[1]}], scan_output_axes = [{axis_out}],
            scan_output_directions = [{turned_out}],
            body = step ({step} h, {step} c, {step} xt, {step} zt) => ({step} h1, {step} c1, {step} yt) {{ {body} }}>
            (h0, c0, x, z) }}""",
        opset=opset,
    )


LSTM = """g = MatMul (h, w) a = Add (g, xt) b = Tanh (a) s = Sigmoid (zt) k = Mul (s, c) c1 = Add (k, b)
          t = Tanh (c1) h1 = Mul (t, s) yt = Identity (h1)"""
"""Has all kinds of nodes: s can be computed for all steps at once."""


def feeds(model: ir.Model) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    made = {}
    for value in model.graph.inputs:
        shape = [int(n) for n in value.shape]
        made[value.name] = rng.standard_normal(shape).astype(np.float32)
        if value.dtype == ir.DataType.BOOL:
            made[value.name] = rng.random(shape) < 0.5
    return made


def computed(model: ir.Model) -> list[np.ndarray]:
    return opened(model).run(None, feeds(model))


def check(model: ir.Model, *, scans: int = 0) -> Counter[str]:
    """Unrolls *model* and compares; its operators then."""
    expected = computed(model)
    names = [value.name for value in model.graph.outputs]
    assert unroll(model)
    assert [value.name for value in model.graph.outputs] == names
    onnx.checker.check_model(ir.to_proto(model))
    for got, array in zip(computed(model), expected, strict=True):
        np.testing.assert_array_equal(got, array)
    operators = Counter(node.op_type for node in model.graph)
    assert operators["Scan"] == scans
    return operators


@given(
    length=st.sampled_from([1, 2, 5, 32, 33, 70]),
    axes=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    turned=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    axis_out=st.integers(0, 2),
    turned_out=st.integers(0, 1),
)
@settings(deadline=None, max_examples=30)
def test_axes_and_directions(
    length: int, axes: tuple[int, int], turned: tuple[int, int], axis_out: int, turned_out: int
) -> None:
    check(layer(LSTM, length=length, axes=axes, turned=turned, axis_out=axis_out, turned_out=turned_out))


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
def test_the_model_keeps_its_opset(opset: int) -> None:
    model = layer(LSTM, length=40, opset=opset)
    check(model)
    assert model.opset_imports[""] == opset


def test_before_opset_13_a_scan_stays() -> None:
    model = layer(LSTM, opset=12)
    assert unroll(model) == ()
    assert any(node.op_type == "Scan" for node in model.graph)


BODIES = {
    "states change places": "h1 = Identity (c) c1 = Identity (h) yt = Add (h, xt)",
    "a state without a reader": "h1 = Add (h, xt) c1 = Add (c, zt) yt = Identity (h)",
    "an output that is a sequence": "h1 = Add (h, xt) c1 = Identity (c) yt = Identity (zt)",
    "an output computed for all steps at once": "h1 = Add (h, xt) c1 = Identity (c) yt = Tanh (zt)",
    "an output that does not change": "h1 = Add (h, xt) c1 = Identity (c) p = MatMul (w, w) r = ReduceSum (p) "
    "n = Sub (zt, zt) yt = Add (n, r)",
    "an output from outside": "h1 = Add (h, xt) c1 = Identity (c) k = Constant <value_ints = [3, 4]> () "
    "yt = Expand (one, k)",
    "clipped": "k = Constant <value_float = 0.5> () a = Clip (xt, , k) h1 = Add (h, a) c1 = Identity (c) "
    "yt = Mul (h1, zt)",
    "split": "a, b = Split <axis = 1, num_outputs = 2> (zt) s = Concat <axis = 1> (b, a) t = Tanh (s) "
    "h1 = Add (h, t) c1 = Identity (c) i, j = Split <axis = -1, num_outputs = 2> (xt) yt = Concat <axis = 1> (j, i)",
    "of fewer axes": "k = ReduceSum <keepdims = 0> (w) a = Add (xt, k) i = Constant <value_int = 0> () "
    "r = Gather (w, i) b = Add (a, r) h1 = Add (h, b) c1 = Identity (c) yt = Identity (h1)",
    "of more axes": "i = Constant <value_ints = [0]> () r = Unsqueeze (w, i) q = Squeeze (r, i) s = ReduceSum (r) "
    "a = Add (xt, s) b = Squeeze (a, i) h1 = Add (h, b) c1 = Identity (c) yt = Identity (h1)",
}


@pytest.mark.parametrize("turned", [(0, 0), (1, 1), (0, 1)])
@pytest.mark.parametrize("name", BODIES)
def test_bodies(name: str, turned: tuple[int, int]) -> None:
    check(layer(BODIES[name], turned=turned, turned_out=turned[1]))


def test_numbers_as_states_and_steps() -> None:
    check(
        parsed(
            """sums (float s, float[40] x, bool[40, 3] m) => (float e, float[?] y, bool[?, ?] k) {
            e, y, k = Scan <num_scan_inputs = 2, body = step (float h, float xt, bool[3] mt)
              => (float h1, float yt, bool[3] kt) { h1 = Add (h, xt) yt = Mul (h, xt) kt = Not (mt) }> (s, x, m) }"""
        )
    )


def test_initializers_of_a_body_are_written_once() -> None:
    model = layer("p = Mul (xt, one) h1 = Add (h, p) c1 = Mul (c, one) yt = Mul (h1, one)")
    (scan,) = (node for node in model.graph if node.op_type == "Scan")
    body = scan.attributes["body"].as_graph()
    stored = ir.Value(name="k", const_value=ir.tensor(np.float32([2, 3, 4, 5])), type=ir.TensorType(ir.DataType.FLOAT))
    stored.shape = ir.Shape([4])
    body.initializers["k"] = stored
    for node in (node for node in body if node.op_type == "Mul"):
        node.replace_input_with(1, stored)
    assert check(model)["Constant"] == 1 + 2  # k, and the shapes of two Reshapes


def test_what_does_not_change_is_computed_once() -> None:
    body = "t = Transpose <perm = [1, 0]> (w) g = MatMul (h, t) h1 = Add (g, xt) c1 = Identity (c) yt = Identity (h1)"
    operators = check(layer(body, length=20))
    assert (operators["Transpose"], operators["MatMul"]) == (1, 20)


def test_what_depends_on_sequences_alone_is_computed_for_all_steps() -> None:
    body = "a = Tanh (xt) b = Mul (a, zt) h1 = Add (h, b) c1 = Identity (c) yt = Identity (h1)"
    operators = check(layer(body, length=20))
    assert (operators["Tanh"], operators["Mul"], operators["Add"]) == (1, 1, 20)
    operators = check(layer(body, length=20, turned=(0, 1)))  # from both ends
    assert (operators["Tanh"], operators["Mul"], operators["Add"]) == (1, 20, 20)


def test_an_output_that_nobody_reads_is_not_put_together() -> None:
    model = layer("h1 = Add (h, xt) c1 = Mul (c, zt) yt = Tanh (c1)")
    for name in ("f", "y"):
        model.graph.outputs.remove(next(value for value in model.graph.outputs if value.name == name))
    operators = check(model)
    assert (operators["Add"], operators["Mul"], operators["Tanh"], operators["Concat"]) == (5, 0, 0, 0)


@pytest.mark.parametrize("length", [31, 32, 33, 64, 100, 1025])
def test_no_split_or_concat_has_more_than_32_parts_or_unequal_ones(length: int) -> None:
    model = layer("h1 = Add (h, xt) c1 = Identity (c) yt = Identity (h1)", length=length)
    check(model)
    for node in model.graph:
        parts = {"Split": node.outputs, "Concat": node.inputs}.get(node.op_type, ())
        assert len(parts) <= 32
        assert len({tuple(value.shape) for value in parts}) <= 1


def test_shapes_and_types_are_known() -> None:
    model = layer(LSTM, length=40)
    unroll(model)
    values = [value for node in model.graph for value in node.outputs]
    assert all(value.shape is not None and value.shape.is_static() and value.dtype is not None for value in values)


NESTED = """nested (float[2] s, float[4, 3, 2] x) => (float[2] e, float[?, ?, ?] y) {
  e, y = Scan <num_scan_inputs = 1, body = outer (float[2] h, float[3, 2] xt) => (float[2] h1, float[3, 2] yt) {
    h1, yt = Scan <num_scan_inputs = 1, scan_input_directions = [1], body = inner (float[2] g, float[2] u)
      => (float[2] g1, float[2] v) { a = Mul (g, u) g1 = Add (a, h) v = Tanh (g1) }> (h, xt) }> (s, x) }"""


def test_a_scan_in_a_scan_is_unrolled_first() -> None:
    operators = check(parsed(NESTED))
    assert operators["Add"] == 12


def test_no_more_nodes_than_allowed() -> None:
    model = parsed(NESTED)
    inner, outer = unroll(model, most=40)
    assert "3 steps in" in inner
    assert "too many" in outer
    assert any(node.op_type == "Scan" for node in model.graph)
    expected = computed(parsed(NESTED))
    for got, array in zip(computed(model), expected, strict=True):
        np.testing.assert_array_equal(got, array)


def test_branches_stay() -> None:
    model = parsed(
        """branching (float[2] s, float[4, 2] x, bool b) => (float[2] e) {
        e = Scan <num_scan_inputs = 1, body = step (float[2] h, float[2] xt) => (float[2] h1) {
          h1 = If (b) <then_branch = yes () => (float[2] p) { p = Add (h, xt) },
            else_branch = no () => (float[2] q) { q = Mul (h, xt) }> }> (s, x) }"""
    )
    (note,) = unroll(model)
    assert "branches or loops" in note


def test_without_a_known_length_a_scan_stays() -> None:
    model = parsed(
        """open (float[2] s, float[T, 2] x) => (float[2] e) {
        e = Scan <num_scan_inputs = 1, body = step (float[2] h, float[2] xt) => (float[2] h1)
          { h1 = Add (h, xt) }> (s, x) }"""
    )
    (note,) = unroll(model)
    assert "number of steps is not known" in note


def test_numbers_are_drawn_at_each_step() -> None:
    model = layer("r = RandomNormalLike (xt) h1 = Add (h, r) c1 = Identity (c) yt = RandomNormal <shape = [3, 4]> ()")
    unroll(model)
    operators = Counter(node.op_type for node in model.graph)
    assert (operators["RandomNormalLike"], operators["RandomNormal"]) == (5, 5)


def test_what_was_16_bit_is_not_cast_there_again() -> None:
    half, full = ir.DataType.FLOAT16.value, ir.DataType.FLOAT.value
    body = f"""a = Cast <to = {half}> (h) b = Cast <to = {half}> (xt) g = Add (a, b) h1 = Cast <to = {full}> (g)
               c1 = Identity (c) yt = Identity (h1)"""
    model = layer(body)
    unroll(model)  # not compared: the CPU has no 16-bit kernels, and what ONNX Runtime does instead rounds less often
    operators = Counter(node.op_type for node in model.graph)
    assert operators["Cast"] == 1 + 1 + 5  # the first state, all of x, and to float32 each new state
