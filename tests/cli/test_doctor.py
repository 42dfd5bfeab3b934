"""``dsd-ort doctor`` wherever there is no CUDA; with it, see tests/cuda."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

import dsd_ort as package
from dsd_ort import runtime
from dsd_ort.runtime import cuda, devices, installed
from tests.cli.conftest import Command


def test_it_shows_what_trains_here_with_status_0(dsd_ort: Command) -> None:
    answer = dsd_ort("doctor")
    assert answer.status == 0
    (distribution,) = runtime.distributions()
    assert f"{distribution} {onnxruntime.__version__}: prepares and trains" in answer.out
    assert ("with kernels for training" in answer.out) == runtime.trains()
    assert "CPUExecutionProvider" in answer.out
    assert "--device auto" in answer.out


def test_json_says_the_same_as_the_verb(dsd_ort: Command) -> None:
    answer = dsd_ort("doctor", "--json")
    assert answer.status == 0
    assert answer.err == ""
    found = json.loads(answer.out)
    assert found == json.loads(json.dumps(package.doctor().to_dict()))
    assert found["trains"] and found["prepares"]
    assert found["training_build"] == runtime.trains()
    assert found["dsd_ort"] == package.__version__


def test_without_onnx_runtime_it_says_what_to_install_with_status_1(
    dsd_ort: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installed, "distributions", lambda: [])
    answer = dsd_ort("doctor")
    assert answer.status == 1
    assert "to prepare and train: ONNX Runtime is not installed\n  pip install onnxruntime" in answer.out
    assert "nothing can train here" in answer.out


def test_an_onnx_runtime_whose_files_are_missing_is_told_with_status_1() -> None:
    script = (
        "import sys; sys.modules['onnxruntime'] = None; sys.argv[1:] = ['doctor']; from dsd_ort import cli; cli.main()"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error", "-c", script]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (1, "")
    assert "its files are missing or another distribution's" in answer.stdout


def test_two_distributions_beside_each_other_are_named_with_status_1(tmp_path: Path) -> None:
    other = tmp_path / "onnxruntime_gpu-1.32.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.32.0\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-W", "error", "-m", "dsd_ort", "doctor", "--json"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 1, answer.stderr
    found = json.loads(answer.stdout)
    assert found["distributions"]["onnxruntime-gpu"] == "1.32.0"
    assert not found["trains"] and found["device"] is None
    assert "overwrite each other" in found["advice"][0]["what"]
    both = " ".join(sorted([*runtime.distributions(), "onnxruntime-gpu"]))
    assert found["advice"][0]["fix"].startswith(f"pip uninstall -y {both}")


def test_a_device_that_the_build_cannot_use_is_shown_with_what_can(
    dsd_ort: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = devices.Gpu(0, "NVIDIA H100", 80 << 30, (9, 0))
    monkeypatch.setattr(cuda, "build", lambda: cuda.Build("onnxruntime", "1.32.0", ""))
    monkeypatch.setattr(devices, "start_driver", lambda: 12040)
    monkeypatch.setattr(devices, "gpus", lambda: (gpu,))
    monkeypatch.setattr(devices, "free_memory", lambda index: None)
    answer = dsd_ort("doctor")
    assert answer.status == 0
    assert "NVIDIA H100, 80.0 GiB, compute capability 9.0" in answer.out
    assert "serves CUDA up to 12.4" in answer.out
    assert "to train on CUDA: this build of ONNX Runtime has no CUDA provider (onnxruntime 1.32.0)" in answer.out
    assert '"onnxruntime-gpu[cuda,cudnn]"' in answer.out


@pytest.mark.parametrize("installed", ["nothing", "a library", "no library"])
def test_it_says_how_gradients_of_several_processes_travel(tmp_path: Path, installed: str) -> None:
    """With a mpi4py that says what the real one would, or that finds no MPI library."""
    module = {
        "a library": "def Get_library_version(): return 'MPICH Version:      5.0.2\\nMPICH Release date: a day'",
        "no library": "raise RuntimeError('cannot load MPI library')",
    }
    if text := module.get(installed):
        (tmp_path / "mpi4py").mkdir()
        (tmp_path / "mpi4py" / "__init__.py").write_text("class rc: pass")
        (tmp_path / "mpi4py" / "MPI.py").write_text(f"import mpi4py\nassert not mpi4py.rc.initialize\n{text}\n")
    elif importlib.util.find_spec("mpi4py"):
        pytest.skip("mpi4py is here")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), "COLUMNS": "200"}
    command = [sys.executable, "-W", "error", "-m", "dsd_ort", "doctor"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")
    said = {
        "nothing": 'not without "dsd-ort[mpi]"',
        "a library": "gradients go through the host's memory and MPICH 5.0.2",
        "no library": "several processes: mpi4py finds no MPI library: RuntimeError: cannot load MPI library",
    }
    assert said[installed] in answer.stdout


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:0"])
def test_a_device_that_is_none_is_wrong_usage(dsd_ort: Command, name: str) -> None:
    answer = dsd_ort("train", "run", "--data", "data.npz", "--device", name)
    assert answer.status == 2
    assert f"'{name}' is no device: use auto, cpu, cuda, or cuda:1" in answer.err


def test_a_device_that_is_not_there_is_status_3_before_anything_is_made(
    dsd_ort: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "build", lambda: cuda.Build("onnxruntime", "1.32.0", ""))
    data = ("--data", "data.npz", "--eval-data", "data.npz")
    answer = dsd_ort("compare", "model.onnx", "--recipe", "recipe.toml", *data, "-o", "new", "--device", "cuda:1")
    assert answer.status == 3
    assert "no CUDA provider" in answer.err
    assert not (folder / "new").exists()
