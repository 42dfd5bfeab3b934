"""What a shell completes, asked for as click's scripts do and by a real bash; and where the script is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from dsd_ort.cli.commands import COMMANDS, cli
from dsd_ort.cli.completion import PROGRAM, SHELLS, VARIABLE
from dsd_ort.recipe import Recipe, builtin_names
from dsd_ort.recipe.reading import refuse_unknown_keys
from tests.cli.conftest import Command
from tests.cli.test_bad_input import refuse

ROOT = Path(__file__).parents[2]


def completed(*words: str) -> list[tuple[str, str]]:
    """Kind and value of what the last word may become."""
    *before, last = words
    return [(item.type, item.value) for item in ShellComplete(cli, {}, PROGRAM, VARIABLE).get_completions(before, last)]


def values(*words: str) -> list[str]:
    return [value for _, value in completed(*words)]


def test_commands_and_options_are_completed() -> None:
    assert {*values("")} >= {*COMMANDS}
    assert values("comp") == ["completion", "compare"] or {*values("comp")} == {"completion", "compare"}
    assert values("train", "run", "--re") == ["--resume", "--report"]
    assert values("prepare", "m.onnx", "--loss", "c") == ["cross-entropy", "ctc"]


@pytest.mark.parametrize(
    "words",
    [
        ("inspect", ""),
        ("train", "run", "--data", "tra"),
        ("train", "run", "--eval-data", ""),
        ("export", "run", "-o", "x"),
        ("predict", "m.onnx", "--data", ""),
        ("compare", "m.onnx", "--select-data", ""),
        ("report", "r"),
        ("prepare", "m.onnx", "--recipe", "./"),
    ],
)
def test_files_are_completed_by_the_shell(words: tuple[str, ...]) -> None:
    assert completed(*words) == [("file", words[-1])]


def test_recipes_are_completed_by_name() -> None:
    paper = [name for name in builtin_names() if name.startswith("paper/")]
    assert values("prepare", "m.onnx", "--recipe", "paper/") == paper and len(paper) > 5
    assert values("evaluate", "m.onnx", "--recipe", "def") == ["default"] == values("recipes", "def")


def test_keys_of_a_recipe_are_completed_and_are_keys() -> None:
    assert values("prepare", "m.onnx", "--set", "optimizer.m") == ["optimizer.momentum="]
    keys = [value.removesuffix("=") for value in values("prepare", "m.onnx", "--set", "")]
    assert {"batch_size", "phase.0.learning_rate", "phase.0.learning_rate.warmup", "data.image.crop"} <= {*keys}
    for key in keys:
        table: object = 1
        for part in reversed(key.split(".")):
            table = [table] if part == "0" else {part: table}
        assert isinstance(table, dict)
        refuse_unknown_keys(Recipe, table, key)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_printed_and_installed(
    dsd_ort: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    printed = dsd_ort("completion")
    assert printed.status == 0 and VARIABLE in printed.out and not (folder / "home").exists()
    answer = dsd_ort("completion", "--install")
    [written] = [path for path in (folder / "home").rglob("*") if path.is_file()]
    assert written.read_text() == printed.out and str(written) in answer.out
    assert ("fpath+=" in answer.out) == (shell == "zsh")


def test_another_shell_is_named(dsd_ort: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    refuse(dsd_ort, folder, ("completion", "--install"), "'tcsh'", "dsd-ort completion bash")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(tmp_path: Path) -> None:
    program = tmp_path / PROGRAM
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m dsd_ort "$@"\n')
    program.chmod(0o755)
    script = (
        f"source <({PROGRAM} completion bash); complete -p {PROGRAM}; "
        f"COMP_WORDS=({PROGRAM} prepare m.onnx --recipe paper/vg); COMP_CWORD=4; "
        f'_dsd_ort_completion {PROGRAM}; echo "${{COMPREPLY[@]}}"'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert answer.stdout.splitlines()[-1] == "paper/vgg16" and "_dsd_ort_completion" in answer.stdout
