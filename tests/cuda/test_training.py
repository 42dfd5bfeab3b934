"""A whole run on the CUDA provider, with libraries that compute nothing: weights, masks and batches make their way.

Losses and gradients are zeros here, so weights change by pruning alone: that they come back right shows what is copied
to the device and back.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import safetensors.numpy

import dsd_ort
from dsd_ort.graph.program import open_program
from tests.cuda import stubs
from tests.cuda.conftest import Child
from tests.models import cnn_data, write_cnn
from tests.stock import siblings

DATA = cnn_data(50)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cnn(tmp_path_factory.mktemp("model") / "model.onnx", dropout=True)


def prepare(model: Path, folder: Path, **changes: object) -> Path:
    """A run folder, with its data beside it."""
    phases = [{"kind": "dense"}, {"kind": "sparse", "sparsity": 0.5}, {"kind": "dense"}]
    table = {"batch_size": 8, "phase": [{**phase, "epochs": 1, "learning_rate": 0.1} for phase in phases]}
    dsd_ort.prepare(model, folder / "run", dsd_ort.Recipe.from_dict(table | changes))
    np.savez(folder / "data.npz", **DATA)
    return folder / "run"


def weights(run: Path, phase: str) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(run / "phases" / f"{phase}.safetensors")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_phases_on_cuda(
    precision: str, optimizer: str, model: Path, tmp_path: Path, stub_libraries: Path, child: Child
) -> None:
    run = prepare(model, tmp_path, optimizer={"name": optimizer, "accumulate": 2, "clip_norm": 1.0})
    data = tmp_path / "data.npz"
    answer = child(
        stub_libraries, "-m", "dsd_ort", "train", run, "--data", data, "--eval-data", data, "--device", "cuda",
        "--precision", precision, "--json",
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert [phase["kind"] for phase in json.loads(answer.stdout)] == ["dense", "sparse", "dense"]
    source = open_program(run).source()
    before = {f"weights/{p.name}": source.value(p.name) for p in source.parameters}
    dense, sparse, last = (weights(run, phase) for phase in ("1-dense", "2-sparse", "3-dense"))
    assert all(np.array_equal(dense[name], value) for name, value in before.items())
    pruned = {name: np.count_nonzero(sparse[name] == 0) for name in before if (sparse[name] != dense[name]).any()}
    assert pruned
    assert all(zeros >= before[name].size // 2 for name, zeros in pruned.items())
    kept = {name: np.where(sparse[name] == 0, 0, value) for name, value in before.items()}
    assert all(np.array_equal(sparse[name], value) for name, value in kept.items())
    assert all(np.array_equal(last[name], sparse[name]) for name in before)


def test_a_run_goes_on_from_the_cpu_to_cuda_and_back(
    model: Path, tmp_path: Path, stub_libraries: Path, child: Child
) -> None:
    run = prepare(model, tmp_path)
    dsd_ort.train(run, DATA, until=1, device="cpu", threads=1)
    script = "import dsd_ort, sys; dsd_ort.train(*sys.argv[1:], resume=True, until=2, device='cuda')"
    answer = child(stub_libraries, "-c", script, run, tmp_path / "data.npz")
    assert answer.returncode == 0, answer.stderr
    dsd_ort.train(run, DATA, resume=True, device="cpu", threads=1)
    dense, sparse, last = (weights(run, phase) for phase in ("1-dense", "2-sparse", "3-dense"))
    names = [name for name in sparse if name.startswith("weights/")]
    assert all(np.array_equal(sparse[n], np.where(sparse[n] == 0, 0, dense[n])) for n in names)
    assert any((last[name] != sparse[name]).any() for name in names), "the CPU trained on"


SHAPES = """
import sys
import numpy as np
from dsd_ort.graph.program import open_program
from dsd_ort.run import sessions
from dsd_ort.run.arena import Arena
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from dsd_ort.runtime import choose_device

program = open_program(sys.argv[1])
notes = []
engine = Engine(program, Arena.of(program), Execution(choose_device("cuda")), tell=notes.append)
sizes = [*range(1, sessions.SHAPES + 4), 1, 2]
for size in sizes:
    image, label = np.zeros((size, *map(int, sys.argv[2].split("x"))), np.float32), np.zeros(size, np.int64)
    engine.queue({"image": image, "label": label}, sparse=False, seed=0)
opened = engine._graph("step")._opened
print(len(opened), sum(session.recorded for session in opened.values()), len(engine.losses()) == len(sizes), *notes)
"""


def test_many_shapes_share_a_session(model: Path, tmp_path: Path, stub_libraries: Path, child: Child) -> None:
    run = prepare(model, tmp_path)
    size = "x".join(map(str, DATA["image"].shape[1:]))
    answer = child(stub_libraries, "-c", SHAPES, run, size)
    told = "batches of more than 8 shapes: the others train slowly; data.pad_to makes them fewer"
    assert answer.stdout == f"9 8 True {told}\n", answer.stderr


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(
    model: Path, tmp_path: Path, child: Child
) -> None:
    run = prepare(model, tmp_path)
    files = sorted(run.rglob("*"))
    answer = child(None, "-m", "dsd_ort", "train", run, "--data", tmp_path / "data.npz", "--device", "cuda")
    assert answer.returncode == 3
    assert ("no NVIDIA driver was found" if stubs.provider() else "has no CUDA provider") in answer.stderr
    assert sorted(run.rglob("*")) == files


STEPS = """
import ctypes
import json
import sys
import numpy as np
from dsd_ort.graph.program import open_program
from dsd_ort.run.arena import Arena
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from dsd_ort.runtime import choose_device

