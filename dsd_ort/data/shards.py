"""Arrays that are in several files, one behind the other: shards.

::

    FOLDER/train-00000-of-00008.npz, …           each with the same arrays; FOLDER/train names them, and FOLDER,
                                                 where there are no others
    FOLDER/image-00000-of-00008.npy, …           each array's own, in the order of their numbers

What is small is put together in memory; of what is large, rows are read from the files that have them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dsd_ort.errors import DataError

_PART = re.compile(r"(?P<name>.+)-(?P<number>\d+)-of-(?P<count>\d+)")
TOGETHER = 2**28
"""Bytes up to which shards are put together."""


class Shards:
    """Arrays ``[n₁, …], [n₂, …], …`` as one, ``[n₁ + n₂ + …, …]``, of which rows are read where they are.

    It stands for an array wherever data are opened: it has its shape, dtype and rows.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts, self.dtype = parts, parts[0].dtype
        self.shape = (sum(map(len, parts)), *parts[0].shape[1:])
        self.nbytes = sum(part.nbytes for part in parts)
        self.ndim, self.size = len(self.shape), math.prod(self.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([len(part) for part in self.parts])

    def __getitem__(self, index: Any) -> np.ndarray:
        """The rows of a slice, or of numbers i64[b], in their order."""
        rows = np.arange(len(self))[index]
        found: np.ndarray = np.empty((*rows.shape, *self.shape[1:]), self.dtype)
        where = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(where):
            here = where == number
            found[here] = self.parts[number][rows[here] - (self._ends[number] - len(self.parts[number]))]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate(self.parts).astype(dtype or self.dtype, copy=False)


def joined(name: str, parts: Mapping[str, np.ndarray], where: str) -> np.ndarray:
    """The array *name* whose parts are in these files, in their order.

    Raises:
        DataError: they differ in dtype or in the shape of an example.
    """
    first, one = next(iter(parts.items()))
    for file, part in parts.items():
        if not part.ndim or part.dtype != one.dtype or part.shape[1:] != one.shape[1:]:
            other = f"{part.dtype} {part.shape} in {file}"
            raise DataError(
                f"the shards of {name!r} differ: {one.dtype} {one.shape} in {first}, {other}",
                where=where,
                fix="write all with one dtype and the same shape behind the first axis",
            )
    arrays = list(parts.values())
    if sum(part.nbytes for part in arrays) <= TOGETHER:
        return np.concatenate(arrays)
    return Shards(arrays)  # type: ignore[return-value] # it stands for one


def numbered(stems: Iterable[str], where: str) -> dict[str, list[str]]:
    """Array → the stems of its shards, in order; of one that is in a file of its name, that one.

    Raises:
        DataError: a shard is missing, or there are two of one number.
    """
    found: dict[str, dict[int, str]] = {}
    counts: dict[str, int] = {}
    for stem in sorted(stems):
        match = _PART.fullmatch(stem)
        name, number, count = (match["name"], int(match["number"]), int(match["count"])) if match else (stem, 0, 1)
        if number in found.setdefault(name, {}) or counts.setdefault(name, count) != count:
            raise _torn(name, f"{stem}.npy and {next(iter(found[name].values()), '')}.npy do not go together", where)
        found[name][number] = stem
    for name, shards in found.items():
        if missing := sorted({*range(counts[name])} - {*shards}):
            raise _torn(name, f"of {counts[name]} shards, number {missing[0]} is not there", where)
        if wrong := [number for number in shards if number >= counts[name]]:
            raise _torn(name, f"there is a shard {wrong[0]} of {counts[name]}, counted from 0", where)
    return {name: [shards[number] for number in sorted(shards)] for name, shards in found.items()}


def archives(path: Path) -> list[Path]:
    """The .npz files that are the shards of *path*: the only ones of a folder, or those whose names begin so.

    Other files of a folder are not put together: train.npz and test.npz are two data sets.

    Raises:
        DataError: one is missing.
    """
    folder, name = (path, None) if path.is_dir() else (path.parent, path.name)
    stems = [file.stem for file in folder.glob("*-of-*.npz") if _PART.fullmatch(file.stem)]
    names = {match["name"] for stem in stems if (match := _PART.fullmatch(stem))}
    if name is None:
        name = next(iter(names)) if len(names) == 1 else None
    found = [stem for stem in stems if stem.rpartition("-of-")[0].rpartition("-")[0] == name]
    return [folder / f"{stem}.npz" for stem in numbered(found, str(path)).get(name or "", [])]


def _torn(name: str, what: str, where: str) -> DataError:
    return DataError(f"array {name!r} is not whole: {what}", where=where, fix="bring all of its shards, and no others")
