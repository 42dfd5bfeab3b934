"""The patterns of ``prune.pattern``, by their names.

``unstructured``, ``rows``, ``channels``;  ``N:M`` is N of each M weights that stay, as hardware vendors write it (2:4);
``RxC`` is blocks of R outputs times C inputs (1x4).  How a weight is seen as such units: :mod:`dsd_ort.graph.patterns`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

NAMES = ("unstructured", "rows", "channels")
HELP = (
    'write "unstructured", "rows", "channels", N:M as "2:4" (2 of each 4 stay), or blocks as "1x4" (outputs x inputs)'
)


class Pattern(NamedTuple):
    """A pattern, taken apart."""

    kind: str
    """One of :data:`NAMES`, ``N:M`` or ``RxC``."""
    first: int = 1
    """N, or R."""
    second: int = 1
    """M, or C."""

    @property
    def sparsity(self) -> float | None:
        """That of N:M, which needs no other; None of the others."""
        return 1 - self.first / self.second if self.kind == "N:M" else None


def left_to(text: Any, phases: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """*phases* as plain tables, those that nobody asked for: without a sparsity where the pattern *text* says it."""
    pattern = parse(text) if isinstance(text, str) else None
    says = pattern is not None and pattern.sparsity is not None
    return [{**phase, "sparsity": None} if says else phase for phase in phases]


def parse(text: str) -> Pattern | None:
    """The pattern that *text* names; None where it names none."""
    if text in NAMES:
        return Pattern(text)
    found = re.fullmatch(r"([1-9][0-9]{0,5})([:x])([1-9][0-9]{0,5})", text)
    if found is None:
        return None
    first, second = int(found[1]), int(found[3])
    if found[2] == "x":
        return Pattern("RxC", first, second)
    return Pattern("N:M", first, second) if first < second else None
