"""Flat buffers: all weights in one array, and likewise gradients, optimizer slots, masks and statistics.

A parameter is a slice, the same slice in each buffer::

    weights    │ prunable … │ other trained … │ frozen … │
    gradients  │ prunable … │ other trained … │
    slots      │ prunable … │ other trained … │            one buffer a slot
    masks      │ prunable … │
    statistics │ running means and variances │            and a second one for their new values

Slices begin on cache lines; the gaps between them hold zeros and stay so.  What treats all parameters alike (update,
accumulation, norm, checkpoint) is then one operation on one array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsd_ort.graph.optimizer.update import OPTIMIZERS
from dsd_ort.graph.program import Program, Slice
from dsd_ort.model.source import Source

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Segment:
    """Neighbouring slices [start, stop) that are updated with the same weight decay and learning rate."""

    start: int
    stop: int
    weight_decay: float
    learning_rate_factor: float


class Arena:
    """The buffers of one model in training."""

    def __init__(self, parameters: Sequence[Slice], statistics: Sequence[Slice], slots: Sequence[str]) -> None:
        self.parameters, self.statistic_slices = tuple(parameters), tuple(statistics)
        self.trained = tuple(p for p in parameters if p.trained)
        self.prunable = tuple(p for p in parameters if p.prunable)
        self.weights = aligned_zeros(_end(self.parameters))
        self.gradients = aligned_zeros(_end(self.trained))
        self.slots = {slot: aligned_zeros(_end(self.trained)) for slot in slots}
        self.masks = aligned_zeros(_end(self.prunable))
        self.masks += 1
        self.statistics = aligned_zeros(_end(self.statistic_slices))
        self.next_statistics = aligned_zeros(_end(self.statistic_slices))

    @classmethod
    def of(cls, program: Program) -> Arena:
        """Buffers of zeros for *program*."""
        slots = OPTIMIZERS[program.recipe.optimizer.name].slots
        return cls(program.manifest.parameters, program.manifest.statistics, slots)

    def fill(self, values: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Copies a value for each parameter and statistic into its slice."""
        for buffer, slices in ((self.weights, self.parameters), (self.statistics, self.statistic_slices)):
            for piece in slices:
                view(buffer, piece)[...] = values[piece.name]

    def fill_from(self, source: Source) -> None:
        """Copies the model's own weights and statistics."""
        self.fill({piece.name: source.start(piece.name) for piece in (*self.parameters, *self.statistic_slices)})

    def values(self) -> dict[str, Array]:
        """Views of all parameters and statistics by name."""
        named = {p.name: view(self.weights, p) for p in self.parameters}
        return named | {s.name: view(self.statistics, s) for s in self.statistic_slices}

    def apply_masks(self) -> None:
        """Prunes: weights and slots become exactly zero where the mask is."""
        for buffer in (self.weights, *self.slots.values()):
            buffer[: self.masks.size] *= self.masks

    def density(self) -> float:
        """The share of non-zero weights among the prunable ones; 1 where there are none."""
        total = sum(p.size for p in self.prunable)
        return sum(np.count_nonzero(view(self.weights, p)) for p in self.prunable) / total if total else 1.0

    def segments(self) -> list[Segment]:
        """The trained part of the buffers, cut where weight decay or learning rate change."""
        found: list[Segment] = []
        for piece in self.trained:
            key = (piece.weight_decay, piece.learning_rate_factor)
            stop = piece.offset + piece.size
            if found and (found[-1].weight_decay, found[-1].learning_rate_factor) == key:
                found[-1] = Segment(found[-1].start, stop, *key)
            else:
                found.append(Segment(piece.offset, stop, *key))
        return found


def view(buffer: Array, piece: Slice) -> Array:
    """The slice of *buffer* that belongs to *piece*, in its shape."""
    return buffer[piece.offset : piece.offset + piece.size].reshape(piece.shape)


def aligned_zeros(size: int, alignment: int = 64) -> Array:
    """f32[size] of zeros whose first byte stands at a multiple of *alignment*."""
    raw = np.zeros(size * 4 + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + size * 4].view(np.float32)


def _end(slices: Sequence[Slice]) -> int:
    return max((piece.offset + piece.size for piece in slices), default=0)
