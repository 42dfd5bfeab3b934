"""Streams, events and memory of an NVIDIA GPU, by its driver: what :mod:`dsd_ort.run.memory` is made of.

What is queued on a stream runs in its order, after this returns.  An event is a place in a stream that another stream,
or the host, can wait for.
"""

from __future__ import annotations

import ctypes

from dsd_ort.errors import DataError
from dsd_ort.runtime.driver import DriverError, call

_OUT_OF_MEMORY = 2
_RELAXED = 2
_NO_WAIT_FOR_STREAM_0 = 1
_NO_TIMING = 2


def use(index: int) -> None:
    """Makes GPU number *index* that of this thread, in the context that the CUDA libraries use as well.

    While another thread records a step, CUDA refuses this one all that might disturb it, allocating memory first of
    all, unless this one takes care of that itself (RELAXED); what is queued here does not touch that stream.
    """
    device, context = ctypes.c_int(), ctypes.c_void_p()
    call("cuDeviceGet", ctypes.byref(device), index)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuCtxSetCurrent", context)
    call("cuThreadExchangeStreamCaptureMode", ctypes.byref(ctypes.c_int(_RELAXED)))


class Event:
    """A place in a stream; before it is recorded, nobody waits for it."""

    def __init__(self) -> None:
        self.handle = ctypes.c_void_p()
        call("cuEventCreate", ctypes.byref(self.handle), _NO_TIMING)

    def wait(self) -> None:
        """The host waits."""
        call("cuEventSynchronize", self.handle)


class Stream:
    """A queue of copies and kernels."""

    def __init__(self) -> None:
        self.handle = ctypes.c_void_p()
        call("cuStreamCreate", ctypes.byref(self.handle), _NO_WAIT_FOR_STREAM_0)

    def to_device(self, device: int, host: int, size: int) -> None:
        """Copies *size* bytes; from page-locked memory without the host's waiting."""
        call("cuMemcpyHtoDAsync_v2", _pointer(device), _pointer(host), _size(size), self.handle)

    def to_host(self, host: int, device: int, size: int) -> None:
        call("cuMemcpyDtoHAsync_v2", _pointer(host), _pointer(device), _size(size), self.handle)

    def within(self, destination: int, source: int, size: int) -> None:
        """Copies from the device to itself."""
        call("cuMemcpyDtoDAsync_v2", _pointer(destination), _pointer(source), _size(size), self.handle)

    def record(self, event: Event) -> None:
        call("cuEventRecord", event.handle, self.handle)

    def wait_for(self, event: Event) -> None:
        """What is queued from now on runs behind *event*."""
        call("cuStreamWaitEvent", self.handle, event.handle, 0)

    def synchronize(self) -> None:
        """The host waits for all that is queued."""
        call("cuStreamSynchronize", self.handle)


class Block:
    """*size* bytes of the device, or with *locked* of the host's page-locked memory; freed with this object.

    Raises:
        DataError: there is no room.
    """

    def __init__(self, size: int, *, locked: bool = False) -> None:
        address = ctypes.c_void_p()
        try:
            if locked:
                call("cuMemHostAlloc", ctypes.byref(address), _size(max(size, 1)), 0)
            else:
                call("cuMemAlloc_v2", ctypes.byref(address), _size(max(size, 1)))
        except DriverError as error:
            if error.status != _OUT_OF_MEMORY:
                raise
            where = "the host's page-locked memory" if locked else "the GPU"
            fix = "use a smaller batch_size, or free memory that other programs hold"
            raise DataError(f"there is no room for {size / 2**20:.0f} MiB more", where=where, fix=fix) from error
        self.address, self.size, self._locked = int(address.value or 0), size, locked

    def __del__(self) -> None:
        if address := getattr(self, "address", 0):
            call("cuMemFreeHost" if self._locked else "cuMemFree_v2", _pointer(address))


def _pointer(address: int) -> ctypes.c_void_p:
    return ctypes.c_void_p(address)


def _size(size: int) -> ctypes.c_size_t:
    return ctypes.c_size_t(size)
