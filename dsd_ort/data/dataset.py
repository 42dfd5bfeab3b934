"""Data that fits a model: raw arrays, examples or streams, matched, checked and converted."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from dsd_ort.data import augment, digest
from dsd_ort.data.columns import match
from dsd_ort.data.conversion import Column, check_batch_size, fit
from dsd_ort.data.object_batches import Batch, Fitted, count, for_each, notes
from dsd_ort.data.source_forms import Arrays, Examples, Named, Stream, calling
from dsd_ort.data.sources import open_source
from dsd_ort.errors import DataError
from dsd_ort.fields import Field
from dsd_ort.recipe import Data, Image

__all__ = ["ArrayData", "Batch", "ExampleData", "StreamData", "check_batch_size", "open_data"]

CHECKED_WHOLE = 2**30
"""Bytes up to which an array's values are checked when it is opened; larger ones are checked batch by batch.
Class labels are always checked whole."""

_SWEEP = 2**22  # bytes that one step of such a check looks at
_READ = 64  # examples that are read at once where only their classes are wanted


def open_data(spec: Any, fields: Sequence[Field], data: Data | None = None) -> ArrayData | ExampleData | StreamData:
    """The data of *spec* for a graph that wants *fields*; *data* is the recipe's section.

    *spec* is a path (``.npz``, folder of ``.npy``, prefix of IDX files, folder of images or recordings, manifest),
    ``module:function``, or a Python object: see :data:`dsd_ort.data.sources.FORMATS` and :mod:`dsd_ort.data.loader`.

    Raises:
        DataError: data that is missing, unreadable, or does not fit in names, shapes, dtypes, lengths or values.
        InstallationError: images or recordings without the package that reads them.
        RecipeError: features that cannot be computed as the recipe says.
    """
    data = data or Data()
    source = open_source(spec, fields, data)
    if isinstance(source, Arrays):
        return ArrayData(source, fields, data)
    if isinstance(source, Examples):
        return ExampleData(source, fields, data)
    return StreamData(source, fields, data)


class ArrayData:
    """Arrays ``[N, …]``, in memory or memory-mapped; opened, checked and converted only as far as needed.

    ``examples`` is N; ``notes`` are lines for people on how arrays were matched and converted.
    """

    def __init__(self, source: Arrays, fields: Sequence[Field], data: Data) -> None:
        self.fields, self.where, self._source = tuple(fields), source.where, source
        augment.refuse_labels_in_place(fields, data.image, source.where)
        pairs = match(list(source.readers), fields, source.where)
        arrays = for_each({name: source.read(name) for name in dict.fromkeys(pairs.values())}, fields, pairs)
        self.examples = count(arrays, source.where)
        self._columns: list[tuple[np.ndarray, Column, bool]] = []
        for field in fields:
            array = arrays[pairs[field.name]]
            column = fit(pairs[field.name], array, field, data, source.where)
            whole = field.classes is not None or array.nbytes <= CHECKED_WHOLE
            if whole and column.can_be_wrong:
                _sweep(array, column)
            self._columns.append((array, column, whole))
        columns = [column for _, column, _ in self._columns]
        names = [name for name in source.readers if not (data.bucket and name == "lengths")]
        self.notes = (*notes(names, columns, data), *_size_note(data))

    @cached_property
    def lengths(self) -> np.ndarray | None:
        """The array of that name, a number for each example, by which bucketing sorts; None where there is none.

        Raises:
            DataError: it is something else.
        """
        if "lengths" not in self._source.readers:
            return None
        return _lengths(lambda: self._source.read("lengths"), self.examples, self.where)

    @cached_property
    def classes(self) -> np.ndarray | None:
        """The class of each example, i64[N]; None where no label is one class an example."""
        field = _class_label(self.fields)
        found = [column.convert(array) for array, column, _ in self._columns if column.field is field]
        return found[0] if found else None

    names: Sequence[str] | None = None
    """Of the files that the examples are, where each is one."""

    parallel = False
    """Whether several threads gather faster than one: what has nothing to decode only waits for the interpreter."""

    @cached_property
    def digest(self) -> str:
        """See :mod:`dsd_ort.data.digest`."""
        return digest.of_arrays({column.array: array for array, column, _ in self._columns}, self.examples)

    def gather(self, indices: np.ndarray, rng: np.random.Generator | None = None) -> Batch:
        """The examples of these numbers, in their order: new C-contiguous arrays of the fields' dtypes and shapes.

        Images are cropped and mirrored by the chance of *rng*; without one they are cut from the middle.

        Raises:
            DataError: a wrong value in an array that was too large to be checked whole.
        """
        batch, chance = {}, augment.draw(rng, len(indices))
        for array, column, checked in self._columns:
            rows = array[indices]
            if not checked:
                column.check(rows, indices)
            batch[column.field.name] = column.convert(rows, chance)
        return batch


class ExampleData:
    """Examples that come one by one, from files or a Python object; values are checked as they come."""

    def __init__(self, source: Examples, fields: Sequence[Field], data: Data) -> None:
        self.fields, self.where, self._source = tuple(fields), source.where, source
        self.examples = len(source.items)
        if not self.examples:
            raise _empty(source.where)
        augment.refuse_labels_in_place(fields, data.image, source.where)
        if source.images:
            data = msgspec.structs.replace(data, layout="nhwc")
        names = list(source.take([0])[0])
        self._fitted = Fitted(names, fields, data, source.where, hints=source.hints, own_names=source.own_names)
        columns = [column for column, _ in self._fitted.collate(source, [0])]
        self.notes = (*source.notes, *notes(names, columns, data), *(() if source.images else _size_note(data)))

    @cached_property
    def lengths(self) -> np.ndarray | None:
        """As :attr:`ArrayData.lengths`: what the source says of each example."""
        read = self._source.lengths
        return None if read is None else _lengths(read, self.examples, self.where)

    @cached_property
    def classes(self) -> np.ndarray | None:
        """As :attr:`ArrayData.classes`; a Python object is read whole for it.

        Raises:
            DataError: an error in the loader, or a label that does not fit.
        """
        field, files = _class_label(self.fields), self._source.files
        if field is None:
            return None
        if files is not None:
            return np.asarray(files.labels, np.int64)
        parts = np.array_split(np.arange(self.examples), -(-self.examples // _READ))
        return np.concatenate([self._fitted.one_field(self._source, part, field) for part in parts])

    @property
    def parallel(self) -> bool:
        """As :attr:`ArrayData.parallel`; never of a Python object, which may not be made for it."""
        return self._source.parallel

    @property
    def names(self) -> Sequence[str] | None:
        """As :attr:`ArrayData.names`."""
        return None if self._source.files is None else self._source.files.names

    @cached_property
    def digest(self) -> str:
        """See :mod:`dsd_ort.data.digest`."""
        files = self._source.files
        return digest.of_examples(self._source) if files is None else digest.of_files(files)

    def gather(self, indices: np.ndarray, rng: np.random.Generator | None = None) -> Batch:
        """As :meth:`ArrayData.gather`; examples that differ in length are filled up to the longest.

        Raises:
            DataError: an error in the loader, or an example that does not fit.
        """
        return self._fitted.examples(self._source, indices, augment.draw(rng, len(indices)))


class StreamData:
    """Batches that a Python function yields; ``examples`` is None, as nobody knows how many will come.

    What a stream does to its images, and which examples it puts together, is its own business: of the recipe's
    ``[data]`` only what turns arrays into inputs counts, not ``image``, ``shuffle``, ``drop_last`` and ``bucket``.
    """

    examples = None
    lengths = None

    def __init__(self, source: Stream, fields: Sequence[Field], data: Data) -> None:
        self.fields, self.where, self._source = tuple(fields), source.where, source
        first = self._first()
        data = msgspec.structs.replace(data, image=Image())
        self._fitted = Fitted(list(first), fields, data, source.where)
        columns = self._fitted.columns(self._fitted.complete(first, source.where), source.where)
        self.notes = notes(list(first), columns, data)

    @cached_property
    def digest(self) -> str:
        """See :mod:`dsd_ort.data.digest`."""
        return digest.of_arrays(self._first(), "stream")

    def _first(self) -> Named:
        with closing(self._source.batches(0, 0)) as batches:
            first = next(batches, None)
        if first is None:
            raise _empty(self.where)
        return first

    def batches(self, epoch: int, seed: int, start: int = 0) -> Generator[Batch]:
        """The batches of an epoch from number *start* on; the ones before are drawn and passed over.

        Raises:
            DataError: an error in the function, an epoch without a batch, or a batch that does not fit.
        """
        number = -1
        with closing(self._source.batches(epoch, seed)) as batches:
            for number, raw in enumerate(batches):
                if number >= start:
                    yield self._fitted.batch(raw, f"{self.where}, batch {number} of epoch {epoch}")
        if number < 0:
            raise _empty(f"{self.where}, epoch {epoch}")


def _class_label(fields: Sequence[Field]) -> Field | None:
    """The first label that is one class an example."""
    return next((field for field in fields if field.label and field.classes and len(field.shape) == 1), None)


def _size_note(data: Data) -> tuple[str, ...]:
    note = "data.image.resize is for images from files: these arrays keep their size"
    return () if data.image.resize is None else (note,)


def _lengths(read: Callable[[], Any], examples: int, where: str) -> np.ndarray:
    """f64[examples], and an error for anything else."""
    with calling(where, "asking for lengths"):
        values = np.asarray(read())
    if values.size != examples or values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise DataError(
            f"lengths has {list(values.shape)} of {values.dtype}, but should have one number for each of "
            f"{examples} examples",
            where=where,
            fix="give the length of each example, in any unit, or set data.bucket = false",
        )
    return values.reshape(-1).astype(np.float64)


def _sweep(array: np.ndarray, column: Column) -> None:
    """Checks a whole array, some MiB at a time."""
    rows = max(1, _SWEEP * len(array) // array.nbytes)
    for start in range(0, len(array), rows):
        column.check(array[start : start + rows], range(start, start + rows))


def _empty(where: str) -> DataError:
    return DataError("there are no examples", where=where, fix="give data with at least one example")
