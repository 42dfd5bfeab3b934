"""What is tortured: one small model, each verb undisturbed, and how a verb is run to be disturbed.

A verb runs in a fork of this process, which has imported everything: so whatever happens to it happens while it works.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import pkgutil
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

import dsd_ort
from dsd_ort.cli import main
from dsd_ort.recipe import to_toml
from tests.models import cnn_data, write_cnn

RECIPE = {
    "batch_size": 8,
    "optimizer": {"name": "adamw", "weight_decay": 1e-2, "accumulate": 2, "clip_norm": 1.0},
    "phase": [
        {"kind": "dense", "epochs": 3, "learning_rate": 2e-3},
        {"kind": "sparse", "sparsity": 0.4, "epochs": 3, "learning_rate": 2e-3},
        {"kind": "dense", "epochs": 3, "learning_rate": {"schedule": "cosine", "initial": 2e-3}},
    ],
}
VERBS = ("prepare", "train", "export", "compare")


class Ended(NamedTuple):
    """How a verb ended: its exit status, or minus the signal; and what it said."""

    status: int
    said: str
    seconds: float


class Running:
    """A verb at work.

    Args:
        arguments: of the command line.
        most: bytes that a file may have, if that is limited.
    """

    def __init__(self, *arguments: object, most: int | None = None) -> None:
        read, write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.began, self.pipe, self.pid = time.monotonic(), read, os.fork()
        if not self.pid:
            _child([str(a) for a in arguments], write, most)
        os.close(write)

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float | None = None) -> Ended | None:
        """How it ended; None where it is still at work after *seconds*."""
        until = None if seconds is None else self.began + seconds
        said = b""
        while True:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return None
            if not select.select([self.pipe], [], [], left)[0]:
                return None
            part = os.read(self.pipe, 1 << 16)
            if not part:
                break
            said += part
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pipe)
        return Ended(os.waitstatus_to_exitcode(status), said.decode(errors="replace"), time.monotonic() - self.began)


def _child(arguments: list[str], write: int, most: int | None) -> None:
    code = 70
    try:
        os.dup2(write, 1)
        os.dup2(write, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        sys.argv = ["dsd-ort", *arguments]
        if most is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


class Bench:
    """Model, recipe and data in a folder, and what each verb ends with and takes when it is left alone."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.model, self.recipe = folder, folder / "model.onnx", folder / "recipe.toml"
        self.data, self.test = folder / "train.npz", folder / "test.npz"
        folder.mkdir(parents=True, exist_ok=True)
        write_cnn(self.model, dropout=True)
        self.recipe.write_text(to_toml(dsd_ort.Recipe.from_dict(RECIPE)))
        np.savez(self.data, **cnn_data(240))  # type: ignore[arg-type]
        np.savez(self.test, **cnn_data(40, seed=2))  # type: ignore[arg-type]
        self.run, self.final, self.compared = (folder / "alone" / name for name in ("run", "final.onnx", "compared"))
        self.seconds = {}
        for module in pkgutil.walk_packages(dsd_ort.__path__, "dsd_ort."):  # so that no child has to
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        dsd_ort.prepare(self.model, folder / "warm", dsd_ort.Recipe.load(self.recipe))
        (folder / "alone").mkdir()
        for verb in VERBS:
            ended = Running(*self.command(verb, folder / "alone")).wait()
            assert ended is not None and ended.status == 0, ended
            self.seconds[verb] = ended.seconds
        self.digest, self.best = digest(self.final), digest(self.compared / "final.onnx")
        self.prepared = digest(self.run / "manifest.json")

    def command(self, verb: str, place: Path, *more: object) -> list[object]:
        """The arguments of a verb whose files are in *place*."""
        sets = ["--data", self.data, "--eval-data", self.test]
        quick = ["--threads", 1, "--device", "cpu", "--checkpoint-seconds", 0.02]
        match verb:
            case "prepare":
                return ["prepare", self.model, "-o", place / "run", "--recipe", self.recipe]
            case "train":
                return ["train", place / "run", *sets, *quick, "--keep-checkpoints", 2, *more]
            case "export":
                return ["export", place / "run", "-o", place / "final.onnx"]
            case _:
                return ["compare", self.model, "-o", place / "compared", "--recipe", self.recipe, *sets, *quick]

    def resumed(self, place: Path) -> list[object]:
        begun = any((place / "run").glob("checkpoint*.safetensors"))
        return self.command("train", place, *(["--resume"] if begun else []))

    def finish(self, place: Path, verb: str) -> str:
        """Does again what was disturbed, as its user would; what was lost, or an empty string."""
        if verb == "compare":
            ended = _ended(Running(*self.command("compare", place)))
            return _lost(ended, self.best, place / "compared" / "final.onnx", place)
        if not (place / "run").exists():
            ended = _ended(Running(*self.command("prepare", place)))
            if ended.status:
                return f"prepare again: {ended.said}"
        if digest(place / "run" / "manifest.json") != self.prepared:
            return "another manifest"
        if verb in ("prepare", "train") or not (place / "run" / "journal.jsonl").exists():
            ended = _ended(Running(*self.resumed(place)))
            if ended.status:
                return f"train again: {ended.said}"
        return _lost(_ended(Running(*self.command("export", place))), self.digest, place / "final.onnx", place)


def _ended(running: Running) -> Ended:
    ended = running.wait()
    assert ended is not None
    return ended


def _lost(ended: Ended, wanted: str, final: Path, place: Path) -> str:
    if ended.status:
        return f"again: {ended.said}"
    if digest(final) != wanted:
        return f"{final.name} has other bytes than one that was left alone"
    left = [str(path.relative_to(place)) for path in place.rglob(".*")]
    return f"left behind: {', '.join(left)}" if left else ""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "none"


def badly(ended: Ended, *fine: int) -> str:
    """What is wrong with how a verb ended, that may end with one of *fine*; or an empty string."""
    if "Traceback" in ended.said:
        return f"a traceback: {ended.said[-1500:]}"
    if ended.status not in fine:
        how = signal.Signals(-ended.status).name if ended.status < 0 else f"status {ended.status}"
        return f"ended with {how}: {ended.said[-500:]}"
    return ""


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[Callable[[int], None]]:
    """A disk at *folder*, of this process and its children only; gives what leaves so many pages free on it.

    Raises:
        OSError: the system does not let one.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: object) -> None:
        if getattr(libc, name)(*arguments):
            raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")

    user, group = os.getuid(), os.getgid()
    call("unshare", 0x00020000 | (0x10000000 if user else 0))  # a name space of mounts, and of users
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    call("mount", b"none", b"/", None, 0x4000 | 0x40000, None)  # what is mounted here is seen here only
    folder.mkdir(exist_ok=True)
    call("mount", b"tmpfs", bytes(folder), b"tmpfs", 0, b"size=64m")

    def leave(pages: int) -> None:
        found = os.statvfs(folder)
        size = (found.f_blocks - found.f_bfree + pages) * found.f_frsize
        call("mount", b"tmpfs", bytes(folder), b"tmpfs", 32, f"size={size}".encode())  # 32: mounted anew

    yield leave
