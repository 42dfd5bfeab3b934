"""An update graph over flat buffers, piece by piece, shared by several threads.

A piece is so short that weights, gradients, slots and what the graph makes on the way stay in a cache: each
buffer then comes from memory once and goes back once.  Its nodes are elementwise, so how the buffers are cut and who
computes which piece changes no bit.  On a GPU a piece is a whole segment, and the device has threads of its own.

A table that is looked up has few rows with a gradient: :class:`Table` leaves alone what would not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import NamedTuple

import numpy as np
import onnx

from dsd_ort.graph.manifest import Slice
from dsd_ort.run.arena import Array, Segment, aligned_zeros
from dsd_ort.run.execution import Execution
from dsd_ort.run.memory import Buffer, Memory, Tensor, cell, of_array, part
from dsd_ort.run.sessions import Opened, open_session
from dsd_ort.runtime.device import cores

PIECE = 128 * 1024
"""Elements of a piece on the CPU: shorter ones spend more on starting to run than a nearer cache saves."""
SHARE = 4 * PIECE
"""Elements a thread: with fewer, one is faster done than it wakes another."""
ROW = 1024
"""Elements of a table that are looked at together."""
TABLE, FEW = 2048 * ROW, 32
"""Elements of a table that one thread takes at a time, and how many of its rows are updated side by side."""


class Parts(NamedTuple):
    """What an update is made of."""

    segments: Sequence[Segment]
    buffers: Mapping[str, Buffer]
    execution: Execution
    memory: Memory

    def open(self, model: onnx.ModelProto, where: str, threads: int | None = None) -> Opened:
        recorded = self.execution.records
        return open_session(model, self.execution, self.memory, where=where, recorded=recorded, threads=threads)


class Pieces:
    """An update graph, bound to all pieces of all segments; each segment has cells for the scalars of its own.

    Args:
        model: the graph.
        parts: what it reads and writes.
        given: its inputs that are the same for all segments, where somebody else writes them.
        tables: the parameters of which rows may be left alone.
    """

    def __init__(
        self, model: onnx.ModelProto, parts: Parts, *, given: Mapping[str, Tensor], tables: Sequence[Slice] = ()
    ) -> None:
        segments, self.parts, self.tables = parts.segments, parts, tables
        names = sorted({value.name for value in model.graph.input} - set(parts.buffers) - set(given))
        self.segments = [(segment, names) for segment in segments]
        self.scalars = parts.memory.buffer(aligned_zeros(len(segments) * len(names)))
        self._next = parts.open(model, "the update", threads=1)  # a piece is too short to share
        self.pieces: list[Callable[[], None]] = []
        for number, segment in enumerate(segments):
            cells = {name: cell(self.scalars, number * len(names) + at) for at, name in enumerate(names)}
            self.pieces += self._cut(segment, {**given, **cells})
        self._pool: ThreadPoolExecutor | None = None
        self._threads = threads(parts.execution, sum(segment.stop - segment.start for segment in segments))

    def set(self, scalars: Callable[[Segment], Mapping[str, np.float32]]) -> None:
        """Fills the cells, if they change."""
        found = np.array([scalars(segment)[name] for segment, names in self.segments for name in names], np.float32)
        if not np.array_equal(found, self.scalars.host):
            self.scalars.host[...] = found
            self.scalars.upload()

    def run(self) -> None:
        """All pieces, each once."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads)
        left = iter(self.pieces)  # each thread takes the next one
        others = [self._pool.submit(_run, left) for _ in range(self._threads - 1)]
        try:
            _run(left)
        finally:
            wait(others)
        for other in others:
            other.result()

    def _cut(self, segment: Segment, scalars: Mapping[str, Tensor]) -> Iterator[Callable[[], None]]:
        if not self.parts.execution.on_cpu:
            yield self._piece(segment.start, segment.stop, scalars)
            return
        begun = segment.start
        for start, stop in sorted(_tables(segment, self.tables)):
            yield from self._plain(begun, start, scalars)
            for first in range(start, stop, TABLE):
                last = min(first + TABLE, stop)
                arrays = {name: buffer.host[first:last] for name, buffer in self.parts.buffers.items()}
                few = {name: aligned_zeros(FEW * ROW) for name in arrays}
                run = self._bind({name: of_array(array) for name, array in few.items()}, scalars)
                yield Table(arrays, few, run, list(self._plain(first, last, scalars)))
            begun = stop
        yield from self._plain(begun, segment.stop, scalars)

    def _plain(self, start: int, stop: int, scalars: Mapping[str, Tensor]) -> Iterator[Callable[[], None]]:
        for first in range(start, stop, PIECE):
            yield self._piece(first, min(first + PIECE, stop), scalars)

    def _piece(self, start: int, stop: int, scalars: Mapping[str, Tensor]) -> Callable[[], None]:
        return self._bind({name: part(buffer, start, stop) for name, buffer in self.parts.buffers.items()}, scalars)

    def _bind(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Tensor]) -> Callable[[], None]:
        """The update of *tensors*, in place."""
        bound, self._next = self._next, self._next.again()
        for name, tensor in (*scalars.items(), *tensors.items()):
            bound.read(name, tensor)
        for name, tensor in tensors.items():
            if name != "gradient":
                bound.write(f"{name}_new", tensor)
        return lambda: bound.run(where="the update")


