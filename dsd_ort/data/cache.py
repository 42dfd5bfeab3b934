"""What was read once, kept in memory up to a number of bytes.

What comes first stays: an epoch meets each item once, in an order of its own, so that throwing out one for another
would gain nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

CACHED = 2**30
"""Bytes that a data set keeps of what it decoded."""


class Cache:
    """Arrays by number, for any number of threads.  *size* is the most that is kept, in bytes."""

    def __init__(self, size: int = CACHED) -> None:
        self._left, self._arrays, self._lock = size, dict[int, np.ndarray](), threading.Lock()

    def get(self, number: int, make: Callable[[int], np.ndarray]) -> np.ndarray:
        """The array of this number, made if it is not there; what is kept is not to be written to."""
        if number in self._arrays:
            return self._arrays[number]
        array = make(number)
        array.setflags(write=False)
        with self._lock:
            if number not in self._arrays and array.nbytes <= self._left:
                self._left -= array.nbytes
                self._arrays[number] = array
        return array
