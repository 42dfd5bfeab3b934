"""How long a check may take."""

from __future__ import annotations

import math
import time


class OutOfTime(Exception):  # noqa: N818 - it is no error
    """The time for this is over."""


class Budget:
    """Seconds from now on; infinitely many, if so wished."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds; negative behind the end."""
        return self._end - time.monotonic() if math.isfinite(self.seconds) else math.inf

    def share(self, part: float) -> float:
        """Seconds for one of the things to do: *part* of what is left, but at least a tenth of all."""
        return max(part * self.left, self.seconds / 10)
