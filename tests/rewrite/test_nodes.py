"""New nodes: what they are called, what they read, what is known of what they give, and where they go."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from dsd_ort.rewrite import shapes
from dsd_ort.rewrite.autograd import operator
from dsd_ort.rewrite.names import Names
from dsd_ort.rewrite.nodes import Nodes, cast, constant_value, named, take_over
from dsd_ort.rewrite.operators import Does, those_that

FLOAT = ir.DataType.FLOAT


def graph(text: str) -> ir.Graph:
    return ir.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')).graph


def value(*shape: int | str | None, name: str = "x", dtype: ir.DataType | None = FLOAT) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=None if dtype is None else ir.TensorType(dtype))


def operators(of: ir.Graph) -> list[str]:
    return [node.op_type for node in of]


PACKAGE = Path(__file__).parents[2] / "dsd_ort"
RELU = "(float[N, 3] x) => (float[N, 3] y) { a = Relu (x) y = Neg (a) }"


def test_what_is_written_is_computed() -> None:
    x, new = value(2, 3), Nodes()
    y = new.Div(x, new.Add(new.Abs(x), 1.0))
    y.name = "y"
    made = ir.Graph([x], [y], nodes=new.nodes, opset_imports={"": new.opset}, name="softsign")
    evaluate = ReferenceEvaluator(ir.to_proto(ir.Model(made, ir_version=8)))
    array = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(evaluate.run(None, {"x": array})[0], array / (abs(array) + 1))


@pytest.mark.parametrize(
    ("operand", "expected"),
    [
        (1.5, np.array(1.5, np.float32)),
        (2, np.array(2, np.int64)),
        ([3, -1], np.array([3, -1], np.int64)),
        ((), np.array([], np.int64)),
        (np.array([[1, 0]], np.bool_), np.array([[1, 0]], np.bool_)),
    ],
)
def test_a_number_or_array_that_is_read_is_a_constant(operand: object, expected: np.ndarray) -> None:
    new = Nodes()
    new.Identity(operand)
    constant, identity = new.nodes
    assert (constant.op_type, identity.inputs[0]) == ("Constant", constant.outputs[0])
    array, (output,) = constant_value(constant.outputs[0]), constant.outputs
    assert array is not None
    np.testing.assert_array_equal(array, expected, strict=True)
    assert (output.dtype, output.shape) == (ir.DataType.from_numpy(expected.dtype), expected.shape)


def test_a_tensor_becomes_a_constant_as_it_is() -> None:
    tensor, new = ir.tensor([1.0, 2.0], dtype=ir.DataType.BFLOAT16), Nodes()
    output = new.constant(tensor)
    assert (output.dtype, output.shape, new.nodes[0].attributes["value"].value) == (tensor.dtype, (2,), tensor)


def test_an_input_may_be_absent() -> None:
    x, new = value(2), Nodes()
    assert new.Clip(x, None, 1.0).producer().inputs[1] is None


def test_the_domain_stands_in_front_of_the_operator() -> None:
    node = Nodes().op("com.microsoft.Gelu", value(2)).producer()
    assert (node.domain, node.op_type, node.name) == ("com.microsoft", "Gelu", "Gelu")


def test_what_is_no_operator_is_no_attribute() -> None:
    with pytest.raises(AttributeError):
        _ = Nodes().relu


def makers(file: Path) -> Iterator[str]:
    """The calls in *file* that make a node."""
    for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("ir.node", "ir.Node", "onnx.helper.make_node"):
            yield f"{file.relative_to(PACKAGE).as_posix()}: {ast.unparse(call.func)}"


def test_nodes_are_made_in_one_file() -> None:
    found = {maker for file in PACKAGE.rglob("*.py") for maker in makers(file)}
    assert found == {"rewrite/nodes.py: ir.node", "rewrite/nodes.py: ir.Node"}


# --- names


def test_names_begin_with_that_of_the_whole() -> None:
    new = Nodes("norm")
    y = new.Sqrt(value(2))
    assert (y.name, y.producer().name) == ("norm/Sqrt", "norm/Sqrt")


def test_names_are_free_in_the_graph_and_its_branches() -> None:
    of = graph(
        """(float[4] x, bool c) => (float[4] y) {
            y = If (c) <then_branch = a () => (float[4] Neg) { Neg = Neg (x) },
                        else_branch = b () => (float[4] Exp) { Exp = Exp (x) }> }"""
    )
    x, new = of.inputs[0], Nodes.of(of, "")
    assert new.opset == 17
    assert [new.Neg(x).name, new.Neg(x).name, new.Exp(x).name, new.Abs(x).name] == ["Neg_1", "Neg_2", "Exp_1", "Abs"]
    assert [output.name for output in new.several("Split", 2, x, axis=0)] == ["Split", "Split/1"]


def test_an_operator_of_our_own_is_called_by_its_name_and_kept() -> None:
    made = operator("Twice", forward="(x) => (y) { y = Add (x, x) }", backward="(dy) => (dx) { dx = Add (dy, dy) }")
    new = Nodes("loss", names=Names(graph(RELU)))
    (y,) = new.call(made, value(2))
    assert (y.producer().domain, y.name, new.operators) == ("dsd_ort", f"loss/{made.name}/y", {made.name: made})


def test_a_node_and_its_output_are_named_together() -> None:
    y = named(Nodes().Neg(value(2)), "minus")
    assert (y.name, y.producer().name) == ("minus", "minus")


# --- types and shapes


def test_types_and_shapes_follow() -> None:
    x, new = value("N", 3, 4), Nodes()
    assert (new.Add(x, 1.0).dtype, new.Add(x, 1.0).shape) == (FLOAT, ("N", 3, 4))
    assert (new.Less(x, 0.0).dtype, new.Less(x, 0.0).shape) == (ir.DataType.BOOL, ("N", 3, 4))
    assert new.Reshape(x, [0, -1]).shape == ("N", 12)
    assert (new.Shape(x).dtype, new.Shape(x).shape) == (ir.DataType.INT64, (3,))
    assert new.Transpose(x, perm=[2, 0, 1]).shape == (4, "N", 3)
    assert [output.shape for output in new.several("Split", 2, x, axis=2, num_outputs=2)] == [("N", 3, 2)] * 2
    assert new.op("com.microsoft.Gelu", x).shape == ("N", 3, 4)
    assert cast(graph(RELU).inputs[0], ir.DataType.FLOAT16).dtype == ir.DataType.FLOAT16


def test_what_does_not_follow_is_not_known() -> None:
    new = Nodes()
    assert new.Add(value(2, dtype=None), value(2, dtype=None)).dtype is None
    assert new.Add(value(2, 3), value(4, 3)).shape is None  # it is seen at run time
    assert new.MatMul(value(2, 3), value(4, 3)).shape is None
    assert new.Reshape(value(6), value(2, dtype=ir.DataType.INT64)).shape in (None, (None, None))


def test_a_node_that_this_opset_has_not_is_written_all_the_same() -> None:
    assert Nodes(opset=13).op("LayerNormalization", value(2, 3), value(3)).shape is None
    assert Nodes(opset=18).DFT(value(1, 4, 1), axis=1, other=1).shape is None


DIMS = st.sampled_from([1, 2, "N", "M", None])
SHAPES = st.lists(DIMS, max_size=3)


@given(a=SHAPES, b=SHAPES)
def test_lengths_broadcast_as_onnx_says(a: Sequence[int | str | None], b: Sequence[int | str | None]) -> None:
    x, y = value(*a), value(*b, name="y")
    got = Nodes().Add(x, y)
    types = [ir.serde.serialize_value(each).type for each in (x, y)]
    (expected,) = shapes.by_schema(got.producer(), types, constant_value, 18)
    if expected is None:
        assert got.shape is None
    else:
        assert got.shape == ir.serde.deserialize_type_proto_for_shape(expected)


@pytest.mark.parametrize("name", sorted(those_that(Does.ENTRYWISE) - {"Cast"}))
def test_an_entrywise_operator_gives_the_type_that_onnx_says(name: str) -> None:
    logic = {"And", "Or", "Xor", "Not"}
    dtype = ir.DataType.BOOL if name in logic else ir.DataType.UINT8 if name.startswith("Bit") else FLOAT
    x, y = value("N", 3, dtype=dtype), value(3, name="y", dtype=dtype)
    few = onnx.defs.get_schema(name, 18).max_input == 1
    inputs = [value(3, dtype=ir.DataType.BOOL), x, y] if name == "Where" else [x] if few or name == "Clip" else [x, y]
    got = Nodes().op(name, *inputs, **({"direction": "LEFT"} if name == "BitShift" else {}))
    types = [ir.serde.serialize_value(each).type for each in inputs]
    (expected,) = shapes.by_schema(got.producer(), types, constant_value, 18)
    assert expected is not None
    assert (got.dtype, got.shape) == (expected.tensor_type.elem_type, ("N", 3))


def test_a_copy_is_known_as_well_as_its_original() -> None:
    of = graph("(float[N, 4] x) => (float[N, 2] y) { a, y = Split <axis = 1> (x) }")
    (split,) = of
    split.outputs[0].shape, split.outputs[0].type = ir.Shape(["N", 2]), ir.TensorType(FLOAT)
    other, new = value(7, 4), Nodes()
    copies = new.copy(split, [other], "step.0")
    assert [copy.name for copy in copies] == ["step.0/a", "step.0/y"]
    assert [(copy.dtype, copy.shape) for copy in copies] == [(FLOAT, ("N", 2))] * 2
    (node,) = new.nodes
    assert (node.op_type, node.inputs[0], node.attributes["axis"].as_int()) == ("Split", other, 1)
    new.copy(split, [other], "step.1", {"axis": ir.AttrInt64("axis", -1)})
    assert new.nodes[1].attributes["axis"].as_int() == -1


# --- places


def test_what_was_written_goes_before_a_node_once() -> None:
    of = graph(RELU)
    relu, neg = of
    new = Nodes()
    new.Abs(relu.outputs[0])
    new.put_before(neg)
    assert operators(of) == ["Relu", "Abs", "Neg"]
    new.Exp(relu.outputs[0])
    new.put_before(neg)
    assert operators(of) == ["Relu", "Abs", "Exp", "Neg"]


def test_what_was_written_goes_behind_a_value_or_in_front_of_all() -> None:
    of = graph(RELU)
    for read, behind, expected in (
        (of[0].outputs[0], of[0].outputs[0], ["Relu", "Constant", "Add", "Neg"]),
        (of.inputs[0], of.inputs[0], ["Constant", "Add", "Relu", "Constant", "Add", "Neg"]),
    ):
        new = Nodes()
        new.Add(read, 1.0)
        new.put_behind(behind)
        assert operators(of) == expected
    empty = graph("(float[N] x) => () { }")
    new = Nodes()
    new.Abs(empty.inputs[0])
    new.put_behind(empty.inputs[0])
    assert operators(empty) == ["Abs"]


def test_what_was_written_goes_to_the_end() -> None:
    of, new = graph(RELU), Nodes()
    new.Abs(of.outputs[0])
    new.append_to(of)
    assert operators(of) == ["Relu", "Neg", "Abs"]


def test_a_cast_stands_behind_what_it_reads() -> None:
    of = graph(RELU)
    narrow = cast(of[0].outputs[0], ir.DataType.BFLOAT16)
    assert (operators(of), narrow.name) == (["Relu", "Cast", "Neg"], "a/bfloat16")


def test_what_is_interposed_is_read_in_the_place_of_what_it_is_computed_from() -> None:
    of = graph("(float[N, 3] x) => (float[N, 3] y) { y = Relu (x) unread = Exp (y) }")
    relu, exp = of
    y, new = relu.outputs[0], Nodes()
    scaled = new.Mul(y, 2.0)
    new.put_behind(y)
    take_over(y, scaled, "y/unscaled")
    assert (scaled.name, y.name, scaled.producer().inputs[0]) == ("y", "y/unscaled", y)
    assert exp.inputs[0] is scaled
    assert list(of.outputs) == [scaled]
    assert (scaled.dtype, scaled.shape) == (FLOAT, ("N", 3))
