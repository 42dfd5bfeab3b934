"""The optimizer over the arena: everything is bound once, and scalars are cells that change.

The update graph writes over its own inputs, which is exact because the last node that reads an input is the one that
writes its successor.  On the CPU it runs over cache-sized pieces, on a GPU over a whole segment at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import onnx

from dsd_ort.device.mixed import LOSS_SCALE
from dsd_ort.graph.optimizer import guard, scaler
from dsd_ort.graph.optimizer.update import OPTIMIZERS
from dsd_ort.graph.program import Program
from dsd_ort.run.arena import Array, Segment, aligned_zeros
from dsd_ort.run.execution import Execution
from dsd_ort.run.memory import Buffer, Memory, Tensor, cell, part
from dsd_ort.run.sessions import Opened, open_session

PIECE = 64 * 1024
"""Elements of one update on the CPU: weights, gradients and slots of a piece stay in a core's cache."""


class Update(Protocol):
    """Moves the weights by the gradients that are in their buffer."""

    def run(self, learning_rate: float, step: int, weight: float) -> None:
        """One update: the gradients that were added up have this *weight*, and *step* is 1 for the first."""

    def step_inputs(self) -> dict[str, Tensor]:
        """Inputs that the step graph has for the update's sake."""

    def state(self) -> dict[str, float]:
        """What it has to go on from, beside slots and the number of updates."""

    def restore(self, state: Mapping[str, float], step: int) -> None:
        """Goes on from *state*; what is not in it is as after *step* updates of one that has no state."""


def new_update(
    program: Program, segments: Sequence[Segment], buffers: Mapping[str, Buffer], execution: Execution, memory: Memory
) -> Update:
    """The optimizer of *program* for an execution.

    Args:
        program: has recipe and update graph.
        segments: of the arena.
        buffers: ``weight``, ``gradient`` and the slots by name.
        execution: on what.
        memory: its device's.
    """
    parts = _Parts(program, segments, buffers, execution, memory)
    return GuardedUpdate(parts) if execution.guarded else HostUpdate(parts)


class _Parts(NamedTuple):
    """What an update is made of."""

    program: Program
    segments: Sequence[Segment]
    buffers: Mapping[str, Buffer]
    execution: Execution
    memory: Memory

    def open(self, model: onnx.ModelProto, where: str, threads: int | None = None) -> Opened:
        recorded = self.execution.records
        return open_session(model, self.execution, self.memory, where=where, recorded=recorded, threads=threads)


class _Segments:
    """An update graph, bound to all pieces of all segments; each segment has cells for the scalars of its own."""

    def __init__(self, model: onnx.ModelProto, parts: _Parts, given: Mapping[str, Tensor]) -> None:
        segments, buffers = parts.segments, parts.buffers
        names = sorted({value.name for value in model.graph.input} - set(buffers) - set(given))
        self.segments = [(segment, names) for segment in segments]
        self.scalars = parts.memory.buffer(aligned_zeros(len(segments) * len(names)))
        # A piece is too short to share among threads, and memory is the limit anyway.
        bound = parts.open(model, "the update", threads=1)
        self.pieces: list[Opened] = []
        for number, segment in enumerate(segments):
            cells = {name: cell(self.scalars, number * len(names) + at) for at, name in enumerate(names)}
            length = PIECE if parts.execution.on_cpu else segment.stop - segment.start
            for start in range(segment.start, segment.stop, length):
                stop = min(start + length, segment.stop)
                for name, tensor in (*given.items(), *cells.items()):
                    bound.read(name, tensor)
                for name, buffer in buffers.items():
                    bound.read(name, part(buffer, start, stop))
                    if name != "gradient":
                        bound.write(f"{name}_new", part(buffer, start, stop))
                self.pieces.append(bound)
                bound = bound.again()

    def set(self, scalars: Callable[[Segment], Mapping[str, np.float32]]) -> None:
        """Fills the cells, if they change."""
        found = np.array([scalars(segment)[name] for segment, names in self.segments for name in names], np.float32)
        if not np.array_equal(found, self.scalars.host):
            self.scalars.host[...] = found
            self.scalars.upload()

    def run(self) -> None:
        for piece in self.pieces:
            piece.run(where="the update")


