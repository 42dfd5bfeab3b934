"""What a comparison has measured: ``report.json`` in its folder, a row for each phase of each training."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dsd_ort.errors import RunError

DSD, DENSE_ONLY = "DSD", "dense only"
"""The trainings."""
REPORT = "report.json"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The model at the end of a phase."""

    training: str
    """``DSD``, ``dense only``, or ``as it came``: before any training."""
    phase: int
    """From 1; 0 for the model as it came."""
    kind: str
    metrics: dict[str, float]
    """On the evaluation data."""
    density: float
    """The share of weights that are not zero, of those that may be pruned."""
    seconds: float
    skipped: int | msgspec.UnsetType = msgspec.UNSET
    """Updates so far that were left out, as they were not finite; unset where that ends a training."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the file holds; it is complete when the final model was measured."""

    rows: tuple[Row, ...] = ()
    metrics: dict[str, float] | None = None
    """Of the final model in plain inference."""
    came: dict[str, float] | None = None
    """Of the model as it came; None in what earlier versions wrote."""


def read(folder: Path) -> Report:
    """The report so far; empty where there is none, or one that cannot be read: it is made again."""
    try:
        return msgspec.json.decode((folder / REPORT).read_bytes(), type=Report)
    except (FileNotFoundError, msgspec.DecodeError):
        return Report()


def write(folder: Path, report: Report) -> None:
    """Writes it, complete or not at all.

    Raises:
        RunError: it cannot be written.
    """
    temporary = folder / f".{REPORT}.tmp"
    try:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
        temporary.replace(folder / REPORT)
    except OSError as error:
        raise RunError(
            f"the report cannot be written: {error.strerror}",
            where=str(folder / REPORT),
            fix="make room or permissions, then give the same command again",
        ) from error
