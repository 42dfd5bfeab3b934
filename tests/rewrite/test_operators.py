"""The table of what is known of operators: what its rows say is so, where somebody else can say it too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.defs
import onnx_ir as ir
import pytest
from onnx.backend.test.case.node import collect_testcases
from onnx.reference import ReferenceEvaluator

from dsd_ort.rewrite import element_types
from dsd_ort.rewrite.operators import OPERATORS, Does, those_that
from tools.maintenance.operator_tables import HOME, tables

STANDARD = [name for name in OPERATORS if "." not in name and onnx.defs.has(name, max_inclusive_version=18)]
"""Those of ONNX's own, in the opset of all rules."""
X = np.linspace(0.1, 0.9, 6, dtype=np.float32).reshape(2, 3)


def schema(name: str) -> onnx.defs.OpSchema:
    return onnx.defs.get_schema(name, 18)


@pytest.mark.parametrize("name", STANDARD)
def test_a_row_names_inputs_and_outputs_that_there_are(name: str) -> None:
    known, inputs = OPERATORS[name], schema(name).max_input
    assert all(slot < inputs for slot in known.weights)
    assert known.factors <= inputs and known.like <= max(inputs - 1, 0)
    assert known.lengths is None or known.lengths < inputs
    assert known.second is None or schema(name).max_output > 1
    assert known.native <= inputs or known.native == 2**31


@pytest.mark.parametrize("name", [name for name in STANDARD if OPERATORS[name].gives is not None])
def test_what_an_operator_always_gives_is_what_onnx_says(name: str) -> None:
    (output, *_) = schema(name).outputs
    assert output.types == {f"tensor({OPERATORS[name].gives.name.lower()})"}


def _scalars(name: str, of: Any) -> list[np.ndarray]:
    """Small arrays for the inputs of an entrywise operator that has floats where it may, in the shapes *of*."""
    kinds = {"Where": [np.bool_, np.float32, np.float32], "Clip": [np.float32] * 3, "BitShift": [np.uint8] * 2}
    logic = name in ("And", "Or", "Xor", "Not")
    bits = name.startswith("Bitwise")
    count = 1 if schema(name).min_input == 1 and schema(name).max_input == 1 else 2
    types = kinds.get(name, [np.bool_ if logic else np.int32 if bits else np.float32] * count)
    rng = np.random.default_rng(7)
    arrays = [rng.uniform(0.1, 0.9, shape) for shape, _ in zip(of, types, strict=False)]
    if name == "Acosh":
        arrays = [array + 1 for array in arrays]
    if name == "Clip":  # its bounds are numbers
        arrays = [arrays[0], np.array(0.3), np.array(0.6)]
    return [
        (array * 8 if np.dtype(t).kind in "iub" else array).astype(t) for array, t in zip(arrays, types, strict=True)
    ]


@pytest.mark.parametrize("name", sorted(those_that(Does.ENTRYWISE) - {"Cast"}))
def test_an_entrywise_operator_computes_each_entry_by_itself(name: str) -> None:
    """On all entries at once, and on each alone: the same numbers."""
    arrays = _scalars(name, [(2, 3), (2, 3), (2, 3)])
    attributes = {"direction": "LEFT"} if name == "BitShift" else {"fmod": 1} if name == "Mod" else {}
    names = [f"x{i}" for i in range(len(arrays))]
    node = onnx.helper.make_node(name, names, ["y"], **attributes)

    def run(given: list[np.ndarray]) -> np.ndarray:
        infos = [onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), None)
                 for n, a in zip(names, given, strict=True)]  # fmt: skip
        graph = onnx.helper.make_graph([node], "g", infos, [onnx.helper.make_empty_tensor_value_info("y")])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
        return np.asarray(ReferenceEvaluator(model).run(None, dict(zip(names, given, strict=True)))[0])

    whole = run(arrays)
    for at in np.ndindex(2, 3):
        alone = run([array[at].reshape(1, 1) if array.ndim else array for array in arrays])
        np.testing.assert_array_equal(whole[at], alone.reshape(()))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of casts, where ONNX makes the vectors of its Cast
