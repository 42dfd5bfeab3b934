"""What steps leave behind, until somebody wants it: losses, running statistics, gradients of several batches.

On the host NumPy does it at once.  On a GPU small graphs do, on the device, and only when somebody asks for the losses
are they fetched, all at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import onnx

from dsd_ort.graph.optimizer import flat
from dsd_ort.run.arena import aligned_zeros
from dsd_ort.run.execution import Execution
from dsd_ort.run.memory import Buffer, Memory, Tensor, cell, part
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


class Collector(Protocol):
    """Takes over what a step wrote.  ``batches`` is how many gradients are in the total."""

    batches: int

    def take(self) -> None:
        """After each step: notes the loss, keeps the new statistics if it is finite, adds to the total."""

    def losses(self) -> list[float]:
        """Those noted since the last call, in their order."""


class HostCollector:
    """By NumPy."""

    def __init__(self, buffers: Buffers) -> None:
        self.buffers, self.batches = buffers, 0
        self._losses: list[float] = []

    def take(self) -> None:
        buffers = self.buffers
        loss = float(buffers.loss.host[0])
        self._losses.append(loss)
        if math.isfinite(loss):
            buffers.statistics.host[...] = buffers.next_statistics.host
        if buffers.total is not buffers.gradients:
            if self.batches:
                buffers.total.host += buffers.gradients.host
            else:
                buffers.total.host[...] = buffers.gradients.host
        self.batches += 1

    def losses(self) -> list[float]:
        found, self._losses = self._losses, []
        return found


class DeviceCollector:
    """The same by graphs on the device."""

    def __init__(self, buffers: Buffers, execution: Execution, memory: Memory) -> None:
        self.buffers, self.memory, self.batches = buffers, memory, 0
        self._ring, self._noted = memory.buffer(aligned_zeros(RING)), 0
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
        self._add = opened(flat.add_graph(), total=total, gradient=part(buffers.gradients), total_new=total)

    def take(self) -> None:
        buffers = self.buffers
        if self._noted == RING:
            self._fetch()
        self.memory.copy(cell(self._ring, self._noted).address, buffers.loss.address, 1)
        self._noted += 1
        if buffers.statistics.host.size:
            self._keep.run(where="the running statistics")
        if buffers.total is not buffers.gradients:
            if self.batches:
                self._add.run(where="the sum of gradients")
            else:
                self.memory.copy(buffers.total.address, buffers.gradients.address, buffers.total.host.size)
        self.batches += 1

    def losses(self) -> list[float]:
        self._fetch()
        found, self._losses = self._losses, []
        return found

    def _fetch(self) -> None:
        if self._noted:
            self._ring.download()
            self._losses += self._ring.host[: self._noted].tolist()
            self._noted = 0


def new_collector(buffers: Buffers, execution: Execution, memory: Memory) -> Collector:
    """The one for the device."""
    return HostCollector(buffers) if execution.on_cpu else DeviceCollector(buffers, execution, memory)