def counted() -> dict[str, int]:
    libraries = [ctypes.CDLL(name) for name in ("libcuda.so.1", "libcudart.so.11.0")]
    names = ("returned", "waited", "launched")
    return {name: sum(getattr(library, f"stub_{name}")() for library in libraries) for name in names}

program = open_program(sys.argv[1])
device = choose_device("cuda")
data = np.load(sys.argv[2])
batch = {name: data[name][:8] for name in data}
for graphs in (True, False):
    engine = Engine(program, Arena.of(program), Execution(device, cuda_graphs=graphs))
    def steps(count: int) -> dict[str, int]:
        before = counted()
        for _ in range(count):
            engine.queue(batch, sparse=False, seed=0)
            engine.update(0.1, 1)
        return {name: now - before[name] for name, now in counted().items()}
    steps(2)
    print(json.dumps(steps(10)))
    before = counted()["returned"]
    engine.losses()
print(counted()["returned"] - before)
"""


def test_nothing_comes_back_while_it_trains(model: Path, tmp_path: Path, stub_libraries: Path, child: Child) -> None:
    """Ten steps and updates: no byte returns and, but for ONNX Runtime's replays, the host waits for nothing."""
    run = prepare(model, tmp_path)
    answer = child(stub_libraries, "-c", STEPS, run, tmp_path / "data.npz")
    assert answer.returncode == 0, answer.stderr
    recorded, launched, losses = map(json.loads, answer.stdout.splitlines())
    assert recorded["returned"] == launched["returned"] == 0
    assert launched["waited"] == 0
    assert recorded["waited"] == 10 * 3, "step, scaler and update, each replayed once"
    assert recorded["launched"] < launched["launched"] / 10
    assert losses == 64 * 4, "the losses, when they are asked for"


ON_THE_CPU = """
import sys
import numpy as np
from dsd_ort.graph.program import open_program
from dsd_ort.run.arena import Arena
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from dsd_ort.runtime import choose_device

program, notes = open_program(sys.argv[1]), []
engine = Engine(program, Arena.of(program), Execution(choose_device("cuda")), tell=notes.append)
for step in (1, 2, 3):
    engine.queue({"x": np.ones((4, 8), np.float32), "label": np.zeros(4, np.int64)}, sparse=False, seed=0)
    engine.update(0.1, step)
print(len(engine.losses()), *notes)
"""


def test_what_cuda_has_no_kernel_for_the_cpu_computes(tmp_path: Path, stub_libraries: Path, child: Child) -> None:
    graph = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
      g (float[N, 8] x) => (float[N, 4] y) <float[8, 4] w> { z = MatMul (x, w)  y = Atan (z) }""")
    weight = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    del graph.graph.initializer[:]
    graph.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(graph, tmp_path / "model.onnx")
    phases = [{"kind": "dense", "steps": 2, "learning_rate": 0.1}]
    dsd_ort.prepare(tmp_path / "model.onnx", tmp_path / "run", dsd_ort.Recipe.from_dict({"phase": phases}))
    answer = child(stub_libraries, "-c", ON_THE_CPU, tmp_path / "run")
    told = "the step is not recorded, as the CPU computes what CUDA has no kernels for in it"
    assert answer.stdout == f"3 {told}\n", answer.stderr


LAUNCHES = """
import ctypes
import sys
from dsd_ort.graph.program import open_program
from dsd_ort.run.arena import Arena
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from dsd_ort.runtime import choose_device

runtime, device = ctypes.CDLL("libcudart.so.11.0"), choose_device("cuda")
for run in sys.argv[1:]:
    arena = Arena.of(program := open_program(run))
    counts = []
    for recorded in (True, False):
        engine = Engine(program, arena, Execution(device, cuda_graphs=recorded))
        before = runtime.stub_launched()
        engine.collector.weight = 1
        engine.update(0.1, 1)
        counts.append(runtime.stub_launched() - before)
    print(len(arena.trained), len(arena.segments()), *counts)
"""


def test_an_update_is_a_handful_of_launches(tmp_path: Path, stub_libraries: Path, child: Child) -> None:
    """Whatever the number of parameters: the scaler and one update for each group with a decay of its own."""
    runs = [siblings.prepare(name, tmp_path) for name in ("lenet", "googlenet", "resnet50")]
    answer = child(stub_libraries, "-c", LAUNCHES, *runs)
    assert answer.returncode == 0, answer.stderr
    counts = [tuple(map(int, line.split())) for line in answer.stdout.splitlines()]
    assert len({parameters for parameters, *_ in counts}) == 3
    ((segments, recorded, launched),) = {tuple(others) for _, *others in counts}
    assert (segments, recorded) == (1, 2)
    assert launched <= 50
