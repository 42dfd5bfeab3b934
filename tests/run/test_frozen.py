"""What is frozen costs no more than itself: neither in a run folder, nor in memory, nor in an export."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.numpy

import dsd_ort
from dsd_ort.graph.program import open_program
from dsd_ort.recipe import Recipe
from dsd_ort.run import keeping
from dsd_ort.run.arena import Arena
from tests import cases

MB = 2**20


def table(folder: Path, rows: int) -> Path:
    """A table f32[rows, 64] in a file of its own, which takes no disk but for its first rows, and V behind it."""
    text = (
        "(int64[N, 6] ids) => (float[N, 5] y) { t = Gather (table, ids) m = ReduceMean <axes = [1], keepdims = 0> (t) "
        "y = MatMul (m, V) }"
    )
    folder.mkdir(parents=True, exist_ok=True)
    proto = onnx.load(cases.write(folder / "m.onnx", text, {"V": cases.drawn(64, 5)}, opset=17))
    tensor = proto.graph.initializer.add(name="table", dims=[rows, 64], data_type=1, data_location=1)
    for key, value in {"location": "m.onnx.data", "length": str(rows * 256)}.items():
        tensor.external_data.add(key=key, value=value)
    onnx.save(proto, folder / "m.onnx")
    with (folder / "m.onnx.data").open("wb") as data:
        data.write(cases.drawn(9, 64).tobytes())
        data.truncate(rows * 256)
    rng = np.random.default_rng(0)
    np.savez(folder / "d.npz", ids=rng.integers(0, 9, (32, 6)), label=rng.integers(0, 5, 32))
    return folder / "m.onnx"


PHASES = [
    {"kind": "sparse", "sparsity": 0.3, "epochs": 1, "learning_rate": 0.05},
    {"kind": "dense", "epochs": 1, "learning_rate": 0.05},
]
RECIPE = {"phase": PHASES, "batch_size": 8, "freeze": ["table"]}


def run(model: Path) -> Path:
    """A trained run folder."""
    dsd_ort.prepare(model, model.parent / "run", Recipe.from_dict(RECIPE))
    dsd_ort.train(model.parent / "run", model.parent / "d.npz", eval_data=model.parent / "d.npz")
    return model.parent / "run"


def test_a_frozen_parameter_is_in_no_buffer_and_in_no_checkpoint(tmp_path: Path) -> None:
    folder = run(table(tmp_path, 100))
    files = [folder / keeping.CHECKPOINT, *(folder / "phases").iterdir()]
    assert len(files) == 5
    for file in files:
        assert {name for name in safetensors.numpy.load_file(file) if "table" in name} == set()
    arena = Arena.of(open_program(folder))
    assert arena.weights.size == 320 and set(arena.frozen) == {"table"} and set(arena.moving()) == {"V"}
    np.testing.assert_array_equal(arena.frozen["table"][:9], cases.drawn(9, 64))
    with pytest.raises(ValueError, match="read-only"):
        arena.frozen["table"][0] = 1


def test_a_run_of_an_earlier_version_whose_files_have_it_goes_on(tmp_path: Path) -> None:
    folder = run(table(tmp_path, 100))
    dsd_ort.export(folder, tmp_path / "out" / "one.onnx")
    for file in (folder / "phases").iterdir():
        with safetensors.safe_open(file, framework="numpy") as opened:
            metadata = {"dsd_ort": opened.metadata()["dsd_ort"]}
        tensors = safetensors.numpy.load_file(file) | {"weights/table": np.zeros((100, 64), np.float32)}
        safetensors.numpy.save_file(tensors, file, metadata=metadata)
    dsd_ort.export(folder, tmp_path / "out2" / "one.onnx")
    names = ("one.onnx", "m.onnx.data")
    assert all((tmp_path / "out" / n).read_bytes() == (tmp_path / "out2" / n).read_bytes() for n in names)


def test_a_large_one_is_mapped_where_it_stands_in_the_run_folder(tmp_path: Path) -> None:
    model = table(tmp_path, 80_000)
    program = dsd_ort.prepare(model, tmp_path / "run", Recipe.from_dict(RECIPE))
    value: object = Arena.of(program).frozen["table"]
    while isinstance(value, np.ndarray) and not isinstance(value, np.memmap):
        value = value.base
    assert isinstance(value, np.memmap) and value.filename == tmp_path / "run" / "source" / "m.onnx.data"


VERBS = """
import resource, sys, dsd_ort
from pathlib import Path
from tests.run.test_frozen import RECIPE, run
dsd_ort.inspect, dsd_ort.evaluate
model, small = (Path(name) for name in sys.argv[1:])
def all_of_it(model):
    folder = run(model)
    dsd_ort.export(folder, model.parent / "out" / "final.onnx")
    dsd_ort.evaluate(model.parent / "out" / "final.onnx", model.parent / "d.npz")
    recipe, data = dsd_ort.Recipe.from_dict(RECIPE), model.parent / "d.npz"
    assert dsd_ort.check(model, recipe, data=data, isolate=False, seconds=20).ok
all_of_it(small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
all_of_it(model)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_all_verbs_together_take_less_memory_than_the_table_once_more(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    size = 512 * MB
    model, small = table(tmp_path / "large", size // 256), table(tmp_path / "small", 100)
    done = subprocess.run(
        [sys.executable, "-c", VERBS, str(model), str(small)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) * 1024 < 1.25 * size
    on_disk = sum(f.stat().st_blocks * 512 for f in (tmp_path / "large" / "run").rglob("*") if f.is_file())
    assert on_disk < 2 * MB  # holes of a copy stay holes, and nothing else has the table
