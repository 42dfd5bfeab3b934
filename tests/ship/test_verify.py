"""``verify`` says yes only where nothing but weights differs, and why not elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from dsd_ort.errors import ModelError
from dsd_ort.graph.training_copy import training_copy
from dsd_ort.model import source
from dsd_ort.ship import export
from dsd_ort.ship.verify import verify
from tests.ship.test_export import build

TEXT = """
<ir_version: 8, opset_import: ["" : 17], producer_name: "test">
main (float[N, 3, 6, 6] x) => (float[N, 8] y)
<int64[2] shape = {-1, 8}> {
    a = Conv <strides = [1, 1], pads = [0, 0, 0, 0]> (x, w, b)
    c = Relu (a)
    d = GlobalAveragePool (c)
    y = Reshape (d, shape)
}
"""


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    """A model and the same with other weights."""
    model = onnx.parser.parse_model(TEXT)
    rng = np.random.default_rng(0)
    for name, shape in {"w": (8, 3, 3, 3), "b": (8,)}.items():
        value = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    path, final = tmp_path / "m.onnx", tmp_path / "final.onnx"
    path.write_bytes(model.SerializeToString())
    found = source.load(path)
    w = found.value("w").copy()
    w[:2] = 0
    w[2] += 0.5
    export.write_weights(found, {"w": w}, final)
    return path, final


def test_other_weights_are_the_same_model(models):
    verdict = verify(*models)
    assert verdict.same
    assert verdict.reasons == verdict.initialized == ()
    (change,) = verdict.changed
    assert (change.name, change.shape, change.share, change.density) == ("w", (8, 3, 3, 3), 3 / 8, 6 / 8)
    old, new = (onnx.numpy_helper.to_array(onnx.load(path).graph.initializer[1]) for path in models)
    assert change.largest == np.abs(old.astype(np.float64) - new).max()


def test_a_model_is_the_same_as_itself(models):
    verdict = verify(models[0], models[0])
    assert verdict.same
    assert verdict.changed == ()


def test_a_verdict_is_plain_json(models):
    verdict = verify(*models)
    plain = json.loads(json.dumps(verdict.to_dict()))
    assert plain["same"] is True
    assert plain["changed"][0] == {
        "name": "w",
        "shape": [8, 3, 3, 3],
        "share": 0.375,
        "largest": verdict.changed[0].largest,
        "density": 0.75,
    }


def attribute(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute[1].ints[0] = 1


def integer(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.array([8, -1]), "shape"))


def metadata(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key="author", value="somebody")


def opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 16


def another_node(model: onnx.ModelProto) -> None:
    model.graph.node.insert(2, onnx.helper.make_node("Relu", ["c"], ["c2"], "extra"))


def one_node_less(model: onnx.ModelProto) -> None:
    del model.graph.node[1]
    model.graph.node[1].input[0] = "a"


def operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "Tanh"


def producer(model: onnx.ModelProto) -> None:
    model.producer_name = "tess"


def output(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 9


def another_type(model: onnx.ModelProto) -> None:
    value = onnx.numpy_helper.to_array(model.graph.initializer[1])
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float64), "w"))


def renamed(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].name = model.graph.node[0].input[1] = "v"


def function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f", domain="own")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (attribute, "node 0 (Conv a), attribute 'pads', ints: [1, 0, 0, 0] instead of [0, 0, 0, 0]"),
        (integer, "initializer 'shape', "),
        (metadata, "metadata_props: 1 instead of 0, from metadata_props 'author' on"),
        (opset, "opset_import '', version: 16 instead of 17"),
        (another_node, "node: 5 instead of 4, from node 2 (Relu extra) on"),
        (one_node_less, "node: 3 instead of 4, from node 1 (Relu c) on"),
        (operator, "node 1 (Relu c), op_type: 'Tanh' instead of 'Relu'"),
        (producer, "producer_name: 'tess' instead of 'test'"),
        (output, "output 'y', type, tensor_type, shape, dim 1, dim_value: 9 instead of 8"),
        (another_type, "initializer 'w', data_type: 11 instead of 1"),
        (renamed, "node 0 (Conv a), input: ['x', 'v', 'b'] instead of ['x', 'w', 'b']"),
        (function, "functions: 1 instead of 0, from functions 'f' on"),
    ],
)
def test_a_changed_model_is_named(models, change: Callable[[onnx.ModelProto], None], reason: str):
    path, final = models
    model = onnx.load(final)
    change(model)
    final.write_bytes(model.SerializeToString())
    verdict = verify(path, final)
    assert not verdict.same
    assert any(line.startswith(reason) for line in verdict.reasons), verdict.reasons
    assert verdict.reasons[0].startswith(reason)


def test_the_same_graph_in_other_bytes_is_not_the_same(models):
    path, final = models
    content = final.read_bytes()
    assert content.startswith(b"\x08\x08\x12\x04test")
    final.write_bytes(b"\x12\x04test\x08\x08" + content[8:])
    verdict = verify(path, final)
    assert not verdict.same
    assert verdict.reasons == ("final.onnx differs at byte 0",)


def test_every_single_flipped_byte_outside_of_the_weights_is_seen(models):
    path, final = models
    content = final.read_bytes()
    payloads = [onnx.load(final).graph.initializer[i].raw_data for i in (1, 2)]
    inside = {i for raw in payloads for i in range(content.index(raw), content.index(raw) + len(raw))}
    for at in sorted(set(range(len(content))) - inside):
        changed = bytearray(content)
        changed[at] ^= 1
        final.write_bytes(changed)
        verdict = verify(path, final)
        assert not verdict.same
        assert verdict.reasons


def test_a_truncated_file_is_not_the_same(models):
    path, final = models
    final.write_bytes(final.read_bytes()[:-30])
    verdict = verify(path, final)
    assert not verdict.same
    assert verdict.reasons[0].startswith("final.onnx: truncated at byte ")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(models, bad):
    path, final = models
    model = onnx.load(final)
    value = onnx.numpy_helper.to_array(model.graph.initializer[2]).copy()
    value[3] = bad
    model.graph.initializer[2].raw_data = value.tobytes()
    final.write_bytes(model.SerializeToString())
    verdict = verify(path, final)
    assert not verdict.same
    assert verdict.reasons == ("b: not all of its weights are finite",)


def test_a_path_that_is_no_file_is_an_error(models, tmp_path):
    path, final = models
    for pair in ((tmp_path / "none.onnx", final), (path, tmp_path / "none.onnx")):
        with pytest.raises(ModelError) as caught:
            verify(*pair)
        assert str(caught.value) == (
            f"no such file\n  where: {tmp_path / 'none.onnx'}\n  fix:   give the path of an ONNX file"
        )


def test_a_node_that_became_an_initializer_with_other_fields_is_not_the_same(tmp_path):
    built = build(tmp_path, ["filled", "raw"])
    final = tmp_path / "final.onnx"
    export.write_weights(source.load(built.path), {"w0": built.values["w0"] + 1}, final)
    assert verify(built.path, final).same
    model = onnx.load(final)
    (stored,) = (tensor for tensor in model.graph.initializer if tensor.name == "w0")
    stored.doc_string = "more"
    final.write_bytes(model.SerializeToString())
    assert not verify(built.path, final).same


# --- external data


def exported(folder: Path) -> tuple[Path, Path]:
    built = build(folder, ["external", "raw", "external"])
    final = folder / "out" / "final.onnx"
    export.write_weights(source.load(built.path), {"w0": built.values["w0"] + 1}, final)
    assert verify(built.path, final).same
    return built.path, final


def test_missing_and_other_external_data_is_named(tmp_path):
    path, final = exported(tmp_path)
    data = final.parent / "data" / "m.bin"
    content = data.read_bytes()
    data.write_bytes(content + b"x")
    assert verify(path, final).reasons == ("m.bin has 193 bytes instead of 192",)
    data.write_bytes(b"x" + content[1:])
    assert verify(path, final).reasons == ("m.bin differs at byte 0",)
    data.unlink()
    assert verify(path, final).reasons == ("the external data file 'm.bin' is missing",)


def test_an_external_tensor_that_is_no_weight_may_not_change(tmp_path):
    path, final = exported(tmp_path)
    for file in (path, final):
        model = onnx.load(file, load_external_data=False)
        shape = next(tensor for tensor in model.graph.initializer if tensor.name == "row")
        shape.ClearField("raw_data")
        shape.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": "data/m.bin", "offset": "48"}.items():
            shape.external_data.add(key=key, value=value)
        file.write_bytes(model.SerializeToString())
    assert verify(path, final).same
    data = final.parent / "data" / "m.bin"
    content = bytearray(data.read_bytes())
    content[50] ^= 1
    data.write_bytes(content)
    assert verify(path, final).reasons == ("m.bin differs at byte 50, in initializer 'row'",)


def test_a_model_that_reads_another_file_is_not_the_same(tmp_path):
    path, final = exported(tmp_path)
    shutil.copyfile(final.parent / "data" / "m.bin", final.parent / "data" / "n.bin")
    final.write_bytes(final.read_bytes().replace(b"data/m.bin", b"data/n.bin", 1))
    verdict = verify(path, final)
    assert not verdict.same
    assert verdict.reasons[0] == (
        "initializer 'w0', external_data 'location', value: 'data/n.bin' instead of 'data/m.bin'"
    )


@pytest.mark.slow
def test_a_model_larger_than_two_gigabytes_needs_no_memory_for_its_weights(tmp_path):
    resource = pytest.importorskip("resource")
    rows = 2_200_000_000 // (4 * 1024)
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> main (int64[N] i, float[N, 2] x) => (float[N, 1024] y) {
            a = Gather (w, i) b = MatMul (x, v) y = Add (a, b)
        }"""
    )
    for name, dims, offset in (("w", [rows, 1024], 0), ("v", [2, 1024], rows * 4096)):
        tensor = model.graph.initializer.add(name=name, dims=dims, data_type=1, data_location=1)
        for key, value in {"location": "m.bin", "offset": str(offset)}.items():
            tensor.external_data.add(key=key, value=value)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with (tmp_path / "m.bin").open("wb") as data:
        data.truncate(rows * 4096 + 8192)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = source.load(path)
    assert [(p.name, p.shape) for p in found.parameters] == [("w", (rows, 1024)), ("v", (2, 1024))]
    training_copy(found)
    verdict = verify(path, path)
    assert verdict.same, verdict.reasons
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB
