"""Models larger than memory should have to be: their weights stay in the file until training begins.

The external-data file is sparse, so it costs no disk; peak memory is measured in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import onnx.helper
import pytest

from dsd_ort.errors import ModelError
from dsd_ort.model import source
from tests.models import TYPES

MEASURE = """
import resource, sys
from pathlib import Path
import dsd_ort

phase = {"kind": "dense", "steps": 1, "learning_rate": 1}
recipe = dsd_ort.Recipe.from_dict({"loss": {"name": "mse"}, "phase": [phase]})
unit = 1 if sys.platform == "darwin" else 1024
small, large = map(Path, sys.argv[1:])
for model in (small, large):
    assert len(dsd_ort.inspect(model).parameters) == 3
    dsd_ort.prepare(model, model.parent / "run", recipe)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
"""


def write(folder: Path, width: int, name: str) -> Path:
    """A table that is looked up and two matrices, each [width, width], all zeros in a sparse file."""
    code, dtype = TYPES[name]
    size = width * width * dtype(0).itemsize
    weights = []
    for i, weight in enumerate(("table", "first", "second")):
        tensor = onnx.TensorProto(name=weight, dims=[width, width], data_type=code, data_location=1)
        for key, value in {"location": "m.bin", "offset": str(i * size), "length": str(size)}.items():
            tensor.external_data.add(key=key, value=value)
        weights.append(tensor)
    nodes = [
        onnx.helper.make_node("Gather", ["table", "ids"], ["rows"]),
        onnx.helper.make_node("MatMul", ["rows", "first"], ["a"]),
        onnx.helper.make_node("Relu", ["a"], ["b"]),
        onnx.helper.make_node("MatMul", ["b", "second"], ["y"]),
    ]
    ids = onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["N"])
    y = onnx.helper.make_tensor_value_info("y", code, ["N", width])
    graph = onnx.helper.make_graph(nodes, "g", [ids], [y], weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir()
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    with (folder / "m.bin").open("wb") as file:
        file.truncate(3 * size)
    return folder / "m.onnx"


def growth(folder: Path, width: int, name: str) -> tuple[int, int]:
    """By how many bytes peak memory grows for a large model, after a small one; and how many its weights take."""
    pytest.importorskip("resource")
    small, large = write(folder / "small", 64, name), write(folder / "large", width, name)
    command = [sys.executable, "-c", MEASURE, str(small), str(large)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    first, second = map(int, done.stdout.split())
    weights = large.with_name("m.bin").stat().st_size
    assert (large.parent / "run" / "source" / "m.bin").stat().st_size == weights
    return second - first, weights


@pytest.mark.parametrize("name", ["float", "float16"])
def test_300_megabytes_of_weights_are_prepared_without_one_of_them_in_memory(tmp_path, name):
    grown, weights = growth(tmp_path, 5120 if name == "float" else 7168, name)
    assert weights > 300e6
    assert grown < weights / 3 / 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["float", "float16", "double"])
def test_3_gigabytes_of_weights_are_prepared_with_less_than_one_of_memory(tmp_path, name):
    grown, weights = growth(tmp_path, {"float": 16384, "float16": 23040, "double": 11520}[name], name)
    assert weights > 3e9
    assert grown < 1e9


def test_a_model_file_that_no_protobuf_reader_takes_is_refused(tmp_path):
    path = tmp_path / "m.onnx"
    tensor = b"\x08\x80\x80\x80\x80\x02\x10\x01\x42\x01w\x4a\x80\x80\x80\x80\x08"  # w, f32[2^29], 2^31 raw bytes
    length = len(tensor) + 2**31
    graph = b"\x2a" + varint(length) + tensor
    path.write_bytes(b"\x08\x08\x3a" + varint(length + len(graph) - len(tensor)) + graph)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + 2**31)
    with pytest.raises(ModelError) as caught:
        source.load(path)
    assert caught.value.what == (
        f"the file has {path.stat().st_size} bytes; an ONNX file can have {2**31 - 1}, and larger ones nothing can read"
    )
    assert caught.value.where == str(path)
    assert "save_as_external_data=True" in caught.value.fix


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)
