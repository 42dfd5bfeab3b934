"""What ranks share, without MPI: the threads of one process in its place.  tests/mpi has the trainings."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dsd_ort
from dsd_ort.data import order
from dsd_ort.errors import DataError, DsdError, InstallationError, RecipeError, RunError, Stopped
from dsd_ort.recipe import Loss
from dsd_ort.run.epoch import in_parts, refuse_idle_ranks
from dsd_ort.run.metrics import weight_of
from dsd_ort.run.ranks import Alone, Team, acting_as_one, refuse_what_differs, together
from tests.models import cnn_data, write_cnn


class Meeting:
    """Where the threads meet."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier, self.said = size, threading.Barrier(size, timeout=20), [None] * size


class Communicator:
    """As much of mpi4py's as :class:`Team` takes."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self.meeting, self.rank, self.size = meeting, rank, meeting.size

    def allgather(self, item: Any) -> list[Any]:
        self.meeting.said[self.rank] = item
        self.meeting.barrier.wait()
        found = list(self.meeting.said)
        self.meeting.barrier.wait()
        return found

    def Alltoallv(self, sent: Any, received: Any) -> None:
        (array, (lengths, begins)), (into, (counts, places)) = sent, received
        every = self.allgather([array[begin : begin + n].copy() for begin, n in zip(begins, lengths, strict=True)])
        for parts, count, place in zip(every, counts, places, strict=True):
            assert len(parts[self.rank]) == count
            into.reshape(-1)[place : place + count] = parts[self.rank]

    def Allgather(self, array: Any, into: Any) -> None:
        into.reshape(self.size, -1)[...] = self.allgather(array.copy())


def by_ranks(size: int, do: Callable[[Team], Any]) -> list[Any]:
    """What *do* gives or raises on each rank."""

    def one(rank: int) -> Any:
        try:
            return do(Team(Communicator(meeting, rank), (rank, size)))  # type: ignore[arg-type]
        except Exception as error:
            return error

    meeting = Meeting(size)
    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(one, range(size)))


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("length", [1, 3, 64, 1000])
def test_a_sum_by_shares_has_the_bytes_of_the_sum_in_order(size: int, length: int) -> None:
    """Also where the last round has fewer batches than there are ranks: what those have left does not count."""
    gradients = np.random.default_rng(0).standard_normal((size, length)).astype(np.float32)
    for count in range(1, size + 1):
        expected = gradients[0].copy()
        for gradient in gradients[1:count]:
            expected += gradient

        def add(own: Team, count: int = count) -> np.ndarray:
            total = np.full(length, np.nan, np.float32)
            share = own.share(total)
            for number, part in enumerate(own.shares(gradients[own.rank].copy(), count)):
                share[...] = part if number == 0 else share + part
            own.whole(total)
            return total

        for total in by_ranks(size, add):
            assert total.tobytes() == expected.tobytes()


def refused(size: int, do: Callable[[Team], Any]) -> DsdError:
    """What all ranks raise when each does *do*, the same on all."""

    def work(own: Team) -> None:
        with acting_as_one(own):
            do(own)

    errors = by_ranks(size, work)
    assert len({(type(error), str(error)) for error in errors}) == 1, errors
    assert isinstance(errors[0], DsdError)
    return errors[0]


def test_an_error_on_one_rank_is_raised_by_all_in_the_next_exchange() -> None:
    def work(own: Team) -> None:
        own.gather("begun")
        if own.rank == 1:
            raise DataError("the picture is gone", where="1.png", fix="bring it back")
        own.gather("a round")

    error = refused(3, work)
    assert (error.what, error.where) == ("the picture is gone", "1.png, on rank 1")


def test_an_error_behind_the_last_exchange_is_every_ranks() -> None:
    def work(own: Team) -> None:
        if own.rank == 0:
            raise DataError("the disk is full")

    assert refused(2, work).what == "the disk is full"


def test_what_every_rank_raises_is_no_ones_in_particular() -> None:
    def work(own: Team) -> None:
        raise RecipeError("a wrong key", where="recipe.toml")

    assert refused(3, work).where == "recipe.toml"


def test_a_stop_is_every_ranks_unless_one_fails_to_save() -> None:
    def stop(own: Team) -> None:
        with acting_as_one(own):
            raise Stopped

    assert all(isinstance(error, Stopped) for error in by_ranks(2, stop))

    def fail(own: Team) -> None:
        if own.rank == 0:
            raise RunError("the checkpoint cannot be written")
        raise Stopped

    assert refused(2, fail).what == "the checkpoint cannot be written"


def test_what_differs_between_ranks_is_named() -> None:
    error = refused(3, lambda own: refuse_what_differs(own, data="1", threads=2 if own.rank == 2 else 1))
    assert error.what == "the ranks differ in threads: 1 on rank 0, 2 on rank 2"
    refuse_what_differs(Alone(), data="1")


def test_without_mpi4py_ranks_are_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsd_ort.run.ranks.started", lambda: (1, 2))
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(InstallationError, match="one of 2 processes of mpirun, and mpi4py") as caught, together():
        pass
    assert "dsd-ort[mpi]" in str(caught.value)


def recipe(**changes: Any) -> dsd_ort.Recipe:
    return dsd_ort.Recipe.from_dict({"phase": [{"kind": "dense", "epochs": 1, "learning_rate": 0.1}], **changes})


@pytest.mark.parametrize(("size", "batches"), [(8, 2), (4, 4), (1, 16), (None, 2)])
def test_an_update_has_as_many_examples_in_parts_of_any_size(size: int | None, batches: int) -> None:
    whole = recipe(batch_size=8, optimizer={"accumulate": 2})
    parts = in_parts(whole, size)
    assert parts.optimizer.accumulate == batches
    assert parts.batch_size * parts.optimizer.accumulate == 16
    assert len(list(by_examples(parts))) == len(list(by_examples(whole)))


def by_examples(recipe: dsd_ort.Recipe) -> list[np.ndarray]:
    """The numbers of the examples of each update of 37 of them."""
    cut = order.batches_of(order.shuffled(37, 0, 0), recipe.batch_size)
    updates = range(0, len(cut), recipe.optimizer.accumulate)
    return [np.concatenate(cut[at : at + recipe.optimizer.accumulate]) for at in updates]


@pytest.mark.parametrize("size", [4, 2, 1])
def test_and_they_are_the_same_examples(size: int) -> None:
    whole = recipe(batch_size=8, optimizer={"accumulate": 2})
    for one, other in zip(by_examples(whole), by_examples(in_parts(whole, size)), strict=True):
        assert np.array_equal(one, other)


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RecipeError, match="a batch of 8 cannot be cut into parts of 3"):
        in_parts(recipe(batch_size=8), 3)


@pytest.mark.parametrize(("batches", "ranks", "fix"), [(1, 3, "micro-batch 2 it has 4"), (4, 5, "micro-batch 4 it")])
def test_more_ranks_than_batches_are_refused_with_a_size_that_would_do(batches: int, ranks: int, fix: str) -> None:
    with pytest.raises(RecipeError) as caught:
        refuse_idle_ranks(recipe(batch_size=8, optimizer={"accumulate": batches}), Alone(size=ranks))
    assert fix in str(caught.value)


LOSSES: dict[str, tuple[dict[str, Any], float, float]] = {
    "labels": ({}, 8, 8),
    "labels that count": ({"ignore_index": -1}, 8, 3),
    "labels by class": ({"class_weights": [1.0, 0.5, 4.0], "ignore_index": -1}, 18.5, 5.5),
    "examples": ({"name": "ctc"}, 4, 4),
    "values": ({"name": "mse"}, 8, 8),
}


@pytest.mark.parametrize("name", LOSSES)
def test_what_a_loss_is_the_mean_over(name: str) -> None:
    options, first, second = LOSSES[name]
    labels = np.array([[0, 1], [2, 2], [1, 2], [2, 1]]), np.array([[0, -1], [-1, -1], [-1, 1], [2, -1]])
    assert [weight_of(Loss(**options), label) for label in labels] == [first, second]


def test_the_gradient_of_an_update_is_that_of_the_mean_over_all_that_counts(tmp_path: Path) -> None:
    """Batches of which 8, 1 and no labels count are one batch of 24 whose gradient is computed at once."""
    steps = []
    for size, accumulate in ((24, 1), (8, 3)):
        optimizer, counting = {"accumulate": accumulate, "momentum": 0.0}, {"ignore_index": -1}
        common = {"loss": counting, "batch_norm": "frozen", "data": {"shuffle": False}}
        table = recipe(batch_size=size, optimizer=optimizer, **common)
        data = cnn_data(24)
        data["label"][9:] = -1
        run = tmp_path / f"run{size}"
        dsd_ort.prepare(write_cnn(tmp_path / "model.onnx"), run, table)
        dsd_ort.train(run, data, threads=1)
        final = tmp_path / f"final{size}.onnx"
        dsd_ort.export(run, final)
        steps.append({p.name: dsd_ort.inspect(final).value(p.name) for p in dsd_ort.inspect(final).parameters})
    for name, whole in steps[0].items():
        np.testing.assert_allclose(steps[1][name], whole, rtol=2e-5, atol=1e-6)
