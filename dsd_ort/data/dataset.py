"""Data that fits a model: raw arrays, examples or streams, matched, checked and converted."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from dsd_ort.data.fit import Column, fit, shape_text
from dsd_ort.data.match import describe, match
from dsd_ort.data.raw import Arrays, Examples, Named, Stream
from dsd_ort.data.sources import open_source
from dsd_ort.errors import DataError
from dsd_ort.fields import Field
from dsd_ort.recipe import Data

Batch = dict[str, np.ndarray]

CHECKED_WHOLE = 2**30
"""Bytes up to which an array's values are checked when it is opened; larger ones are checked batch by batch.
Class labels are always checked whole."""

_SWEEP = 2**22  # bytes that one step of such a check looks at


def open_data(spec: Any, fields: Sequence[Field], data: Data | None = None) -> Dataset:
    """The data of *spec* for a graph that wants *fields*; *data* is the recipe's section.

    *spec* is a path (``.npz``, folder of ``.npy``, prefix of IDX files), ``module:function``, or a Python object:
    see :data:`dsd_ort.data.sources.FORMATS` and :mod:`dsd_ort.data.loader`.

    Raises:
        DataError: data that is missing, unreadable, or does not fit in names, shapes, dtypes, lengths or values.
    """
    source, data = open_source(spec), data or Data()
    if isinstance(source, Arrays):
        return ArrayData(source, fields, data)
    if isinstance(source, Examples):
        return ExampleData(source, fields, data)
    return StreamData(source, fields, data)


def check_batch_size(fields: Sequence[Field], size: int, *, what: str = "batch_size") -> None:
    """Refuses a batch of *size* examples where the model fixes another size.

    Raises:
        DataError: a field's axis 0 is a number other than *size*.
    """
    for field in fields:
        wanted = field.shape[0] if field.shape else None
        if isinstance(wanted, int) and wanted != size:
            raise DataError(
                f"{what} is {size}, but the model takes only batches of {wanted}",
                where=f"{describe(field)}, {field.dtype}{shape_text(field.shape)}",
                fix=f"use batch_size = {wanted} and data.drop_last = true, or export the model with a symbolic batch",
            )


class ArrayData:
    """Arrays ``[N, …]``, in memory or memory-mapped; opened, checked and converted only as far as needed.

    ``examples`` is N; ``notes`` are lines for people on how arrays were matched and converted.
    """

    def __init__(self, source: Arrays, fields: Sequence[Field], data: Data) -> None:
        self.fields, self.where = tuple(fields), source.where
        pairs = match(list(source.readers), fields, source.where)
        arrays = {name: source.read(name) for name in dict.fromkeys(pairs.values())}
        self.examples = _length(arrays, source.where)
        self._columns: list[tuple[np.ndarray, Column, bool]] = []
        for field in fields:
            array = arrays[pairs[field.name]]
            column = fit(pairs[field.name], array, field, data, source.where)
            whole = field.classes is not None or array.nbytes <= CHECKED_WHOLE
            if whole and column.can_be_wrong:
                _sweep(array, column)
            self._columns.append((array, column, whole))
        self.notes = _notes(list(source.readers), [column for _, column, _ in self._columns])

    def gather(self, indices: np.ndarray) -> Batch:
        """The examples of these numbers, in their order: new C-contiguous arrays of the fields' dtypes and shapes.

        Raises:
            DataError: a wrong value in an array that was too large to be checked whole.
        """
        batch = {}
        for array, column, checked in self._columns:
            rows = array[indices]
            if not checked:
                column.check(rows, indices)
            batch[column.field.name] = column.convert(rows)
        return batch


class ExampleData:
    """Examples that a Python object gives one by one; values are checked as they come."""

    def __init__(self, source: Examples, fields: Sequence[Field], data: Data) -> None:
        self.fields, self.where, self._source = tuple(fields), source.where, source
        self.examples = len(source.items)
        if not self.examples:
            raise _empty(source.where)
        self._fitted = _Fitted(source.take([0]), fields, data, source.where)
        self.notes = self._fitted.notes

    def gather(self, indices: np.ndarray) -> Batch:
        """As :meth:`ArrayData.gather`.

        Raises:
            DataError: an error in the loader, or an example that does not fit.
        """
        return self._fitted(self._source.take(indices), indices, self.where)


class StreamData:
    """Batches that a Python function yields; ``examples`` is None, as nobody knows how many will come."""

    examples = None

    def __init__(self, source: Stream, fields: Sequence[Field], data: Data) -> None:
        self.fields, self.where, self._source = tuple(fields), source.where, source
        with closing(source.batches(0, 0)) as batches:
            first = next(batches, None)
        if first is None:
            raise _empty(source.where)
        self._fitted = _Fitted(first, fields, data, source.where)
        self.notes = self._fitted.notes

    def batches(self, epoch: int, seed: int, start: int = 0) -> Generator[Batch]:
        """The batches of an epoch from number *start* on; the ones before are drawn and passed over.

        Raises:
            DataError: an error in the function, an epoch without a batch, or a batch that does not fit.
        """
        number = -1
        with closing(self._source.batches(epoch, seed)) as batches:
            for number, raw in enumerate(batches):
                if number >= start:
                    yield self._fitted(raw, None, f"{self.where}, batch {number} of epoch {epoch}")
        if number < 0:
            raise _empty(f"{self.where}, epoch {epoch}")


Dataset = ArrayData | ExampleData | StreamData


class _Fitted:
    """Batches from Python, each fitted anew, since symbolic axes may differ from one to the next."""

    def __init__(self, first: Named, fields: Sequence[Field], data: Data, where: str) -> None:
        self._pairs = match(list(first), fields, where)
        self._fields, self._data = fields, data
        self.notes = _notes(list(first), self._columns(first, where))

    def _columns(self, raw: Named, where: str) -> list[Column]:
        for name in self._pairs.values():
            if name not in raw:
                fix = "give the same arrays every time"
                raise DataError(f"array {name!r}, which was there at first, is missing", where=where, fix=fix)
        _length({name: raw[name] for name in self._pairs.values()}, where)
        return [
            fit(self._pairs[field.name], raw[self._pairs[field.name]], field, self._data, where)
            for field in self._fields
        ]

    def __call__(self, raw: Named, numbers: np.ndarray | None, where: str) -> Batch:
        """The batch; *numbers* are those of its examples, by default from 0."""
        columns = self._columns(raw, where)
        check_batch_size(self._fields, len(raw[columns[0].array]), what="a batch's size")
        batch = {}
        for column in columns:
            rows = raw[column.array]
            column.check(rows, range(len(rows)) if numbers is None else numbers)
            values = column.convert(rows)
            # The loader may write its next batch into the same memory while this one still trains.
            batch[column.field.name] = values.copy() if np.may_share_memory(values, rows) else values
        return batch


def _length(arrays: Named, where: str) -> int:
    """The size of axis 0, which all arrays share."""
    for name, array in arrays.items():
        if array.ndim == 0:
            fix = "give it one entry for every example: axis 0 is the example"
            raise DataError(f"array {name!r} is a single number", where=where, fix=fix)
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
        raise DataError(f"the arrays differ in length: {counts}", where=where, fix="give every example all its arrays")
    for name, array in arrays.items():
        if array.size == 0:
            fix = "give data with at least one example"
            raise DataError(f"array {name!r} is empty: its shape is {list(array.shape)}", where=where, fix=fix)
    return next(iter(lengths.values()))


def _sweep(array: np.ndarray, column: Column) -> None:
    """Checks a whole array, some MiB at a time."""
    rows = max(1, _SWEEP * len(array) // array.nbytes)
    for start in range(0, len(array), rows):
        column.check(array[start : start + rows], range(start, start + rows))


def _notes(names: Sequence[str], columns: Sequence[Column]) -> tuple[str, ...]:
    notes = [f"array {c.array!r} feeds {describe(c.field)}" for c in columns if c.array != c.field.name]
    notes += [
        f"array {c.array!r} is cast from {c.dtype} to {c.field.dtype}"
        for c in columns
        if c.dtype.kind == "f" and c.dtype.name != np.dtype(c.field.dtype).name
    ]
    unused = [repr(name) for name in names if name not in {c.array for c in columns}]
    return (*notes, f"not used: {', '.join(unused)}") if unused else tuple(notes)


def _empty(where: str) -> DataError:
    return DataError("there are no examples", where=where, fix="give data with at least one example")
