"""What a training will take: memory and disk, which follow from model and recipe, and time, by its first updates.

With P trained weights, S of statistics, M that may be pruned and k slots of the optimizer, all of four bytes but masks
in a file, which have one::

    memory       4·((2 + k)·P + M + 2·S)      and on top what a batch takes, which nobody knows before a step
    checkpoint   4·((1 + k)·P + S) + M        there twice while it is replaced
    a phase      4·(P + S), twice             at its end, and of its best epoch
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence

from dsd_ort.graph.optimizer.update import OPTIMIZERS
from dsd_ort.graph.program import Program
from dsd_ort.run import keeping
from dsd_ort.run.journal import Event

UPDATES, SECONDS = 20, 10.0
"""After as many updates behind the first, or seconds, the time is told."""


def memory(program: Program) -> int:
    """Bytes of the flat buffers: weights, gradients, slots, masks, statistics."""
    trained, statistics, prunable, slots = _sizes(program)
    return 4 * ((2 + slots) * trained + prunable + 2 * statistics)


def disk(program: Program) -> int:
    """Bytes of all that a complete run writes, and of a second checkpoint while it is replaced."""
    trained, statistics, prunable, slots = _sizes(program)
    state = 4 * ((1 + slots) * trained + statistics) + prunable
    return 2 * state + 2 * len(program.recipe.phase) * 4 * (trained + statistics)


def _sizes(program: Program) -> tuple[int, int, int, int]:
    manifest = program.manifest
    sizes = (sum(p.size for p in pieces) for pieces in (manifest.trained, manifest.statistics, manifest.prunable))
    trained, statistics, prunable = sizes
    return trained, statistics, prunable, len(OPTIMIZERS[program.recipe.optimizer.name].slots)


def needs(program: Program) -> Event:
    """What is known before the first update, as a listener is told it: ``memory``, ``disk`` and ``free``, in bytes."""
    written = [program.folder / keeping.CHECKPOINT, *(program.folder / "phases").glob("*.safetensors")]
    there = sum(path.stat().st_size for path in written if path.exists())
    return {
        "event": "needs",
        "memory": memory(program),
        "disk": max(0, disk(program) - there),
        "free": shutil.disk_usage(program.folder).free,
    }


class Outlook:
    """A listener that tells once, as soon as some updates are done, how long the others will take.

    Args:
        updates: of each phase.
        until: the phase to end after, from 1.
        tell: is told ``seconds`` of training that are left, and ``memory``, the bytes that the process has taken so far
            at most, None where that is not known.
    """

    def __init__(self, updates: Sequence[int], until: int | None, tell: Callable[[Event], None]) -> None:
        self.updates, self.tell = list(updates)[:until], tell
        self.first: tuple[float, int] | None = None
        self.told = False

    def __call__(self, event: Event) -> None:
        if event["event"] != "tick" or self.told:
            return
        now, phase, done = time.monotonic(), event["phase"], event["done"]
        if self.first is None or done < self.first[1]:  # a session's first step takes longer, in each phase
            self.first = now, done
        began, at = self.first
        if done == at or (done - at < UPDATES and now - began < SECONDS):
            return
        left = sum(self.updates[phase - 1 :]) - done
        self.told = True
        self.tell({"event": "outlook", "seconds": left * (now - began) / (done - at), "memory": peak()})


def peak() -> int | None:
    """The most bytes of memory that the process has had; None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else 1024 * found
