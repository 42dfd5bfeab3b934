"""Finding CUDA: whatever is missing is named in one message, and no session is opened before all of it is there."""

from __future__ import annotations

import ctypes
import json
import re
from pathlib import Path

import numpy as np
import pytest

import dsd_ort
from dsd_ort.runtime import cuda, driver, libraries
from tests.cuda.conftest import Child
from tests.models import cnn_data, write_cnn

LOOK = """
import json, sys
import onnx.parser
from dsd_ort import runtime
from dsd_ort.errors import InstallationError

model = onnx.parser.parse_model(
    '<ir_version: 9, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Relu (x) }'
)

def look(name):
    try:
        device = runtime.choose_device(name)
        session = runtime.session(model, device=device)
    except InstallationError as error:
        return {"what": error.what, "where": error.where, "fix": error.fix}
    options = session.get_provider_options().get("CUDAExecutionProvider", {})
    return {
        "device": str(device), "why": device.why, "had_choice": device.had_choice,
        "providers": session.get_providers(), "device_id": options.get("device_id"),
    }

print(json.dumps([look(name) for name in sys.argv[1:]]))
"""
ON_CUDA = ["CUDAExecutionProvider", "CPUExecutionProvider"]


def look(child: Child, folder: Path | None, *names: str, **variables: object) -> list[dict[str, object]]:
    """What choosing each device and opening a session on it gives, in one process that must end well."""
    answer = child(folder, "-c", LOOK, *names, **variables)
    assert answer.returncode == 0, answer.stderr
    return list(json.loads(answer.stdout))


def without(folder: Path, tmp_path: Path, *files: str) -> Path:
    """The same libraries, but *files*."""
    copy = tmp_path / "libraries"
    copy.mkdir()
    for file in folder.glob("*.so*"):
        if file.name not in files:
            (copy / file.name).symlink_to(file)
    return copy


def release() -> libraries.Release:
    return cuda.require_provider()


def last_library() -> str:
    return release().libraries[-1].file


def test_where_all_is_there_sessions_open_on_the_device_that_was_chosen(child: Child, stub_libraries: Path) -> None:
    auto, first, second = look(child, stub_libraries, "auto", "cuda", "cuda:1", STUB_DEVICES=2)
    assert auto["why"] == "auto: cuda:0, Stub GPU" and auto["had_choice"]
    assert second["why"] == "cuda:1, Stub GPU" and not second["had_choice"]
    assert [answer["device"] for answer in (auto, first, second)] == ["cuda:0", "cuda:0", "cuda:1"]
    assert [answer["device_id"] for answer in (auto, first, second)] == ["0", "0", "1"]
    assert all(answer["providers"] == ON_CUDA for answer in (auto, first, second))


@pytest.mark.parametrize(
    ("name", "variables", "what", "fix"),
    [
        ("cuda", {"STUB_INIT": 999}, "the NVIDIA driver does not work: cuInit failed with 999", "nvidia-smi works"),
        ("cuda", {"STUB_INIT": 803}, "driver's library does not fit its kernel module", "restart the machine"),
        ("cuda", {"STUB_INIT": 100}, "no NVIDIA device was found", "CUDA_VISIBLE_DEVICES"),
        ("cuda", {"STUB_DEVICES": 0}, "no NVIDIA device was found", "CUDA_VISIBLE_DEVICES"),
        ("cuda:2", {"STUB_DEVICES": 2}, "there is no device cuda:2", "use --device cuda:0 or cuda:1"),
        ("cuda", {"STUB_DRIVER": 10020}, "too old: it serves CUDA up to 10.2", "or newer"),
        ("cuda", {"STUB_CAPABILITY": 37}, "Stub GPU is too old for this build", "use --device cpu"),
    ],
)
def test_what_the_driver_lacks_is_one_message_and_auto_takes_the_cpu(
    child: Child, stub_libraries: Path, name: str, variables: dict[str, int], what: str, fix: str
) -> None:
    named, auto = look(child, stub_libraries, name, "auto", **variables)
    assert what in str(named["what"])
    assert fix in str(named["fix"])
    if name == "cuda":
        assert (auto["device"], auto["providers"]) == ("cpu", ON_CUDA[1:])
        assert auto["why"] == f"auto: the CPU, as {named['what']} ({named['fix']})"
        assert auto["had_choice"]
    else:
        assert auto["device"] == "cuda:0"


