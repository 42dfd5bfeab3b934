"""Power loss: of what was written, what was not synced is gone; a run goes on from it to the same bytes.

A layer below the run keeps what a disk is sure to have: the content of a file since its last ``fsync``, the names in a
folder since its last one.  At every sync and rename the power fails, in two ways: names come as far as they were
synced, as a disk may have it that writes late; or all names are there and content is not, as one may that writes names
first.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dsd_ort
from tests.models import cnn_data, write_cnn

DATA, HELD_OUT = cnn_data(32), cnn_data(8, seed=2)
RECIPE = dsd_ort.Recipe.from_dict(
    {
        "batch_size": 8,
        "phase": [
            {"kind": "dense", "epochs": 1, "learning_rate": 0.05},
            {"kind": "sparse", "sparsity": 0.4, "epochs": 2, "learning_rate": 0.05},
        ],
    }
)
Tree = dict[str, bytes | None]


class Disk:
    """What is below *folder*, as far as a disk is sure to have it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[int, dict[str, int]] = {}
        """Folder → name → what has it, by inode numbers."""
        self.content: dict[int, bytes] = {}
        self.crashes: list[tuple[Tree, Tree]] = []

    def sync(self, handle: int) -> None:
        found = os.fstat(handle)
        if stat.S_ISDIR(found.st_mode):
            with os.scandir(handle) as entries:
                self.names[found.st_ino] = {entry.name: entry.inode() for entry in entries}
        else:
            self.content[found.st_ino] = Path(f"/proc/self/fd/{handle}").read_bytes()
        self.fail()

    def fail(self) -> None:
        """Keeps both of what there would be if the power failed now."""
        self.crashes.append((dict(self._synced(self.folder.stat().st_ino, "")), dict(self._named())))

    def _synced(self, folder: int, path: str) -> Iterator[tuple[str, bytes | None]]:
        for name, inode in self.names.get(folder, {}).items():
            if inode in self.names or inode not in self.content:
                yield f"{path}{name}", None if inode in self.names else b""
                yield from self._synced(inode, f"{path}{name}/")
            else:
                yield f"{path}{name}", self.content[inode]

    def _named(self) -> Iterator[tuple[str, bytes | None]]:
        for path in sorted(self.folder.rglob("*")):
            name = str(path.relative_to(self.folder))
            yield name, None if path.is_dir() else self.content.get(path.stat().st_ino, b"")


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    (tmp_path / "disk").mkdir()
    made = Disk(tmp_path / "disk")
    sync, replace, unlink = os.fsync, os.replace, os.unlink

    def within(path: Any) -> bool:
        return str(path).startswith(str(made.folder))

    def synced(handle: int) -> None:
        sync(handle)
        if within(Path(f"/proc/self/fd/{handle}").readlink()):
            made.sync(handle)

    def watched(call: Callable[..., None]) -> Callable[..., None]:
        def called(path: Any, *more: Any, **options: Any) -> None:
            call(path, *more, **options)
            if within(path):
                made.fail()

        return called

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", watched(replace))
    monkeypatch.setattr(os, "unlink", watched(unlink))
    return made


def laid(tree: Tree, folder: Path) -> Path:
    """The files of a tree."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in sorted(tree.items()):
        path = folder / name
        path.mkdir(exist_ok=True, parents=True) if content is None else path.parent.mkdir(exist_ok=True, parents=True)
        if content is not None:
            path.write_bytes(content)
    return folder


def finished(model: Path, run: Path) -> str:
    """What a user does who finds *run* as it is."""
    if not run.exists():
        dsd_ort.prepare(model, run, RECIPE)
    begun = any(run.glob("checkpoint*.safetensors"))
    dsd_ort.train(run, DATA, eval_data=HELD_OUT, threads=1, resume=begun)
    dsd_ort.export(run, run.parent / "final.onnx")
    return hashlib.sha256((run.parent / "final.onnx").read_bytes()).hexdigest()


def test_whenever_the_power_fails_the_run_ends_with_the_same_bytes(tmp_path: Path, disk: Disk) -> None:
    model = write_cnn(tmp_path / "model.onnx")
    (tmp_path / "alone").mkdir()
    wanted = finished(model, tmp_path / "alone" / "run")
    run = disk.folder / "run"
    dsd_ort.prepare(model, run, RECIPE)
    dsd_ort.train(run, DATA, eval_data=HELD_OUT, threads=1, keep_checkpoints=2, checkpoint_seconds=0.0)
    crashes, disk.crashes = disk.crashes, []
    trees = {tuple(sorted(tree.items())) for both in crashes for tree in both}
    assert len(trees) > 40, "it failed in many places"
    assert sum(("run/checkpoint.safetensors" in dict(tree)) for tree in trees) > 20
    step = max(1, len(trees) // 24)
    for number, tree in enumerate(sorted(trees, key=str)[::step]):
        folder = laid(dict(tree), tmp_path / f"after-{number}")
        assert finished(model, folder / "run") == wanted, sorted(dict(tree))


def test_the_layer_drops_what_was_not_synced(tmp_path: Path, disk: Disk) -> None:
    path = disk.folder / "a"
    path.write_bytes(b"old")
    disk.fail()
    assert disk.crashes[-1] == ({}, {"a": b""}), "neither name nor content is sure"
    with path.open("rb") as file:
        os.fsync(file.fileno())
    assert disk.crashes[-1] == ({}, {"a": b"old"})
    handle = os.open(disk.folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
    path.write_bytes(b"new")
    disk.fail()
    assert disk.crashes[-1] == ({"a": b"old"}, {"a": b"old"})
    (disk.folder / "b").write_bytes(b"other")
    (disk.folder / "b").replace(path)
    assert disk.crashes[-1] == ({"a": b"old"}, {"a": b""})
