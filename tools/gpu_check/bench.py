"""What all tasks share: the sides that are open, the time that is left, the folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dsd_ort.errors import DsdError
from dsd_ort.runtime import devices
from tools.gpu_check.pipe import OutOfTime, Side, SideError
from tools.gpu_check.results import Row

MODULES = {"training": "ort_side", "stock": "ort_side", "torch": "torch_side"}


@dataclass
class Options:
    """Of the command line."""

    folder: Path
    pythons: dict[str, str]
    """Side → the command that starts its Python."""
    device: str = "cuda"
    threads: int = 0
    seconds: float = 540.0
    """For everything together."""
    patience: float = 240.0
    """For one answer."""
    rounds: int = 7
    round_seconds: float = 0.5
    steps: int = 200
    """Of a loss curve."""
    sizes: str = "full"
    """Of what is timed: full or tiny."""

    @property
    def on_cpu(self) -> bool:
        return self.device == "cpu"


class Task(NamedTuple):
    """Gives rows.  Small ``order`` first."""

    order: tuple[int, ...]
    name: str
    about: dict[str, Any]
    """What its rows have in common."""
    work: Callable[[Bench], list[Row]]


@dataclass
class Bench:
    """Sides are started when they are first needed; a named one stays open until another part begins."""

    options: Options
    began: float = field(default_factory=time.monotonic)
    open_sides: dict[str, Side] = field(default_factory=dict)
    prepared: set[tuple[str, str, bool, bool]] = field(default_factory=set)
    base: Any = None
    """The side that the next timings may be against as well, see :mod:`tools.gpu_check.speed`."""

    def left(self) -> float:
        return self.began + self.options.seconds - time.monotonic()

    def start(self, side: str) -> Side:
        """A process of its own."""
        log = self.options.folder / "log" / f"{side}.txt"
        return Side(self.options.pythons[side], f"tools.gpu_check.{MODULES[side]}", log)

    def side(self, side: str) -> Side:
        """The shared process of a side; a new one if it has ended, or an answer was an error."""
        found = self.open_sides.get(side)
        if found is None or found.failed or found.process.poll() is not None:
            self.close(side)
            found = self.open_sides[side] = self.start(side)
        return found

    def close(self, *names: str) -> None:
        """Ends shared processes, all if none is named."""
        for name in names or tuple(self.open_sides):
            if name in self.open_sides:
                self.open_sides.pop(name).close()

    def ask(self, side: Side, **question: Any) -> dict[str, Any]:
        """An answer in time.

        Raises:
            SideError: there is none; the side is then closed.
            OutOfTime: the time for everything is over.
        """
        limit = self.options.patience
        try:
            return side.ask(question, min(limit, max(self.left(), 0.0)))
        except OutOfTime:
            side.close()
            if self.left() <= 0:
                raise
            raise SideError(f"no answer in {limit:.0f} s") from None

    def prepare(self, kind: str, name: str, *, cpu: bool = False, tensors: bool = False) -> None:
        """Makes what is not in the folder yet, by the training build if there is one."""
        key = (kind, name, cpu, tensors)
        if key not in self.prepared:
            maker = "training" if "training" in self.options.pythons else "stock"
            question = {"prepare": kind, "name": name, "folder": str(self.options.folder.resolve())}
            self.ask(self.side(maker), **question, cpu=cpu, tensors=tensors)
            self.prepared.add(key)

    def free_memory(self) -> int:
        """Bytes of the GPU that nobody uses; 0 on the CPU, and where the driver does not tell."""
        if self.options.on_cpu:
            return 0
        try:
            devices.start_driver()
            return devices.free_memory(int(self.options.device.partition(":")[2] or 0)) or 0
        except (DsdError, AttributeError, OSError):  # no reason to lose a timing
            return 0
