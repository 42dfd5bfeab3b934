"""Everything that dsd-ort refuses, as one tree of exceptions.

A message has three parts, in this order: *what* is wrong, *where* (file, node, key, shape), and what to do
about it (*fix*).  The command line prints exactly this text and exits with ``exit_status``; it never shows a
traceback, which of a defect of ours is in a file that the message names.
"""

from __future__ import annotations

import difflib
import os
import tempfile
import traceback
from collections.abc import Iterable
from typing import Any

from dsd_ort.notes import Note


class DsdError(Exception):
    """Base of all errors that a user can cause and can mend.

    Args:
        what: one sentence, what is wrong.
        where: the file, node, key or tensor that it is about.
        fix: what to do about it, as an instruction.
    """

    exit_status = 3

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(what, where, fix)
        self.what, self.where, self.fix = what, where, fix
        self.causes: tuple[DsdError, ...] = ()
        """Where one message stands for several errors: all of them."""

    def __reduce__(self) -> tuple[Any, ...]:
        """As another process is handed it."""
        return _again, (type(self), self.what, self.where, self.fix), {"causes": self.causes}

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The message, a part a line: what stands in it of files may break lines of its own."""
        if self.causes:
            return [line for error in merged(self.causes) for line in error.lines()]
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return lines


def _again(kind: type[DsdError], what: str, where: str | None, fix: str | None) -> DsdError:
    return kind(what, where=where, fix=fix)


class InstallationError(DsdError):
    """The Python environment cannot run dsd-ort (ONNX Runtime is missing, doubled or of the wrong kind)."""


class ModelError(DsdError):
    """The ONNX file cannot be read, or is not what its name says."""


class UnsupportedError(ModelError):
    """The model is sound, but this part of it cannot be trained."""

    notes: tuple[Note, ...] = ()
    """What would have been told of the rest of it."""


class RecipeError(DsdError):
    """A recipe with a wrong key, type or value, or a pattern that matches nothing."""


class DataError(DsdError):
    """Data that is missing, unreadable or does not fit the model."""


class RunError(DsdError):
    """A run folder that is missing, incomplete, or belongs to something else."""


class DamagedError(RunError):
    """A file of a run folder that is no longer what was written."""


class DivergedError(DsdError):
    """The loss or a weight became NaN or infinite."""


class Stopped(Exception):  # noqa: N818 - it is no error
    """The user asked to stop; the state is saved."""


class NativeError(DsdError):
    """Native code ended a process that did not want to end."""


class DefectError(DsdError):
    """A defect of dsd-ort itself; where its traceback was written down, the message says."""

    exit_status = 70


def defect(error: BaseException, where: str | None = None) -> DefectError:
    """What is told of an exception that nobody foresaw, whose traceback goes to a log file of its own."""
    what = f"a defect of dsd-ort itself: {type(error).__name__}: {str(error)[:300]}"
    lines = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    try:
        number, log = tempfile.mkstemp(prefix="dsd-ort-", suffix=".log")
        with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(lines)
    except OSError:  # no room on the disk: the frame that it happened in has to do
        frame = traceback.extract_tb(error.__traceback__)[-1]
        told = f"line {frame.lineno} of {frame.filename}"
    else:
        told = log
    return DefectError(what, where=where, fix=f"please report it, with {told}")


def merged(errors: Iterable[DsdError]) -> list[DsdError]:
    """One error for all that say the same and are mended alike, with all of their places."""
    kinds: dict[tuple[type[DsdError], str, str | None], dict[str, None]] = {}
    for error in errors:
        places = kinds.setdefault((type(error), error.what, error.fix), {})
        if error.where:
            places[error.where] = None
    return [kind(what, where="; ".join(places) or None, fix=fix) for (kind, what, fix), places in kinds.items()]


def nearest(name: str, names: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the name of *names* nearest to *name*, or an empty string."""
    match = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"did you mean {match[0]!r}?" if match else ""
