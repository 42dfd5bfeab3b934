from __future__ import annotations

import sys

import onnx.parser
import pytest

from dsd_ort import runtime
from dsd_ort.errors import InstallationError, ModelError


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


def test_another_device_than_the_cpu_is_refused() -> None:
    runtime.require_device("auto")
    with pytest.raises(InstallationError, match="'cuda' is not available"):
        runtime.require_device("cuda")


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
