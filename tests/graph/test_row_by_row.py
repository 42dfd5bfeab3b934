"""What is shown by operators alone is so when it is run, and what holds a batch is never shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphs
from dsd_ort import runtime
from dsd_ort.graph.row_by_row import RULES, keeps_rows
from dsd_ort.graph.training_copy import training_copy
from dsd_ort.model import source
from tests import cases

ROWS = {"rows": "8", "steps": "5, 8", "pictures": "3, 6, 6"}
KEPT = {
    "rows": [
        "y = Relu (x)",
        "y = Add (x, V)",
        "y = Sub (R, x)",
        "y = Add (x, x)",
        "y = Where (B, x, V)",
        "y = Gemm (x, W)",
        "y = Gemm <transB = 1> (x, W, V)",
        "y = MatMul (x, W)",
        "a = Softmax (x) y = Concat <axis = 1> (x, a)",
        "y = LogSoftmax <axis = 1> (x)",
        "y = ReduceMean (x, one)",
        "y = Identity (x)",
    ],
    "steps": [
        "y = MatMul (x, W)",
        "t = Transpose <perm = [0, 2, 1]> (x) y = MatMul (x, t)",
        "y = LayerNormalization (x, V, V)",
        "y = ReduceSum <keepdims = 0> (x, one)",
        "y = Flatten (x)",
        "y = Softmax <axis = -2> (x)",
    ],
    "pictures": [
        "y = Conv (x, K)",
        *(f"y = {pool} <kernel_shape = [2, 2]> (x)" for pool in ("AveragePool", "LpPool", "MaxPool")),
        "a = GlobalMaxPool (x) b = Gelu (a) y = Mish (b)",
        "a = ReduceMin (x, one) y = ReduceMax (a, one)",
        "a = GlobalAveragePool (x) y = Flatten (a)",
        "y = BatchNormalization (x, C, C, C, C)",
        "y = InstanceNormalization (x, C, C)",
        "y = LRN <size = 3> (x)",
        "y = ConvTranspose (x, T)",
        "y = Dropout (x)",
        "y = HardSwish (x)",
        "y = Transpose <perm = [0, 2, 3, 1]> (x)",
    ],
}
NOT = {
    "rows": [
        "y = Add (x, P)",
        "y = MatMul (W, x)",
        "y = MatMul (x, Q)",
        "y = Gemm <transA = 1> (x, P)",
        "y = Gemm (x, W, P)",
        "y = Concat <axis = 0> (x, x)",
        "y = Softmax <axis = 0> (x)",
        "y = ReduceMean (x)",
        "y = ReduceMean (x, zero)",
        "y = Transpose (x)",
        "y = Flatten <axis = 0> (x)",
        "s = Shape (x) y = Cast <to = 1> (s)",
        "y = Reshape (x, shape)",
        "y = Identity (P)",
        "t = Unsqueeze (x, zero) y = Add (x, t)",
        "a, y = Dropout (x)",
    ],
    "steps": ["y = Concat <axis = -3> (x, x)", "a = Transpose <perm = [1, 0, 2]> (x) y = Relu (a)"],
    "pictures": ["y = Conv (K, x)"],
}
STORED = {
    "V": cases.drawn(8),
    "R": cases.drawn(1, 8),
    "P": cases.drawn(2, 8),
    "W": cases.drawn(8, 8),
    "Q": cases.drawn(2, 8, 8),
    "B": np.arange(8) % 2 == 0,
    "K": cases.drawn(4, 3, 3, 3),
    "T": cases.drawn(3, 4, 3, 3),
    "C": np.abs(cases.drawn(3)),
    "one": np.array([1]),
    "zero": np.array([0]),
    "shape": np.array([-1, 4]),
}


def model(kind: str, nodes: str, opset: int = 20) -> onnx.ModelProto:
    text = f'<ir_version: 9, opset_import: ["": {opset}]> m (float[n, {ROWS[kind]}] x) => (float y) {{ {nodes} }}'
    made = onnx.parser.parse_model(text)
    made.graph.output[0].type.tensor_type.ClearField("shape")
    for name, value in STORED.items():
        if any(name in node.input for node in made.graph.node):
            made.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    return made


def shown(made: onnx.ModelProto) -> bool:
    held = ir.from_proto(made)
    return keeps_rows(held, [value for value in held.graph.inputs if value.name == "x"])


@pytest.mark.parametrize(("kind", "nodes"), [(kind, nodes) for kind, listed in KEPT.items() for nodes in listed])
@given(few=st.integers(1, 4), more=st.integers(1, 4))
def test_what_is_shown_gives_a_row_for_each(kind: str, nodes: str, few: int, more: int) -> None:
    made = model(kind, nodes)
    assert shown(made)
    session = runtime.session(made)
    shape = [int(size) for size in ROWS[kind].split(", ")]
    x = np.random.default_rng(0).standard_normal((few + more, *shape)).astype(np.float32)
    whole, *parts = (session.run(None, {"x": rows})[0] for rows in (x, x[:few], x[few:]))
    np.testing.assert_allclose(whole, np.concatenate(parts), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "nodes"), [(kind, nodes) for kind, listed in NOT.items() for nodes in listed])
def test_what_may_mix_or_hold_rows_is_not_shown(kind: str, nodes: str) -> None:
    assert not shown(model(kind, nodes))


def test_every_rule_has_a_case() -> None:
    tried = {word for listed in KEPT.values() for nodes in listed for word in nodes.replace("<", " ").split()}
    assert (
        not RULES.keys() - tried - {"AveragePool", "GlobalMaxPool", "Gelu", "LpPool", "Mish", "ReduceMax", "ReduceMin"}
    )


def test_an_input_that_fixes_its_first_axis_has_no_rows() -> None:
    text = '<ir_version: 9, opset_import: ["": 18]> m (float[n, 8] x, float[5, 8] s) => (float y) { y = Add (x, s) }'
    held = ir.from_proto(onnx.parser.parse_model(text))
    assert not keeps_rows(held, list(held.graph.inputs))


def test_old_opsets_are_tried_out() -> None:
    assert not shown(model("rows", "y = Relu (x)", 12))


@pytest.mark.parametrize("what", cases.HELD)
def test_what_holds_a_batch_is_never_shown(tmp_path: Path, what: str) -> None:
    made = training_copy(source.load(cases.holding(tmp_path / "m.onnx", what)))
    data = [value for value in made.graph.inputs if value.name == "x"]
    assert data and not keeps_rows(made, data)


def test_the_networks_of_pictures_are_shown(tmp_path: Path) -> None:
    for name in ("vgg16", "googlenet", "resnet18", "resnet50"):
        path = tmp_path / f"{name}.onnx"
        ir.save(graphs.NETWORKS[name](width=4), path)
        made = training_copy(source.load(path))
        assert keeps_rows(made, [value for value in made.graph.inputs if value.name == "image"]), name
