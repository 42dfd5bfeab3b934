from __future__ import annotations

import json
import platform
import re
import sys
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from packaging.requirements import Requirement

from dsd_ort import runtime
from dsd_ort.errors import DsdError, InstallationError, ModelError
from dsd_ort.runtime import cuda, devices, driver, libraries

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent.parent


def test_this_environment_is_one_that_prepares_and_trains() -> None:
    runtime.require_runtime()


PYTHONS = [(3, minor) for minor in range(10, 16)]
SYSTEMS = [
    ("linux", "x86_64"),
    ("linux", "aarch64"),
    ("darwin", "x86_64"),
    ("darwin", "arm64"),
    ("win32", "AMD64"),
    ("win32", "ARM64"),
]


@pytest.mark.parametrize("python", PYTHONS, ids=lambda version: "{}.{}".format(*version))
@pytest.mark.parametrize("system", SYSTEMS, ids="-".join)
def test_one_onnx_runtime_is_installed_everywhere_and_the_training_build_where_there_is_one(
    python: tuple[int, int], system: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {"python_version": "{}.{}".format(*python), "sys_platform": system[0], "platform_machine": system[1]}
    needed = map(Requirement, tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"])
    installed = [
        r.name for r in needed if r.name.startswith("onnxruntime") and (not r.marker or r.marker.evaluate(here))
    ]
    monkeypatch.setattr(sys, "version_info", (*python, 0, "final", 0))
    monkeypatch.setattr(sys, "platform", system[0])
    monkeypatch.setattr(platform, "machine", lambda: system[1])
    assert installed == [runtime.training_build() or "onnxruntime"]


def test_the_lock_files_name_no_place_that_packages_come_from() -> None:
    files = list((ROOT / "requirements").glob("*.txt"))
    assert len(files) >= 4
    assert [
        file.name for file in files if re.search(r"://|^\s*--(?!hash)", file.read_text("utf-8"), re.MULTILINE)
    ] == []


def test_all_distributions_of_onnxruntime_are_found_and_only_those() -> None:
    names = ["numpy", "onnxruntime_gpu", "onnx", "ONNXRuntime", "onnxruntime-extensions", "onnxruntime.training"]
    assert runtime.distributions(names) == ["onnxruntime", "onnxruntime-gpu", "onnxruntime-training"]


def test_two_distributions_beside_each_other_are_named_with_the_fix() -> None:
    with pytest.raises(InstallationError) as caught:
        runtime.require_runtime(["onnxruntime", "onnxruntime-training"])
    assert "onnxruntime, onnxruntime-training" in caught.value.what
    assert "pip uninstall -y onnxruntime onnxruntime-training && pip install" in (caught.value.fix or "")
    assert "onnxruntime-training==1.19.2" in (caught.value.fix or "")
    with pytest.raises(InstallationError, match="2 distributions") as caught:
        runtime.require_runtime(["onnxruntime", "onnxruntime-gpu"])
    assert caught.value.fix == "pip uninstall -y onnxruntime onnxruntime-gpu, and install one of them"


@pytest.mark.parametrize("build", ["onnxruntime", "onnxruntime-gpu", "onnxruntime-directml"])
def test_any_build_from_1_20_on_prepares_and_trains(build: str) -> None:
    runtime.require_runtime([build], "1.20.0")
    runtime.require_runtime([build], "2.0.0")
    with pytest.raises(InstallationError, match=rf"{build} 1\.19\.2 is installed, which cannot run") as caught:
        runtime.require_runtime([build], "1.19.2")
    assert caught.value.fix == f"pip install --upgrade {build}"
    with pytest.raises(InstallationError, match=f"{build} is installed, but its files are missing") as caught:
        runtime.require_runtime([build], "")
    assert caught.value.fix == f"pip install --force-reinstall --no-deps {build}"


@pytest.mark.parametrize(
    ("python", "none", "other"),
    [
        ((3, 11), "pip install onnxruntime-training==1.19.2", "pip uninstall -y onnxruntime && pip install"),
        ((3, 12), "pip install onnxruntime-training-cpu==1.19.2", "pip uninstall -y onnxruntime && pip install"),
        (
            (3, 13),
            'pip install onnxruntime, or "onnxruntime-gpu[cuda,cudnn]" for CUDA',
            "use Python 3.10, 3.11 or 3.12 on Linux",
        ),
    ],
)
def test_what_to_install_is_what_there_is_for_this_python(
    python: tuple[int, int], none: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (*python, 0, "final", 0))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(InstallationError, match="ONNX Runtime is not installed") as caught:
        runtime.require_runtime([])
    assert caught.value.fix == none
    with pytest.raises(InstallationError, match="onnxruntime is installed, which cannot read checkpoints") as caught:
        runtime.require_training_build("read checkpoints", ["onnxruntime"])
    assert (caught.value.fix or "").startswith(other)


def test_devices_have_names() -> None:
    assert [runtime.parse_device(name) for name in ("auto", "cpu", "cuda", "cuda:0", "cuda:12")] == [
        ("auto", 0),
        ("cpu", 0),
        ("cuda", 0),
        ("cuda", 0),
        ("cuda", 12),
    ]
    assert [str(device) for device in (runtime.Device(), runtime.Device("cuda", 1))] == ["cpu", "cuda:1"]
    assert str(runtime.choose_device("cpu")) == "cpu"


@pytest.mark.parametrize(
    "name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "auto:1", "CUDA", "cuda:0\n", "cuda:1234", ""]
)
def test_other_names_are_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(DsdError, match="is no device") as caught:
        runtime.choose_device(name)
    assert caught.value.fix == "use auto, cpu, cuda, or cuda:1 for the second one"


@pytest.mark.parametrize(
    ("found", "what", "fix"),
    [
        (cuda.Build("onnxruntime", "1.32.0", ""), "no CUDA provider", "pip uninstall -y onnxruntime && pip install"),
        (cuda.Build("onnxruntime-gpu", "2.0.0", "14.1"), "for CUDA 14.1, which", "CUDA 11, 12, 13"),
        (None, "ONNX Runtime is not installed, or its files are not sound", "dsd-ort doctor"),
    ],
)
def test_a_build_that_cannot_use_cuda_is_told(
    monkeypatch: pytest.MonkeyPatch, found: cuda.Build | None, what: str, fix: str
) -> None:
    monkeypatch.setattr(cuda, "build", lambda: found)
    with pytest.raises(InstallationError, match=what) as caught:
        runtime.choose_device("cuda")
    assert fix in (caught.value.fix or "")
    auto = runtime.choose_device("auto")
    assert auto.kind == "cpu"
    assert what in auto.why


@pytest.mark.skipif(sys.platform != "linux", reason="CUDA is supported on Linux")
def test_the_training_build_with_cuda_is_named_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "build", lambda: cuda.Build("onnxruntime-training-cpu", "1.19.2", ""))
    fixes = {11: '"dsd-ort[cuda]"', 12: '"onnxruntime-gpu[cuda,cudnn]"'}
    for version, fix in fixes.items():
        monkeypatch.setattr(sys, "version_info", (3, version, 0, "final", 0))
        with pytest.raises(InstallationError, match="no CUDA provider") as caught:
            runtime.choose_device("cuda")
        assert caught.value.fix == f"pip uninstall -y onnxruntime-training-cpu && pip install {fix}"


def test_auto_says_how_to_mend_it_only_where_there_is_a_device_or_a_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_driver(function: str, *arguments: object) -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(cuda, "build", lambda: cuda.Build("onnxruntime-training", "1.19.2", "11.8"))
    monkeypatch.setattr(driver, "call", no_driver)
    monkeypatch.setattr(devices, "_BUS", tmp_path)

    def plug(slot: str, vendor: str, kind: str) -> bool:
        (tmp_path / slot).mkdir()
        (tmp_path / slot / "vendor").write_text(f"{vendor}\n")
        (tmp_path / slot / "class").write_text(f"{kind}\n")
        chosen = runtime.choose_device("auto")
        assert chosen.kind == "cpu"
        assert chosen.why.startswith("auto: the CPU, as no NVIDIA driver was found")
        return "install" in chosen.why

    assert runtime.choose_device("auto").had_choice
    assert "install" not in runtime.choose_device("auto").why
    assert not plug("00:01.0", "0x1002", "0x030000")  # another maker's graphics
    assert not plug("00:02.0", "0x10de", "0x068000")  # an NVIDIA switch
    assert plug("00:03.0", "0x10de", "0x030200")  # an NVIDIA device without graphics


def test_the_extra_brings_the_libraries_of_the_training_build() -> None:
    metadata = (ROOT / "pyproject.toml").read_text("utf-8")
    extra = re.findall(r'"(nvidia-[^;"]+); sys_platform', metadata)
    (release,) = [release for release in libraries.RELEASES if release.major == 11]
    assert sorted(extra) == sorted({library.package for library in release.libraries})


def test_a_native_refusal_becomes_a_model_error() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = NoSuchOperator (x) }'
    )
    with pytest.raises(ModelError, match="NoSuchOperator") as caught:
        runtime.session(model, where="this graph")
    assert caught.value.where == "this graph"
    assert "onnxruntime_src" not in str(caught.value)


def test_an_installation_that_another_has_overwritten_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime.capi._pybind_state", None)
    for require in (runtime.require_runtime, lambda found: runtime.require_training_build("train", found)):
        with pytest.raises(
            InstallationError, match="onnxruntime-training is installed, but its files are missing"
        ) as caught:
            require(["onnxruntime-training"])
        assert "--force-reinstall" in (caught.value.fix or "")


def test_nodes_run_in_the_order_of_the_file(tmp_path: Path) -> None:
    """So that what is read early is not kept until the end; depth first from the last output, b would come before a."""
    text = """<ir_version: 8, opset_import: ["" : 18]> g (float[2] x) => (float[2] a, float[2] b, float[2] c) {
        [first] a = Sin (x) [second] b = Cos (x) [third] c = Exp (b) }"""
    options = runtime.session_options(1)
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "run")
    session = runtime.session(onnx.parser.parse_model(text), options)
    session.run(None, {"x": np.zeros(2, np.float32)})
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = [event["name"] for event in events if event["name"].endswith("_kernel_time")]
    assert ran == [f"{name}_kernel_time" for name in ("first", "second", "third")]
