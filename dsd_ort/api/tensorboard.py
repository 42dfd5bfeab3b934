"""What a run records, as event files of TensorBoard, written by tensorboardX (extra ``tensorboard``).

=====================================  =====================================================================
``train/loss``, ``learning_rate``,     every few updates, from ``progress``
``examples_per_second``, ``waiting``
``epoch/loss``, ``eval/METRIC``        after each epoch; ``eval/METRIC`` at update 0 is the model as it came
``phase/density``, ``phase/seconds``   at the end of each phase
=====================================  =====================================================================

A run that goes on writes a file beside the others; what was done after its checkpoint, TensorBoard then leaves out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from dsd_ort.errors import InstallationError, RunError
from dsd_ort.run.journal import Event

OF_PROGRESS = ("loss", "learning_rate", "examples_per_second", "waiting")
OF_PHASE = ("density", "seconds")
EXTRA = 'pip install "dsd-ort[tensorboard]"'


class EventFiles:
    """A listener that writes event files into *folder*.

    Raises:
        InstallationError: tensorboardX is missing.
        RunError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise InstallationError(
                "event files are written by tensorboardX, which is not installed", fix=EXTRA
            ) from error
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"the folder of the event files cannot be made: {error.strerror}"
            raise RunError(what, where=str(folder), fix="choose another folder") from error
        self._new: Callable[..., Any] = partial(SummaryWriter, str(folder))
        self._writer: Any = None

    def __call__(self, event: Event) -> None:
        if event["event"] == "resume":
            self.close()
            self._writer = self._open_file(purge_step=event["step"] + 1)
        values = dict(scalars(event))
        if not values:
            return
        self._writer = self._writer or self._open_file()
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, event["step"], walltime=event["time"])
        if event["event"] != "progress":
            self._writer.flush()

    def _open_file(self, **more: int) -> Any:
        """A file of its own: its name has seconds only, and TensorBoard reads files in the order of their names."""
        return self._new(filename_suffix=f".{time.time_ns()}", **more)

    def close(self) -> None:
        """Writes what is left."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def scalars(event: Event) -> Iterator[tuple[str, float]]:
    """The numbers of an event under TensorBoard's names."""
    kind = event["event"]
    if kind == "progress":
        yield from ((f"train/{name}", event[name]) for name in OF_PROGRESS if name in event)
    elif kind == "epoch":
        yield "epoch/loss", event["train_loss"]
    elif kind == "phase-end":
        yield from ((f"phase/{name}", event[name]) for name in OF_PHASE)
    if kind in ("measured", "epoch"):
        yield from ((f"eval/{name}", value) for name, value in event["metrics"].items())