class HostUpdate:
    """On the host in float32: scalars, the gradients' norm among them, are computed in float64."""

    def __init__(self, parts: _Parts) -> None:
        self.optimizer = parts.program.recipe.optimizer
        self.rule = OPTIMIZERS[self.optimizer.name]
        self.gradients = parts.buffers["gradient"]
        self.graph = _Segments(parts.program.graph("update"), parts, given={})

    def run(self, learning_rate: float, step: int, weight: float) -> None:
        scale, limit = 1.0 / weight, self.optimizer.clip_norm
        if limit is not None:
            scale *= min(1.0, limit / (norm(self.gradients.host) * scale + 1e-6))
        self.graph.set(
            lambda segment: self.rule.scalars(
                self.optimizer,
                learning_rate=learning_rate * segment.learning_rate_factor,
                weight_decay=segment.weight_decay,
                step=step,
                gradient_scale=scale,
            )
        )
        self.graph.run()

    def step_inputs(self) -> dict[str, Tensor]:
        return {}

    def state(self) -> dict[str, float]:
        return {}

    def restore(self, state: Mapping[str, float], step: int) -> None: ...


GIVEN = ("count", "limit", "interval")
STATE = ("scale", "good", "done", "skipped")
FOUND = ("gradient_scale", "keep", "norm")
"""Cells: what the host gives the scaler, what it goes on from, and what it finds."""
GUARD = {"scale": "gradient_scale", guard.KEEP: "keep", guard.DONE: "done"}
"""Input of the update graph → the scaler's output that it reads."""


class GuardedUpdate:
    """Where 16-bit gradients may overflow, and where the host does not wait: the device decides whether to update.

    A scaler graph looks at the gradients; if they are finite, the update graph applies them, otherwise it leaves all as
    it is.  Loss scale and the numbers of updates done and left out are cells of the device.
    """

    def __init__(self, parts: _Parts) -> None:
        self.optimizer = parts.program.recipe.optimizer
        self.schedule = scaler.SCHEDULES.get(parts.execution.precision, scaler.UNSCALED)
        self.given = parts.memory.buffer(aligned_zeros(len(GIVEN)))
        self.cells = parts.memory.buffer(aligned_zeros(len(STATE + FOUND)))
        self.tensors = {name: cell(self.given, at) for at, name in enumerate(GIVEN)}
        self.tensors |= {name: cell(self.cells, at) for at, name in enumerate(STATE + FOUND)}
        self.tensors["keep"] = self.tensors["keep"]._replace(dtype=np.bool_)
        graph = scaler.scaler_graph()
        self.scaler = parts.open(graph, "the loss scaler")
        for name, tensor in {**self.tensors, "gradient": part(parts.buffers["gradient"])}.items():
            self.scaler.read(name, tensor)
        for output in graph.graph.output:
            self.scaler.write(output.name, self.tensors[output.name.removesuffix("_new")])
        given = {name: self.tensors[at] for name, at in GUARD.items()}
        self.graph = _Segments(guard.guarded(self.optimizer), parts, given)
        self.restore({}, 0)
        if parts.execution.records:
            self._record()

    def _record(self) -> None:
        """CUDA runs what it records, and more than once: then nothing may be kept of it."""
        self.scaler.run(where="the loss scaler")
        self.restore({}, 0)  # with keep = 0
        self.graph.run()

    def run(self, learning_rate: float, step: int, weight: float) -> None:
        limit = self.optimizer.clip_norm
        self._give(weight, math.inf if limit is None else limit, self.schedule.interval)
        self.graph.set(
            lambda segment: guard.scalars(
                self.optimizer,
                learning_rate=learning_rate * segment.learning_rate_factor,
                weight_decay=segment.weight_decay,
            )
        )
        self.scaler.run(where="the loss scaler")
        self.graph.run()

    def _give(self, *values: float) -> None:
        given = np.array(values, np.float32)
        if not np.array_equal(given, self.given.host):
            self.given.host[...] = given
            self.given.upload()

    def step_inputs(self) -> dict[str, Tensor]:
        return {LOSS_SCALE: self.tensors["scale"]}

    def state(self) -> dict[str, float]:
        self.cells.download()
        return dict(zip(STATE, self.cells.host.tolist(), strict=False))

    def restore(self, state: Mapping[str, float], step: int) -> None:
        values = {"scale": self.schedule.initial, "done": float(step)} | dict(state)
        self.cells.host[...] = [values.get(name, 0.0) for name in STATE + FOUND]
        self.cells.upload()


def norm(gradients: Array) -> float:
    """The L2 norm, added up in float64 over float32 blocks."""
    blocks = np.split(gradients, range(PIECE, gradients.size, PIECE))
    with np.errstate(over="ignore"):  # an infinite norm makes the step vanish, and the loss tells
        return float(np.sqrt(sum(float(np.dot(block, block)) for block in blocks)))