def test_cuda_11_has_no_code_for_devices_behind_hopper(child: Child, stub_libraries: Path) -> None:
    if release().major != 11:
        pytest.skip("of builds for CUDA 11")
    (named,) = look(child, stub_libraries, "cuda", STUB_CAPABILITY=120)
    assert "Stub GPU is too new" in str(named["what"])
    assert "6.0 to 9.0" in str(named["what"])
    assert "onnxruntime-gpu" in str(named["fix"])


def test_a_library_that_is_missing_is_named(child: Child, stub_libraries: Path, tmp_path: Path) -> None:
    missing = last_library()
    named, auto = look(child, without(stub_libraries, tmp_path, missing), "cuda", "auto")
    assert re.fullmatch(rf"a library of CUDA [\d.]+ cannot be loaded: {missing}", str(named["what"]))
    assert str(named["fix"]).startswith("pip install ")
    assert (auto["device"], auto["providers"]) == ("cpu", ON_CUDA[1:])
    assert str(named["fix"]) in str(auto["why"])


def test_a_library_that_does_not_load_is_told_with_its_error(
    child: Child, stub_libraries: Path, tmp_path: Path
) -> None:
    folder = without(stub_libraries, tmp_path, last_library())
    (folder / last_library()).write_text("no library")
    (named,) = look(child, folder, "cuda")
    assert f"cannot be loaded: {last_library()}" in str(named["what"])
    assert f"{folder / last_library()}: " in str(named["where"])


@pytest.fixture
def no_driver(stub_libraries: Path, tmp_path: Path) -> Path:
    """All libraries but the driver, with which ONNX Runtime Training 1.19.2 ends the process."""
    try:
        ctypes.CDLL(driver.LIBRARY)
    except OSError:
        return without(stub_libraries, tmp_path, driver.LIBRARY)
    pytest.skip("this machine has NVIDIA's driver")


def test_without_a_driver_nothing_is_opened_on_cuda(child: Child, no_driver: Path) -> None:
    named, auto = look(child, no_driver, "cuda", "auto")
    assert named["what"] == "no NVIDIA driver was found"
    assert driver.LIBRARY in str(named["where"])
    assert (auto["device"], auto["providers"]) == ("cpu", ON_CUDA[1:])
    assert "as no NVIDIA driver was found" in str(auto["why"])


def test_a_device_that_nobody_looked_for_is_looked_for_by_the_session(child: Child, no_driver: Path) -> None:
    script = LOOK.partition("print(")[0] + 'runtime.session(model, device=runtime.Device("cuda"))'
    answer = child(no_driver, "-c", script)
    assert answer.returncode == 1  # not -6: the provider would abort
    assert "InstallationError: no NVIDIA driver was found" in answer.stderr


def test_the_command_line_says_it_with_status_3(child: Child, no_driver: Path, tmp_path: Path) -> None:
    answer = child(no_driver, "-m", "dsd_ort", "train", tmp_path / "run", "--data", "x.npz", "--device", "cuda")
    assert answer.returncode == 3
    assert answer.stderr.startswith("dsd-ort: no NVIDIA driver was found\n  where: libcuda.so.1")


def test_a_session_that_falls_back_to_the_cpu_is_refused(child: Child, stub_libraries: Path, tmp_path: Path) -> None:
    """As ONNX Runtime does without a word where a library is missing."""
    missing = next(lib.file for lib in release().libraries if lib.file.startswith("libcublas."))
    script = (
        LOOK.partition("print(")[0]
        + 'runtime.cuda.require = lambda index: None\nruntime.session(model, device=runtime.Device("cuda"))'
    )
    answer = child(without(stub_libraries, tmp_path, missing), "-c", script)
    assert answer.returncode == 1
    assert "InstallationError: ONNX Runtime cannot use cuda:0" in answer.stderr


