"""Frozen tables stay in float32 in a reference in float64: what is looked up is the same, and costs half."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

from dsd_ort.proof.reference import InNumPy, InRuntime, in_double, looked_up
from tests import cases

INPUTS = "int64[N] ids, float[9, 4] table, float[4, 5] W, float[5] b"
GRAPHS = {
    "one look": ("t = Gather (table, ids) y = MatMul (t, W)", {"table"}),
    "two looks": ("t = Gather (table, ids) u = Gather (table, ids) v = Add (t, u) y = MatMul (v, W)", {"table"}),
    "read otherwise too": (
        "t = Gather (table, ids) u = MatMul (table, W) v = MatMul (t, W) y = Concat <axis = 0> (u, v)",
        set(),
    ),
    "as positions of another": ("t = Gather (W, ids) y = MatMul (t, b)", {"W"}),
    "in a branch": (
        "c = Constant <value = bool {1}> () t = Gather (table, ids) k = If (c) <then_branch = g () => (float[9, 4] a) "
        "{ a = Identity (table) }, else_branch = h () => (float[9, 4] e) { e = Neg (table) }> y = MatMul (k, W)",
        set(),
    ),
}


@pytest.mark.parametrize("what", GRAPHS)
def test_a_table_is_what_nothing_but_lookups_reads(what: str) -> None:
    body, tables = GRAPHS[what]
    text = f'<ir_version: 9, opset_import: ["" : 17]> g ({INPUTS}) => (float[A, B] y) {{ {body} }}'
    graph = onnx.parser.parse_model(text)
    assert looked_up(graph, ["table", "W", "b", "ids"]) == tables
    assert looked_up(graph, []) == set()


@pytest.mark.parametrize("what", ["one look", "two looks"])
def test_the_loss_is_the_same_and_the_table_is_fed_as_it_is(what: str) -> None:
    body, _ = GRAPHS[what]
    text = f"{body} loss = ReduceMean <keepdims = 0> (y)"
    graph = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 17]> g ({INPUTS}) => (float loss) {{ {text} }}'
    )
    inputs = {"ids": np.array([0, 3, 3, 8]), "table": cases.drawn(9, 4), "W": cases.drawn(4, 5), "b": cases.drawn(5)}
    types = {value.name: value.type.tensor_type.elem_type for value in in_double(graph, ["table"]).graph.input}
    assert (types["table"], types["W"]) == (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
    for kind in (InNumPy, lambda *a, **k: InRuntime(*a, double=True, **k)):
        whole, small = kind(graph, "loss"), kind(graph, "loss", still=["table"])
        assert whole(inputs) == small(inputs)
        moved = inputs | {"W": inputs["W"].astype(np.float64) + 1e-9}
        assert small(moved) != small(inputs)
