"""Copies of files, sparse and not."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from dsd_ort.file.copying import copy, link


def sparse(path: Path) -> Path:
    """48 MiB with data at the front, in the middle and in front of the end."""
    with path.open("wb") as file:
        for start in (0, 20 << 20, (48 << 20) - 70_000):
            file.seek(start)
            file.write(np.random.default_rng(start).bytes(60_001))
        file.truncate(48 << 20)
    return path


@pytest.mark.parametrize("content", [b"", b"x", bytes(5000), os.urandom(3 << 20)])
def test_the_copy_has_the_same_bytes(tmp_path, content):
    (tmp_path / "old").write_bytes(content)
    copy(tmp_path / "old", tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == content


def test_holes_stay_holes(tmp_path):
    old, new = sparse(tmp_path / "old"), tmp_path / "new"
    copy(old, new)
    assert new.read_bytes() == old.read_bytes()
    if sys.platform == "linux" and old.stat().st_blocks * 512 < 1 << 20:  # the file system knows holes
        assert new.stat().st_blocks * 512 < 1 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="other systems copy plainly anyway")
def test_where_the_system_cannot_share_blocks_it_copies(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    old, new = sparse(tmp_path / "old"), tmp_path / "new"
    copy(old, new)
    assert new.read_bytes() == old.read_bytes()


def test_a_file_that_cannot_be_written_raises_os_error(tmp_path):
    (tmp_path / "old").write_bytes(b"x")
    with pytest.raises(OSError, match="No such file"):
        copy(tmp_path / "old", tmp_path / "nowhere" / "new")


def test_a_link_is_the_file_itself_or_a_copy_where_there_are_none(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"weights")
    link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").samefile(tmp_path / "a")

    def none(path: Path, target: Path) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", none)
    link(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == b"weights" and not (tmp_path / "c").samefile(tmp_path / "a")
