"""Where the flat buffers are, and how batches come there: the memory of the host, or of an NVIDIA GPU.

A :class:`Tensor` is what a session is bound to: an address, whatever memory it is in.  On the host a buffer *is* the
arena's array; on a GPU it is as long an array of the device, and ``upload`` and ``download`` copy between the two.

On a GPU the host waits for nothing but a download: copies and sessions are queued on one stream, in which they run in
their order.  Batches come by a second one, sent ahead from a thread of their own: a recorded step makes the host wait,
and meanwhile the next batches are on their way.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from dsd_ort.graph.manifest import Slice
from dsd_ort.run.arena import Array
from dsd_ort.run.gpu import Block, Event, Stream, use
from dsd_ort.runtime.device import Device

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]

_ITEM = 4
"""Bytes of a float32."""


class Tensor(NamedTuple):
    """Memory that a session reads or writes.  Whoever makes one keeps the memory alive."""

    address: int
    dtype: Any
    shape: tuple[int, ...]


def of_array(array: npt.NDArray[Any]) -> Tensor:
    """An array of the host."""
    return Tensor(array.ctypes.data, array.dtype.type, array.shape)


class Buffer(Protocol):
    """A flat buffer of float32 where the device has it."""

    host: Array

    @property
    def address(self) -> int:
        """Of its first entry, on the device."""

    def upload(self) -> None:
        """Host → device."""

    def download(self) -> None:
        """Device → host, when all that was queued is done."""


def at(buffer: Buffer, piece: Slice) -> Tensor:
    """The slice of *buffer* that belongs to *piece*, in its shape."""
    return Tensor(buffer.address + piece.offset * _ITEM, np.float32, piece.shape)


def part(buffer: Buffer, start: int = 0, stop: int | None = None) -> Tensor:
    """The entries [start, stop) of *buffer*."""
    stop = buffer.host.size if stop is None else stop
    return Tensor(buffer.address + start * _ITEM, np.float32, (stop - start,))


def cell(buffer: Buffer, index: int = 0) -> Tensor:
    """Entry *index* of *buffer*, as a scalar."""
    return Tensor(buffer.address + index * _ITEM, np.float32, ())


class Sent(NamedTuple):
    """A batch on its way to the device."""

    arrays: Arrays
    way: _Way | None = None
    turn: int = 0


class Memory(Protocol):
    """The memory of one device."""

    @property
    def provider_options(self) -> dict[str, str]:
        """What a session needs to be told of it."""

    def buffer(self, host: Array) -> Buffer:
        """A buffer for *host*, with its content."""

    def send(self, batch: Arrays) -> Sent:
        """Lets *batch* go ahead, from any one thread; at most three batches may be sent and not yet staged."""

    def stage(self, batch: Sent) -> dict[str, Tensor]:
        """*batch* where sessions read it, until another one is staged; a size of batch has its place."""

    def give(self, name: str, array: npt.NDArray[Any]) -> Tensor:
        """A few numbers, likewise, and without having been sent."""

    def place(self, arrays: Arrays) -> dict[str, Tensor]:
        """*arrays*, which must live on, where sessions read them from now on."""

    def copy(self, destination: int, source: int, size: int) -> None:
        """*size* float32 from one address to another, both of the device."""


def of(device: Device) -> Memory:
    """The memory of *device*."""
    return Host() if device.kind == "cpu" else Cuda(device.index)


@dataclass
class _HostBuffer:
    host: Array

    @property
    def address(self) -> int:
        return int(self.host.ctypes.data)

    def upload(self) -> None: ...

    def download(self) -> None: ...


class Host:
    """The host's own memory: everything is where it is."""

    @property
    def provider_options(self) -> dict[str, str]:
        return {}

    def buffer(self, host: Array) -> Buffer:
        return _HostBuffer(host)

    def send(self, batch: Arrays) -> Sent:
        return Sent(batch)

    def stage(self, batch: Sent) -> dict[str, Tensor]:
        return self.place(batch.arrays)

    def give(self, name: str, array: npt.NDArray[Any]) -> Tensor:
        return of_array(array)

    def place(self, arrays: Arrays) -> dict[str, Tensor]:
        return {name: of_array(array) for name, array in arrays.items()}

    def copy(self, destination: int, source: int, size: int) -> None:
        ctypes.memmove(destination, source, size * _ITEM)


