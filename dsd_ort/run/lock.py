"""One training at a time in a run folder."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from dsd_ort.errors import RunError


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a run folder; the lock goes with the process, however it ends.

    Where the system has no such locks (Windows, some network file systems) nothing is held.

    Raises:
        RunError: another process holds it.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(
                    "another process is training this run",
                    where=str(folder),
                    fix="wait for it to end, or stop it, and go on with --resume",
                ) from error
        yield
    finally:
        os.close(handle)


def is_held(folder: Path) -> bool:
    """Whether a process is training the run at this moment, as far as the system knows."""
    try:
        with locked(folder):
            return False
    except RunError:
        return True
