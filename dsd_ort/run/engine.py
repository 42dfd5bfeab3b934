"""Executes a Program's graphs over an arena: step and update.

Nothing is copied between them: sessions read parameters and write gradients where they stand in the arena, through I/O
binding.  The update graph writes over its own inputs, which is exact because the last node that reads an input is the
one that writes its successor; the step graph never does, so new statistics go to a second buffer.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort import runtime
from dsd_ort.graph import masks, portable
from dsd_ort.graph.lower import lower
from dsd_ort.graph.program import Program
from dsd_ort.graph.update import OPTIMIZERS
from dsd_ort.run import diagnose
from dsd_ort.run.arena import Arena, Array, Segment, aligned_zeros, view

log = logging.getLogger(__name__)

Batch = Mapping[str, npt.NDArray[Any]]

PIECE = 64 * 1024
"""Elements of one update: weights, gradients and slots of a piece stay in a core's cache."""


class Engine:
    """ONNX Runtime sessions on the CPU, bound to one arena.

    Args:
        program: what to run.
        arena: its buffers; they may not be reallocated afterwards.
        threads: of ONNX Runtime; 0 means one a core.
    """

    def __init__(self, program: Program, arena: Arena, *, threads: int = 0) -> None:
        self.program, self.arena, self.threads = program, arena, threads
        self._graphs: dict[str, tuple[Any, Any]] = {}
        self._loss = np.zeros((), np.float32)
        self._accumulated = aligned_zeros(arena.gradients.size) if program.recipe.optimizer.accumulate > 1 else None
        self._micro_batches = 0
        self._update = _Update(program, arena)

    def step(self, batch: Batch, *, sparse: bool, seed: int) -> float:
        """Forward and backward of one batch: gradients into the arena, new statistics, the loss returned.

        With a loss that is not finite, statistics stay as they were.

        Args:
            batch: the model's inputs and labels.
            sparse: whether the masks are in the graph.
            seed: of the dropout masks.
        """
        session, binding = self._step_graph("sparse" if sparse else "step")
        runtime.seed(seed)
        for name, array in batch.items():
            _bind(binding.bind_input, name, array)
        runtime.run(session, binding, where="the training graph")
        loss = float(self._loss)
        if math.isfinite(loss):  # otherwise the arena stays as it was before this step
            self.arena.statistics[...] = self.arena.next_statistics
            if self._accumulated is not None:
                self._accumulated += self.arena.gradients
            self._micro_batches += 1
        return loss

    def update(self, learning_rate: float, step: int) -> None:
        """One update with the mean of the gradients since the last one; *step* is 1 for the first."""
        gradients = self.arena.gradients
        if self._accumulated is not None:
            gradients[...] = self._accumulated
            self._accumulated[...] = 0
        scale = 1.0 / self._micro_batches
        self._micro_batches = 0
        limit = self.program.recipe.optimizer.clip_norm
        if limit is not None:
            scale *= min(1.0, limit / (norm(gradients) * scale + 1e-6))
        self._update.run(learning_rate, step, scale)

    def first_bad_tensor(self, batch: Batch, *, seed: int) -> str:
        """Names the first tensor, in the order of computation, that is not finite in the step that was just done."""
        for name, array in batch.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                return f"the data's array {name!r}"
        for name, value in self.arena.values().items():
            if not np.isfinite(value).all():
                return f"the weight {name!r}"
        runtime.seed(seed)
        return diagnose.first_bad_value(self.program, {**self.arena.values(), **batch}, self.threads)

    def _step_graph(self, name: str) -> tuple[Any, Any]:
        """The session of a step graph and its binding, in which only the batch is left to bind."""
        if name not in self._graphs:
            session, binding = self._open(name)
            manifest, arena = self.program.manifest, self.arena
            for piece in arena.trained:
                _bind(binding.bind_output, piece.successor, view(arena.gradients, piece))
            for piece in arena.statistic_slices:
                if piece.successor:
                    _bind(binding.bind_output, piece.successor, view(arena.next_statistics, piece))
                else:
                    view(arena.next_statistics, piece)[...] = view(arena.statistics, piece)
            _bind(binding.bind_output, manifest.step_loss, self._loss)
            if name == "sparse":
                for piece in arena.prunable:
                    _bind(binding.bind_input, masks.mask_name(piece.name), view(arena.masks, piece))
            self._graphs[name] = session, binding
        return self._graphs[name]

    def _open(self, name: str) -> tuple[Any, Any]:
        """A prepared graph is portable; here it takes the form that this ONNX Runtime has, and is fastest in."""
        path = self.program.graph_path(name)
        model = ir.load(path)
        masks.strip_weights(model)  # the arena's weights are masked already
        for note in lower(model, "cpu"):
            log.debug("%s: %s", name, note)
        if not runtime.trains():
            portable.expand(model)
        session = runtime.session(ir.to_proto(model), runtime.session_options(self.threads), where=str(path))
        binding = session.io_binding()
        wanted = {value.name for value in session.get_inputs()}
        for parameter, value in self.arena.values().items():
            if parameter in wanted:
                _bind(binding.bind_input, parameter, value)
        return session, binding


class _Update:
    """The optimizer, over cache-sized pieces of the arena; everything is bound once, scalars are cells that change."""

    def __init__(self, program: Program, arena: Arena) -> None:
        self.optimizer = program.recipe.optimizer
        self.rule = OPTIMIZERS[self.optimizer.name]
        path = program.graph_path("update")
        # A piece is too short to share among threads, and memory is the limit anyway.
        self.session = runtime.session(str(path), runtime.session_options(1), where=str(path))
        self.segments = arena.segments()
        names = {value.name for value in self.session.get_inputs()} - {"weight", "gradient", *arena.slots}
        self.scalars = [{name: np.zeros((), np.float32) for name in names} for _ in self.segments]
        self.bindings = [
            binding
            for segment, scalars in zip(self.segments, self.scalars, strict=True)
            for binding in self._pieces(arena, segment, scalars)
        ]

    def _pieces(self, arena: Arena, segment: Segment, scalars: Mapping[str, Array]) -> Iterator[Any]:
        for start in range(segment.start, segment.stop, PIECE):
            part = slice(start, min(start + PIECE, segment.stop))
            binding = self.session.io_binding()
            _bind(binding.bind_input, "gradient", arena.gradients[part])
            for name, buffer in (("weight", arena.weights), *arena.slots.items()):
                _bind(binding.bind_input, name, buffer[part])
                _bind(binding.bind_output, f"{name}_new", buffer[part])
            for name, cell in scalars.items():
                _bind(binding.bind_input, name, cell)
            yield binding

    def run(self, learning_rate: float, step: int, gradient_scale: float) -> None:
        for segment, cells in zip(self.segments, self.scalars, strict=True):
            values = self.rule.scalars(
                self.optimizer,
                learning_rate=learning_rate * segment.learning_rate_factor,
                weight_decay=segment.weight_decay,
                step=step,
                gradient_scale=gradient_scale,
            )
            for name, cell in cells.items():
                cell[...] = values[name]
        for binding in self.bindings:
            self.session.run_with_iobinding(binding)


def norm(gradients: Array) -> float:
    """The L2 norm, added up in float64 over float32 blocks."""
    blocks = np.split(gradients, range(PIECE, gradients.size, PIECE))
    with np.errstate(over="ignore"):  # an infinite norm makes the step vanish, and the loss tells
        return float(np.sqrt(sum(float(np.dot(block, block)) for block in blocks)))


def _bind(bind: Any, name: str, array: Any) -> None:
    """Binds an input or output to the memory of *array*, which the caller keeps alive."""
    bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
