"""dsd-ort check: what it prints, its exit status, and a process that ends before its time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import onnx.parser
import onnx_ir as ir
import psutil
import pytest

import dsd_ort
from dsd_ort.errors import NativeError
from graphs import NETWORKS
from tests.cli.conftest import Command, snapshot

CHECK = ("check", "model.onnx", "--threads", 1)


def test_a_sound_model(dsd_ort: Command, folder: Path) -> None:
    before = snapshot(folder)
    answer = dsd_ort(*CHECK)
    assert answer.status == 0, answer
    assert snapshot(folder) == before
    first, *rest = answer.out.splitlines()
    assert first.startswith("model.onnx trains: 14 right gradients, ")
    assert rest[0].startswith("ok    14 gradients: within ") and rest[0].endswith(", by float64, ONNX reference")
    for text in ("ok    loss", "ok    sparse step", "ok    export"):
        assert text in answer.out
    assert "conv1.weight" not in answer.out and "conv1.weight" in dsd_ort(*CHECK, "--verbose").out
    assert "making the training graphs" in answer.err


def test_speech_with_a_ctc_of_as_many_frames_as_lengths_say(dsd_ort: Command, folder: Path) -> None:
    ir.save(NETWORKS["deepspeech"](classes=7, context=1, width=8), folder / "speech.onnx")
    phase = '[[phase]]\nkind = "dense"\nlearning_rate = 1e-3\nsteps = 1\n'
    (folder / "speech.toml").write_text(f'[loss]\nname = "ctc"\nlengths = "lengths"\n{phase}')
    shapes = ("--shape", "features=3x24x26", "--shape", "lengths=3")
    answer = dsd_ort("check", "speech.onnx", "--threads", 1, "--recipe", "speech.toml", *shapes)
    assert answer.status == 0, answer
    assert "lengths int64[3], label int64[3, 8]" in answer.out
    assert "speech.onnx trains: 13 right gradients" in answer.out


def test_json_is_all_that_is_printed(dsd_ort: Command, folder: Path) -> None:
    answer = dsd_ort(*CHECK, "--json", "--data", "data.npz")
    assert (answer.status, answer.err) == (0, "")
    report = json.loads(answer.out)
    assert report["ok"] and report["data"] == "data.npz"
    assert {row["verdict"] for row in report["rows"]} == {"right"}


def test_what_is_wrong_has_exit_status_1_and_a_name(
    dsd_ort: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child whose gradient passes a Relu as if it were not there."""
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "if '-m' in sys.orig_argv and 'dsd_ort.proof.child' in sys.orig_argv:\n"
        "    from dsd_ort.graph.differentiate.table import RULES\n"
        "    RULES['Relu'] = RULES['Identity']\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    answer = dsd_ort(*CHECK)
    assert answer.status == 1, answer
    assert "WRONG" in next(line for line in answer.out.splitlines() if "conv1.weight" in line)
    assert answer.out.startswith("model.onnx does NOT train: ")


def test_a_model_that_cannot_be_trained_is_refused_as_inspect_says(dsd_ort: Command, folder: Path) -> None:
    weights = "float[3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}"
    body = "a = MatMul (x, w) [m] b = Magic (a) [n] y = Wand (b)"
    text = f'<ir_version: 8, opset_import: ["" : 17]> g (float[3, 3] x) => (float[3, 3] y) <{weights}> {{ {body} }}'
    (folder / "model.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    answer = dsd_ort(*CHECK)
    assert answer.status == 3
    assert answer.out == ""
    inspected = dsd_ort("inspect", "model.onnx")
    assert inspected.status == 0
    for text in (
        "the operator Magic is none that ONNX defines",
        "Magic 'm'",
        "the operator Wand is none that ONNX defines",
        "Wand 'n'",
        "fix:",
    ):
        assert text in answer.err
        assert text in inspected.out


@pytest.mark.parametrize(("code", "how"), [("os.abort()", "signal 6 (SIGABRT)"), ("os._exit(9)", "status 9")])
def test_a_process_that_ends_is_a_message(
    dsd_ort: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, how: str
) -> None:
    (folder / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if '-m' in sys.orig_argv and 'dsd_ort.proof.child' in sys.orig_argv:\n"
        "    from dsd_ort.graph import prepare\n"
        "    def end(*arguments, **options):\n"
        "        os.write(2, b'the last words')\n"
        f"        {code}\n"
        "    prepare.differentiate = end\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    answer = dsd_ort(*CHECK)
    assert answer.status == 3
    assert f"ONNX Runtime ended the process with {how} while making the training graphs" in answer.err
    assert "the last words" in answer.err
    assert "Traceback" not in answer.err


def test_from_python_it_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sitecustomize.py").write_text(
        "import os, sys\nif '-m' in sys.orig_argv and 'dsd_ort.proof.child' in sys.orig_argv:\n    os.abort()\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(NativeError, match=r"SIGABRT"):
        dsd_ort.check(folder / "model.onnx")


def test_no_input_runs(dsd_ort: Command, folder: Path) -> None:
    weights = "float[7, 2] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}"
    head = '<ir_version: 8, opset_import: ["" : 17]> g (float[N, T] x) => (float[N, 2] y)'
    text = f"{head} <{weights}> {{ y = MatMul (x, w) }}"
    (folder / "model.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    answer = dsd_ort(*CHECK)
    assert answer.status == 3
    assert "none of the made-up inputs runs" in answer.err and "--shape NAME=" in answer.err
    assert dsd_ort(*CHECK, "--shape", "x=4x7").status == 0


@pytest.mark.parametrize("shape", ["x", "x=3xa", "=3", "x=-1x2"])
def test_a_shape_that_is_none(dsd_ort: Command, folder: Path, shape: str) -> None:
    answer = dsd_ort(*CHECK, "--shape", shape)
    assert answer.status == 2
    assert "NAME=2x3x224x224" in answer.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_child_ends_with_its_parent(folder: Path, number: signal.Signals, request: pytest.FixtureRequest) -> None:
    """By Ctrl-C, and also where the parent cannot say so any more."""
    (folder / "sitecustomize.py").write_text(
        "import signal, sys, time\n"
        # Background jobs of a shell ignore Ctrl-C, and so would what they start.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "if '-m' in sys.orig_argv and 'dsd_ort.proof.child' in sys.orig_argv:\n"
        "    from dsd_ort.graph import prepare\n"
        "    prepare.differentiate = lambda *a, **o: time.sleep(600)\n"
    )
    path = os.pathsep.join([str(folder), *filter(None, sys.path), str(Path(dsd_ort.__file__).parents[1])])
    process = subprocess.Popen(
        [sys.executable, "-m", "dsd_ort", "check", "model.onnx"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )
    request.addfinalizer(process.kill)
    assert process.stderr is not None
    for line in process.stderr:
        if "making the training graphs" in line:
            break
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    began = time.monotonic()
    process.send_signal(number)
    process.wait(30)
    process.stderr.close()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive, f"alive after {time.monotonic() - began:.0f} s"
    assert process.returncode == (130 if number == signal.SIGINT else -number)
