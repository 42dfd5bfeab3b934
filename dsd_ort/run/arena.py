"""Flat buffers: all trained weights in one array, and likewise gradients, optimizer slots, masks and statistics.

A parameter is a slice, the same slice in each buffer::

    weights    │ prunable … │ other trained … │
    gradients  │ prunable … │ other trained … │
    slots      │ prunable … │ other trained … │            one buffer a slot
    masks      │ prunable … │
    statistics │ running means and variances │            and a second one for their new values

Slices begin on cache lines; the gaps between them hold zeros and stay so.  What treats all parameters alike (update,
accumulation, norm, checkpoint) is then one operation on one array.  Frozen parameters are in no buffer: they are read
where the run folder's copy of the model has them, however large they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsd_ort.graph.manifest import Slice
from dsd_ort.graph.optimizer.update import OPTIMIZERS
from dsd_ort.graph.program import Program
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
        self.weights = aligned_zeros(_end(self.trained))
        self.gradients = aligned_zeros(_end(self.trained))
        self.slots = {slot: aligned_zeros(_end(self.trained)) for slot in slots}
        self.statistics = aligned_zeros(_end(self.statistic_slices))
        self.next_statistics = aligned_zeros(_end(self.statistic_slices))
        self._masks: Array | None = None
        self._frozen: dict[str, Array] | None = None
        self._source: Callable[[], Source] | None = None

    @classmethod
    def of(cls, program: Program) -> Arena:
        """Buffers of zeros for *program*.

        Raises:
            RunError: its manifest and graphs do not fit each other.
        """
        program = program.sound
        slots = OPTIMIZERS[program.recipe.optimizer.name].slots
        arena = cls(program.manifest.parameters, program.manifest.statistics, slots)
        arena._source = program.source
        return arena

    @property
    def masks(self) -> Array:
        """0 where a weight is pruned, else 1: all ones at first, and in memory once somebody has asked for them."""
        if self._masks is None:
            self._masks = aligned_zeros(_end(self.prunable))
            self._masks += 1
        return self._masks

    @property
    def unmasked(self) -> bool:
        """Whether nobody has asked for the masks, as in the dense phases of most runs."""
        return self._masks is None

    def mask(self, piece: Slice) -> Array:
        """That of *piece*, to be read."""
        return np.broadcast_to(np.float32(1), piece.shape) if self._masks is None else view(self._masks, piece)

    @property
    def frozen(self) -> dict[str, Array]:
        """The parameters that are not trained, by name: read-only, in memory only as far as somebody reads them."""
        if self._frozen is None:
            names = [p.name for p in self.parameters if not p.trained]
            assert self._source is not None or not names, "nobody said what the frozen parameters are"
            source = self._source() if self._source is not None and names else None
            self._frozen = {} if source is None else {name: source.start(name) for name in names}
        return self._frozen

    def fill(self, values: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Copies a value for each trained parameter and statistic into its slice, and takes frozen ones as they are."""
        self._fill(values.__getitem__)
        self._frozen = {p.name: values[p.name] for p in self.parameters if not p.trained}

    def fill_from(self, source: Source) -> None:
        """Copies the model's own weights and statistics, one after the other."""
        self._fill(source.start)
        self._source = lambda: source

    def _fill(self, value: Callable[[str], npt.NDArray[np.float32]]) -> None:
        for buffer, slices in ((self.weights, self.trained), (self.statistics, self.statistic_slices)):
            for piece in slices:
                view(buffer, piece)[...] = value(piece.name)

    def values(self) -> dict[str, Array]:
        """All parameters and statistics by name: views of the buffers, and what is frozen."""
        return self.moving() | self.frozen

    def moving(self) -> dict[str, Array]:
        """Views of what training changes: trained parameters and statistics, by name."""
        named = {p.name: view(self.weights, p) for p in self.trained}
        return named | {s.name: view(self.statistics, s) for s in self.statistic_slices}

    def apply_masks(self) -> None:
        """Prunes: weights and slots become exactly zero where the mask is."""
        for buffer in (self.weights, *self.slots.values()):
            buffer[: self.masks.size] *= self.masks

    def density(self) -> float:
        """The share of non-zero weights among the prunable ones; 1 where there are none."""
        total = sum(p.size for p in self.prunable)
        return sum(np.count_nonzero(view(self.weights, p)) for p in self.prunable) / total if total else 1.0

    def densities(self) -> dict[str, float]:
        """The same of each prunable parameter."""
        return {p.name: np.count_nonzero(view(self.weights, p)) / p.size for p in self.prunable}

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