@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")  # as it does for its DeformConv
def test_an_operator_that_moves_numbers_makes_none() -> None:
    """In ONNX's own vectors: what comes out went in, or is the zero that is filled up with."""
    seen = set()
    for vectors in collect_testcases(None):
        nodes = vectors.model.graph.node
        if len(nodes) != 1 or nodes[0].op_type not in those_that(Does.MOVES) or vectors.data_sets is None:
            continue
        for inputs, outputs in vectors.data_sets:
            if not all(isinstance(a, np.ndarray) and a.dtype.kind in "fiub" for a in (*inputs, *outputs)):
                continue  # bfloat16, text, sequences
            numbers = {0.0}.union(*(np.unique(array.astype(np.float64)).tolist() for array in inputs))
            assert all(set(array.astype(np.float64).reshape(-1).tolist()) <= numbers for array in outputs), vectors.name
            seen.add(nodes[0].op_type)
    assert seen == those_that(Does.MOVES)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
def test_numbers_that_are_never_negative_are_not() -> None:
    """In ONNX's own vectors: of any numbers, and of those without their signs."""
    natural, kept = those_that(Does.NATURAL), those_that(Does.KEEPS_NATURAL)
    seen = set()
    for vectors in collect_testcases(None):
        nodes = vectors.model.graph.node
        if len(nodes) != 1 or nodes[0].op_type not in natural | kept or vectors.data_sets is None:
            continue
        for inputs, outputs in vectors.data_sets:
            if outputs[0].dtype not in (np.float32, np.float64):
                continue
            if nodes[0].op_type in kept:
                given = [np.abs(array) if array.dtype.kind == "f" else array for array in inputs]
                names = [value.name for value in vectors.model.graph.input]
                results = ReferenceEvaluator(vectors.model).run(None, dict(zip(names, given, strict=True)))
            else:
                results = outputs
            assert np.min(results[0], initial=0) >= 0, vectors.name
            seen.add(nodes[0].op_type)
    assert seen == natural | kept


def test_the_type_of_a_value_follows_that_of_the_input_that_the_row_names() -> None:
    condition, x = ir.Value(name="c", type=ir.TensorType(ir.DataType.BOOL)), ir.Value(name="x")
    x.type = ir.TensorType(ir.DataType.FLOAT)
    where = ir.node("Where", [condition, x, x])
    assert element_types.result(where, 0) == ir.DataType.FLOAT
    assert element_types.result(ir.node("MaxPool", [x], num_outputs=2), 1) == ir.DataType.INT64
    assert element_types.result(ir.node("Shape", [x]), 0) == ir.DataType.INT64


ELSEWHERE = {
    "dsd_ort/graph/autograd/recurrent.py": "texts that compute an activation and its derivative",
    "dsd_ort/graph/batch_axis.py": "what stands between scores and the loss that they were exported with",
    "dsd_ort/graph/dequantize/table.py": "what an operator on quantised numbers is on floats",
    "dsd_ort/graph/dequantize/walk.py": "which of them fill in numbers of their own",
    "dsd_ort/graph/legalize/native/bugs.py": "of ONNX Runtime's builder, not of the operators",
    "dsd_ort/graph/legalize/legacy.py": "what operators were before opset 7",
    "dsd_ort/graph/legalize/rules/recurrent.py": "defaults in recurrent layers that ONNX and ONNX Runtime agree on",
    "dsd_ort/graph/legalize/rules/trigonometric.py": "texts that compute derivatives",
    "dsd_ort/graph/logits.py": "what a loss calls the activations that it contains",
    "dsd_ort/graph/row_by_row.py": "which axis examples are apart on, for each operator that keeps them so",
    "dsd_ort/graph/trial.py": "what ONNX Runtime ends the process on where an image is smaller than the window",
    "dsd_ort/model/products.py": "what may stand between a stored tensor and the product that it is a factor of",
    "dsd_ort/model/roles.py": "where constants may meet data, each kind with its own question",
    "dsd_ort/model/wellformed/graphs.py": "which input says how much memory is taken",
    "dsd_ort/model/wellformed/inferred.py": "gates, as the shapes of weights have them, before any rule sees the node",
    "dsd_ort/model/wellformed/nodes.py": "attributes that are numbers of element types",
    "dsd_ort/proof/analytic.py": "what has a slope on complex numbers: the judge knows nothing of what it judges",
    "dsd_ort/proof/reference.py": "what ONNX's evaluator computes in float32, whatever it is given",
    "dsd_ort/proof/recurrence.py": "the judge knows nothing of what it judges",
}
"""Files with a table of operators that says something else than what an operator is, and what."""


def test_what_is_known_of_an_operator_stands_nowhere_else() -> None:
    root = Path(__file__).parents[2]
    facts = [table for table in tables(root) if not table.dispatch]
    assert {table.file for table in facts if not table.file.startswith(HOME)} <= ELSEWHERE.keys()
    assert len([table for table in facts if table.file.startswith(HOME)]) == 2
