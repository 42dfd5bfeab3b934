"""The record of a run: one JSON object a line in ``journal.jsonl``, and what a person sees meanwhile.

Every line has ``event`` and ``step`` (updates so far, over all phases):

=============  ==========================================================================================
``data``       before the first step: ``examples``, how many the data has (null: a stream); ``left``, the digest of
               those that are trained on, where a list leaves some out; ``data`` and ``eval_data``, where they are;
               ``device``, ``precision``, ``threads``, ``versions``
``measured``   behind it, with evaluation data: ``metrics`` of the model as it came, which is its ``name``
``phase``      a phase begins: ``phase`` (from 1), ``kind``, ``sparsity``, ``epochs`` or ``steps``; ``sparsity_from``
               where it rises from there
``masks``      within one whose sparsity rises: new masks, of ``sparsity``
``suspects``   behind it: ``suspects`` of ``examples`` are dropped, ``left`` is the digest of the others
``progress``   every few steps: ``loss``, ``learning_rate``, ``examples_per_second``, ``waiting``, the share of the
               time in which there was no data, ``done`` ``of`` the phase's updates
``epoch``      an epoch ends: ``epoch``, ``train_loss``, ``metrics`` on the evaluation data, ``best``
``phase-end``  ``metrics``, ``density``, ``densities`` by weight, ``seconds``, ``reason``
``resume``     ``keep``: of the events above this line the first that many count, the rest is done again; on which
               ``device`` it goes on, ``precision``, ``threads``, ``versions``
``end``        the run is complete
=============  ==========================================================================================

:func:`read` gives the events that count.  A line that a crash tore is ignored.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from dsd_ort.errors import RunError

Event = dict[str, Any]

FILE = "journal.jsonl"
AS_IT_CAME = "as it came"
"""What the model is called before any training."""


class Journal:
    """Appends events to a run's journal and tells listeners.

    Args:
        folder: the run folder.
        listeners: called with each event, and with ``{"event": "tick", …}`` ones that are not recorded.
    """

    def __init__(self, folder: Path, *listeners: Callable[[Event], None]) -> None:
        self.path, self.listeners = folder / FILE, listeners
        self.count = len(read(folder))
        self.file: TextIO | None = None

    def write(self, event: str, step: int, **content: Any) -> None:
        """Records an event; it is with the operating system when this returns.

        Raises:
            RunError: the file cannot be written.
        """
        record = {"event": event, "step": step, "time": round(time.time(), 3), **content}
        try:
            self.file = self.file or self._open()
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()
        except OSError as error:
            raise _unusable("written", self.path, error) from error
        self.count += 1
        self.tell(record)

    def _open(self) -> TextIO:
        """The file, ready for a new line; only now, so that what is refused before the first event leaves no file."""
        torn = self.path.exists() and not (b"\n" + self.path.read_bytes()).endswith(b"\n")
        file = self.path.open("a", encoding="utf-8")
        if torn:
            file.write("\n")
        return file

    def sync(self) -> None:
        """Makes the events so far outlast a power failure: a checkpoint counts on them."""
        if self.file:
            os.fsync(self.file.fileno())

    def resume(self, step: int, keep: int, **more: Any) -> None:
        """Marks that the run goes on from a checkpoint at which *keep* events counted; *more* is how."""
        self.write("resume", step, keep=keep, **more)
        self.count = keep

    def tell(self, event: Event) -> None:
        """Shows an event without recording it."""
        for listener in self.listeners:
            listener(event)

    def close(self) -> None:
        if self.file:
            with contextlib.suppress(OSError):  # of a full disk: write() has told it
                self.file.close()


class Silent(Journal):
    """That of a rank which is not the first: it counts, and neither writes nor tells."""

    def write(self, event: str, step: int, **content: Any) -> None:
        self.count += 1

    def tell(self, event: Event) -> None: ...


def read(folder: Path) -> list[Event]:
    """The events of a run that count, in order; empty where there is no journal.

    Raises:
        RunError: the journal is there but cannot be read.
    """
    events: list[Event] = []
    for event in _lines(folder):
        if event["event"] == "resume":
            del events[event["keep"] :]
        else:
            events.append(event)
    return events


def resumed(folder: Path) -> list[Event]:
    """Where a run went on after a stop: its ``resume`` events, in order.

    Raises:
        RunError: as :func:`read`.
    """
    return [event for event in _lines(folder) if event["event"] == "resume"]


def _lines(folder: Path) -> Iterator[Event]:
    """All events, whether they count or not; what is no event is ignored."""
    path = folder / FILE
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines() if path.exists() else []
    except OSError as error:
        raise _unusable("read", path, error) from error
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):
            event = json.loads(line)
            if isinstance(event, dict) and "event" in event:
                yield event


def copy(folder: Path, other: Path, count: int) -> None:
    """Begins the journal of *other* with the first *count* events of the run in *folder*, in place of what is there.

    Raises:
        RunError: one of the two cannot be read or written.
    """
    lines = "".join(json.dumps(event) + "\n" for event in read(folder)[:count])
    try:
        with (other / FILE).open("w", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _unusable("written", other / FILE, error) from error


def _unusable(done: str, path: Path, error: OSError) -> RunError:
    return RunError(
        f"the journal cannot be {done}: {error.strerror}",
        where=str(path),
        fix="make room or permissions, then continue with --resume",
    )