def test_why_onnx_runtime_falls_back_is_told_and_not_printed(child: Child, stub_libraries: Path) -> None:
    script = (
        LOOK.partition("print(")[0]
        + 'runtime.session(model, device=runtime.choose_device("cuda"), provider_options={"no_such_option": "1"})'
    )
    answer = child(stub_libraries, "-c", script)
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert re.search("InstallationError: ONNX Runtime cannot use cuda:0: .*no_such_option", answer.stderr)


def test_libraries_are_found_in_site_packages_in_both_layouts(
    child: Child, stub_libraries: Path, tmp_path: Path
) -> None:
    """``nvidia/cudnn/lib`` as in the packages for CUDA 11 and 12, ``nvidia/cu13/lib`` as in those for 13."""
    site, loader = tmp_path / "site", tmp_path / "loader"
    for number, file in enumerate(sorted(stub_libraries.glob("*.so.*"))):
        if file.suffix in (".c", ".map"):
            continue
        folder = loader if file.name == driver.LIBRARY else site / "nvidia" / ("cu13", "cudnn")[number % 2] / "lib"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.name).symlink_to(file)
    script = f"import sys; sys.path.insert(0, {str(site)!r})\n{LOOK}"
    answer = child(loader, "-c", script, "cuda")
    (named,) = json.loads(answer.stdout)
    assert named["providers"] == ON_CUDA
    (without_site,) = look(child, loader, "cuda")
    assert "libraries of CUDA" in str(without_site["what"])


def test_lazy_loading_is_asked_for_unless_somebody_has_chosen(child: Child, stub_libraries: Path) -> None:
    script = "import os; from dsd_ort import runtime; runtime.choose_device(); print(os.environ['CUDA_MODULE_LOADING'])"
    assert child(stub_libraries, "-c", script).stdout == "LAZY\n"
    assert child(stub_libraries, "-c", script, CUDA_MODULE_LOADING="EAGER").stdout == "EAGER\n"


def test_training_on_the_cpu_says_why_where_there_is_a_device(
    child: Child, stub_libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_cnn(tmp_path / "model.onnx")
    recipe = {"batch_size": 8, "phase": [{"kind": "dense", "epochs": 1, "learning_rate": 0.05}]}
    dsd_ort.prepare("model.onnx", "run", dsd_ort.Recipe.from_dict(recipe))
    np.savez("data.npz", **cnn_data(16))
    folder = without(stub_libraries, tmp_path, last_library())
    answer = child(folder, "-m", "dsd_ort", "train", "run", "--data", "data.npz", "--threads", 1)
    assert answer.returncode == 0, answer.stderr
    assert re.search(rf"^note: device auto: the CPU, as .*{last_library()} \(pip install ", answer.stderr, re.MULTILINE)


def test_the_doctor_shows_devices_and_where_libraries_came_from(child: Child, stub_libraries: Path) -> None:
    answer = child(stub_libraries, "-m", "dsd_ort", "doctor", "--json", STUB_DEVICES=2, STUB_DRIVER=13010)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert found["driver_serves"] == "13.1"
    assert found["gpus"][1] == {
        "device": "cuda:1",
        "name": "Stub GPU",
        "memory": 16 << 30,
        "free": 16 << 30,
        "capability": "9.0",
    }
    assert [lib["path"] for lib in found["libraries"]] == [
        str(stub_libraries / lib["file"]) if lib["required"] else None for lib in found["libraries"]
    ]
    assert (found["device"], found["why"]) == ("cuda:0", "auto: cuda:0, Stub GPU")
    assert not [advice for advice in found["advice"] if advice["goal"] == "to train on CUDA"]


def test_the_doctor_names_all_that_is_missing_at_once(child: Child, stub_libraries: Path, tmp_path: Path) -> None:
    folder = without(stub_libraries, tmp_path, last_library())
    answer = child(folder, "-m", "dsd_ort", "doctor", STUB_DRIVER=10020)
    assert answer.returncode == 0, answer.stderr
    assert re.search(rf"{last_library()} +│ MISSING", answer.stdout)
    assert "to train on CUDA: the NVIDIA driver is too old" in answer.stdout
    assert "to train on CUDA: a library of CUDA" in answer.stdout
