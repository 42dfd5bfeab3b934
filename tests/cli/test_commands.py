"""The commands on their happy way: what they print, for people and for programs."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import click
import numpy as np
import onnx
import pytest

import dsd_ort as package
from dsd_ort.cli.columns import show
from dsd_ort.cli.commands import COMMANDS, cli
from dsd_ort.run.journal import read
from tests.cli.conftest import Command
from tests.models import cnn_data, write_cnn

ESCAPE = "\x1b"


@pytest.fixture
def held_out(prepared: Path) -> Path:
    """The prepared folder with ``test.npz``."""
    np.savez(prepared / "test.npz", **cnn_data(12, seed=2))
    return prepared


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_help_of_every_command_shows_an_example_on_its_own_line(dsd_ort: Command, name: str) -> None:
    answer = dsd_ort(name, "--help")
    assert answer.status == 0
    assert any(line.strip().startswith(f"dsd-ort {name}") for line in answer.out.splitlines())


def test_the_help_lists_the_commands_in_the_order_of_the_work(dsd_ort: Command) -> None:
    names = re.findall(r"^  (\S+)", dsd_ort("-h").out.partition("Commands:")[2], re.MULTILINE)
    assert names == [
        "inspect",
        "check",
        "dequantize",
        "fit-rates",
        "scan",
        "prepare",
        "train",
        "status",
        "journal",
        "fsck",
        "report",
        "evaluate",
        "predict",
        "suspects",
        "export",
        "verify",
        "compare",
        "recipes",
        "completion",
        "doctor",
        "demo",
    ]


def commands() -> dict[str, click.Command]:
    found = {name: cli.get_command(click.Context(cli), name) for name in COMMANDS}
    return {name: command for name, command in found.items() if command is not None}


def test_the_list_of_commands_has_the_first_line_of_their_help() -> None:
    """It is shown without importing them."""
    assert {name: where.about for name, where in COMMANDS.items()} == {
        name: command.get_short_help_str(limit=200) for name, command in commands().items()
    }


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["compare", "--help"], ["recipes"]])
def test_help_needs_nothing_that_computes(arguments: list[str]) -> None:
    """ONNX Runtime, SymPy and onnx_ir take seconds to import."""
    heavy = ("onnxruntime", "onnx_ir", "onnxscript", "sympy")
    code = f"import sys; from dsd_ort import cli; sys.argv = ['dsd-ort', *{arguments}]\n"
    code += "try: cli.main()\nexcept SystemExit as end: assert not end.code, end.code\n"
    code += f"sys.exit(', '.join(name for name in {heavy} if name in sys.modules) or 0)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


def test_every_option_says_what_it_is_for() -> None:
    for name, command in commands().items():
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{name} {option.opts}"


def test_the_version_is_the_packages(dsd_ort: Command) -> None:
    assert dsd_ort("--version").out.strip().endswith(package.__version__)


@pytest.mark.parametrize("builder", ["own", pytest.param("ort", marks=pytest.mark.training_build)])
def test_what_differentiates_can_be_chosen(dsd_ort: Command, folder: Path, builder: str) -> None:
    write_cnn(folder / "model.onnx")
    assert dsd_ort("inspect", "model.onnx", "--builder", builder).status == 0
    assert dsd_ort("check", "model.onnx", "--builder", builder, "--seconds", 5, "--json").status == 0
    assert dsd_ort("prepare", "model.onnx", "-o", "new", "--builder", builder).status == 0
    assert json.loads((folder / "new" / "manifest.json").read_text())["recipe"]["builder"] == builder


def test_the_whole_way_for_people(dsd_ort: Command, held_out: Path) -> None:
    (held_out / "run").rename(held_out / "earlier")
    assert "conv1.weight" in dsd_ort("inspect", "model.onnx").out
    prepared = dsd_ort("prepare", "model.onnx", "-o", "run", "--recipe", "recipe.toml")
    assert "next: dsd-ort train run --data DATA" in prepared.out
    trained = dsd_ort("train", "run", "--data", "data.npz", "--eval-data", "test.npz", "--threads", 1)
    assert trained.status == 0
    rows = [line.split("│")[1].strip() for line in trained.out.splitlines() if "│" in line]
    assert rows == ["as it came", "1 dense", "2 sparse"]
    assert "as it came: loss" in trained.err
    assert "next: dsd-ort export run -o final.onnx" in trained.out
    assert "phase 2 of 2: sparse, sparsity 0.3, 1 epochs" in trained.err
    assert "the same graph" in dsd_ort("export", "run", "-o", "final.onnx").out
    assert "top-1" in dsd_ort("evaluate", "final.onnx", "--data", "test.npz").out
    assert dsd_ort("verify", "model.onnx", "final.onnx").status == 0


def test_json_is_all_that_is_printed_and_says_the_same(dsd_ort: Command, held_out: Path) -> None:
    def answer(*arguments: object) -> object:
        given = dsd_ort(*arguments, "--json")
        assert given.status == 0, given
        assert given.err == ""
        return json.loads(given.out)

    assert answer("inspect", "model.onnx")["parameters"] == 247
    assert answer("prepare", "model.onnx", "-o", "other", "--recipe", "recipe.toml")["inputs"] == {
        "image": ["float32", ["N", 1, 6, 6]]
    }
    phases = answer("train", "run", "--data", "data.npz", "--eval-data", "test.npz", "--threads", 1)
    assert [(p["kind"], p["reason"]) for p in phases] == [("dense", "epochs"), ("sparse", "epochs")]
    assert answer("evaluate", "run", "--data", "test.npz", "--phase", 1) == pytest.approx(phases[0]["metrics"])
    assert answer("evaluate", "run", "--data", "test.npz") == pytest.approx(phases[1]["metrics"])
    exported = answer("export", "run", "-o", "final.onnx")
    assert exported["same"] and exported["file"] == "final.onnx"
    assert answer("verify", "model.onnx", "final.onnx")["same"]


def test_verify_says_no_and_why_for_another_graph(dsd_ort: Command, folder: Path) -> None:
    model = onnx.load("model.onnx")
    model.graph.node[3].op_type = "AveragePool"
    onnx.save(model, "other.onnx")
    answer = dsd_ort("verify", "model.onnx", "other.onnx")
    assert answer.status == 1
    assert "is not the same graph" in answer.out
    assert "AveragePool" in answer.out
    as_json = dsd_ort("verify", "model.onnx", "other.onnx", "--json")
    assert as_json.status == 1
    assert not json.loads(as_json.out)["same"]


def test_phases_and_their_best_epochs_can_be_chosen(dsd_ort: Command, trained: Path) -> None:
    for options in (("--phase", 1), ("--phase", 2), ("--sparse",), ("--phase", 1, "--best")):
        name = f"final{len(list(trained.glob('final*.onnx')))}.onnx"
        assert dsd_ort("export", "run", "-o", name, *options).status == 0
    files = [(trained / f"final{i}.onnx").read_bytes() for i in range(4)]
    assert files[0] == files[3] != files[1] == files[2]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("export", "run", "-o", "x.onnx", "--phase", 1, "--sparse"), "leave --phase out"),
        (("evaluate", "run", "--data", "data.npz", "--recipe", "recipe.toml"), "leave --recipe and --set out"),
        (("evaluate", "run", "--data", "data.npz", "--set", "monitor=loss"), "leave --recipe and --set out"),
        (("evaluate", "model.onnx", "--data", "data.npz", "--phase", 1), "are for runs"),
        (("prepare", "model.onnx", "-o", "x", "--loss", "mae"), "'cross-entropy'"),
        (("train", "run", "--data", "data.npz", "--checkpoint-seconds", -1), "x>=0"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(
    dsd_ort: Command, prepared: Path, arguments: tuple[object, ...], text: str
) -> None:
    answer = dsd_ort(*arguments)
    assert answer.status == 2
    assert text in answer.err


def test_names_with_brackets_and_colons_are_shown_as_they_are(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show("title", {"name": "left"}, [["[bold]w[0]"], ["a:fire:b"]])
    out = capsys.readouterr().out
    assert "[bold]w[0]" in out
    assert "a:fire:b" in out


def test_off_the_terminal_there_are_plain_lines(dsd_ort: Command, held_out: Path) -> None:
    answer = dsd_ort("train", "run", "--data", "data.npz", "--eval-data", "test.npz", "--threads", 1)
    assert ESCAPE not in answer.err + answer.out
    assert "\r" not in answer.err
    assert [line.split(":")[0].strip() for line in answer.err.splitlines() if "epoch 1" in line] == ["epoch 1"] * 2


def run_in_terminal(folder: Path, *arguments: str) -> tuple[int, str]:
    """Runs the command line with a pseudo-terminal as standard error: exit status, and what it drew."""
    master, slave = pty.openpty()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm-256color", "COLUMNS": "100"}
    command = [sys.executable, "-W", "error", "-m", "dsd_ort", *arguments]
    process = subprocess.Popen(command, cwd=folder, stderr=slave, stdout=subprocess.DEVNULL, env=environment)
    os.close(slave)
    drawn = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not part:
            break
        drawn += part
    os.close(master)
    return process.wait(), drawn.decode()


def test_on_a_terminal_a_bar_is_drawn(held_out: Path) -> None:
    np.savez(held_out / "data.npz", **cnn_data(16_000))  # long enough to be drawn in the middle
    status, drawn = run_in_terminal(
        held_out, "train", "run", "--data", "data.npz", "--eval-data", "test.npz", "--threads", "1"
    )
    assert status == 0, drawn
    assert ESCAPE in drawn
    assert "examples/s" in drawn
    assert "phase 2 of 2: sparse" in drawn
    assert "Traceback" not in drawn


def test_a_terminal_without_unicode_still_gets_the_table(folder: Path) -> None:
    command = [sys.executable, "-m", "dsd_ort", "inspect", "model.onnx"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "ascii"}
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
    assert b"conv1.weight" in answer.stdout
    assert answer.stderr == b""


def test_a_full_disk_under_standard_output_is_told(folder: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    command = [sys.executable, "-m", "dsd_ort", "inspect", "model.onnx"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with Path("/dev/full").open("w") as full:
        answer = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, cwd=folder, check=False)
    assert answer.returncode == 3
    assert b"No space left on device" in answer.stderr
    assert b"Traceback" not in answer.stderr


def test_ctrl_c_outside_of_training_is_status_130(
    dsd_ort: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dsd_ort.api.inspect", interrupted)
    answer = dsd_ort("inspect", "model.onnx")
    assert answer.status == 130
    assert "dsd-ort: stopped" in answer.err


def test_training_gives_the_signal_handlers_back(dsd_ort: Command, prepared: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    assert dsd_ort("train", "run", "--data", "data.npz", "--threads", 1).status == 0
    assert signal.getsignal(signal.SIGINT) is before


def test_the_command_trains_in_a_thread_too(prepared: Path) -> None:
    """Where Python allows no signal handlers."""
    arguments = ["train", "run", "--data", "data.npz", "--threads", "1", "--json"]
    failed: list[BaseException] = []

    def train() -> None:
        try:
            cli.main(arguments, standalone_mode=False)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert not failed
    assert sum(e["event"] == "end" for e in read(prepared / "run")) == 1
