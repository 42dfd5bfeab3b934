"""The training copy takes its weights as inputs, computes the same and needs no other file."""

from __future__ import annotations

import tracemalloc

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir

from dsd_ort.graph.training_copy import training_copy
from dsd_ort.model import source
from tests.model.test_source import CHAIN, STORED, chain, run, write


def test_an_initializer_that_is_an_input_too_is_one_input(tmp_path):
    path = write(tmp_path / "m.onnx", STORED)
    model = onnx.load(path)
    model.ir_version = 3
    for name, kind in {"a": 1, "two": 7}.items():
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, None))
    path.write_bytes(model.SerializeToString())
    found = source.load(path)
    assert [p.name for p in found.parameters] == ["a", "b", "c"]
    assert [value.name for value in training_copy(found).graph.inputs] == ["x", "a", "b", "c"]


def test_two_tensors_in_one_place_are_one_input(tmp_path):
    copy = training_copy(source.load(chain(tmp_path, v=(4, 2, "m.bin"), w=(4, 2, "m.bin"))))
    assert [value.name for value in copy.graph.inputs] == ["x", "v"]
    assert [node.inputs[1].name for node in list(copy.graph)[:2]] == ["v", "v"]


def constants(copy: onnx.ModelProto) -> int:
    return sum(node.op_type in ("Constant", "ConstantOfShape", "Identity") for node in copy.graph.node)


def test_it_takes_its_weights_as_inputs_and_computes_the_same(tmp_path):
    found = source.load(write(tmp_path / "m.onnx", STORED))
    before = ir.to_proto(found.model).SerializeToString()
    copy = ir.to_proto(training_copy(found))
    onnx.checker.check_model(copy, full_check=True)
    assert ir.to_proto(found.model).SerializeToString() == before
    assert [value.name for value in copy.graph.input] == ["x", "a", "b", "c"]
    assert (len(copy.graph.initializer), constants(copy)) == (0, 0)
    x = np.float32([[1, -2], [3, 4]])
    weights = {p.name: found.value(p.name) for p in found.parameters}
    np.testing.assert_array_equal(run(copy, {"x": x, **weights})[0], run(found.path, {"x": x})[0])


def test_an_output_that_is_a_copy_of_a_weight_stays(tmp_path):
    text = """(float[N, 2] x) => (float[N, 2] y, float[2, 2] z) { y = MatMul (x, w) z = Identity (w) }"""
    found = source.load(write(tmp_path / "m.onnx", text, {"w": (2, 2)}))
    copy = ir.to_proto(training_copy(found))
    x, w = np.eye(2, dtype=np.float32), np.float32([[1, 2], [3, 4]])
    for output in run(copy, {"x": x, "w": w}):
        np.testing.assert_array_equal(output, w)


def test_it_needs_no_other_file(tmp_path):
    text = """(float[N, 2] x, bool c) => (float[N, 2] y) {
        ids = Constant <value = int64[2] {1, 0}> ()
        a = MatMul (x, v) b = Gather <axis = 1> (a, ids)
        y = If (c) <
            then_branch = yes () => (float[N, 2] d) <float[1] two = {2}> { d = Mul (b, two) },
            else_branch = no () => (float[N, 2] e) { e = Relu (b) }
        >
    }"""
    path = write(tmp_path / "m.onnx", text, {"v": (2, 2)})
    model = onnx.load(path)
    ids, two = model.graph.node[0].attribute[0].t, model.graph.node[3].attribute[0].g.initializer[0]
    for tensor, offset in ((ids, 0), (two, 16)):
        for name in ("int64_data", "float_data", "raw_data"):
            tensor.ClearField(name)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": "m.bin", "offset": str(offset)}.items():
            tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    (tmp_path / "m.bin").write_bytes(np.int64([1, 0]).tobytes() + np.float32([2]).tobytes())
    copy = ir.to_proto(training_copy(source.load(path)))
    feeds = {"x": np.float32([[1, 2]]), "c": np.array(True), "v": np.eye(2, dtype=np.float32)}
    np.testing.assert_array_equal(run(copy, feeds)[0], [[4, 2]])


def test_weights_inside_calls_of_functions_are_found(tmp_path):
    text = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        main (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}, float[2] b = {1, 2}> {
            y = own.linear (x, w, b)
        }
        <domain: "own", opset_import: ["" : 17]> linear (x, w, b) => (y) {
            t = Identity (w) p = MatMul (x, t) y = Add (p, b)
        }"""
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    found = source.load(path)
    assert [(p.name, p.role) for p in found.parameters] == [("w", "matrix"), ("b", "bias")]
    assert len(found.model.functions) == 1
    copy = ir.to_proto(training_copy(found))
    assert not copy.functions
    feeds = {"x": np.float32([[1, 1]])}
    weights = {p.name: found.value(p.name) for p in found.parameters}
    np.testing.assert_array_equal(run(copy, feeds | weights)[0], run(path, feeds)[0])


def test_neither_a_source_nor_its_copy_holds_weights(tmp_path):
    path = write(tmp_path / "m.onnx", CHAIN.replace("2] x", "2000] x"), {"v": (2000, 2000), "w": (2000, 2)})
    tracemalloc.start()
    found = source.load(path)
    training_copy(found)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < path.stat().st_size / 4