class Table:
    """The update of a parameter without weight decay, of which few rows have a gradient.

    Where gradient and slots are +0 to the last bit, every optimizer leaves slots and (finite) weights as they are, to
    the last bit.  So rows that are so are only looked at, and those that are not are updated side by side.  They are
    few where nothing but this batch moved them, as without momentum, or where most were never looked up; with momentum
    every row that ever had a gradient moves on.

    Args:
        arrays: of the parameter, by the names of the update graph's inputs, f32[n] each.
        few: what *run* updates, f32[FEW · ROW] each, by the same names.
        run: the update of *few*.
        whole: that of all *arrays*.
    """

    def __init__(
        self,
        arrays: Mapping[str, Array],
        few: Mapping[str, Array],
        run: Callable[[], None],
        whole: Sequence[Callable[[], None]],
    ) -> None:
        self.run, self.whole = run, whole
        even = {name: array[: array.size // ROW * ROW].reshape(-1, ROW) for name, array in arrays.items()}
        self.rows = [(even[name], few[name].reshape(-1, ROW), name != "gradient") for name in arrays]
        self.looked_at = [array.view(np.uint64) for name, array in even.items() if name != "weight"]

    def __call__(self) -> None:
        awake = np.zeros(len(self.looked_at[0]), np.bool_)
        for bits in self.looked_at:
            awake |= np.bitwise_or.reduce(bits, axis=1) != 0
            if 2 * np.count_nonzero(awake) > len(awake):
                _run(self.whole)
                return
        found = np.flatnonzero(awake)
        for start in range(0, len(found), FEW):
            self._update(found[start : start + FEW])

    def _update(self, rows: np.ndarray) -> None:
        for all_rows, few, _ in self.rows:
            all_rows.take(rows, axis=0, out=few[: len(rows)], mode="clip")  # of others NumPy makes a copy
            few[len(rows) :] = 0
        self.run()
        for all_rows, few, written in self.rows:
            if written:
                all_rows[rows] = few[: len(rows)]


def _tables(segment: Segment, tables: Sequence[Slice]) -> Iterator[tuple[int, int]]:
    """Where in *segment* rows may be left alone, whole rows only."""
    if segment.weight_decay == 0:
        for piece in tables:
            if segment.start <= piece.offset < segment.stop and piece.size >= 2 * PIECE:
                yield piece.offset, piece.offset + piece.size // ROW * ROW


def threads(execution: Execution, elements: int) -> int:
    """Among how many threads an update of so many *elements* is shared; on a GPU the host only queues."""
    if not execution.on_cpu:
        return 1
    return max(1, min(execution.threads or cores(), elements // SHARE))


def _run(pieces: Iterable[Callable[[], None]]) -> None:
    for piece in pieces:
        piece()
