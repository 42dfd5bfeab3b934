"""Law 10: ranks are accumulation done at the same time.  ``make mpi`` runs it, with mpi4py and MPICH from wheels."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dsd_ort
from dsd_ort.run import keeping
from dsd_ort.run.journal import read
from tests.models import cnn_data, write_cnn
from tests.mpi.trainings import TRAININGS, prepare, train

pytestmark = pytest.mark.mpi

MPIEXEC = Path(sys.executable).parent / "mpiexec"


def start(ranks: int, *command: str | Path, errors: Path) -> subprocess.Popen[bytes]:
    """*ranks* processes of ``python -m …``; what they say goes to the file *errors*."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    started = [MPIEXEC, "-n", str(ranks), sys.executable, "-m", *command]
    with errors.open("wb") as file:
        return subprocess.Popen(started, stderr=file, stdout=subprocess.DEVNULL, env=environment)


def digest(run: Path) -> str:
    """Of the exported file."""
    final = run.with_name(f"{run.name}.final.onnx")
    dsd_ort.export(run, final)
    return hashlib.sha256(final.read_bytes()).hexdigest()


def told(run: Path) -> list[dict[str, Any]]:
    """What the journal says, but for times."""
    times = ("time", "seconds", "examples_per_second", "waiting")
    return [{key: value for key, value in event.items() if key not in times} for event in read(run)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mpi") / "prepared"
    prepare(folder)
    return folder


@pytest.fixture(scope="module")
def one(prepared: Path) -> Path:
    """All trainings by one process, which imports no MPI."""
    folder = prepared.with_name("one")
    shutil.copytree(prepared, folder)
    for name in TRAININGS:
        train(folder, name)
    assert "mpi4py" not in sys.modules
    return folder


@pytest.fixture(scope="module", params=[2, 3, pytest.param(4, marks=pytest.mark.slow)])
def several(request: pytest.FixtureRequest, prepared: Path, one: Path) -> Path:
    folder = prepared.with_name(f"ranks{request.param}")
    shutil.copytree(prepared, folder)
    process = start(request.param, "tests.mpi", folder, errors=folder / "errors.txt")
    assert process.wait(timeout=280) == 0, (folder / "errors.txt").read_text()
    return folder


@pytest.mark.parametrize("name", TRAININGS)
def test_ranks_end_with_the_bytes_of_one_process(name: str, several: Path, one: Path) -> None:
    assert digest(several / name) == digest(one / name)
    assert told(several / name) == told(one / name)


RECIPE = {
    "batch_size": 8,
    "optimizer": {"name": "adamw", "weight_decay": 1e-2, "accumulate": 4, "clip_norm": 1.0},
    "phase": [
        {"kind": "dense", "epochs": 3, "learning_rate": 0.002},
        {"kind": "sparse", "sparsity": 0.4, "epochs": 3, "learning_rate": 0.002},
        {"kind": "dense", "epochs": 3, "learning_rate": 0.002},
    ],
}


class Bench:
    """A network with batch norm and dropout, its data, and the digest of an undisturbed run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.errors = folder, folder / "errors.txt"
        write_cnn(folder / "model.onnx", dropout=True)
        np.savez(folder / "train.npz", **cnn_data(1500))
        np.savez(folder / "test.npz", **cnn_data(40, seed=2))
        self.digest = digest(self.trained("undisturbed", 1))

    def prepare(self, name: str) -> Path:
        dsd_ort.prepare(self.folder / "model.onnx", self.folder / name, dsd_ort.Recipe.from_dict(RECIPE))
        return self.folder / name

    def command(self, run: Path, *options: str, data: str = "train.npz") -> list[str]:
        files = ["--data", str(self.folder / data), "--eval-data", str(self.folder / "test.npz")]
        return ["dsd_ort", "train", str(run), *files, "--threads", "1", "--checkpoint-seconds", "0.1", *options]

    def start(self, run: Path, ranks: int, *options: str) -> subprocess.Popen[bytes]:
        return start(ranks, *self.command(run, *options), errors=self.errors)

    def trained(self, name: str, ranks: int) -> Path:
        run = self.prepare(name)
        assert self.start(run, ranks).wait() == 0, self.errors.read_text()
        return run


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


def test_the_same_ranks_twice_end_with_the_same_bytes(bench: Bench) -> None:
    assert digest(bench.trained("first", 2)) == digest(bench.trained("second", 2)) == bench.digest


def processes(run: Path) -> list[int]:
    """Those that train *run*, without who started them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if arguments[0] == sys.executable.encode() and str(run).encode() in arguments:
            found.append(int(folder.name))
    return found


def wait_for_a_checkpoint(run: Path, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None and not (run / keeping.CHECKPOINT).exists():
        time.sleep(0.02)


def kill_and_resume(bench: Bench, seed: int) -> None:
    """Twice one of up to four ranks is killed, and as many others go on as chance has it."""
    chance, run, options = random.Random(seed), bench.prepare(f"killed{seed}"), []
    for _ in range(2):
        process = bench.start(run, chance.choice([2, 3, 4]), *options)
        wait_for_a_checkpoint(run, process)
        time.sleep(chance.uniform(0.0, 2.0))
        if victims := processes(run):
            os.kill(chance.choice(victims), signal.SIGKILL)
        process.wait(timeout=60)
        assert not processes(run), "a rank outlived the other"
        options = ["--resume"]
    assert bench.start(run, chance.choice([1, 2, 3]), "--resume").wait() == 0, bench.errors.read_text()
    assert digest(run) == bench.digest


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_rank_ends_all_and_any_number_go_on_to_the_same_bytes(bench: Bench, seed: int) -> None:
    kill_and_resume(bench, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_twenty_kills(bench: Bench, seed: int) -> None:
    kill_and_resume(bench, seed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_mpiexec_told_to_stop_saves(bench: Bench, number: int) -> None:
    run = bench.prepare(f"stopped{int(number)}")
    process = bench.start(run, 2)
    wait_for_a_checkpoint(run, process)
    process.send_signal(number)
    assert process.wait(timeout=60) == 130
    assert bench.errors.read_text().count("stopped; go on with") == 1
    assert bench.start(run, 3, "--resume").wait() == 0
    assert digest(run) == bench.digest


def refused(bench: Bench, *parts: list[str]) -> str:
    """What ranks say that end with status 3, each part one of them: once, and not as a traceback."""
    with bench.errors.open("wb") as file:
        command = [MPIEXEC]
        for number, part in enumerate(parts):
            command += ([":"] if number else []) + ["-n", "1", sys.executable, "-m", *part]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.run(
            command, check=False, stderr=file, stdout=subprocess.DEVNULL, env=environment, timeout=120
        )
    said = bench.errors.read_text()
    assert process.returncode == 3, said
    assert said.count("dsd-ort:") == 1, said
    assert "Traceback" not in said
    return said


def test_doctor_knows_the_library_that_connects_them() -> None:
    found = dsd_ort.doctor()
    assert found.mpi is not None and found.mpi.split()[0] in ("MPICH", "Open")
    assert not [advice for advice in found.advice if "processes" in advice.goal]


def test_bad_input_is_one_message(bench: Bench) -> None:
    run = bench.prepare("refused")
    good = bench.command(run)
    assert "nothing.npz, on rank 1" in refused(bench, good, bench.command(run, data="nothing.npz"))
    assert "the ranks differ in data" in refused(bench, good, bench.command(run, data="test.npz"))
    said = refused(bench, *[good] * 5)
    assert "4 batches of 8, and there are 5 ranks" in said
    assert "with --micro-batch 4 it has 8" in said
    assert "cannot be cut into parts of 3" in refused(bench, *[bench.command(run, "--micro-batch", "3")] * 2)
    assert not (run / keeping.CHECKPOINT).exists()


def test_an_error_within_a_step_is_every_ranks(bench: Bench) -> None:
    """One rank's loader fails in the second epoch."""
    run, loader = bench.prepare("broken"), bench.folder / "broken_loader.py"
    loader.write_text(
        "import numpy as np, os\n"
        "class Data:\n"
        f"    data = dict(np.load({str(bench.folder / 'train.npz')!r}))\n"
        "    asked = 0\n"
        "    def __len__(self): return 1500\n"
        "    def __getitem__(self, i):\n"
        "        Data.asked += 1\n"
        "        if Data.asked > 1500 and os.environ['PMI_RANK'] == '1': raise RuntimeError('the disk is gone')\n"
        "        return {name: array[i] for name, array in self.data.items()}\n"
        "def load(): return Data()\n"
    )
    command = ["dsd_ort", "train", str(run), "--data", "broken_loader:load", "--threads", "1"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(bench.folder), *sys.path])}
    started = [MPIEXEC, "-n", "2", sys.executable, "-m", *command]
    process = subprocess.run(started, check=False, env=environment, capture_output=True, text=True, timeout=120)
    assert process.returncode == 3, process.stderr
    assert process.stderr.count("dsd-ort:") == 1
    assert "the disk is gone" in process.stderr
    assert "on rank 1" in process.stderr


def test_a_loss_that_is_not_finite_ends_all_and_names_the_tensor(bench: Bench) -> None:
    run = bench.prepare("diverged")
    arrays = cnn_data(1500)
    arrays["image"][700] = 1e30
    np.savez(bench.folder / "bad.npz", **arrays)
    said = refused(bench, *[bench.command(run, data="bad.npz")] * 2)
    assert "the first tensor that is not finite is" in said
