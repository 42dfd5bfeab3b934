"""Which parameters of a network a tensor of an exported file was made of, by its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
NOTHING = "nothing that the network has"


class Matcher:
    """Which parameters of a network a tensor of a file was made of."""

    def __init__(self, parameters: Mapping[str, Array], buffers: Mapping[str, Array]) -> None:
        self.parameters = parameters
        self.by_numbers: dict[bytes, list[str]] = {}
        self.kinds = {**dict.fromkeys(buffers, "a buffer"), **dict.fromkeys(parameters, "a parameter")}
        self.entries: dict[float, list[str]] = {}
        for name, value in {**buffers, **parameters}.items():
            self.by_numbers.setdefault(numbers_of(value), []).append(name)
            if value.size > 1 and name in parameters:
                self.entries.setdefault(float(np.float32(value.reshape(-1)[0])), []).append(name)

    def of(self, value: Array) -> list[str]:
        """Those with the same numbers in any order; those that it is put together from; those that it is a part of,
        or that it holds scaled, channel by channel, as by a batch norm behind it.
        """
        if (numbers := numbers_of(value)) not in self.by_numbers:
            self.by_numbers[numbers] = self._made_into(value)
        return self.by_numbers[numbers]

    def _made_into(self, value: Array) -> list[str]:
        if value.size < 2:
            return []
        flat = np.sort(value.reshape(-1))
        parts = [
            name
            for first, names in self.entries.items()
            if (at := np.searchsorted(flat, np.float32(first))) < flat.size and flat[at] == np.float32(first)
            for name in names
            if np.isin(self.parameters[name].astype(np.float32), flat).all()
        ]
        if parts:
            return parts
        whole = [
            name
            for name, p in self.parameters.items()
            if p.size > 4 and (p == flat[0]).any() and np.isin(flat, p.astype(np.float32)).all()
        ]
        return whole or self._scaled(value) or self._computed(value)

    def _computed(self, value: Array) -> list[str]:
        """Those of which an exporter has computed it entry by entry, as 1 - p or p²: in the order of p, or of |p|."""
        order = np.argsort(value.reshape(-1), kind="stable")
        alike = [(name, p.reshape(-1)[order]) for name, p in self.parameters.items() if p.size == value.size > 4]
        return [name for name, p in alike if any(_is_sorted(numbers) for numbers in (p, -p, np.abs(p)))]

    def _scaled(self, value: Array) -> list[str]:
        forms = (value, value.T) if value.ndim == 2 else (value,) if value.ndim > 2 else ()
        return [n for n, p in self.parameters.items() if any(p.shape == v.shape and _are_scaled(p, v) for v in forms)]

    def what(self, names: Sequence[str], value: Array, true: set[str]) -> str:
        """What a trained tensor is that is none of *true*."""
        if names:
            return f"{self.kinds[names[0]]} that no gradient reaches: {names[0]}"
        ones = ", all ones" if (value == 1).all() else ""
        return f"{NOTHING}, {list(value.shape)}{ones}"


def numbers_of(value: Array) -> bytes:
    """The same for tensors with the same numbers, in whatever order."""
    return np.sort(value.astype(np.float32).reshape(-1)).tobytes()


def _is_sorted(numbers: Array) -> bool:
    return bool((np.diff(numbers) >= 0).all())


def _are_scaled(old: Array, new: Array) -> bool:
    """Whether each of the rows of *new* is one of *old* times a number, or standardised."""
    a, b = (x.reshape(x.shape[0], -1).astype(np.float64) for x in (old, new))
    if a.shape[1] < 3:
        return False
    return _are_parallel(a, b) or _are_parallel(a - a.mean(axis=1, keepdims=True), b)


def _are_parallel(a: Array, b: Array) -> bool:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return bool((np.abs(np.abs((a * b).sum(axis=1)) - lengths) <= 1e-4 * lengths).all())
