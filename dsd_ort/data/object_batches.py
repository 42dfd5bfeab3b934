"""Batches from Python, each fitted anew, since axes that the model leaves open may differ from one to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dsd_ort.data.collate import stack
from dsd_ort.data.columns import describe, match
from dsd_ort.data.conversion import Column, check_batch_size, fit
from dsd_ort.data.source_forms import Examples, Named
from dsd_ort.errors import DataError
from dsd_ort.fields import Field
from dsd_ort.recipe import Data

Batch = dict[str, np.ndarray]
Numbers = Sequence[int] | np.ndarray


class Fitted:
    """Turns raw batches, and lists of examples, into the model's.

    Args:
        names: the arrays that come every time.
        fields: what the model wants.
        data: the recipe's section.
        where: for messages.
        hints: array → what to do where its shape does not fit.
        own_names: see :class:`~dsd_ort.data.source_forms.Examples`.
    """

    def __init__(
        self,
        names: Sequence[str],
        fields: Sequence[Field],
        data: Data,
        where: str,
        *,
        hints: Mapping[str, str] | None = None,
        own_names: bool = False,
    ) -> None:
        self._pairs = match(names, fields, where, own_names=own_names)
        self._fields, self._data, self._hints = fields, data, hints or {}

    def complete(self, raw: Named, where: str) -> Named:
        """*raw* with an entry for each example in all arrays.

        Raises:
            DataError: an array is missing.
        """
        self._refuse_missing(raw, where)
        return for_each(raw, self._fields, self._pairs)

    def columns(self, raw: Named, where: str) -> list[Column]:
        """How each array of this batch becomes a field's.

        Raises:
            DataError: an array does not fit.
        """
        count({name: raw[name] for name in self._pairs.values()}, where)
        pairs = [(field, self._pairs[field.name]) for field in self._fields]
        return [fit(name, raw[name], field, self._data, where, hint=self._hints.get(name)) for field, name in pairs]

    def batch(self, raw: Named, where: str) -> Batch:
        """The batch of arrays ``[b, …]``.

        Raises:
            DataError: an array is missing, does not fit, or holds a wrong value.
        """
        raw = self.complete(raw, where)
        columns = self.columns(raw, where)
        check_batch_size(self._fields, len(raw[columns[0].array]), what="a batch's size")
        batch = {}
        for column in columns:
            rows = raw[column.array]
            column.check(rows, range(len(rows)))
            values = column.convert(rows)
            # The loader may write its next batch into the same memory while this one still trains.
            batch[column.field.name] = values.copy() if np.may_share_memory(values, rows) else values
        return batch

    def examples(self, source: Examples, numbers: Numbers, chance: np.ndarray | None = None) -> Batch:
        """The batch of the examples of these numbers; *chance* is that of :meth:`Column.convert`.

        Raises:
            DataError: as :meth:`batch`; or the examples differ where the model, or the source, wants them alike.
        """
        check_batch_size(self._fields, len(numbers), what="a batch's size")
        batch = {}
        for column, parts in self.collate(source, numbers):
            ends = np.cumsum([len(part) for part in parts])
            values = []
            for start, end, part in zip([0, *ends], ends, parts, strict=False):
                column.check(part, numbers[start:end])
                values.append(column.convert(part, None if chance is None else chance[start:end]))
            batch[column.field.name] = np.concatenate(values) if len(values) > 1 else values[0]
        return batch

    def one_field(self, source: Examples, numbers: Numbers, field: Field) -> np.ndarray:
        """Of the examples of these numbers, any many, only what feeds *field*.

        Raises:
            DataError: as :meth:`examples`.
        """
        column, parts = self._collate(source, source.take(numbers), numbers, field)
        rows = np.concatenate(parts)
        column.check(rows, numbers)
        return column.convert(rows)

    def collate(self, source: Examples, numbers: Numbers) -> list[tuple[Column, list[np.ndarray]]]:
        """For each field how its array is fitted, and the array: whole, or singly where a crop makes examples even."""
        examples = source.take(numbers)
        self._refuse_missing(examples[0], source.where)
        return [self._collate(source, examples, numbers, field) for field in self._fields]

    def _collate(
        self, source: Examples, examples: Sequence[Named], numbers: Numbers, field: Field
    ) -> tuple[Column, list[np.ndarray]]:
        name = self._pairs[field.name]
        arrays, hint = [example[name] for example in examples], self._hints.get(name)
        if any(array.shape != arrays[0].shape for array in arrays):
            where = f"{source.where}, {source.title(numbers[0])}"
            column = fit(name, arrays[0][None], field, self._data, where, hint=hint)
            self._refuse_uneven(source, examples, numbers, column)
            if column.frame is not None:
                return replace(column, where=source.where), [array[None] for array in arrays]
        rows = stack(arrays, field, 1 if source.images else self._data.pad_to)
        if rows is None:
            raise self._differ(source, examples, numbers, name)
        count({name: rows}, source.where)
        return fit(name, rows, field, self._data, source.where, hint=hint), [rows]

    def _refuse_uneven(self, source: Examples, examples: Sequence[Named], numbers: Numbers, column: Column) -> None:
        """Examples may differ in shape if each of them fits as the first does."""
        shapes = [example[column.array].shape for example in examples]
        if any(len(shape) != len(shapes[0]) for shape in shapes):
            raise self._differ(source, examples, numbers, column.array)
        for number, shape in zip(numbers, shapes, strict=True):
            column.refuse_small(shape, source.title(number))
        if not all(map(column.takes, shapes)) or (source.images and column.frame is None):
            hint = "set data.image.crop, so that all become one size" if column.frame is not None else None
            raise self._differ(source, examples, numbers, column.array, hint)

    def _differ(
        self, source: Examples, examples: Sequence[Named], numbers: Numbers, name: str, hint: str | None = None
    ) -> DataError:
        first = examples[0]
        i = next(i for i, example in enumerate(examples) if example[name].shape != first[name].shape)
        return source.differs(numbers[i], examples[i], first, self._hints.get(name) or hint)

    def _refuse_missing(self, raw: Named, where: str) -> None:
        for name in self._pairs.values():
            if name not in raw:
                fix = "give the same arrays every time"
                raise DataError(f"array {name!r}, which was there at first, is missing", where=where, fix=fix)


def for_each(arrays: Named, fields: Sequence[Field], pairs: Mapping[str, str]) -> Named:
    """*arrays* in which a single number that feeds an input without axes is there for each example."""
    single = {pairs[field.name] for field in fields if not field.shape}
    examples = next((len(array) for array in arrays.values() if array.ndim), 1)
    return {
        name: np.broadcast_to(array, examples) if name in single and not array.ndim else array
        for name, array in arrays.items()
    }


def count(arrays: Named, where: str) -> int:
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


def notes(names: Sequence[str], columns: Sequence[Column], data: Data) -> tuple[str, ...]:
    """Lines for people on how arrays were matched and converted."""
    lines = [f"array {c.array!r} feeds {describe(c.field)}" for c in columns if c.array != c.field.name]
    lines += [
        f"array {c.array!r} is cast from {c.dtype} to {c.field.dtype}"
        for c in columns
        if c.dtype.kind == "f" and c.dtype.name != np.dtype(c.field.dtype).name
    ]
    lines += [
        f"array {c.array!r} is 8-bit and goes in as numbers from 0 to 1, as the recipe's [data] gives neither mean nor "
        "std: a model that was trained on normalised pictures answers as if by chance then; give them, or mean = [0]"
        for c in columns
        if c.gain is not None and not data.is_normalised
    ]
    unused = [repr(name) for name in names if name not in {c.array for c in columns}]
    return (*lines, f"not used: {', '.join(unused)}") if unused else tuple(lines)
