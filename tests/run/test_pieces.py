"""An update in pieces, by several threads and without rows that do not change, is one run of its graph over all."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from dsd_ort.errors import DataError
from dsd_ort.graph.manifest import Slice
from dsd_ort.graph.optimizer.update import OPTIMIZERS, update_graph
from dsd_ort.run import memory
from dsd_ort.run.arena import Array, Segment, aligned_zeros
from dsd_ort.run.execution import Execution
from dsd_ort.run.pieces import PIECE, ROW, SHARE, TABLE, Parts, Pieces
from dsd_ort.runtime.device import Device
from tests.graph.optimizer.test_update import CASES, every_case, run_bound, session

ROWS = TABLE // ROW + 200
"""Of a table: more than one thread takes at a time."""
DENSE = 3000
"""Elements in front of it, and behind it."""
SIZE = 2 * DENSE + ROWS * ROW + 16


def table(weight_decay: float = 0.0) -> Slice:
    size = SIZE - 2 * DENSE  # not whole rows
    where = {"name": "table", "shape": (size,), "layer": "table", "role": "embedding"}
    return Slice(**where, offset=DENSE, size=size, trained=True, weight_decay=weight_decay)


def new_buffers(case: str) -> dict[str, Array]:
    """Weights with -0 among them, and slots of which few have begun."""
    rng = np.random.default_rng(0)
    buffers = {name: aligned_zeros(SIZE) for name in ("weight", "gradient", *OPTIMIZERS[CASES[case].name].slots)}
    buffers["weight"][...] = rng.standard_normal(SIZE, np.float32)
    buffers["weight"][::7] = -0.0
    return buffers


def fill_gradient(gradient: Array, touched: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    gradient[...] = 0
    gradient[:DENSE] = rng.standard_normal(DENSE, np.float32)
    gradient[-DENSE:] = rng.standard_normal(DENSE, np.float32)
    for row in touched:
        gradient[DENSE + row * ROW + 5] = rng.standard_normal()


def pieces(case: str, buffers: dict[str, Array], threads: int = 2, weight_decay: float = 0.0) -> Pieces:
    host = memory.of(Device())
    segment = Segment(0, SIZE, weight_decay, 1.0)
    named = {name: host.buffer(array) for name, array in buffers.items()}
    parts = Parts([segment], named, Execution(threads=threads), host)
    return Pieces(update_graph(CASES[case]), parts, given={}, tables=[table(weight_decay)])


def scalars(case: str, step: int, weight_decay: float = 0.0) -> dict[str, np.float32]:
    options = {"learning_rate": 0.1, "weight_decay": weight_decay, "step": step, "gradient_scale": 0.5}
    return OPTIMIZERS[CASES[case].name].scalars(CASES[case], **options)


FEW = [0, 1, 77, ROWS - 200, ROWS - 1]


@every_case
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_pieces_have_the_bytes_of_one_run_over_everything(case: str, weight_decay: float) -> None:
    cut, whole = new_buffers(case), new_buffers(case)
    run, one = pieces(case, cut, weight_decay=weight_decay), session(CASES[case])
    for step, touched in enumerate([FEW, [2, 77], [], list(range(ROWS))], start=1):
        for buffers in (cut, whole):
            fill_gradient(buffers["gradient"], touched, step)
        now = scalars(case, step, weight_decay)
        run.set(lambda segment, now=now: now)
        run.run()
        run_bound(one, whole, whole, now)
        assert {name: a.tobytes() for name, a in cut.items()} == {name: a.tobytes() for name, a in whole.items()}


def test_rows_without_gradient_and_momentum_are_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    buffers = new_buffers("adam")
    run = pieces("adam", buffers)
    updated = []
    for piece in run.pieces:
        if hasattr(piece, "rows"):
            monkeypatch.setattr(piece, "_update", lambda rows: updated.append(len(rows)))
    fill_gradient(buffers["gradient"], FEW, 0)
    run.run()
    assert sum(updated) == len(FEW)


def test_a_table_with_weight_decay_is_updated_as_a_whole() -> None:
    assert not any(hasattr(piece, "rows") for piece in pieces("sgd", new_buffers("sgd"), weight_decay=0.1).pieces)


def counting(run: Pieces, work: Callable[[], None]) -> Pieces:
    run.pieces = [work] * len(run.pieces)
    return run


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_each_piece_is_run_once_whatever_the_number_of_threads(threads: int) -> None:
    done: list[int] = []
    run = pieces("sgd", new_buffers("sgd"), threads, weight_decay=0.1)
    assert len(run.pieces) == math.ceil(SIZE / PIECE) and SIZE > 3 * SHARE
    counting(run, lambda: done.append(1)).run()
    assert len(done) == len(run.pieces)


def test_what_fails_in_any_thread_is_raised() -> None:
    def fail() -> None:
        raise DataError("no memory", where="the update")

    with pytest.raises(DataError, match="no memory"):
        counting(pieces("sgd", new_buffers("sgd"), weight_decay=0.1), fail).run()
