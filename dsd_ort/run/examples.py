"""Which examples a run trains on: all of its data but those that lists in its folder name.

::

    RUN/without.csv           left out of the whole training: the recipe's list, or the one that it was begun with

Batches are functions of (examples, seed, epoch).  So the examples are fixed before the first step, and a run that goes
on with others is refused: the journal knows how many the data has, and the digest of those that are left.
"""

from __future__ import annotations

from pathlib import Path

from dsd_ort.data import Dataset, without
from dsd_ort.data.source_forms import reading
from dsd_ort.errors import RunError
from dsd_ort.graph.program import WITHOUT, Program
from dsd_ort.run.journal import Event, Journal, read
from dsd_ort.run.suspects import keep


class Examples:
    """Those of one run.

    Args:
        program: the run.
        whole: the data that is given.
        listed: the list of what is left out; by default the run folder's, if it has one.

    Raises:
        DataError: the list cannot be read, or does not fit the data.
    """

    def __init__(self, program: Program, whole: Dataset, listed: Path | None = None) -> None:
        self.folder, self.whole = program.folder, whole
        self.listed = listed or program.without
        self.left: Dataset = whole if self.listed is None else without(whole, self.listed)
        """What the run trains on."""

    def begin(self, journal: Journal) -> None:
        """Keeps the list in the run folder, and records what it leaves."""
        if self.listed is not None and self.listed != self.folder / WITHOUT:
            with reading(str(self.listed), "the list"):
                content = self.listed.read_bytes()
            keep(self.folder / WITHOUT, content)
        if self.whole.examples is not None:
            journal.write("data", 0, **self._record())

    def refuse_others(self) -> None:
        """Raises RunError where the run began with other examples; those of earlier versions do not know."""
        began = next((event for event in read(self.folder) if event["event"] == "data"), None)
        known = {"examples": self.whole.examples} if began is None else _record_in(began)
        if known != self._record():
            raise RunError(
                "the run would go on with other examples than it began with",
                where=f"{self.folder}, and {self.left.where}",
                fix=f"give the same data; what is left out is listed in {self.folder / WITHOUT}",
            )

    def _record(self) -> Event:
        more = {} if self.listed is None else {"left": self.left.digest}
        return {"examples": self.whole.examples, **more}


def _record_in(event: Event) -> Event:
    return {key: event[key] for key in ("examples", "left") if key in event}
