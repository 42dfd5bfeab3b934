"""Files of a folder that somebody else may have made: whatever is opened in it is a regular file of its own.

A link in a folder leads to any file of the reader's, a FIFO waits for ever, a device may do anything.  So nothing below
the folder itself may be one, and what is opened is looked at once more when it is open.  Hard links are files.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dsd_ort.errors import RunError

_CAREFULLY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a file",
}


def require(folder: Path, path: Path, *, kind: int = stat.S_IFREG) -> None:
    """Refuses *path* where it, or a part of it below *folder*, is a link, a device or a FIFO.

    What is not there is not refused; *kind* is what the file itself is to be.

    Raises:
        RunError: it is, or lies outside of *folder*.
    """
    inner = path.relative_to(folder) if path.is_relative_to(folder) else None
    if inner is None or ".." in inner.parts:
        fix = "take it out of there: nothing outside of the folder is read or written"
        raise RunError(f"a file of the run is outside of its folder {folder}", where=str(path), fix=fix)
    here = folder
    for number, part in enumerate(inner.parts, 1):
        here = here / part
        try:
            found = stat.S_IFMT(here.lstat().st_mode)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            return
        wanted = kind if number == len(inner.parts) else stat.S_IFDIR
        if found != wanted:
            raise _refused(here, found, wanted)


def descriptor(folder: Path, path: Path, flags: int = os.O_RDONLY) -> int:
    """An open file of *folder*, by the flags of :func:`os.open`; the caller closes it.

    Raises:
        RunError: as :func:`require`.
        OSError: it is not there, or may not be opened.
    """
    require(folder, path)
    handle = os.open(path, flags | _CAREFULLY, 0o644)
    found = stat.S_IFMT(os.fstat(handle).st_mode)
    if found != stat.S_IFREG:
        os.close(handle)
        raise _refused(path, found, stat.S_IFREG)
    return handle


@contextlib.contextmanager
def opened(folder: Path, path: Path) -> Iterator[BinaryIO]:
    """A file of *folder*, to read; raises as :func:`descriptor`."""
    with os.fdopen(descriptor(folder, path), "rb") as file:
        yield file


def read(folder: Path, path: Path) -> bytes:
    """All of it; raises as :func:`descriptor`."""
    with opened(folder, path) as file:
        return file.read()


def is_there(path: Path) -> bool:
    """Whether there is something of this name, if only a link that leads nowhere."""
    return os.path.lexists(path)


def _refused(path: Path, kind: int, wanted: int) -> RunError:
    own = "a file of its own" if wanted == stat.S_IFREG else "a folder of its own"
    return RunError(
        f"{_KINDS.get(kind, 'something else')} stands where the run folder has {own}: it is not followed",
        where=str(path),
        fix="remove it, and put the run's own back; do not trust the folder if you do not know where it is from",
    )
