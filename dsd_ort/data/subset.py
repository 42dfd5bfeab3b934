"""A part of a data set, which is a data set: some of its examples, under the numbers 0, 1, …

:func:`split` parts off a share by chance, the same of every class; :func:`without` leaves out what a CSV lists::

    index,file,data                             # one of index and file is enough, and more columns are passed over
    17,cat/0018.png,1287-9f86d081884c7d65

``index`` counts the examples from 0; ``file`` is the name that a folder or manifest gives; ``data`` is the digest of
the data that the list was made for (:mod:`dsd_ort.data.digest`), and may be missing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from dsd_ort.data import digest
from dsd_ort.data.dataset import ArrayData, Batch, ExampleData, StreamData
from dsd_ort.data.source_forms import reading
from dsd_ort.errors import DataError
from dsd_ort.fields import Field

INDEX, FILE, DATA = "index", "file", "data"
"""The columns of a list of examples."""

_SPLIT = 2  # keeps its chance apart from that of batches, which have keys of their own


class Subset:
    """The examples *indices* of *dataset*, in this order.

    Raises:
        DataError: *dataset* is a stream, or there are no indices.
    """

    def __init__(self, dataset: Dataset, indices: np.ndarray) -> None:
        self._dataset = counted(dataset)
        self.indices: np.ndarray = np.asarray(indices, np.int64)
        """Their numbers in the whole data."""
        self.fields: tuple[Field, ...] = dataset.fields
        self.where: str = dataset.where
        self.examples = len(self.indices)
        if not self.examples:
            raise DataError("no example is left", where=self.where, fix="leave out fewer")
        self.notes: tuple[str, ...] = (*dataset.notes, f"{self.examples:,} of {self._dataset.examples:,} examples")

    @property
    def parallel(self) -> bool:
        """As :attr:`ArrayData.parallel`."""
        return self._dataset.parallel

    @cached_property
    def lengths(self) -> np.ndarray | None:
        """As :attr:`ArrayData.lengths`."""
        lengths = self._dataset.lengths
        return None if lengths is None else lengths[self.indices]

    @cached_property
    def classes(self) -> np.ndarray | None:
        """As :attr:`ArrayData.classes`."""
        classes = self._dataset.classes
        return None if classes is None else classes[self.indices]

    @property
    def names(self) -> Sequence[str] | None:
        """As :attr:`ArrayData.names`."""
        names = self._dataset.names
        return None if names is None else [names[i] for i in self.indices]

    @cached_property
    def digest(self) -> str:
        return digest.of_part(self._dataset.digest, self.indices)

    def gather(self, indices: np.ndarray, rng: np.random.Generator | None = None) -> Batch:
        """As :meth:`ArrayData.gather`; messages name examples by their numbers in the whole data."""
        return self._dataset.gather(self.indices[indices], rng)


Counted: TypeAlias = ArrayData | ExampleData | Subset
"""Examples that have numbers."""
Dataset: TypeAlias = Counted | StreamData


def counted(dataset: Dataset) -> Counted:
    """*dataset*, whose examples have numbers.

    Raises:
        DataError: it is a stream.
    """
    if isinstance(dataset, StreamData):
        raise DataError(
            "a function that yields batches cannot be taken apart: its examples have no numbers",
            where=dataset.where,
            fix="give arrays, or an object with __len__ and __getitem__",
        )
    return dataset


class Split(NamedTuple):
    """Two parts, each in the order of the whole."""

    rest: Subset
    part: Subset


def split(dataset: Dataset, share: float, seed: int) -> Split:
    """Parts off round(*share*·N) of N examples by chance: a function of the data, *share* and *seed*.

    Where a label is one class an example, each class gives its share, to one example, and keeps at least one.

    Raises:
        DataError: *share* is not in (0, 1), or too small or too large for so few examples; or *dataset* is a stream.
    """
    whole = counted(dataset)
    if not 0 < share < 1:
        raise DataError(f"a share of {share:g} leaves nothing on one side", where=whole.where, fix="give one in (0, 1)")
    labels = np.zeros(whole.examples, np.int64) if whole.classes is None else whole.classes
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_SPLIT,)))
    taken = _quotas(counts, share, rng)
    if not taken.sum():
        raise DataError(
            f"a share of {share:g} of {whole.examples} examples is none"
            + (", as every class keeps one" if len(counts) > 1 else ""),
            where=whole.where,
            fix="give a larger share, or more data",
        )
    order = rng.permutation(whole.examples)
    order = order[np.argsort(classes[order], kind="stable")]  # by class, by chance within each
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    part = np.zeros(len(order), bool)
    part[order] = rank < np.repeat(taken, counts)
    return Split(Subset(whole, np.flatnonzero(~part)), Subset(whole, np.flatnonzero(part)))


def _quotas(counts: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """How many of each class are parted off: ⌊share·count⌋, one more by the largest remainders, and never all of it.

    Equal remainders are told apart by chance.  What classes of one cannot give, no class gives beyond its own share.
    """
    exact = share * counts
    taken: np.ndarray = np.minimum(np.floor(exact).astype(np.int64), counts - 1)
    missing = round(share * int(counts.sum())) - int(taken.sum())
    order = np.lexsort((rng.random(len(counts)), taken - exact))
    can_give = order[(taken < np.minimum(exact, counts - 1))[order]]
    taken[can_give[:missing]] += 1
    return taken


def without(dataset: Dataset, *lists: str | Path) -> Subset:
    """All examples but those that the CSV files *lists* name; of whole data: leave out first, and split then.

    Raises:
        DataError: the list is missing, is no such CSV, was made for other data, or names what is not there; or
            *dataset* is a stream, or all of it is listed.
    """
    whole = counted(dataset)
    left = np.ones(whole.examples, bool)
    for path in map(Path, lists):
        left[_listed(path, whole)] = False
    return Subset(whole, np.flatnonzero(left))


def _listed(path: Path, whole: Counted) -> list[int]:
    """The numbers of the examples that one list names."""
    found: list[int] = []
    rows = csv.DictReader(io.StringIO(_text(path), newline=None))
    column = _column(rows.fieldnames or (), whole.names is not None, str(path))
    numbers = _by_name(whole.names or ()) if column == FILE else {}
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        _refuse_other_data(row, whole, where)
        found += _find(row, numbers, whole, where) if column == FILE else [_number(row, whole, where)]
    return found


def _text(path: Path) -> str:
    with reading(str(path), "the list"):
        content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("the list is not text in UTF-8", where=str(path), fix="write it in UTF-8") from error


def _column(names: Sequence[str], by_name: bool, where: str) -> str:
    """By which column examples are named: by their files, which stay right when others come and go, or numbers."""
    if by_name and FILE in names:
        return FILE
    if INDEX in names:
        return INDEX
    fix = f"name the examples in a column {INDEX!r}, counted from 0"
    fix += f", or the files in a column {FILE!r}" if by_name else ""
    held = ", ".join(map(repr, names)) or "nothing"
    raise DataError(f"the list has no column that names examples: it has {held}", where=where, fix=fix)


def _by_name(names: Sequence[str]) -> dict[str, list[int]]:
    """A manifest may name a file twice."""
    numbers: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        numbers.setdefault(name, []).append(number)
    return numbers


Row: TypeAlias = Mapping[str, str | None]


def _refuse_other_data(row: Row, whole: Counted, where: str) -> None:
    if (made_for := row.get(DATA)) and made_for != whole.digest:
        raise DataError(
            f"the list was made for other data: {made_for}, where this is {whole.digest} (examples-digest)",
            where=f"{where}, and {whole.where}",
            fix=f"make the list anew, or remove its column {DATA!r} if it names the right examples all the same",
        )


def _number(row: Row, whole: Counted, where: str) -> int:
    text = (row[INDEX] or "").strip()
    if text.isascii() and text.isdigit() and int(text) < whole.examples:
        return int(text)
    fix = f"give numbers from 0 to {whole.examples - 1}"
    raise DataError(f"there is no example {text!r}", where=f"{where}, column {INDEX!r}", fix=fix)


def _find(row: Row, numbers: Mapping[str, list[int]], whole: Counted, where: str) -> list[int]:
    name = row[FILE] or ""
    if name in numbers:
        return numbers[name]
    fix = f"give names as the data has them, such as {next(iter(numbers))!r}"
    raise DataError(f"{whole.where} has no file {name!r}", where=f"{where}, column {FILE!r}", fix=fix)
