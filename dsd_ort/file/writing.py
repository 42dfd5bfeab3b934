"""New files that appear together, and complete, or not at all.

A new file is filled under another name beside its own, ``.NAME.0123abcd.part``, which a lock on it holds as long as
somebody writes.  It is with the disk before it gets its name, and so is the folder afterwards: a power failure leaves
the old file or the new one.  What a killed process left is told by the name and by nobody holding it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)


def write(files: Mapping[Path, Callable[[BinaryIO], object]], *, between: Callable[[], object] = lambda: None) -> None:
    """Writes new files, in the place of those that have their names; each is what its function writes.

    They get their names when all are complete, the last one last: whoever sees that finds the others.  *between* is
    called when all are complete and none has its name.

    Raises:
        OSError: a file cannot be written, and nothing of any is left; and what the functions raise.
    """
    temporary = {path: beside(path) for path in files}
    try:
        for path, fill in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_left(path)
            with temporary[path].open("xb") as new:
                hold(new.fileno())
                fill(new)
                new.flush()
                os.fsync(new.fileno())
        between()
        for path in files:
            temporary[path].replace(path)
        for folder in {path.parent for path in files}:
            sync_folder(folder)
    finally:
        for path in temporary.values():
            with contextlib.suppress(OSError):
                path.unlink()


def beside(path: Path) -> Path:
    """A temporary name in the same folder, so that a rename is atomic."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")


def left(path: Path) -> list[Path]:
    """What killed processes left of writing *path*, a file or a folder: nobody holds it any more."""
    name = re.compile(re.escape(f".{path.name}.") + r"[0-9a-f]{8}\.part")
    try:
        found = sorted(each for each in path.parent.iterdir() if name.fullmatch(each.name))
    except OSError:
        return []
    return [each for each in found if not each.is_symlink() and not _is_held(each)]


def remove_left(path: Path) -> list[Path]:
    """Removes that, and says so; what was removed."""
    found = left(path)
    for each in found:
        log.warning("removed what a process that was killed left: %s", each)
        if each.is_dir():
            shutil.rmtree(each, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                each.unlink()
    return found


def hold(handle: int) -> None:
    """Holds an open file or folder until it is closed, where the system knows how to (not on Windows)."""
    if sys.platform != "win32":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def held_folder(path: Path) -> Callable[[], object]:
    """Holds a folder, where the system knows how to; what is returned lets it go."""
    if not hasattr(os, "O_DIRECTORY"):
        return lambda: None
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    hold(handle)
    return lambda: os.close(handle)


def _is_held(path: Path) -> bool:
    """Where nobody can tell, it is."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def sync_folder(folder: Path) -> None:
    """Makes the names in *folder* last through a power failure, where the system knows how to (not on Windows)."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_tree(folder: Path) -> None:
    """Makes all of a new folder last through a power failure: its files, then the names in it."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            sync_folder(path)
    sync_folder(folder)
