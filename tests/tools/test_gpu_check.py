"""The GPU check, on the CPU: small sizes, without PyTorch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsd_ort.graph.optimizer import scaler
from dsd_ort.run.arena import view
from dsd_ort.run.engine import Engine
from tools.gpu_check import checks, networks, page, prepared
from tools.gpu_check.__main__ import main
from tools.gpu_check.bench import Bench
from tools.gpu_check.distances import deviation
from tools.gpu_check.pipe import ROOT, environment
from tools.gpu_check.results import OtherDevice, Results

SMALL = ["--device", "cpu", "--threads", "1", "--sizes", "tiny", "--rounds", "5", "--round-seconds", "0.01"]
SOME = ["--networks", "lenet", "resnet50", "--checks", "dense", "tf32", "--steps", "12", "--precisions", "fp32"]
SETTING = checks.Setting("cpu", 1, 12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeNet and DeepSpeech 2, small, prepared."""
    made = tmp_path_factory.mktemp("gpu-check")
    for name in ("lenet", "deepspeech2"):
        checks.write_cpu(checks.Subject(prepared.prepare(made, "small", name), name))
    return made


def rows_of(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text("utf-8"))["rows"]


def test_one_command_measures_all_and_goes_on_where_it_was_cut_off(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    work, results, written = tmp_path / "work", tmp_path / "results.json", tmp_path / "page.md"
    shutil.copytree(folder, work)
    arguments = [*SMALL, *SOME, "--folder", str(work), "--json", str(results), "--markdown", str(written)]
    with monkeypatch.context() as patched:  # the time is over behind two rows
        patched.setattr(Bench, "left", lambda bench: 0.0 if results.exists() and len(rows_of(results)) > 1 else 500.0)
        assert main(arguments) == 0
    assert "out of time, 3 tasks are left: run this again with the same --json" in capfd.readouterr().out
    first = rows_of(results)
    assert len(first) == 2
    command = [sys.executable, str(ROOT / "tools/gpu_check.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    rows = rows_of(results)
    assert rows[:2] == first
    assert not any(row["task"] in done.stdout for row in first), "what is done is not done again"
    assert "PyTorch: left out" in written.read_text("utf-8")
    assert {(row["network"], row["check"]) for row in rows if row["part"] == "correctness"} == {
        (name, check) for name in ("lenet", "resnet50") for check in ("dense", "tf32")
    }
    assert [row["against"] for row in rows if row["part"] == "speed"] == ["sparse"]
    assert all(row["ratio"] > 0 and row["memory"] > 0 for row in rows if row["part"] == "speed")
    assert str(tmp_path) not in results.read_text("utf-8"), "no folders of this machine"


def test_a_wrong_gradient_is_found_named_and_the_exit_status(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    shutil.copytree(folder, work)
    path = work / "small/lenet/cpu.npz"
    kept = dict(np.load(path))
    kept["dense/gradient of fc2.weight"] *= 1.001
    np.savez(path, **kept)
    arguments = ["correctness", *SMALL, "--networks", "lenet", "--checks", "dense", "--folder", str(work)]
    assert main(arguments) == 1
    assert "WRONG (at most 1.0e-04): gradient of fc2.weight" in capfd.readouterr().out


def test_a_device_that_scales_one_gradient_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = checks.Subject(folder / "small/deepspeech2", "deepspeech2")
    right = checks.CHECKS["sparse"](subject, SETTING)
    assert right.value <= right.limit

    class Mistaken(Engine):
        def step(self, *arguments: Any, **options: Any) -> float:
            loss = super().step(*arguments, **options)
            piece = next(p for p in self.arena.trained if p.name == "rnns.1.bias")
            view(self.arena.gradients, piece)[0, 0] += 0.01
            return loss

    monkeypatch.setattr(checks, "Engine", Mistaken)
    wrong = checks.CHECKS["sparse"](subject, SETTING)
    assert wrong.value > wrong.limit
    assert wrong.where == "gradient of rnns.1.bias"


def test_weights_that_are_not_pruned_are_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = checks.Subject(folder / "small/lenet", "lenet")
    right = checks.CHECKS["dsd"](subject, SETTING)
    assert (right["zeros"].value, right["dsd"].value <= right["dsd"].limit) == (0, True)
    sparse, end = subject.trained(SETTING)
    at = np.flatnonzero(sparse["fc1.weight"] == 0)[:3]
    sparse["fc1.weight"].flat[at] = 1e-30
    monkeypatch.setattr(subject, "trained", lambda setting: (sparse, end))
    assert checks.CHECKS["dsd"](subject, SETTING)["zeros"].value == 3


@pytest.mark.parametrize("check", ["graphs", "repeats", "fp16", "bf16"])
def test_the_other_checks_pass_on_the_cpu(check: str, folder: Path) -> None:
    subject = checks.Subject(folder / "small/lenet", "lenet")
    if check in ("fp16", "bf16") and not hasattr(scaler, "scaler"):
        pytest.skip("there is no loss scaler yet")
    found = checks.CHECKS[check](subject, SETTING)
    assert found.value <= found.limit, found


def test_dropout_is_that_of_the_seed(tmp_path: Path) -> None:
    subject = checks.Subject(prepared.prepare(tmp_path, "small", "neuraltalk"), "neuraltalk")
    assert checks.CHECKS["dropout"](subject, SETTING).value == 0
    assert not checks.concerns("dropout", "lenet")


def test_a_folder_that_travels_gets_its_weights_back(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "work")
    prepared.lighten(tmp_path / "work")
    assert not list((tmp_path / "work").rglob("source"))
    subject = checks.Subject(prepared.prepare(tmp_path / "work", "small", "lenet"), "lenet")
    found = checks.CHECKS["dense"](subject, SETTING)  # Program.source compares the digest
    assert found.value <= found.limit


def test_every_network_that_is_timed_has_its_data_and_a_recipe() -> None:
    assert networks.FULL.keys() == networks.TINY.keys() <= networks.SMALL.keys()
    for name, size in networks.TINY.items():
        assert {len(array) for array in networks.data("tiny", name).values()} == {size.batch}


def test_a_deviation_is_of_smoothed_curves() -> None:
    expected = [2.0] * 40
    assert deviation([2.02] * 40, expected) == pytest.approx(0.01)
    assert deviation([2.02, 1.98] * 20, expected) == pytest.approx(0, abs=1e-12)


def test_results_of_another_device_are_not_mixed_in(tmp_path: Path) -> None:
    results = Results(tmp_path / "r.json")
    results.describe({}, {}, device={"name": "one"})
    results.add([{"task": "a", "part": "correctness", "ok": False, "value": float("nan")}])
    again = Results(tmp_path / "r.json")
    assert again.has("a")
    assert again.rows[0]["value"] == "nan"
    assert not Results(tmp_path / "r.json", retry=True).has("a")
    with pytest.raises(OtherDevice, match="has the results of one, and this is two"):
        again.describe({}, {}, device={"name": "two"})


def test_no_folder_of_the_machine_gets_into_what_is_committed(tmp_path: Path) -> None:
    results = Results(tmp_path / "r.json")
    results.describe({}, {"torch": "No such file: '/opt/x/bin/python'"}, device={"name": "one"})
    results.add([{"task": "a", "part": "speed", "error": "where: /somewhere/run/graphs/step.onnx (3/4 of it)"}])
    assert results.content["missing"]["torch"] == "No such file: 'python'"
    assert results.rows[0]["error"] == "where: step.onnx (3/4 of it)"


def test_a_side_with_another_python_does_not_see_what_the_bundle_needs() -> None:
    variables = {"PYTHONHOME": "/b/py311", "PYTHONPATH": "/b/site:", "LD_LIBRARY_PATH": "/b/py311/lib:/b/lib:/usr/lib"}
    assert environment("/b/py311/bin/python", variables, own="/b/py311/bin/python") == variables
    assert environment("python3", variables, own="/b/py311/bin/python") == {"LD_LIBRARY_PATH": "/usr/lib"}
    assert environment("python3", {"LD_LIBRARY_PATH": "/x"}, own="y") == {"LD_LIBRARY_PATH": "/x"}


SPEED = {"part": "speed", "side": "training", "network": "resnet50", "precision": "fp16", "batch": 256, "length": 0}
TIMES = {"seconds": 0.2, "other_seconds": 0.25, "memory": 2**33, "other_memory": 2**34, "loss": 7.0, "other_loss": 7.07}
CHECK = {"part": "correctness", "side": "stock", "network": "lenet", "limit": 1e-4, "where": "gradient of fc.weight"}
MADE_UP = {
    "device": {"name": "Card", "kind": "cuda", "driver": "1.2", "memory": 80 * 2**30, "capability": [9, 0]},
    "sides": {"training": {"onnxruntime": "1.19.2", "cuda": "11.8"}},
    "missing": {"torch": "not | given"},
    "commit": "abc",
    "command": "python tools/gpu_check.py",
    "rows": [
        {"task": "1", **SPEED, "against": "eager", "ratio": 0.8, **TIMES},
        {"task": "2", **SPEED, "against": "sparse", "ratio": 0.8, **TIMES},
        {"task": "3", **SPEED, "against": "launches", "ratio": 0.5, **TIMES},
        {"task": "4", **SPEED, "precision": "fp32", "against": "eager", "ratio": 1.25, **TIMES},
        {"task": "5", **CHECK, "check": "dense", "value": 3e-7, "ok": True},
        {"task": "6", **CHECK, "check": "sparse", "value": 2e-3, "ok": False},
        {"task": "7", **CHECK, "error": "out of\nmemory", "ok": False},
    ],
}


def test_the_page_is_made_of_the_results_alone() -> None:
    lines = page.page(MADE_UP).splitlines()
    assert lines[0] == "# Performance on Card"
    for line in (
        "- Device: Card, 80 GiB, compute capability 9.0, driver 1.2.",
        "- training build: onnxruntime 1.19.2, cuda 11.8.",
        "- PyTorch: left out, and so without figures here: not / given.",
        "- Commit abc; `python tools/gpu_check.py`.",
        "| resnet50 | 256 | fp16 | training build | 200 | 5.0 | 8.00 | 0.800 | 16.00 | 1e-02 |",
        "| resnet50 | 256 | fp32 | training build | 200 | 5.0 | 8.00 | **1.250** | 16.00 | 1e-02 |",
        "| resnet50 | 256 | fp16 | training build | **+25.00 %** | 2.000 | – |",
        "| lenet | stock | 3.0e-07 | **2.0e-03** gradient of fc.weight |",
        "| 7 | out of memory |",
    ):
        assert line in lines, line
    assert page.page(MADE_UP) == "\n".join(lines) + "\n"
    for header, rule in pairwise(lines):
        if rule.startswith("|---"):
            assert header.count("|") == rule.count("|")


def test_the_page_is_written_again_without_measuring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.json").write_text(json.dumps(MADE_UP))
    arguments = ["page", "--json", str(tmp_path / "r.json"), "--markdown", str(tmp_path / "p.md")]
    assert main(arguments) == 1, "a row is wrong"
    assert (tmp_path / "p.md").read_text("utf-8") == page.page(MADE_UP)
    assert "2 rows are wrong" in capsys.readouterr().out
