"""The batches of one epoch, from any of them on, prepared while the one before trains.

::

    numbers of a batch ─ gathered, by one of several workers ─ in their order ─ prefetched ─ trained on

Which examples make up a batch is a function of seed and epoch (:mod:`dsd_ort.data.order`), and how images are cropped
and mirrored is one of seed, epoch and the batch's number: a resumed run has the same batches as one left alone,
and so has one with other workers: how many there are decides on nothing but the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np

from dsd_ort.data import order
from dsd_ort.data.dataset import Batch, StreamData, check_batch_size
from dsd_ort.data.subset import Counted, Dataset
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
    bucket: bool = False
    """Where the order is shuffled, batches are of examples of about one length."""
    augment: bool = False
    """Images are cropped and mirrored by chance, as training wants it; otherwise they are cut from the middle."""
    workers: int = 1
    """Threads that gather batches, each its own, where the data lets several read at once."""

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
        if self.bucket and self.shuffle and self.dataset.lengths is None:
            raise DataError(
                "data.bucket needs the length of every example, and this data does not tell it",
                where=self.dataset.where,
                fix="give an array called 'lengths', or the Python object an attribute of that name, "
                "or set data.bucket = false",
            )

    @property
    def count(self) -> int | None:
        """The batches of the whole epoch; None for a stream."""
        if self.dataset.examples is None:
            return None
        return (self.dataset.examples + (0 if self.drop_last else self.batch_size - 1)) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        return (batch for batch in self.turns(lambda number: True) if batch is not None)

    def turns(self, mine: Callable[[int], bool]) -> Iterator[Batch | None]:
        """Each batch whose number is *mine*, and None, with nothing read for it, for those of others."""
        if isinstance(self.dataset, StreamData):
            drawn = self.dataset.batches(self.epoch, self.seed, self.start)
            yield from (batch if mine(number) else None for number, batch in enumerate(drawn, self.start))
            return
        yield from in_turn(self._calls(self.dataset, mine), self.workers if self.dataset.parallel else 1)

    def _calls(self, dataset: Counted, mine: Callable[[int], bool]) -> Iterator[Callable[[], Batch | None]]:
        """What gives each batch of :meth:`turns`, on any thread: pure functions of seed, epoch and number."""
        for number, indices in enumerate(self._order(dataset)):
            if self.start <= number < (self.count or 0):
                chance = self._chance(number) if self.augment else None
                yield partial(dataset.gather, indices, chance) if mine(number) else _nothing

    def _order(self, dataset: Counted) -> list[np.ndarray]:
        """The numbers of each batch's examples."""
        if not self.shuffle:
            return order.batches_of(np.arange(dataset.examples), self.batch_size)
        if self.bucket and dataset.lengths is not None:
            return order.bucketed(dataset.lengths, self.batch_size, self.seed, self.epoch, drop_last=self.drop_last)
        return order.batches_of(order.shuffled(dataset.examples, self.seed, self.epoch), self.batch_size)

    def _chance(self, number: int) -> np.random.Generator:
        # The key keeps it apart from the epoch's own generator: [seed, epoch] and [seed, epoch, 0] are the same seed.
        return np.random.default_rng(np.random.SeedSequence([self.seed, self.epoch, number], spawn_key=(1,)))


def _nothing() -> None:
    """A batch of somebody else's."""


def in_turn(calls: Iterable[Callable[[], T]], workers: int) -> Generator[T]:
    """What each of *calls* gives, in their order, while *workers* threads are at as many of those that come next.

    What a call raises is raised here, in its turn.  One worker is whoever asks, and nothing is done ahead.
    """
    calls = iter(calls)
    if workers == 1:
        yield from (call() for call in calls)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="dsd-ort-data") as threads:
        ahead = deque(threads.submit(call) for call in islice(calls, workers))
        try:
            while ahead:
                done = ahead.popleft().result()
                ahead.extend(threads.submit(call) for call in islice(calls, 1))
                yield done
        finally:
            threads.shutdown(wait=True, cancel_futures=True)


def with_last(items: Iterable[T]) -> Iterator[tuple[T, bool]]:
    """Each item, and whether it is the last one."""
    iterator = iter(items)
    waiting = list(islice(iterator, 1))
    for item in iterator:
        yield waiting.pop(), False
        waiting.append(item)
    for item in waiting:
        yield item, True


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
