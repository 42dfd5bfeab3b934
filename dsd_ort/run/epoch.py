"""The batches of an epoch, and how many updates they make."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

import msgspec

from dsd_ort.data import Batches, Dataset
from dsd_ort.errors import RecipeError
from dsd_ort.recipe import Phase, Recipe
from dsd_ort.run.position import Position
from dsd_ort.run.ranks import Ranks

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


def batches_left(recipe: Recipe, data: Dataset, position: Position, workers: int = 1) -> Batches:
    """What is left of the epoch at *position*, prepared by *workers*."""
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
        workers=workers,
    )


def in_parts(recipe: Recipe, size: int | None) -> Recipe:
    """*recipe* with batches of *size*, and as many of them an update as are as many examples as before.

    Raises:
        RecipeError: its batches are not made up of such.
    """
    if size is None or size == recipe.batch_size:
        return recipe
    if size < 1 or recipe.batch_size % size:
        raise RecipeError(
            f"a batch of {recipe.batch_size} cannot be cut into parts of {size}",
            where="--micro-batch, and the recipe's batch_size",
            fix="give a micro-batch that divides the batch size",
        )
    accumulate = recipe.optimizer.accumulate * (recipe.batch_size // size)
    optimizer = msgspec.structs.replace(recipe.optimizer, accumulate=accumulate)
    return msgspec.structs.replace(recipe, batch_size=size, optimizer=optimizer)


def refuse_idle_ranks(recipe: Recipe, ranks: Ranks) -> None:
    """Raises RecipeError where an update has fewer batches than there are ranks."""
    batches, examples = recipe.optimizer.accumulate, recipe.batch_size * recipe.optimizer.accumulate
    if ranks.size <= batches:
        return
    several = f"{batches} batches of {recipe.batch_size}" if batches > 1 else f"one batch of {recipe.batch_size}"
    parts = next(
        (n for n in range(2, recipe.batch_size + 1) if recipe.batch_size % n == 0 and n * batches >= ranks.size), None
    )
    fix = f"with --micro-batch {recipe.batch_size // parts} it has {parts * batches}" if parts else "start fewer ranks"
    raise RecipeError(
        f"an update takes {examples} examples, {several}, and there are {ranks.size} ranks to share them",
        where="recipe, batch_size and optimizer.accumulate",
        fix=f"{fix}; the same examples make up an update, whoever computes them",
    )


def updates_of_phase(recipe: Recipe, data: Dataset, phase: Phase, position: Position) -> int:
    """Of a whole phase, if nothing ends it before.

    Raises:
        RecipeError: as :func:`updates_of_epoch`.
    """
    if phase.steps is not None:
        return phase.steps
    return math.ceil((phase.epochs or 0) * updates_of_epoch(recipe, data, phase, position))


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
