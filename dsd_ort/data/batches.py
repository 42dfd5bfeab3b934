"""The batches of one epoch, from any of them on, prepared while the one before trains.

The order of epoch *e* is ``default_rng([seed, e]).permutation(N)``: a function of seed and epoch alone, so that a
resumed run goes through the same batches as one left alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from dsd_ort.data.dataset import Batch, Dataset, StreamData, check_batch_size
from dsd_ort.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True)
class Batches:
    """Iterates ``{field: array [b, …]}``; b is ``batch_size``, or less in the last batch unless ``drop_last``.

    ``start`` is the number of the first batch that is wanted.  A stream decides on its batches and their order itself;
    for it only seed, epoch and start count.

    Raises:
        DataError: the model fixes another batch size, or not one batch is left; while iterating, what gather() raises.
    """

    dataset: Dataset
    batch_size: int
    seed: int = 0
    epoch: int = 0
    shuffle: bool = True
    drop_last: bool = False
    start: int = 0

    def __post_init__(self) -> None:
        if self.dataset.examples is None:
            return
        check_batch_size(self.dataset.fields, self.batch_size)
        rest = self.dataset.examples % self.batch_size
        if rest and not self.drop_last:
            check_batch_size(self.dataset.fields, rest, what="the last batch's size")
        if self.count == 0:
            raise DataError(
                f"{self.dataset.examples} examples fill no batch of {self.batch_size}, and the last one is dropped",
                where=self.dataset.where,
                fix="set a smaller batch_size, or data.drop_last = false",
            )

    @property
    def count(self) -> int | None:
        """The batches of the whole epoch; None for a stream."""
        if self.dataset.examples is None:
            return None
        return (self.dataset.examples + (0 if self.drop_last else self.batch_size - 1)) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        if isinstance(self.dataset, StreamData):
            yield from self.dataset.batches(self.epoch, self.seed, self.start)
            return
        order = np.arange(self.dataset.examples)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.dataset.examples)
        for number in range(self.start, self.count or 0):
            yield self.dataset.gather(order[number * self.batch_size : (number + 1) * self.batch_size])


def prefetch(items: Iterable[T], depth: int = 2) -> Generator[T]:
    """The same items, of which the next *depth* are prepared in a thread of their own.

    What *items* raises is raised here, in its turn.  The thread ends, and *items* is closed, when the last item is
    taken or this generator is closed: wrap it in ``contextlib.closing`` where the loop may be left early.
    """
    assert depth > 0
    source, end = iter(items), object()
    with ThreadPoolExecutor(1, thread_name_prefix="dsd-ort-data") as thread:
        ahead = deque(thread.submit(next, source, end) for _ in range(depth))
        try:
            while (item := ahead.popleft().result()) is not end:
                ahead.append(thread.submit(next, source, end))
                yield item  # type: ignore[misc]
        finally:
            thread.shutdown(wait=True, cancel_futures=True)
            if close := getattr(source, "close", None):
                close()
