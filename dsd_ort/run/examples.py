"""Which examples a run trains on: all of its data but those that lists in its folder name.

::

    RUN/without.csv           left out of the whole training: the recipe's list, or the one that it was begun with
    RUN/suspects-phase-3.csv  left out of phase 3: what the sparse network before it does not believe

Batches are functions of (examples, seed, epoch).  So the examples are fixed before the first step, and a run that goes
on with others is refused: the journal knows how many the data has, and the digest of those that are left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dsd_ort.data import Dataset, Subset, counted, without
from dsd_ort.data.source_forms import reading
from dsd_ort.errors import RunError
from dsd_ort.file import regular
from dsd_ort.graph.manifest import sha256
from dsd_ort.graph.program import WITHOUT, Program
from dsd_ort.run.journal import Event, Journal, read
from dsd_ort.run.suspects import Suspect, keep, write


class Examples:
    """Those of one run.

    Args:
        program: the run.
        whole: the data that is given.
        listed: the list of what is left out; by default the run folder's, if it has one.
        writes: whether this process is the one that writes lists.

    Raises:
        DataError: the list cannot be read, or does not fit the data.
    """

    def __init__(self, program: Program, whole: Dataset, listed: Path | None = None, *, writes: bool = True) -> None:
        self.program, self.folder, self.whole, self.writes = program, program.folder, whole, writes
        if listed is None and program.without is not None:
            self._refuse_changed_list()
        self.listed = listed or program.without
        self.left: Dataset = whole if self.listed is None else without(whole, self.listed)
        """What the run trains on."""

    def keep(self) -> None:
        """Puts the list into the run folder."""
        if self.writes and self.listed is not None and self.listed != self.folder / WITHOUT:
            with reading(str(self.listed), "the list"):
                content = self.listed.read_bytes()
            keep(self.folder / WITHOUT, content)

    def record(self, journal: Journal, **more: Any) -> None:
        """How many examples the data has, where they are and which are left, and what *more* there is to tell."""
        listed = {} if self.listed is None else {"list": sha256(self.listed.read_bytes())}
        journal.write("data", 0, **self._record(), data=self.whole.where, **listed, **more)

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

    def drop(self, phase: int, suspects: list[Suspect], journal: Journal, step: int) -> None:
        """Fixes what *phase*, from 1, does without.

        Raises:
            RunError: then nothing is left, or the list cannot be written.
        """
        count = counted(self.left).examples
        if len(suspects) == count:
            raise RunError(
                f"the sparse network believes none of the examples, so phase {phase} has none to train on",
                where=str(self.folder),
                fix="prepare the model anew, with a lower sparsity or without drop_suspects",
            )
        if self.writes:
            write(self._suspects(phase), suspects, counted(self.whole))
            listed = sha256(self._suspects(phase).read_bytes())
            left = self._left_in(phase).digest
            journal.write("suspects", step, phase=phase, suspects=len(suspects), examples=count, left=left, list=listed)

    def of_phase(self, phase: int) -> Dataset:
        """What *phase*, from 1, trains on: all that is left, but what was dropped when it began.

        Raises:
            RunError: the list is not the one that was made then.
            DataError: it is gone.
        """
        dropped = [e for e in read(self.folder) if e["event"] == "suspects" and e["phase"] == phase]
        if not dropped:
            self._refuse_lost_suspects(phase)
            return self.left
        regular.require(self.folder, self._suspects(phase))
        left = self._left_in(phase)
        if left.digest != dropped[-1]["left"]:
            raise RunError(
                f"the list of suspects was changed after phase {phase} began",
                where=str(self._suspects(phase)),
                fix="put the list back that was there",
            )
        return left

    def _refuse_lost_suspects(self, phase: int) -> None:
        """The phase trains without suspects, and its journal does not say which."""
        if self.program.recipe.phase[phase - 1].drop_suspects:
            raise RunError(
                f"the journal has lost what phase {phase} is trained without",
                where=str(self.folder),
                fix="put the run's own journal.jsonl back, or prepare the model into a new folder",
            )

    def _refuse_changed_list(self) -> None:
        """The list is the one that was prepared, or that a training began with, of which the journal knows."""
        began = [event["list"] for event in read(self.folder) if event["event"] == "data" and "list" in event]
        wanted = began[-1] if began else (self.program.manifest.file_digests or {}).get(WITHOUT)
        if wanted is not None:
            self.program.refuse_changed(self.folder / WITHOUT, wanted, "the list of examples that are left out")

    @property
    def numbers(self) -> np.ndarray:
        """Of what is left, in the whole data."""
        return self.left.indices if isinstance(self.left, Subset) else np.arange(counted(self.left).examples)

    def _left_in(self, phase: int) -> Subset:
        lists = [self._suspects(phase)] if self.listed is None else [self.listed, self._suspects(phase)]
        return without(self.whole, *lists)

    def _suspects(self, phase: int) -> Path:
        return self.folder / f"suspects-phase-{phase}.csv"

    def _record(self) -> Event:
        more = {} if self.listed is None else {"left": self.left.digest}
        return {"examples": self.whole.examples, **more}


def _record_in(event: Event) -> Event:
    return {key: event[key] for key in ("examples", "left") if key in event}
