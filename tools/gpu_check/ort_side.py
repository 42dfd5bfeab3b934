"""The side of an ONNX Runtime: prepares, checks, and takes steps.  ``python -m tools.gpu_check.ort_side``.

==========================================================================  ========================================
``{"hello": device}``                                                       ``{"versions": {…}, "device", "trains"}``
``{"prepare": kind, "name", "folder", "cpu", "tensors"}``                   ``{"seconds"}``
``{"check": what, "name", "folder", "device", "threads", "steps"}``         ``{"found": {check: {value, limit, …}}}``
``{"open": kind, "name", "folder", "device", "threads", "precision",``      ``{"loss"}``: of the first step
``"sparse", "cuda_graphs", "host"}``
``{"run": steps}``                                                          ``{"seconds", "losses"}``
``{"memory": true}``                                                        ``{"peak"}``: bytes of the process
==========================================================================  ========================================

A timed step reads a batch that is on the device already, and never left it; with ``host`` the engine is given the
host's arrays at each step.
"""

from __future__ import annotations

import gc
import platform
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import onnxruntime

from dsd_ort import runtime
from dsd_ort.data import prefetch
from dsd_ort.graph.program import open_program
from dsd_ort.run.arena import Arena
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from dsd_ort.run.memory import Sent
from dsd_ort.run.prune import write_masks
from dsd_ort.runtime import cuda, devices
from tools.gpu_check import checks, networks, prepared
from tools.gpu_check.pipe import Answers, serve
from tools.measuring.machine import cpu

RATE = 1e-5
"""Small: what is timed are steps of a network that stays about the same."""


class Steps:
    """A run folder's engine, and a batch."""

    def __init__(self, question: dict[str, Any]) -> None:
        place = Path(question["folder"]) / question["open"] / question["name"]
        program = open_program(place / "run")
        arena = Arena.of(program)
        arena.fill(prepared.values(program))
        self.sparse, self.host = question.get("sparse", False), question.get("host", False)
        if self.sparse:
            write_masks(arena, networks.SPARSITY, program.recipe.prune)
            arena.apply_masks()
        execution = Execution(
            runtime.choose_device(question["device"]),
            question["threads"],
            question["precision"],
            question.get("cuda_graphs", True),
        )
        self.engine = Engine(program, arena, execution)
        self.batch = networks.data(question["open"], question["name"])
        self.number = 0

    def first(self) -> float:
        loss = self.engine.step(self.batch, sparse=self.sparse, seed=0)
        self._update()
        self.engine.losses()
        return loss

    def run(self, steps: int) -> dict[str, Any]:
        began = time.perf_counter()
        with closing(prefetch(self._batches(steps))) as batches:
            for batch in batches:
                self.engine.queue(batch, sparse=self.sparse, seed=self.number)
                self._update()
        losses = self.engine.losses()  # waits for the device
        return {"seconds": time.perf_counter() - began, "losses": losses}

    def _batches(self, steps: int) -> Iterator[Sent | None]:
        """The batch each time, sent ahead as in training; or where it is already."""
        for _ in range(steps):
            yield self.engine.memory.send(self.batch) if self.host else None

    def _update(self) -> None:
        self.number += 1
        self.engine.update(RATE, self.number)


class OrtSide(Answers):
    """Answers questions."""

    def __init__(self) -> None:
        self.subjects: dict[tuple[str, str], checks.Subject] = {}

    def __call__(self, question: dict[str, Any]) -> dict[str, Any]:
        answer = super().__call__(question)
        if "check" in question:
            gc.collect()  # engines hold themselves by their sessions, and these the device's memory
        return answer

    def hello(self, question: dict[str, Any]) -> dict[str, Any]:
        chosen = runtime.choose_device(question["hello"])
        device: dict[str, Any] = {"name": cpu() if chosen.kind == "cpu" else chosen.name, "kind": chosen.kind}
        if chosen.kind == "cuda":
            gpu = devices.gpus()[chosen.index]
            device |= {"index": chosen.index, "memory": gpu.memory, "capability": gpu.capability}
            device["driver"] = devices.driver_version()
        installed = ", ".join(runtime.distributions())
        versions = {"package": installed, "onnxruntime": onnxruntime.__version__, "python": platform.python_version()}
        built = cuda.build()
        versions["cuda"] = built.cuda if built else ""
        return {"device": device, "versions": versions, "trains": runtime.trains()}

    def prepare(self, question: dict[str, Any]) -> dict[str, Any]:
        began = time.perf_counter()
        kind, name = question["prepare"], question["name"]
        place = prepared.prepare(Path(question["folder"]), kind, name)
        if question.get("cpu"):
            checks.write_cpu(checks.Subject(place, name))
        if question.get("tensors"):
            prepared.write_tensors(place, kind, name)
        return {"seconds": time.perf_counter() - began}

    def check(self, question: dict[str, Any]) -> dict[str, Any]:
        name, folder = question["name"], question["folder"]
        subject = self.subjects.get((folder, name)) or checks.Subject(Path(folder) / "small" / name, name)
        self.subjects[folder, name] = subject
        setting = checks.Setting(question["device"], question["threads"], question["steps"])
        what = question["check"]
        found = checks.CHECKS[what](subject, setting)
        return {"found": {k: f._asdict() for k, f in (found if isinstance(found, dict) else {what: found}).items()}}

    def open(self, question: dict[str, Any]) -> dict[str, Any]:
        self.steps = Steps(question)
        return {"loss": self.steps.first()}


if __name__ == "__main__":
    serve(OrtSide())
