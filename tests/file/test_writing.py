"""Files that appear together, and complete, or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import pytest

from dsd_ort.file.writing import hold, write


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


def test_what_a_killed_process_left_is_removed_and_what_somebody_writes_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left, other = tmp_path / ".a.0123abcd.part", tmp_path / ".a.toml.0123abcd.part"
    for path in (left, other, tmp_path / ".a.part"):
        path.write_bytes(b"half")
    (tmp_path / ".a.89abcdef.part").symlink_to(other)
    (tmp_path / ".a.01234567.part").mkdir()
    with (tmp_path / ".a.76543210.part").open("xb") as held:
        hold(held.fileno())
        write({tmp_path / "a": lambda file: file.write(b"new")})
        there = sorted(path.name for path in tmp_path.iterdir())
    assert there == [".a.76543210.part", ".a.89abcdef.part", ".a.part", ".a.toml.0123abcd.part", "a"]
    assert f"removed what a process that was killed left: {left}" in caplog.text


def test_between_all_are_complete_and_none_has_its_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    seen: list[bytes] = []
    write({tmp_path / "a": lambda file: file.write(b"new")}, between=lambda: seen.append((tmp_path / "a").read_bytes()))
    assert seen == [b"old"] and (tmp_path / "a").read_bytes() == b"new"
