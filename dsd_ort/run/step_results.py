"""What steps leave behind, until somebody wants it: losses, running statistics, gradients of several batches.

On the host NumPy does it at once.  On a GPU small graphs do, on the device, and only when somebody asks for the losses
are they fetched, all at once.

The batches of one update all read the same weights and statistics, so they may be computed one after the other or at
the same time (:mod:`dsd_ort.run.ranks`); what they left is put together in their order, and the bytes are the same.
With w what batch b's loss is the mean over, the update's gradient is that of the mean over all of them::

    g = Σ w_b·g_b / Σ w_b                f ← m·f + (y_b - m·s)     of a statistic s, see :mod:`dsd_ort.graph.momenta`
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx

from dsd_ort.graph.optimizer import flat
from dsd_ort.run.arena import Array, aligned_zeros
from dsd_ort.run.execution import Execution
from dsd_ort.run.memory import Buffer, Memory, Tensor, cell, part
from dsd_ort.run.ranks import Alone, Ranks
from dsd_ort.run.sessions import Opened, open_session

RING = 64
"""Losses that a device keeps before they are fetched unasked."""


@dataclass
class Buffers:
    """What a step writes, and where it goes."""

    loss: Buffer
    gradients: Buffer
    total: Buffer
    """Of the gradients since the last update; the same buffer where an update takes one step."""
    statistics: Buffer
    next_statistics: Buffer
    momenta: Buffer
    """How much of each statistic a step keeps: 0 for those that do not move."""

    @property
    def several(self) -> bool:
        """Does an update take several steps?"""
        return self.total is not self.gradients


class Collector(Protocol):
    """Takes over what a step wrote.  ``weight`` is that of the gradients in the total."""

    weight: float

    def take(self, weight: float) -> None:
        """After each step: notes the loss, keeps the new statistics if it is finite, adds to the total.

        *weight* is the batch's; of 1 where an update takes one step.
        """

    def finish(self) -> None:
        """Before an update: total and statistics are those of all its batches."""

    def losses(self) -> list[float]:
        """Those noted since the last call, in their order."""


class HostCollector:
    """By NumPy."""

    def __init__(self, buffers: Buffers, ranks: Ranks | None = None) -> None:
        self.buffers, self.weight, self.ranks = buffers, 0.0, ranks or Alone()
        self._losses: list[float] = []
        self._share = self.ranks.share(buffers.total.host)
        self._folded: Array | None = None

    def take(self, weight: float) -> None:
        self.put_together([(self.leave(weight), weight)])

    def leave(self, weight: float) -> float:
        """What :meth:`put_together` wants of the step that was just done; its loss."""
        buffers = self.buffers
        buffers.loss.download()
        if self.ranks.size > 1:  # what they exchange is on the host
            buffers.gradients.download()
            buffers.next_statistics.download()
        if weight not in (0, 1):
            with np.errstate(all="ignore"):
                buffers.gradients.host *= np.float32(weight)
        return float(buffers.loss.host[0])

    def put_together(self, done: Sequence[tuple[float, float]]) -> None:
        """Losses and weights of steps of this update that were done at the same time, a rank each."""
        buffers = self.buffers
        self._losses += [loss for loss, _ in done]
        if not buffers.several:
            self.weight = 1.0
            if math.isfinite(done[0][0]):
                buffers.statistics.host[...] = buffers.next_statistics.host
            return
        for (_, weight), share in zip(done, self.ranks.shares(buffers.gradients.host, len(done)), strict=True):
            if weight and self.weight:
                with np.errstate(all="ignore"):  # of 16-bit numbers that overflowed: the update is left out then
                    self._share += share
            elif weight:
                self._share[...] = share
            self.weight += weight
        if buffers.statistics.host.size:
            self._fold([loss for loss, _ in done])

    def _fold(self, losses: Sequence[float]) -> None:
        now, kept = self.buffers.statistics.host, self.buffers.momenta.host
        made = self.ranks.each(self.buffers.next_statistics.host, len(losses))
        if self._folded is None:
            self._folded = now.copy()
        for loss, following in zip(losses, made, strict=True):
            if math.isfinite(loss):
                self._folded *= kept
                self._folded += following - kept * now

    def finish(self) -> None:
        if not self.buffers.several:
            return
        if not self.weight:  # nothing counted: a gradient of 0
            self._share[...], self.weight = 0, 1.0
        self.ranks.whole(self.buffers.total.host)
        if self._folded is not None:
            self.buffers.statistics.host[...], self._folded = self._folded, None
        if self.ranks.size > 1:
            self.buffers.total.upload()
            self.buffers.statistics.upload()

    def losses(self) -> list[float]:
        found, self._losses = self._losses, []
        return found


class DeviceCollector:
    """The same by graphs on the device."""

    def __init__(self, buffers: Buffers, execution: Execution, memory: Memory) -> None:
        self.buffers, self.memory, self.weight = buffers, memory, 0.0
        self._ring, self._noted, self._begun = memory.buffer(aligned_zeros(RING)), 0, False
        self._losses: list[float] = []

        def opened(model: onnx.ModelProto, **tensors: Tensor) -> Opened:
            made = open_session(model, execution, memory, where="a graph on flat buffers")
            for name, tensor in tensors.items():
                (made.write if name.endswith("_new") else made.read)(name, tensor)
            return made

        statistics, total = part(buffers.statistics), part(buffers.total)
        following, loss = part(buffers.next_statistics), cell(buffers.loss)
        graph = flat.keep_finite_graph()
        self._keep = opened(graph, current=statistics, following=following, loss=loss, current_new=statistics)
        if not buffers.several:
            return
        self._scale, self._folded = memory.buffer(aligned_zeros(1)), memory.buffer(aligned_zeros(statistics.shape[0]))
        weight, folded = cell(self._scale), part(self._folded)
        given = {"total": total, "gradient": part(buffers.gradients), "weight": weight}
        self._begin = opened(flat.scale_graph(), gradient=given["gradient"], weight=weight, total_new=total)
        self._add = opened(flat.add_graph(), **given, total_new=total)
        moved = {"following": following, "current": statistics, "momenta": part(buffers.momenta), "loss": loss}
        self._fold = opened(flat.fold_graph(), folded=folded, **moved, folded_new=folded)

    def take(self, weight: float) -> None:
        buffers = self.buffers
        if self._noted == RING:
            self._fetch()
        self.memory.copy(cell(self._ring, self._noted).address, buffers.loss.address, 1)
        self._noted += 1
        if not buffers.several:
            self.weight = 1.0
            if buffers.statistics.host.size:
                self._keep.run(where="the running statistics")
            return
        if buffers.statistics.host.size:
            if not self._begun:
                self.memory.copy(self._folded.address, buffers.statistics.address, buffers.statistics.host.size)
            self._fold.run(where="the running statistics")
        self._begun = True
        if not weight:
            return
        if self._scale.host[0] != np.float32(weight):
            self._scale.host[0] = weight
            self._scale.upload()
        (self._add if self.weight else self._begin).run(where="the sum of gradients")
        self.weight += weight

    def finish(self) -> None:
        if not self.buffers.several:
            return
        if not self.weight:  # nothing counted: a gradient of 0
            self.buffers.total.host[...], self.weight = 0, 1.0
            self.buffers.total.upload()
        if self._begun and self.buffers.statistics.host.size:
            size = self.buffers.statistics.host.size
            self.memory.copy(self.buffers.statistics.address, self._folded.address, size)
        self._begun = False

    def losses(self) -> list[float]:
        self._fetch()
        found, self._losses = self._losses, []
        return found

    def _fetch(self) -> None:
        if self._noted:
            self._ring.download()
            self._losses += self._ring.host[: self._noted].tolist()
            self._noted = 0


def new_collector(buffers: Buffers, execution: Execution, memory: Memory, ranks: Ranks) -> Collector:
    """The one for the device; what several ranks exchange is put together on the host."""
    on_host = execution.on_cpu or ranks.size > 1
    return HostCollector(buffers, ranks) if on_host else DeviceCollector(buffers, execution, memory)
