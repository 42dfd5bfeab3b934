"""Files that appear together, and complete, or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import pytest

from dsd_ort.file.writing import write


def test_all_are_there_under_their_names_and_the_last_one_appears_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    appeared: list[str] = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, to: appeared.append(to.name) or replace(path, to))
    write({tmp_path / "sub" / "a": lambda f: f.write(b"one"), tmp_path / "b": lambda f: f.write(b"two")})
    assert appeared == ["a", "b"]
    assert ((tmp_path / "sub" / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (b"one", b"two")


@pytest.mark.parametrize("fails", ["a function", "the disk"])
def test_where_one_fails_what_was_there_stays_and_nothing_half_written_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def broken(new: BinaryIO) -> None:
        new.write(b"half")
        if fails == "a function":
            raise ValueError

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    if fails == "the disk":
        monkeypatch.setattr(os, "fsync", full)
    with pytest.raises((ValueError, OSError)):
        write({tmp_path / "a": lambda f: f.write(b"new"), tmp_path / "b": broken})
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_bytes() == b"old"
