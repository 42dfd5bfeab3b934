"""Copies of large files that take no more time and disk than they have to."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path

_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV}


def copy(old: Path, new: Path) -> None:
    """Copies the bytes of *old* to the new file *new*; holes stay holes and blocks are shared where the system can.

    Raises:
        OSError: a file cannot be read or written.
    """
    try:
        _copy_extents(old, new)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        shutil.copyfile(old, new)


def link(old: Path, new: Path) -> None:
    """Makes *new* a link to *old*, or a copy of it where there are no links.

    Raises:
        OSError: a file cannot be read or written.
    """
    try:
        new.symlink_to(old.absolute())
    except (OSError, NotImplementedError):  # the file system has no links, or the platform has none
        copy(old, new)


def _copy_extents(old: Path, new: Path) -> None:
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    with old.open("rb") as source, new.open("wb") as target:
        size = os.fstat(source.fileno()).st_size
        at = 0
        while at < size:
            try:
                at = os.lseek(source.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # there is only a hole left
                    break
                raise
            end = os.lseek(source.fileno(), at, os.SEEK_HOLE)
            while at < end:
                count = os.copy_file_range(source.fileno(), target.fileno(), end - at, at, at)
                if not count:
                    raise OSError(errno.EIO, "the file became shorter while it was copied")
                at += count
        os.ftruncate(target.fileno(), size)
