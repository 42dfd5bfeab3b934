"""The record of a run: one JSON object a line in ``journal.jsonl``, and what a person sees meanwhile.

Every line has ``event`` and ``step`` (updates so far, over all phases):

=============  ==========================================================================================
``data``       before the first step: ``examples``, how many the data has (null: a stream); ``left``, the digest of
               those that are trained on, where a list leaves some out, and ``list``, that of the list; ``data`` and
               ``eval_data``, where they are; ``device``, ``precision``, ``threads``, ``versions``
``measured``   behind it, with evaluation data: ``metrics`` of the model as it came, which is its ``name``
``phase``      a phase begins: ``phase`` (from 1), ``kind``, ``sparsity``, ``epochs`` or ``steps``; ``sparsity_from``
               where it rises from there
``masks``      within one whose sparsity rises: new masks, of ``sparsity``
``suspects``   behind it: ``suspects`` of ``examples`` are dropped, ``left`` is the digest of the others, ``list``
               that of the list
``progress``   every few steps: ``loss``, ``learning_rate``, ``examples_per_second``, ``waiting``, the share of the
               time in which there was no data, ``done`` ``of`` the phase's updates
``epoch``      an epoch ends: ``epoch``, ``train_loss``, ``metrics`` on the evaluation data, ``best``; ``silent``, the
               parameters whose gradients were zero all the time, where there are any
``phase-end``  ``metrics``, ``density``, ``densities`` by weight, ``seconds``, ``reason``; ``skipped``, the updates that
               were left out so far, with ``--on-nan skip``
``resume``     ``keep``: of the events above this line the first that many count, the rest is done again; on which
               ``device`` it goes on, ``precision``, ``threads``, ``versions``
``end``        the run is complete
=============  ==========================================================================================

:func:`read` gives the events that count.  A line also says at which place among these it stands, ``at``, and ends with
its own checksum, ``check``; those of earlier versions have neither.  A last line without an end, as a crash leaves
it, is ignored; a line that is damaged counts as ``damaged``, and :func:`damage` says where.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dsd_ort.errors import RunError
from dsd_ort.file import regular
from dsd_ort.run.events import is_event

Event = dict[str, Any]

FILE = "journal.jsonl"
AS_IT_CAME = "as it came"
"""What the model is called before any training."""
DAMAGED = "damaged"
_CHECK = ', "check": "'
_LEAST = 20
"""Bytes that a line has at least, and so how many events there can be."""


class Journal:
    """Appends events to a run's journal and tells listeners.

    Args:
        folder: the run folder.
        listeners: called with each event, and with ``{"event": "tick", …}`` ones that are not recorded.
    """

    def __init__(self, folder: Path, *listeners: Callable[[Event], None]) -> None:
        self.folder, self.path, self.listeners = folder, folder / FILE, listeners
        self.count = len(read(folder))
        self.file: int | None = None

    def write(self, event: str, step: int, **content: Any) -> None:
        """Records an event; it is with the operating system when this returns.

        Raises:
            RunError: the file cannot be written.
        """
        record = {"event": event, "step": step, "time": round(time.time(), 3), **content}
        at = content.get("keep", self.count)
        line = _line(record, at)
        try:
            self.file = self._open() if self.file is None else self.file
            while line:  # what is left of it, where the disk is full in the middle, is torn
                line = line[os.write(self.file, line) :]
        except OSError as error:
            raise _unusable("written", self.path, error) from error
        self.count += 1
        self.tell(record)

    def _open(self) -> int:
        """The file, ready for a new line; only now, so that what is refused before the first event leaves no file."""
        left = regular.is_there(self.path) and _torn(regular.read(self.folder, self.path))
        file = regular.descriptor(self.folder, self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        if left:
            os.ftruncate(file, os.fstat(file).st_size - left)
        return file

    def sync(self) -> None:
        """Makes the events so far outlast a power failure: a checkpoint counts on them.

        Raises:
            RunError: the file cannot be written.
        """
        if self.file is not None:
            try:
                os.fsync(self.file)
            except OSError as error:
                raise _unusable("written", self.path, error) from error

    def resume(self, step: int, keep: int, **more: Any) -> None:
        """Marks that the run goes on from a checkpoint at which *keep* events counted; *more* is how."""
        self.write("resume", step, keep=keep, **more)
        self.count = keep

    def tell(self, event: Event) -> None:
        """Shows an event without recording it."""
        for listener in self.listeners:
            listener(event)

    def close(self) -> None:
        if self.file is not None:
            with contextlib.suppress(OSError):
                os.close(self.file)
            self.file = None


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
    for number, (event, at) in _lines(folder):
        if at is not None:
            del events[at:]
        missing = 1 if event is None else (at or 0) - len(events)
        step = events[-1]["step"] if events else 0
        events += [{"event": DAMAGED, "step": step, "line": number}] * max(missing, 0)
        if event is None:
            continue
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
    return [event for _, (event, _) in _lines(folder) if event is not None and event["event"] == "resume"]


def damage(events: Iterable[Event]) -> str:
    """What there is to say of damaged lines, or an empty string."""
    lines = [str(event["line"]) for event in events if event["event"] == DAMAGED]
    if not lines:
        return ""
    shown = ", ".join(lines[:5]) + (", …" if len(lines) > 5 else "")
    return f"{FILE} is damaged in line {shown}: what stood there is lost; weights and checkpoints do not depend on it"


def _lines(folder: Path) -> list[tuple[int, tuple[Event | None, int | None]]]:
    """Line number, from 1 → the event, None where it is damaged, and its place.  Without what is torn at the end."""
    path = folder / FILE
    try:
        content = regular.read(folder, path) if regular.is_there(path) else b""
    except OSError as error:
        raise _unusable("read", path, error) from error
    lines = content[: len(content) - _torn(content)].split(b"\n")
    found = [(number, _event(line)) for number, line in enumerate(lines, 1) if line.strip()]
    most = len(content) // _LEAST
    found = [(number, each if (each[1] or 0) <= most else (None, None)) for number, each in found]
    new = any(at is not None for _, (_, at) in found)
    # Earlier versions left what was torn, and went on behind it in a new line.
    return [each for each in found if new or each[1][0] is not None]


def torn(folder: Path) -> bool:
    """Whether the last line was not written to its end, as a kill leaves it; the next event cuts it off."""
    path = folder / FILE
    return regular.is_there(path) and bool(_torn(regular.read(folder, path)))


def _torn(content: bytes) -> int:
    """The bytes behind the last whole line."""
    return len(content) - content.rfind(b"\n") - 1


def _line(record: Event, at: int) -> bytes:
    text = json.dumps(record | {"at": at})[:-1]
    return f'{text}{_CHECK}{zlib.crc32(text.encode()):08x}"}}\n'.encode()


def _event(line: bytes) -> tuple[Event | None, int | None]:
    """The event of a line, and its place; None for what is damaged, and for the place where it does not say."""
    text, check, end = line.partition(_CHECK.encode())
    if check and end != b'%08x"}' % zlib.crc32(text):
        return None, None
    try:
        event = json.loads(text + b"}" if check else line)
    except (ValueError, RecursionError):
        return None, None
    at = event.pop("at", None) if check and isinstance(event, dict) else None
    whole = is_event(event) and (not check or (isinstance(at, int) and at >= 0))
    return (event, at) if whole else (None, None)


def copy(folder: Path, other: Path, count: int) -> None:
    """Begins the journal of *other* with the first *count* events of the run in *folder*, in place of what is there.

    Raises:
        RunError: one of the two cannot be read or written.
    """
    events = [event for event in read(folder)[:count] if event["event"] != DAMAGED]
    try:
        file = regular.descriptor(other, other / FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with os.fdopen(file, "wb") as stream:
            stream.writelines(_line(event, at) for at, event in enumerate(events))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise _unusable("written", other / FILE, error) from error


def _unusable(done: str, path: Path, error: OSError) -> RunError:
    return RunError(
        f"the journal cannot be {done}: {error.strerror}",
        where=str(path),
        fix="make room or permissions, then continue with --resume",
    )
