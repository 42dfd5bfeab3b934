"""Where parameters are kept, and what is refused."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest

from dsd_ort.errors import ModelError, RunError, UnsupportedError
from dsd_ort.model import source

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def write(path: Path, text: str, shapes: dict[str, tuple[int, ...]] | None = None, opset: int = 17) -> Path:
    """A model from ONNX text, with random float32 initializers of *shapes*."""
    imports = f'"": {opset}, "com.microsoft": 1'
    model = onnx.parser.parse_model(f"<ir_version: 8, opset_import: [{imports}]> main {text}")
    rng = np.random.default_rng(0)
    for name, shape in (shapes or {}).items():
        value = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    path.write_bytes(model.SerializeToString())
    return path


def run(model: onnx.ModelProto | Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    outputs: list[np.ndarray] = ort.InferenceSession(content, options).run(None, feeds)
    return outputs


STORED = """(float[N, 2] x) => (float[N, 2] y) <int64[1] two = {2}, float[2, 2] a = {1, 2, 3, 4}> {
    b = Constant <value = float[2, 2] {5, 6, 7, 8}> ()
    c = ConstantOfShape <value = float[1] {0.5}> (two)
    d = Identity (a)
    e = Identity (d)
    f = MatMul (x, a)
    g = MatMul (f, b)
    h = Add (g, c)
    y = MatMul (h, e)
}"""


def test_each_kind_of_storage_has_its_values(tmp_path):
    found = source.load(write(tmp_path / "m.onnx", STORED))
    kept = {p.name: (p.storage, p.aliases, found.value(p.name).tolist()) for p in found.parameters}
    assert kept == {
        "a": ("initializer", ("d", "e"), [[1, 2], [3, 4]]),
        "b": ("constant", (), [[5, 6], [7, 8]]),
        "c": ("constant-of-shape", (), [0.5, 0.5]),
    }
    assert found.value("a").dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        found.value("a")[0] = 1


def external(path: Path, **places: tuple[int, int, str]) -> Path:
    """Points float32 initializers of a model at ``(offset, rows, file)``, two columns each."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name in places:
            offset, rows, location = places[tensor.name]
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.dims[:] = [rows, 2]
            for key, value in {"location": location, "offset": offset, "length": rows * 8}.items():
                tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())
    return path


CHAIN = """(float[N, 2] x) => (float[N, 2] y) { a = MatMul (x, v) b = MatMul (a, w) y = Relu (b) }"""


def chain(folder: Path, **places: tuple[int, int, str]) -> Path:
    np.arange(12, dtype=np.float32).tofile(folder / "m.bin")
    return external(write(folder / "m.onnx", CHAIN, {"v": (2, 2), "w": (2, 2)}), **places)


def test_external_data_is_read_from_its_place(tmp_path):
    found = source.load(chain(tmp_path, v=(4, 2, "m.bin"), w=(32, 2, "./m.bin")))
    assert found.files == (tmp_path / "m.onnx", tmp_path / "m.bin")
    assert found.value("v").tolist() == [[1, 2], [3, 4]]
    assert found.value("w").tolist() == [[8, 9], [10, 11]]


def test_two_tensors_in_one_place_are_one_parameter(tmp_path):
    found = source.load(chain(tmp_path, v=(4, 2, "m.bin"), w=(4, 2, "m.bin")))
    assert [(p.name, p.aliases) for p in found.parameters] == [("v", ("w",))]


def test_tensors_that_share_only_some_bytes_are_refused(tmp_path):
    with pytest.raises(UnsupportedError, match=r"share bytes of 'm\.bin'") as caught:
        source.load(chain(tmp_path, v=(4, 2, "m.bin"), w=(12, 2, "m.bin")))
    assert "initializer 'v' and initializer 'w'" in caught.value.what
    assert caught.value.where == str(tmp_path / "m.onnx")
    assert "each tensor with data of its own" in caught.value.fix


def test_the_digest_covers_the_model_and_its_external_data(tmp_path):
    path = chain(tmp_path, v=(0, 2, "m.bin"))
    first = source.load(path).digest
    assert first.startswith("sha256:")
    assert source.load(path).digest == first
    renamed = tmp_path / "renamed.onnx"
    shutil.copyfile(path, renamed)
    assert source.load(renamed).digest == first
    (tmp_path / "m.bin").write_bytes(bytes(48))
    assert source.load(path).digest != first
    alone = write(tmp_path / "alone.onnx", CHAIN, {"v": (2, 2), "w": (2, 2)})
    assert source.load(alone).digest == f"sha256:{hashlib.sha256(alone.read_bytes()).hexdigest()}"


def test_nodes_may_stand_in_any_order(tmp_path):
    """As ONNX Runtime's converter to float16 writes them, and ONNX Runtime takes them."""
    path = write(tmp_path / "m.onnx", STORED)
    want = source.load(path)
    model = onnx.load(path)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    path.write_bytes(model.SerializeToString())
    found = source.load(path)
    assert {p.name for p in found.parameters} == {p.name for p in want.parameters}
    onnx.checker.check_model(ir.to_proto(found.model), full_check=True)


