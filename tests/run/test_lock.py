from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dsd_ort.errors import RunError
from dsd_ort.run import lock
from dsd_ort.run.lock import is_held, locked

HOLDER = """
import sys
from pathlib import Path
from dsd_ort.run.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_never_train_one_run_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent.parent
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match="another process is training this run"), locked(tmp_path):
            pass
        holder.kill()
        holder.wait()
    with locked(tmp_path):
        pass


def owned(folder: Path, process: int, host: str) -> None:
    (folder / "lock.json").write_text(json.dumps({"process": process, "host": host, "since": 0.0}))


def test_who_holds_it_is_named_and_gone_when_it_ends(tmp_path: Path) -> None:
    with locked(tmp_path):
        found = json.loads((tmp_path / "lock.json").read_text())
        assert (found["process"], found["host"]) == (os.getpid(), platform.node())
        assert is_held(tmp_path)
        with pytest.raises(RunError, match=f"another process is training this run: process {os.getpid()} of"):
            locked(tmp_path).__enter__()
    assert not (tmp_path / "lock.json").exists() and not is_held(tmp_path)


def test_an_owner_that_is_no_more_is_told_and_replaced(tmp_path: Path) -> None:
    owned(tmp_path, 2**22 - 3, platform.node())
    told: list[str] = []
    with locked(tmp_path, told.append):
        assert json.loads((tmp_path / "lock.json").read_text())["process"] == os.getpid()
    assert "ended without a word" in told[0] and str(2**22 - 3) in told[0]


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has none."""
    monkeypatch.setattr(lock, "_taken", lambda folder, handle, kind, shared: False)


@pytest.mark.usefixtures("without_locks")
def test_where_the_system_has_no_locks_the_owner_decides(tmp_path: Path) -> None:
    owned(tmp_path, os.getppid(), platform.node())
    assert is_held(tmp_path)
    with pytest.raises(RunError, match=f"process {os.getppid()} of {platform.node()!r}"):
        locked(tmp_path).__enter__()
    owned(tmp_path, 2**22 - 3, platform.node())
    assert not is_held(tmp_path)
    with locked(tmp_path):
        pass
    owned(tmp_path, 2**22 - 3, "elsewhere")
    assert is_held(tmp_path)
    with pytest.raises(RunError, match="of 'elsewhere'") as caught:
        locked(tmp_path).__enter__()
    assert f"if it is no more, remove {tmp_path / 'lock.json'}" in (caught.value.fix or "")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"process": "x", "host": 1}'])
def test_an_owner_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock.json").write_text(content)
    with locked(tmp_path):
        assert is_held(tmp_path)


def test_looking_does_not_keep_a_training_out(tmp_path: Path) -> None:
    stop = threading.Event()
    looking = threading.Thread(target=lambda: [is_held(tmp_path) for _ in iter(lambda: stop.wait(0.001), True)])
    looking.start()
    try:
        for _ in range(20):
            with locked(tmp_path):
                pass
    finally:
        stop.set()
        looking.join()
