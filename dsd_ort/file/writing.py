"""New files that appear together, and complete, or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO


def write(files: Mapping[Path, Callable[[BinaryIO], object]]) -> None:
    """Writes new files, in the place of those that have their names; each is what its function writes.

    They get their names when all are complete, the last one last: whoever sees that finds the others.

    Raises:
        OSError: a file cannot be written, and nothing of any is left; and what the functions raise.
    """
    temporary = {path: _beside(path) for path in files}
    try:
        for path, fill in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary[path].open("xb") as new:
                fill(new)
                new.flush()
                os.fsync(new.fileno())
        for path in files:
            temporary[path].replace(path)
        for folder in {path.parent for path in files}:
            _sync_folder(folder)
    finally:
        for path in temporary.values():
            with contextlib.suppress(OSError):
                path.unlink()


def _beside(path: Path) -> Path:
    """A temporary name in the same folder, so that a rename is atomic."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")


def _sync_folder(folder: Path) -> None:
    """Makes the renames last through a power failure, where the system knows how to (not on Windows)."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
