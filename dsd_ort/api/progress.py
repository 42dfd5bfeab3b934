"""How far a run is, told from its folder alone, whoever trains it meanwhile."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from dsd_ort.graph.program import Program, open_program
from dsd_ort.recipe import Phase
from dsd_ort.run import health, journal, keeping, lock
from dsd_ort.run.journal import Event, read

RECENT = 10
"""Progress events by whose times the speed is told."""


@dataclass(frozen=True)
class PhaseStatus:
    """A phase of the recipe, and how far it is."""

    number: int
    """From 1."""
    kind: str
    sparsity: float | None
    done: int
    """Updates, as far as the journal knows: every twentieth is recorded."""
    of: int | None
    """All its updates; None as long as nobody knows, since no data have been opened."""
    complete: bool
    epoch: int
    """Whole epochs that are done."""
    metrics: dict[str, float]
    """Of its last evaluation."""


@dataclass(frozen=True)
class Status:
    """What :func:`status` tells."""

    run: Path
    model: str
    state: Literal["new", "training", "stopped", "complete"]
    """``training`` where a process holds the folder at this moment."""
    phases: tuple[PhaseStatus, ...]
    loss: float | None
    """Of the last recorded update."""
    learning_rate: float | None
    examples_per_second: float | None
    seconds_left: float | None
    """Of training, evaluation not counted; None where nothing tells yet."""
    checkpoint: float | None
    """When the last one was written, in seconds since 1970; what is older is safe."""
    remarks: tuple[str, ...]
    """What there is to say of how it goes."""

    @property
    def since_checkpoint(self) -> float | None:
        """Seconds."""
        return None if self.checkpoint is None else max(0.0, time.time() - self.checkpoint)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        found: dict[str, Any] = msgspec.to_builtins(self, enc_hook=str)
        return found


def status(run: str | Path) -> Status:
    """How far a run is; reads its folder and changes nothing, also while another process trains it.

    Args:
        run: the folder that :func:`dsd_ort.prepare` made.

    Raises:
        RunError: it is no run folder, or cannot be read.
    """
    program = open_program(run)
    events = read(program.folder)
    phases = tuple(_phases(program, events))
    progress = [event for event in events if event["event"] == "progress"]
    last = progress[-1] if progress else {}
    path = program.folder / keeping.CHECKPOINT
    complete = any(event["event"] == "end" for event in events)
    training = not complete and lock.is_held(program.folder)
    state: Any = "complete" if complete else "training" if training else "stopped" if path.exists() else "new"
    return Status(
        run=program.folder,
        model=program.manifest.model,
        state=state,
        phases=phases,
        loss=last.get("loss"),
        learning_rate=last.get("learning_rate"),
        examples_per_second=last.get("examples_per_second"),
        seconds_left=None if complete else _left(program.recipe.phase, phases, progress),
        checkpoint=path.stat().st_mtime if path.exists() else None,
        remarks=_remarks(events, complete=complete),
    )


def _remarks(events: Sequence[Event], *, complete: bool) -> tuple[str, ...]:
    damaged = journal.damage(events)
    return (*([damaged] if damaged else []), *(() if complete else health.remarks(events)))


def _phases(program: Program, events: Sequence[Event]) -> list[PhaseStatus]:
    found = []
    for number, phase in enumerate(program.recipe.phase, 1):
        own = [event for event in events if event.get("phase") == number]
        progress = [event for event in own if event["event"] == "progress"]
        measured = [event["metrics"] for event in own if event["event"] in ("epoch", "phase-end")]
        found.append(
            PhaseStatus(
                number=number,
                kind=phase.kind,
                sparsity=phase.final_sparsity,
                done=progress[-1].get("done", 0) if progress else 0,
                of=phase.steps or (progress[-1].get("of") if progress else None),
                complete=any(event["event"] == "phase-end" for event in own),
                epoch=sum(event["event"] == "epoch" for event in own),
                metrics=measured[-1] if measured else {},
            )
        )
    return found


def _left(recipe: Sequence[Phase], phases: Sequence[PhaseStatus], progress: Sequence[Event]) -> float | None:
    """By the speed of the last updates, and as many an epoch as in the phase that goes on."""
    recent = [event for event in progress[-RECENT:] if event["phase"] == progress[-1]["phase"]]
    if len(recent) < 2 or recent[-1]["step"] == recent[0]["step"]:
        return None
    per_update: float = (recent[-1]["time"] - recent[0]["time"]) / (recent[-1]["step"] - recent[0]["step"])
    now = phases[recent[-1]["phase"] - 1]
    epochs = recipe[now.number - 1].epochs
    per_epoch = None if now.of is None or not epochs else now.of / epochs
    updates = 0.0
    for phase, wanted in zip(phases, recipe, strict=True):
        if phase.complete:
            continue
        of = phase.of or (None if per_epoch is None or wanted.epochs is None else wanted.epochs * per_epoch)
        if of is None:
            return None
        updates += max(0, math.ceil(of) - phase.done)
    return updates * per_update