@pytest.mark.parametrize("kind", [onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE])
def test_a_table_is_learned_though_16_bits_have_few_numbers(tmp_path, kind):
    """A bfloat16 has 8 bits of precision, so a normal distribution repeats itself."""
    text = "(int64[N] ids) => (float[N, 64] y) { a = Gather (table, ids) y = MatMul (a, w) }"
    path = write(tmp_path / "m.onnx", text)
    model = onnx.load(path)
    rng = np.random.default_rng(0)
    for name, shape in {"table": (400, 64), "w": (64, 64)}.items():
        model.graph.initializer.append(onnx.helper.make_tensor(name, kind, shape, rng.standard_normal(shape).ravel()))
    model.graph.output[0].type.tensor_type.elem_type = kind
    path.write_bytes(model.SerializeToString())
    dtype = onnx.TensorProto.DataType.Name(kind).lower()
    assert {(p.name, p.role, p.dtype) for p in source.load(path).parameters} == {
        ("table", "embedding", dtype),
        ("w", "matrix", dtype),
    }


def test_a_cycle_is_refused(tmp_path):
    path = write(tmp_path / "m.onnx", CHAIN, {"w": (2, 2), "v": (2, 2)})
    model = onnx.load(path)
    first, last = model.graph.node[0], model.graph.node[-1]
    first.input[0] = last.output[0]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="the graph has a cycle") as caught:
        source.load(path)
    assert caught.value.where == str(path)


# --- what is refused


def test_a_double_that_float32_cannot_hold_is_refused_by_name(tmp_path):
    path = write(tmp_path / "m.onnx", CHAIN.replace("float", "double"), {})
    model = onnx.load(path)
    for name, last in (("v", 4.0), ("w", -1e39)):
        model.graph.initializer.append(onnx.helper.make_tensor(name, onnx.TensorProto.DOUBLE, [2, 2], [1, 2, 3, last]))
    path.write_bytes(model.SerializeToString())
    found = source.load(path)
    assert {p.name: p.dtype for p in found.parameters} == {"v": "double", "w": "double"}
    with pytest.raises(UnsupportedError) as caught:
        found.value("w")
    assert caught.value.what.startswith("the weight 'w' holds numbers beyond 3.4e38, where float32 ends")
    assert caught.value.where == str(path)
    assert caught.value.fix == "mend the weight: a network with such numbers cannot have been trained"


def test_a_statistic_that_is_also_a_weight_is_refused(tmp_path):
    text = """(float[N, 2] x) => (float[N, 2] y) {
        a = Gemm (x, w) zeros = Identity (bias) y = BatchNormalization (a, s, bias, zeros, v)
    }"""
    path = write(tmp_path / "m.onnx", text, {"w": (2, 2), "s": (2,), "bias": (2,), "v": (2,)})
    with pytest.raises(UnsupportedError, match="the running statistic 'bias' is also") as caught:
        source.load(path)
    assert caught.value.where == f"{path}: BatchNormalization y"
    assert "without merging equal tensors" in caught.value.fix


def test_one_batch_norm_that_is_used_twice_is_no_conflict(tmp_path):
    text = """(float[N, 2] x) => (float[N, 2] y) {
        a = BatchNormalization (x, s, b, m, v) y = BatchNormalization (a, s, b, m, v)
    }"""
    found = source.load(write(tmp_path / "m.onnx", text, {"s": (2,), "b": (2,), "m": (2,), "v": (2,)}))
    assert [p.name for p in found.statistics] == ["m", "v"]


def test_missing_and_wrong_external_data_is_refused(tmp_path):
    path = chain(tmp_path, v=(4, 2, "m.bin"))
    (tmp_path / "m.bin").write_bytes(bytes(10))
    with pytest.raises(ModelError) as caught:
        source.load(path)
    assert caught.value.what == (
        "the external data file 'm.bin' is too short: it has 10 bytes, and this tensor ends at byte 20"
    )
    assert caught.value.where == f"{path}: initializer 'v'"
    assert caught.value.fix == "copy or export the file again"
    (tmp_path / "m.bin").unlink()
    with pytest.raises(ModelError) as caught:
        source.load(path)
    assert caught.value.what == "the external data file 'm.bin' is missing"
    assert caught.value.where == f"{path}: initializer 'v'"
    assert str(tmp_path / "m.bin") in caught.value.fix


@pytest.mark.parametrize("location", ["../m.bin", "sub/../../m.bin", "link.bin", "absolute"])
def test_external_data_outside_of_the_folder_is_refused(tmp_path, location):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "m.bin").write_bytes(bytes(100))
    (folder / "link.bin").symlink_to(tmp_path / "m.bin")
    if location == "absolute":
        location = str(tmp_path / "m.bin")
    path = chain(folder, v=(0, 2, location))
    (folder / "m.bin").unlink()
    with pytest.raises(ModelError, match="is outside of the model's folder") as caught:
        source.load(path)
    assert caught.value.where == f"{path}: initializer 'v'"
    assert "in the model's own folder" in caught.value.fix


