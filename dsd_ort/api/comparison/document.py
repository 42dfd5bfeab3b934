"""``experiment.json``: all that an experiment has measured so far, and what it began with.

A result is written as soon as it is there, so what stands in the file is not measured again.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from dsd_ort.errors import RunError
from dsd_ort.run.suspects import keep

FILE, TABLE = "experiment.json", "experiment.csv"
VERSION = 1


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Metrics of some weights on both sets."""

    selection: dict[str, float]
    evaluation: dict[str, float]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """An arm with one seed."""

    arm: str
    title: str
    seed: int
    """The repetition, from 0."""
    sparsity: float | None = None
    prunes: bool = False
    """Whether a phase of it is sparse."""
    phase: int
    """Whose weights, from 1."""
    epoch: int
    """The phase's epoch, from 1."""
    measured: Measured
    density: float
    """The share of weights that are not zero, of those that may be pruned."""
    seconds: float
    """That its training took, with the phases that it shares."""
    skipped: int = 0
    """Updates that were left out, as they were not finite."""


class Diverged(msgspec.Struct, frozen=True, kw_only=True):
    """An arm that ended without a result with one seed."""

    arm: str
    seed: int
    why: str


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """A short sparse phase of the search for a sparsity; 0 is the same phase dense."""

    sparsity: float
    selection: dict[str, float]
    fit: float | None = None
    """The share of the training labels, as given, that the network gives; None for losses on values."""
    deviation: float | None = None
    """The standard error of the metric that decides, on the selection data; None where it is not known."""


class Final(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the model."""

    arm: str
    """``as it came`` where no arm is better on the selection data."""
    seed: int | None = None
    measured: Measured


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the file."""

    version: int = VERSION
    source_digest: str
    recipe: dict[str, Any]
    monitor: str
    """The metric that decides."""
    data: str
    """The digest of the training data, see :mod:`dsd_ort.data.digest`; of the others likewise."""
    selection: str
    evaluation: str
    came: Measured
    ladder: tuple[Rung, ...] = ()
    results: tuple[Result, ...] = ()
    diverged: tuple[Diverged, ...] = ()
    final: Final | None = None
    verdict: tuple[str, ...] = ()


BEGAN_WITH = {
    "source_digest": "the model",
    "recipe": "the recipe",
    "monitor": "the metric that chooses",
    "data": "the training data",
    "selection": "the selection data",
    "evaluation": "the evaluation data",
}
"""What an experiment that goes on must have in common with what it began with."""


def read(folder: Path) -> Document | None:
    """The document of an experiment; None where there is none.

    Raises:
        RunError: it is there and cannot be read.
    """
    path = folder / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Document)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise RunError(
            f"the experiment's results cannot be read: {error}",
            where=str(path),
            fix="put the file back that was there, or remove it: what is trained is then measured again",
        ) from error


def is_begun(folder: Path) -> bool:
    """Whether *folder* holds something that took training: a run, a result, a ladder."""
    there = read(folder)
    return any(folder.glob("*/*/*/checkpoint.safetensors")) or bool(there and (there.results or there.ladder))


def write(folder: Path, document: Document) -> None:
    """Writes both files, complete or not at all.

    Raises:
        RunError: they cannot be written.
    """
    keep(folder / FILE, msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerows(_table(document))
    keep(folder / TABLE, text.getvalue().encode())


def _table(document: Document) -> Iterator[list[object]]:
    """A row for each arm and seed, under the names of its columns."""
    names = list(document.came.evaluation)
    columns = [f"{kind}_{name}" for kind in ("selection", "evaluation") for name in names]
    yield ["arm", "seed", "sparsity", "phase", "epoch", *columns, "density", "seconds"]

    def values(measured: Measured) -> list[object]:
        return [of.get(name, "") for of in (measured.selection, measured.evaluation) for name in names]

    yield ["as it came", "", "", "", "", *values(document.came), "", ""]
    for r in document.results:
        sparsity = "" if r.sparsity is None else r.sparsity
        yield [r.arm, r.seed, sparsity, r.phase, r.epoch, *values(r.measured), f"{r.density:.6g}", r.seconds]


def refuse_another(folder: Path, there: Document, wanted: Document) -> None:
    """Raises RunError where *there*, in *folder*, began with something else than *wanted*."""
    differing = [what for key, what in BEGAN_WITH.items() if getattr(there, key) != getattr(wanted, key)]
    if there.version != wanted.version:
        differing.append("the version of its format")
    if differing:
        raise RunError(
            f"the folder holds another experiment: {', '.join(differing)} differ{'s' * (len(differing) == 1)}",
            where=str(folder),
            fix="give what it was begun with, or choose another folder",
        )
