"""Which files of a run folder hold weights, by name, and which checkpoints are kept behind the last one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from dsd_ort.file import copying, writing

CHECKPOINT = "checkpoint.safetensors"
DAMAGED = "checkpoint.damaged.safetensors"
LEFT = (".tmp??????", f".{CHECKPOINT}.tmp")
"""What earlier versions leave beside a file where they were killed while writing it."""


def weights_file(folder: Path, index: int, kind: str, *, best: bool = False) -> Path:
    """Where a run keeps the weights of phase *index* (from 0): those at its end, or of its *best* epoch."""
    return folder / "phases" / f"{index + 1}-{kind}{'.best' if best else ''}.safetensors"


def earlier_file(folder: Path, number: int) -> Path:
    """Where a run keeps the checkpoint that is *number* before the last one, if it keeps more than one."""
    return folder / f"checkpoint.{number}.safetensors"


def keep_earlier(path: Path, keep: int) -> None:
    """The file that is there becomes the first of *keep* - 1 earlier ones; there is a last one at any moment."""
    for number in range(keep - 1, 1, -1):
        if (younger := earlier_file(path.parent, number - 1)).exists():
            younger.replace(earlier_file(path.parent, number))
    if keep > 1 and path.exists():
        link(path, earlier_file(path.parent, 1))


def link(path: Path, other: Path) -> None:
    """Gives the file a second name, in the place of what has it; a copy where there are no hard links."""
    temporary = writing.beside(other)
    try:
        os.link(path, temporary)
    except (OSError, NotImplementedError):  # the file system has no links, or the platform has none
        copying.copy(path, temporary)
    temporary.replace(other)
    temporary.unlink(missing_ok=True)  # a rename between two names of one file leaves both


def remove_left(folder: Path) -> list[str]:
    """Removes what a killed process left half-written in a run folder that is held; the names of it."""
    places = [folder, *(p for p in [folder / "phases"] if p.is_dir() and not p.is_symlink())]
    found = [path for place in places for pattern in (*LEFT, ".*.????????.part") for path in place.glob(pattern)]
    for path in found:
        with contextlib.suppress(OSError):
            path.unlink()
    return [path.name for path in found]
