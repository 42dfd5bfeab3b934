"""The data of an experiment: what is trained on, what chooses, what is measured on at the end.

What chooses must be new to the model: one that was trained on it knows it by heart, and forgetting would look like a
loss.  A file that people bring has seen its training data, so the set that chooses is

- data of its own, where somebody has some;
- or else half of the evaluation data, and the other half measures;
- or a part of the training data, which is for models that have not seen them.  It is left out of every training by a
  list, ``FOLDER/left-out.csv``, together with what the recipe leaves out: run folders hold a copy of that, and can be
  looked at with the whole data.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from dsd_ort.data import Dataset, Field, Subset, counted, open_data, split, without
from dsd_ort.data.subset import DATA, INDEX
from dsd_ort.errors import DataError
from dsd_ort.recipe import Recipe
from dsd_ort.run.suspects import keep

LEFT_OUT = "left-out.csv"
HALF = 0.5


class Sets(NamedTuple):
    """The three sets."""

    training: Dataset
    """With what the recipe's list leaves out."""
    selection: Dataset
    evaluation: Dataset
    recipe: Recipe
    """With the list of all that is left out of *training*."""


def open_sets(
    folder: Path,
    fields: list[Field],
    recipe: Recipe,
    data: Any,
    eval_data: Any,
    *,
    select: float | None = None,
    select_data: Any = None,
) -> Sets:
    """Opens the three sets, and writes the list of what is left out.

    Args:
        folder: where the list goes.
        fields: what the model reads.
        recipe: its data section and seed.
        data: to train on.
        eval_data: measured at the end.
        select: the share of *data* that chooses, of every class the same.
        select_data: data of their own that choose.

    Raises:
        DataError: one cannot be read or does not fit; the data that choose are those of another set; a share of which
            nothing is left; a stream that a part is to be taken from.
    """
    training, evaluation = (open_data(spec, fields, recipe.data) for spec in (data, eval_data))
    if select_data is not None:
        selection = open_data(select_data, fields, recipe.data)
        _refuse_the_same(selection, training, "trained on")
        _refuse_the_same(selection, evaluation, "measured on")
        return Sets(training, selection, evaluation, recipe)
    if select is None:
        try:
            halves = split(evaluation, HALF, recipe.seed)
        except DataError as error:
            raise DataError(
                f"the evaluation data cannot be halved, for one half to choose: {error.what}",
                where=error.where,
                fix="give more --eval-data, or data that choose with --select-data",
            ) from error
        return Sets(training, halves.part, halves.rest, recipe)
    whole, listed = counted(training), recipe.data.without
    left = Subset(whole, np.arange(whole.examples)) if listed is None else without(whole, listed)
    part = left.indices[split(left, select, recipe.seed).part.indices]
    gone = np.union1d(np.setdiff1d(np.arange(whole.examples), left.indices), part)
    _write_list(folder / LEFT_OUT, gone, whole.digest)
    section = msgspec.structs.replace(recipe.data, without=str(folder / LEFT_OUT))
    return Sets(training, Subset(whole, part), evaluation, msgspec.structs.replace(recipe, data=section))


def _refuse_the_same(selection: Dataset, other: Dataset, used: str) -> None:
    if selection.digest == other.digest:
        raise DataError(
            f"the selection data are those that are {used}",
            where=selection.where,
            fix="give others, or leave --select-data out: half of the evaluation data then choose",
        )


def _write_list(path: Path, indices: np.ndarray, digest: str) -> None:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([INDEX, DATA])
    rows.writerows((int(index), digest) for index in indices)
    if not path.exists() or path.read_bytes() != text.getvalue().encode():
        keep(path, text.getvalue().encode())
