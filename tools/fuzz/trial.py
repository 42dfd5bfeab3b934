"""One case in this process: its files, its commands, and how each of them ends."""

from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

SECONDS = 10.0
"""Of processor time, the most that a command may take."""
MEMORY = 2 << 30
"""Bytes that a process may take beyond what it takes when it begins."""
DEFECT = 70


class Case(NamedTuple):
    kind: str
    number: int
    seed: int


class End(NamedTuple):
    """How a command ended: ``what`` is ``answer``, ``refused``, or what must not be."""

    command: str
    status: int
    what: str
    detail: str
    seconds: float


class _Watch:
    """An audit hook: what is opened for writing outside of a case's folder, and which sockets."""

    def __init__(self) -> None:
        self.inside: Path | None = None
        self.found: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.inside is None:
            return
        if event == "socket.connect":
            self.found.append(f"socket {arguments[1]}")
        for path in _written(event, arguments):
            at = os.path.realpath(os.fsdecode(path))
            within = at == str(self.inside) or at.startswith((f"{self.inside}{os.sep}", "/dev/", "/proc/self/"))
            self.found += [] if within else [at]


_WATCH = _Watch()


def _written(event: str, arguments: tuple[Any, ...]) -> list[Any]:
    """The paths that an audited event changes."""
    paths: list[Any] = []
    if event == "open":
        path, mode, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(flags, int) else "w" in str(mode)
        paths = [path] if writes else []
    elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod"):
        paths = [arguments[0]]
    elif event in ("os.rename", "os.link", "os.symlink"):
        paths = list(arguments[:2])
    return [path for path in paths if isinstance(path, (str, bytes, os.PathLike))]


def work(item: tuple[Case, str]) -> tuple[str, list[End]]:
    """Runs the case in a folder of its own below the given one; what was made, and how its commands ended."""
    from tools.fuzz import KINDS

    _prepare()
    case, below = item
    root = Path(below, f"{case.kind}-{case.number}").resolve()
    folder = root / "case"
    shutil.rmtree(root, ignore_errors=True)
    (folder / "tmp").mkdir(parents=True)
    made, commands = KINDS[case.kind](folder, Random(f"{case.kind}:{case.seed}:{case.number}"))
    here = Path.cwd()
    os.chdir(folder)
    outside = _names(root)
    try:
        ends = [_run(command, folder) for command in commands]
    finally:
        os.chdir(here)
    if new := _names(root) - outside:
        ends.append(End("", 0, "outside", f"written beside the folder: {sorted(new)}", 0.0))
    shutil.rmtree(root, ignore_errors=True)
    return made, ends


def _names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


@cache
def _prepare() -> None:
    """Once in a process: imports what the commands import, and limits memory from then on."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import onnxruntime

    from dsd_ort.cli.commands import COMMANDS, cli

    onnxruntime.set_default_logger_severity(4)
    for name in COMMANDS:
        cli.get_command(None, name)  # type: ignore[arg-type]
    sys.addaudithook(_WATCH)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextlib.contextmanager
def _watched(folder: Path) -> Iterator[None]:
    before, tempfile.tempdir = tempfile.tempdir, str(folder / "tmp")
    _WATCH.inside, _WATCH.found = folder, []
    try:
        yield
    finally:
        _WATCH.inside, tempfile.tempdir = None, before


def _run(command: tuple[str, ...], folder: Path) -> End:
    from dsd_ort import cli
    from dsd_ort.cli.commands import cli as commands

    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["dsd-ort", *command]
    began = time.process_time()
    what, detail, status = "answer", "", 0
    with _watched(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli._status(commands, "dsd-ort")
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 0
        except BaseException:
            what, detail = "traceback", _frames(traceback.format_exc())
    seconds = time.process_time() - began
    said = out.getvalue() + err.getvalue()
    if status == DEFECT:
        logs = sorted((folder / "tmp").glob("dsd-ort-*.log"), key=lambda path: path.stat().st_mtime_ns)
        what, detail = "defect", _frames(logs[-1].read_text("utf-8", "replace")) if logs else err.getvalue()
    elif status == 3:
        what, detail = "refused", " ".join(err.getvalue().split())[:200]
    if "Traceback (most recent" in said and what in ("answer", "refused"):
        what, detail = "traceback", said[-300:]
    if what in ("answer", "refused"):
        if _WATCH.found:
            what, detail = "outside", f"opened for writing: {_WATCH.found[:3]}"
        elif unsafe := next((c for c in said if not c.isprintable() and c != "\n"), ""):
            what, detail = "terminal", f"printed {unsafe!r}"
        elif seconds > SECONDS:
            what, detail = "slow", f"{seconds:.1f} s"
        elif what == "refused" and "  fix:   " not in err.getvalue():
            what, detail = "no fix", err.getvalue()[:200]
    return End(command[0], status, what, detail, seconds)


def _frames(text: str) -> str:
    """The exception, and the last frames of ours: what two cases with one cause have in common."""
    frames = re.findall(
        r'File "[^"]*?((?:dsd_ort|onnx_ir|onnx|onnxscript|numpy)/[\w/]+\.py)", line (\d+), in (\S+)', text
    )
    ours = [f"{name}:{line} {function}" for name, line, function in frames if name.startswith("dsd_ort")]
    last = text.strip().splitlines()[-1][:160] if text.strip() else ""
    return f"{' < '.join(reversed(ours[-2:]))} | {last}"
