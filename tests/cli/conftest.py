"""The command line in this process, and a prepared run to break."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from dsd_ort import cli
from dsd_ort.cli.stop import SIGNALS
from tests.models import cnn_data, write_cnn

RECIPE = """
batch_size = 8
[[phase]]
kind = "dense"
epochs = 1
learning_rate = 0.05
[[phase]]
kind = "sparse"
sparsity = 0.3
epochs = 1
learning_rate = 0.05
"""


class Answer(NamedTuple):
    status: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def dsd_ort(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs ``dsd-ort ARGUMENTS`` as the installed script would."""

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["dsd-ort", *map(str, arguments)])
        capfd.readouterr()
        before = {number: signal.getsignal(number) for number in SIGNALS}
        with pytest.raises(SystemExit) as ended:
            cli.main()
        for number, handler in before.items():  # a process that goes on, as this one, is not left at a second signal
            signal.signal(number, handler)
        status = ended.value.code
        out, err = capfd.readouterr()
        return Answer(status if isinstance(status, int) else 0 if status is None else 1, out, err)

    return run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with ``model.onnx``, ``recipe.toml`` and ``data.npz``."""
    write_cnn(tmp_path / "model.onnx")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    np.savez(tmp_path / "data.npz", **cnn_data(20))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def prepared(folder: Path, dsd_ort: Command) -> Path:
    """The folder with the prepared run ``run``."""
    assert dsd_ort("prepare", "model.onnx", "-o", "run", "--recipe", "recipe.toml").status == 0
    return folder


@pytest.fixture
def trained(prepared: Path, dsd_ort: Command) -> Path:
    """The folder with ``run`` trained."""
    assert dsd_ort("train", "run", "--data", "data.npz", "--threads", 1).status == 0
    return prepared


def snapshot(folder: Path) -> dict[str, bytes]:
    """All files below *folder* but a run's journal, which records attempts, and what Python keeps of modules."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "journal.jsonl")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if "__pycache__" not in path.parts}