class Cuda:
    """The memory of GPU number *index*, and the stream on which everything runs."""

    def __init__(self, index: int) -> None:
        self.index = index
        use(index)
        self.stream, self._arrivals = Stream(), Stream()
        self._ways = deque(_Way() for _ in range(4))
        self._places: dict[tuple[str, int], Block] = {}
        self._kept: list[Block] = []

    @property
    def provider_options(self) -> dict[str, str]:
        return {"user_compute_stream": str(self.stream.handle.value)}

    def buffer(self, host: Array) -> Buffer:
        return _CudaBuffer(host, self.stream)

    def send(self, batch: Arrays) -> Sent:
        use(self.index)  # a thread's own choice
        self._ways.rotate()
        way = self._ways[0]
        way.send(batch, self._arrivals)
        return Sent(batch, way, way.turn)

    def stage(self, batch: Sent) -> dict[str, Tensor]:
        """A recorded step finds it in the place of its size."""
        way = batch.way
        assert way is not None
        assert way.turn == batch.turn, "too many batches were sent, and this one is overwritten"
        self.stream.wait_for(way.arrived)
        tensors = {}
        for name, array in batch.arrays.items():
            tensors[name] = tensor = self._place(name, array)
            self.stream.within(tensor.address, way.device[name].address, array.nbytes)
        self.stream.record(way.taken)
        return tensors

    def give(self, name: str, array: npt.NDArray[Any]) -> Tensor:
        tensor = self._place(name, array)
        # Not from page-locked memory, and small: the driver has read it when this returns.
        self.stream.to_device(tensor.address, array.ctypes.data, array.nbytes)
        return tensor

    def _place(self, name: str, array: npt.NDArray[Any]) -> Tensor:
        key = (name, array.nbytes)
        if key not in self._places:
            self._places[key] = Block(array.nbytes)
        return of_array(array)._replace(address=self._places[key].address)

    def place(self, arrays: Arrays) -> dict[str, Tensor]:
        tensors = {}
        for name, array in arrays.items():
            block, contiguous = Block(array.nbytes), np.ascontiguousarray(array)
            self.stream.to_device(block.address, contiguous.ctypes.data, array.nbytes)
            self._kept.append(block)
            tensors[name] = of_array(array)._replace(address=block.address)
        self.stream.synchronize()
        return tensors

    def copy(self, destination: int, source: int, size: int) -> None:
        self.stream.within(destination, source, size * _ITEM)


class _CudaBuffer:
    def __init__(self, host: Array, stream: Stream) -> None:
        self.host, self.stream = host, stream
        self.block = Block(host.nbytes)
        self.upload()

    @property
    def address(self) -> int:
        return self.block.address

    def upload(self) -> None:
        # From memory that is not page-locked: the driver has read it when this returns.
        self.stream.to_device(self.address, self.host.ctypes.data, self.host.nbytes)

    def download(self) -> None:
        self.stream.to_host(self.host.ctypes.data, self.address, self.host.nbytes)
        self.stream.synchronize()


@dataclass
class _Way:
    """A batch's way to the device: page-locked memory, then the device's."""

    host: dict[str, Block] = field(default_factory=dict)
    device: dict[str, Block] = field(default_factory=dict)
    arrived: Event = field(default_factory=Event)
    taken: Event = field(default_factory=Event)
    turn: int = 0
    """Of the batches that went this way, the number of the last one."""

    def send(self, batch: Arrays, stream: Stream) -> None:
        self.turn += 1
        self.arrived.wait()  # the page-locked memory is read
        stream.wait_for(self.taken)
        for name, array in batch.items():
            if name not in self.host or self.host[name].size < array.nbytes:
                self.taken.wait()
                self.host[name], self.device[name] = Block(array.nbytes, locked=True), Block(array.nbytes)
            contiguous = np.ascontiguousarray(array)
            ctypes.memmove(self.host[name].address, contiguous.ctypes.data, array.nbytes)
            stream.to_device(self.device[name].address, self.host[name].address, array.nbytes)
        stream.record(self.arrived)
