"""A file of measurements that grows: a row each, none measured twice."""

from __future__ import annotations

import fcntl
import json
import math
import os
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

Row = dict[str, Any]


class Rows(NamedTuple):
    """A JSON list with a line a row."""

    path: Path
    names: tuple[str, ...]
    """The columns that tell one measurement from another; the first is the task."""

    def read(self) -> list[Row]:
        """What was measured so far."""
        found: list[Row] = json.loads(self.path.read_text()) if self.path.exists() else []
        return found

    def key(self, row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in self.names)

    def measure(
        self, wanted: Iterable[Row], one: Callable[[Row], Row], is_whole: Callable[[Row], bool] = lambda row: True
    ) -> None:
        """Measures what is *wanted* and not there yet, one by one, says how long that takes, and keeps each at once.

        ``one`` gives what was measured, to which the columns are added; ``minutes`` is how long it took.  What is there
        and not *whole* is measured too, and ``one`` sees to it.
        """
        known = {self.key(row) for row in self.read() if is_whole(row)}
        missing = [row for row in wanted if self.key(row) not in known]
        for number, row in enumerate(missing):
            print(self._estimate(missing[number:]), flush=True)
            found = row | one(row)
            print(json.dumps(found), flush=True)
            self.add(found)

    def add(self, row: Row) -> None:
        """Puts *row* in the place of the same measurement.  Other processes may do so at the same time."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            there = sorted(({self.key(each): each for each in self.read()} | {self.key(row): row}).items())
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text("[\n" + ",\n".join(json.dumps(each) for _, each in there) + "\n]\n")
            temporary.replace(self.path)
        finally:
            os.close(folder)

    def _estimate(self, missing: list[Row]) -> str:
        task, known = self.names[0], self.read()
        minutes = {
            name: statistics.median(row["minutes"] for row in known if row[task] == name)
            for name in {row[task] for row in known}
        }
        guessed = sum(minutes.get(row[task], math.nan) for row in missing)
        text = f"about {guessed:.0f} min by those before" if math.isfinite(guessed) else "the first tells how long"
        return f"{len(missing)} to go: {text}"


def seeds_of(tasks: Iterable[str], shares: str, seeds: int) -> list[Row]:
    """What is to be measured: the first seed of each task and of each of the *shares*, ``"0,0.3"``, then the second."""
    return [
        {"task": task, "share": float(share), "seed": seed}
        for seed in range(seeds)
        for task in tasks
        for share in shares.split(",")
    ]


WRONG_LABELS = Rows(Path("docs/evidence_wrong_labels.json"), ("task", "noise", "share", "seed", "auto"))
FOLDS = Rows(Path("docs/evidence_folds.json"), ("task", "fold"))
EXPORTED = Rows(Path("docs/evidence_exported.json"), ("task", "share", "seed"))
SPARSE = Rows(Path("docs/evidence_sparse.json"), ("task", "share", "seed"))
IN_PYTORCH = Rows(Path("docs/evidence_in_pytorch.json"), ("task", "share", "seed"))
