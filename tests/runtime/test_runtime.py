from __future__ import annotations

import re
import sys
from pathlib import Path

import onnx.parser
import pytest

from dsd_ort import runtime
from dsd_ort.errors import DsdError, InstallationError, ModelError
from dsd_ort.runtime import cuda, devices, driver, libraries


def test_this_environment_is_one_that_can_train() -> None:
    runtime.require_training_build()


def test_all_distributions_of_onnxruntime_are_found_and_only_those() -> None:
    names = ["numpy", "onnxruntime_gpu", "onnx", "ONNXRuntime", "onnxruntime-extensions", "onnxruntime.training"]
    assert runtime.distributions(names) == ["onnxruntime", "onnxruntime-gpu", "onnxruntime-training"]


def test_two_distributions_beside_each_other_are_named_with_the_fix() -> None:
    with pytest.raises(InstallationError) as caught:
        runtime.require_training_build(["onnxruntime", "onnxruntime-training"])
    assert "onnxruntime, onnxruntime-training" in caught.value.what
    assert "pip uninstall -y onnxruntime onnxruntime-training && pip install" in (caught.value.fix or "")
    assert "onnxruntime-training==1.19.2" in (caught.value.fix or "")


def test_an_inference_build_or_none_is_refused() -> None:
    with pytest.raises(InstallationError, match="onnxruntime-gpu is installed, which cannot differentiate"):
        runtime.require_training_build(["onnxruntime-gpu"])
    with pytest.raises(InstallationError, match="ONNX Runtime is not installed"):
        runtime.require_training_build([])


def test_what_is_prepared_runs_on_any_build_from_1_20_on() -> None:
    for build in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-training"):
        runtime.require_runtime([build], "1.20.0")
    with pytest.raises(InstallationError, match=r"onnxruntime 1\.19\.2 is installed, which cannot run") as caught:
        runtime.require_runtime(["onnxruntime"], "1.19.2")
    assert (caught.value.fix or "").startswith("pip install --upgrade onnxruntime, or")
    with pytest.raises(InstallationError, match="2 distributions"):
        runtime.require_runtime(["onnxruntime", "onnxruntime-gpu"])


def test_on_a_python_without_a_training_build_the_message_says_what_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 13, 0, "final", 0))
    with pytest.raises(InstallationError, match="ONNX Runtime is not installed") as caught:
        runtime.require_runtime([])
    assert (caught.value.fix or "").startswith('pip install onnxruntime, or "onnxruntime-gpu[cuda,cudnn]" for CUDA')
    with pytest.raises(InstallationError, match="cannot differentiate") as caught:
        runtime.require_training_build(["onnxruntime"])
    assert (caught.value.fix or "").startswith("prepare with Python 3.10, 3.11 or 3.12")
    with pytest.raises(InstallationError, match="2 distributions") as caught:
        runtime.require_runtime(["onnxruntime", "onnxruntime-gpu"])
    assert caught.value.fix == "pip uninstall -y onnxruntime onnxruntime-gpu, and install one of them"


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
    fixes = {11: 'uninstall -y onnxruntime-training-cpu && pip install "dsd-ort[cuda]"', 12: "use Python 3.10 or 3.11"}
    for version, fix in fixes.items():
        monkeypatch.setattr(sys, "version_info", (3, version, 0, "final", 0))
        with pytest.raises(InstallationError, match="no CUDA provider") as caught:
            runtime.choose_device("cuda")
        assert fix in (caught.value.fix or "")


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
    metadata = (Path(__file__).parent.parent.parent / "pyproject.toml").read_text("utf-8")
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
    with pytest.raises(
        InstallationError, match="onnxruntime-training is installed, but its files are missing"
    ) as caught:
        runtime.require_training_build(["onnxruntime-training"])
    assert "--force-reinstall" in (caught.value.fix or "")
