"""Only regular files of a folder's own are opened in it, whatever somebody put there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from dsd_ort.errors import RunError
from dsd_ort.file import regular

ODD: dict[str, Callable[[Path, Path], object]] = {
    "a symbolic link": lambda path, victim: path.symlink_to(victim),
    "a FIFO": lambda path, victim: os.mkfifo(path),
    "a folder": lambda path, victim: path.mkdir(),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "victim").write_bytes(b"somebody's")
    (tmp_path / "run" / "phases").mkdir(parents=True)
    return tmp_path / "run"


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_APPEND], ids=["read", "append"])
def test_what_is_no_file_is_not_opened(folder: Path, kind: str, flags: int) -> None:
    victim = folder.parent / "victim"
    ODD[kind](folder / "journal.jsonl", victim)
    with pytest.raises(RunError, match=f"{kind} stands where the run folder has a file of its own"):
        regular.descriptor(folder, folder / "journal.jsonl", flags)
    assert victim.read_bytes() == b"somebody's"


def test_a_link_that_leads_nowhere_makes_no_file(folder: Path) -> None:
    (folder / "new").symlink_to(folder.parent / "elsewhere")
    with pytest.raises(RunError, match="a symbolic link"):
        regular.descriptor(folder, folder / "new", os.O_WRONLY | os.O_CREAT)
    assert not (folder.parent / "elsewhere").exists()
    assert regular.is_there(folder / "new")


def test_a_folder_on_the_way_that_is_a_link_is_not_followed(folder: Path) -> None:
    (folder / "phases").rmdir()
    (folder / "phases").symlink_to(folder.parent)
    with pytest.raises(RunError, match="a symbolic link stands where the run folder has a folder"):
        regular.read(folder, folder / "phases" / "victim")


@pytest.mark.parametrize("path", ["../victim", "phases/../../victim"])
def test_nothing_outside_is_opened(folder: Path, path: str) -> None:
    with pytest.raises(RunError, match="outside of its folder"):
        regular.read(folder, folder / path)
    with pytest.raises(RunError, match="outside of its folder"):
        regular.read(folder, folder.parent / "victim")


def test_a_device_is_refused_when_it_is_open_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regular, "require", lambda folder, path: None)
    with pytest.raises(RunError, match="a device"):
        regular.descriptor(folder, Path("/dev/null"))


def test_the_folder_itself_may_be_a_link_and_a_file_have_two_names(folder: Path) -> None:
    (folder / "a").write_bytes(b"one")
    os.link(folder / "a", folder / "b")
    (folder.parent / "link").symlink_to(folder)
    assert regular.read(folder.parent / "link", folder.parent / "link" / "b") == b"one"
    regular.require(folder, folder / "phases", kind=stat.S_IFDIR)
    regular.require(folder, folder / "not" / "there")
