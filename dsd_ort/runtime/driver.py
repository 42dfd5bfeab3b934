"""NVIDIA's driver, by its own interface: libcuda.so.1, which every machine with such a GPU has.

The interface is stable from release to release (a changed function gets a new name, as ``cuMemAlloc_v2``), and belongs
to no release of the CUDA libraries, so that it serves every build of ONNX Runtime.  Source: CUDA Driver API, NVIDIA.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

LIBRARY = "libcuda.so.1"


class DriverError(Exception):
    """A function of the driver failed; ``status`` is a CUresult."""

    def __init__(self, function: str, status: int) -> None:
        super().__init__(f"{function} failed with {status}")
        self.function, self.status = function, status


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(LIBRARY, mode=ctypes.RTLD_GLOBAL)


def call(function: str, *arguments: Any) -> None:
    """Calls a function of the driver.

    Raises:
        OSError: there is no driver.
        DriverError: its status is not 0.
    """
    status = getattr(_library(), function)(*arguments)
    if status:
        raise DriverError(function, status)
