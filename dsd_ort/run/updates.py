"""The optimizer over the arena: everything is bound once, and scalars are cells that change.

The update graph writes over its own inputs, which is exact because the last node that reads an input is the one that
writes its successor.  How it runs over the buffers: :mod:`dsd_ort.run.pieces`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from dsd_ort.device.mixed import LOSS_SCALE
from dsd_ort.graph.optimizer import guard, scaler
from dsd_ort.graph.optimizer.update import OPTIMIZERS, unscaled
from dsd_ort.graph.program import Program
from dsd_ort.run.arena import Array, Segment, aligned_zeros
from dsd_ort.run.execution import Execution
from dsd_ort.run.memory import Buffer, Memory, Tensor, cell, part
from dsd_ort.run.pieces import Parts, Pieces

BLOCK = 64 * 1024
"""Gradients whose squares are added up in float32; another number makes other bytes of clipped updates."""


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
    parts = Parts(segments, buffers, execution, memory)
    return GuardedUpdate(program, parts) if execution.guarded else HostUpdate(program, parts)


class HostUpdate:
    """On the host in float32: scalars, the gradients' norm among them, are computed in float64."""

    def __init__(self, program: Program, parts: Parts) -> None:
        self.optimizer, self.parts = program.recipe.optimizer, parts
        self.rule = OPTIMIZERS[self.optimizer.name]
        self.gradients = parts.buffers["gradient"]
        self.model = program.graph("update")
        # Not where the update is guarded: ONNX Runtime's Where makes +0 of -0, and a row left alone would keep it.
        self.tables = [p for p in program.manifest.parameters if p.trained and p.role == "embedding"]
        self._pieces: dict[bool, Pieces] = {}

    def run(self, learning_rate: float, step: int, weight: float) -> None:
        scale, limit = 1.0 / weight, self.optimizer.clip_norm
        if limit is not None:
            scale *= min(1.0, limit / (norm(self.gradients.host) * scale + 1e-6))

        def scalars(segment: Segment) -> dict[str, np.float32]:
            return self.rule.scalars(
                self.optimizer,
                learning_rate=learning_rate * segment.learning_rate_factor,
                weight_decay=segment.weight_decay,
                step=step,
                gradient_scale=scale,
            )

        pieces = self._graph(scaled=any(scalars(segment)["scale"] != 1 for segment in self.parts.segments))
        pieces.set(scalars)
        pieces.run()

    def _graph(self, *, scaled: bool) -> Pieces:
        """The update, of gradients as they are or of scaled ones: a product with 1 is a pass for nothing."""
        if scaled not in self._pieces:
            model = self.model if scaled else unscaled(self.model)
            self._pieces[scaled] = Pieces(model, self.parts, given={}, tables=self.tables)
        return self._pieces[scaled]

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

    def __init__(self, program: Program, parts: Parts) -> None:
        self.optimizer = program.recipe.optimizer
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
        self.graph = Pieces(guard.guarded(self.optimizer), parts, given=given)
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
    blocks = np.split(gradients, range(BLOCK, gradients.size, BLOCK))
    with np.errstate(over="ignore"):  # an infinite norm makes the step vanish, and the loss tells
        return float(np.sqrt(sum(float(np.dot(block, block)) for block in blocks)))