@pytest.mark.parametrize(
    ("written", "there"),
    [
        ("elsewhere/m.bin", "m.bin"),
        ("../m.bin", "m.bin"),
        ("/on/another/machine/m.bin", "m.bin"),
        ("C:\\models\\m.bin", "m.bin"),
        ("old.onnx.data", "m.onnx.data"),
        ("old.onnx_data", "m.onnx_data"),
        ("old.bin", "m.bin"),
    ],
)
def test_external_data_that_was_moved_with_its_model_is_found_and_told(tmp_path, written, there):
    path = chain(tmp_path, v=(0, 2, written), w=(16, 2, written))
    (tmp_path / "m.bin").write_bytes((tmp_path / "m.bin").read_bytes()[:32])
    (tmp_path / "m.bin").rename(tmp_path / there)
    found = source.load(path)
    np.testing.assert_array_equal(found.value("w"), np.arange(4, 8, dtype=np.float32).reshape(2, 2))
    assert found.files == (path, tmp_path / there)
    (note,) = found.notes
    said = Path(written).as_posix()
    assert note.words == f"the file says that weights stand in {said!r}; they are read from {there!r}, and shipped so"


@pytest.mark.parametrize("what", ["another size", "one of two", "another name"])
def test_a_file_that_may_be_another_models_is_not_taken(tmp_path, what):
    places = {"v": (0, 2, "old.data")} | ({"w": (0, 2, "older.data")} if what == "one of two" else {})
    path = chain(tmp_path, **places)
    (tmp_path / "m.bin").unlink()
    name = "another.data" if what == "another name" else "m.data"
    (tmp_path / name).write_bytes(bytes(17 if what == "another size" else 16))
    with pytest.raises(ModelError, match=r"the external data file 'old\.data' is missing"):
        source.load(path)


def test_links_of_a_model_and_its_data_into_one_folder_are_followed(tmp_path):
    """As caches of downloaded models lay them out."""
    blobs, folder = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    folder.mkdir(parents=True)
    model = chain(blobs, v=(8, 2, "m.onnx_data"))
    for name, blob in (("m.onnx", model), ("m.onnx_data", blobs / "m.bin")):
        (folder / name).symlink_to(blob)
    found = source.load(folder / "m.onnx")
    assert found.value("v")[0, 0] == 2.0 and found.notes == ()


def test_files_without_a_model_are_refused(tmp_path):
    path = write(tmp_path / "m.onnx", CHAIN, {"v": (2, 2), "w": (2, 2)})
    model = onnx.load(path)

    def refused(change: onnx.ModelProto, what: str) -> None:
        path.write_bytes(change.SerializeToString())
        with pytest.raises(ModelError, match=what) as caught:
            source.load(path)
        assert str(caught.value.where).startswith(str(path))
        assert caught.value.fix

    empty = onnx.ModelProto(ir_version=8)
    refused(empty, "it has no graph")
    headless = onnx.ModelProto()
    headless.CopyFrom(model)
    del headless.graph.output[:]
    refused(headless, "has no outputs")
    ended = onnx.ModelProto()
    ended.CopyFrom(model)
    del ended.opset_import[:]
    refused(ended, "does not say which operator set it uses")
    strange = onnx.ModelProto()
    strange.CopyFrom(model)
    strange.graph.initializer[0].data_type = 99
    refused(strange, "element type 99 is none")


def test_two_tensors_of_one_name_are_refused(tmp_path):
    path = write(tmp_path / "m.onnx", CHAIN, {"v": (2, 2), "w": (2, 2)})
    model = onnx.load(path)
    model.graph.initializer[1].name = "v"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="two tensors are called 'v'") as caught:
        source.load(path)
    assert caught.value.where == f"{path}: initializer 'v'"


def test_a_tensor_with_too_little_data_is_refused(tmp_path):
    path = write(tmp_path / "m.onnx", CHAIN, {"v": (2, 2), "w": (2, 2)})
    model = onnx.load(path)
    model.graph.initializer[0].raw_data = bytes(12)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError) as caught:
        source.load(path)
    assert caught.value.what == "a tensor of shape [2, 2] of float takes 16 bytes, and it has 12"
    assert caught.value.where == f"{path}: initializer 'v'"


def test_sparse_tensors_are_refused(tmp_path):
    path = write(tmp_path / "m.onnx", CHAIN, {"v": (2, 2), "w": (2, 2)})
    model = onnx.load(path)
    model.graph.sparse_initializer.add(dims=[2, 2])
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedError, match="sparse tensors are not supported") as caught:
        source.load(path)
    assert caught.value.where == f"{path}: sparse initializer"
    assert caught.value.fix == "export with dense weights"


def test_a_file_that_changes_while_it_is_in_use_is_noticed(tmp_path):
    path = write(tmp_path / "m.onnx", CHAIN, {"v": (2, 2), "w": (2, 2)})
    found = source.load(path)
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    with pytest.raises(RunError, match="the model changed while it was in use") as caught:
        found.value("v")
    assert caught.value.where == str(path)
