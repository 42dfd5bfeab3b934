"""What the measurements of the evidence say: means over seeds, paired differences, and words for them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dsd_ort import statistics
from dsd_ort.statistics import Paired
from tools.evidence.rows import Row

DENSE, EARLY, DECAY, DSD, DROPPED = "dense-only", "early-stopping", "weight-decay", "dsd", "drop-suspects"


def lower(new: Sequence[float], old: Sequence[float]) -> Paired:
    """How errors differ, over seeds or folds."""
    return statistics.over_seeds(new, old, higher_is_better=False)


def difference(found: Paired, digits: int = 2) -> str:
    """The mean difference with its interval: ``-4.1 (-5.0 … -3.2)``."""
    if found.interval is None:
        return f"{found.mean:+.{digits}f}"
    return "{:+.{d}f} ({:+.{d}f} … {:+.{d}f})".format(found.mean, *found.interval, d=digits)


def word(found: Paired) -> str:
    """``better`` or ``worse`` where the interval leaves out 0."""
    if found.interval is None:
        return "too few"
    low, high = found.interval
    return "better" if high < 0 else "worse" if low > 0 else "no difference seen"


@dataclass(frozen=True)
class Group:
    """A network on labels of one noise and share, over seeds."""

    task: str
    noise: str
    share: float
    auto: bool
    rows: tuple[Row, ...]

    @cached_property
    def sparsities(self) -> list[str]:
        """As in the names of arms."""
        names = [name.removeprefix("dsd-") for name in self.rows[0]["arms"] if name.startswith("dsd-")]
        return [name for name in names if all(f"dsd-{name}" in row["arms"] for row in self.rows)]

    def errors(self, arm: str) -> list[float]:
        """On right labels in percent, seed by seed; of DSD at the sparsity that chooses best, if none is named."""
        return [row["arms"][chosen(row, arm)]["error"] for row in self.rows]

    def mean(self, arm: str, what: str = "error") -> float:
        return float(np.mean([row["arms"][chosen(row, arm)][what] for row in self.rows]))

    def against(self, arm: str, other: str) -> Paired:
        return lower(self.errors(arm), self.errors(other))

    def chosen(self, arm: str) -> list[float]:
        """The sparsity that chooses best, seed by seed."""
        return [sparsity(chosen(row, arm)) for row in self.rows]

    @property
    def timed(self) -> tuple[Row, ...]:
        """The rows whose seconds count: one that says ``held`` was stopped now and then, for other measurements."""
        return tuple(row for row in self.rows if not row.get("held"))

    def seconds(self) -> float:
        """How long DSD takes, of dense only: the median over the seeds that are timed, and sparsities."""
        return float(
            np.median([row["arms"][f"dsd-{name}"]["seconds"] for row in self.timed for name in self.sparsities])
            / np.median([row["arms"][DENSE]["seconds"] for row in self.timed])
        )

    def best(self) -> str:
        """The sparsity with the lowest mean error on right labels, which nobody has who has wrong ones."""
        return min(self.sparsities, key=lambda name: self.mean(f"dsd-{name}"))


def sparsity(arm: str) -> float:
    """Of an arm that prunes, from its name: ``dsd-0.9-alive``."""
    return float(arm.removesuffix("-alive").rpartition("-")[2])


def chosen(row: Row, arm: str) -> str:
    """*arm*, or of DSD and DSD without suspects the sparsity whose error on the labels that choose is lowest."""
    if arm in row["arms"]:
        return arm
    candidates = [name for name in row["arms"] if name.startswith(f"{arm}-")]
    return min(candidates, key=lambda name: row["arms"][name]["select error"])


def groups(rows: Iterable[Row]) -> Iterator[Group]:
    """Rows of one task, noise and share together, in the order of the file."""
    found: dict[tuple[str, str, float, bool], list[Row]] = {}
    for row in rows:
        found.setdefault((row["task"], row["noise"], row["share"], row["auto"]), []).append(row)
    return (Group(*key, tuple(of)) for key, of in found.items())


def by(rows: Iterable[Row], *names: str) -> list[tuple[tuple[Any, ...], list[Row]]]:
    """Rows with the same entries under *names* together, in the order of the file."""
    found: dict[tuple[Hashable, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return list(found.items())
