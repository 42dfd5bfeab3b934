"""The batches of an epoch, and how many updates they make."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from dsd_ort.data import Batches, Dataset
from dsd_ort.errors import RecipeError
from dsd_ort.recipe import Phase, Recipe
from dsd_ort.run.position import Position

T = TypeVar("T")


class Waiting(Generic[T]):
    """Gives what *stream* gives, and counts the ``seconds`` that it kept whoever reads it waiting."""

    def __init__(self, stream: Iterable[T]) -> None:
        self.stream, self.seconds = stream, 0.0

    def __iter__(self) -> Iterator[T]:
        began = time.monotonic()
        for item in self.stream:
            self.seconds += time.monotonic() - began
            yield item
            began = time.monotonic()


def batches_left(recipe: Recipe, data: Dataset, position: Position) -> Batches:
    """What is left of the epoch at *position*."""
    return Batches(
        data,
        recipe.batch_size,
        seed=recipe.seed,
        epoch=position.epochs,
        shuffle=recipe.data.shuffle,
        drop_last=recipe.data.drop_last,
        start=position.batch,
        bucket=recipe.data.bucket,
        augment=True,
    )


def updates_of_epoch(recipe: Recipe, data: Dataset, phase: Phase, position: Position) -> int:
    """Of a whole epoch; of a stream, whose length nobody knows, those of *phase*.

    Raises:
        RecipeError: the phase is given in epochs of a stream.
    """
    count = batches_left(recipe, data, position).count
    if count is not None:
        return math.ceil(count / recipe.optimizer.accumulate)
    if phase.steps is None:
        raise RecipeError(
            f"phase {position.phase + 1} is given in epochs, but a stream of batches has no known length",
            where=data.where,
            fix="give the phase's length in steps",
        )
    return phase.steps
