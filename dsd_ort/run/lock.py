"""One training at a time in a run folder.

The system's own lock on the folder goes with the process, however it ends, so none of these is ever stale.  Beside it
``lock.json`` says who holds it::

    {"process": 4711, "host": "amber", "since": 1764450000.0}

Where the system has no such locks (Windows, some network file systems), that file decides: a process of this host that
is no longer there left it, and one of another host may be at work.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from dsd_ort.errors import RunError
from dsd_ort.file import regular

FILE = "lock.json"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL, errno.EACCES}


class Owner(msgspec.Struct, frozen=True):
    """Who holds a run folder."""

    process: int
    host: str
    since: float

    def __str__(self) -> str:
        return f"process {self.process} of {self.host!r}"


@contextlib.contextmanager
def locked(folder: Path, tell: Callable[[str], None] = lambda text: None) -> Iterator[None]:
    """Holds a run folder.

    Args:
        folder: that is held.
        tell: is told of an owner that is no more.

    Raises:
        RunError: another process holds it.
    """
    with _lock(folder) as certain:
        before = owner(folder)
        if not certain and before is not None and _may_live(before):
            raise _busy(folder)
        if before is not None:
            tell(f"{before} held this run and ended without a word, as when it is killed; what it saved is there")
        mine = Owner(process=os.getpid(), host=platform.node(), since=round(time.time(), 3))
        with contextlib.suppress(OSError):  # where nothing can be written, whatever is done next says so
            handle = regular.descriptor(folder, folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(mine))
        try:
            yield
        finally:
            if owner(folder) == mine:
                with contextlib.suppress(OSError):
                    (folder / FILE).unlink()


def is_held(folder: Path) -> bool:
    """Whether a process is training the run at this moment, as far as the system knows."""
    try:
        with _lock(folder, shared=True) as certain:
            found = owner(folder)
            return not certain and found is not None and _may_live(found)
    except RunError:
        return True


def owner(folder: Path) -> Owner | None:
    """Who holds the folder, or held it last and did not say that it ended."""
    try:
        return msgspec.json.decode(regular.read(folder, folder / FILE), type=Owner)
    except (OSError, RunError, msgspec.DecodeError, UnicodeDecodeError):
        return None


@contextlib.contextmanager
def _lock(folder: Path, *, shared: bool = False) -> Iterator[bool]:
    """Holds the system's own lock; gives whether there is one."""
    if sys.platform == "win32":
        yield False
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        yield _taken(folder, handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB, shared=shared)
    finally:
        os.close(handle)


def _taken(folder: Path, handle: int, kind: int, *, shared: bool) -> bool:
    """Whether there is a lock, which then is held; who only looks whether it is held goes soon, and owns nothing."""
    for attempt in range(100):
        if (found := _try(handle, kind)) is not None:
            return found
        if attempt >= 3 and (shared or owner(folder) is not None):
            break
        time.sleep(0.05)
    raise _busy(folder)


def _try(handle: int, kind: int) -> bool | None:
    """Whether it was taken; False where there are no locks, None where somebody else has it."""
    import fcntl

    try:
        fcntl.flock(handle, kind)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def _busy(folder: Path) -> RunError:
    found = owner(folder)
    return RunError(
        "another process is training this run" + (f": {found}" if found else ""),
        where=str(folder),
        fix="wait for it to end, or stop it, and go on with --resume"
        + (f"; if it is no more, remove {folder / FILE}" if found and found.host != platform.node() else ""),
    )


def _may_live(found: Owner) -> bool:
    """Whether the process may be at work: on another host nobody can tell."""
    if found.host != platform.node() or sys.platform == "win32" or found.process <= 0:
        return True
    try:
        os.kill(found.process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
