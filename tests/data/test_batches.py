from __future__ import annotations

import threading
import time
from contextlib import closing
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsd_ort.data import Batches, Field, check_batch_size, open_data, prefetch
from dsd_ort.data.batches import in_turn
from dsd_ort.errors import DataError

NUMBER = [Field("i", "int64", ("N",))]

epochs = st.fixed_dictionaries(
    {
        "n": st.integers(1, 60),
        "batch_size": st.integers(1, 17),
        "seed": st.integers(0, 2**32),
        "epoch": st.integers(0, 1000),
        "shuffle": st.booleans(),
    }
)


def numbers(n):
    return open_data({"i": np.arange(n)}, NUMBER)


def order(batches):
    return [int(i) for batch in batches for i in batch["i"]]


@given(epochs)
def test_an_epoch_has_every_example_exactly_once(options):
    n, size = options.pop("n"), options["batch_size"]
    batches = Batches(numbers(n), **options)
    drawn = list(batches)
    assert sorted(order(drawn)) == list(range(n))
    assert len(drawn) == batches.count
    assert all(len(batch["i"]) == size for batch in drawn[:-1])
    assert options["shuffle"] or order(drawn) == list(range(n))


@given(epochs)
def test_drop_last_leaves_out_the_last_partial_batch_and_nothing_else(options):
    dataset = numbers(options.pop("n"))
    whole = [b for b in Batches(dataset, **options) if len(b["i"]) == options["batch_size"]]
    if whole:
        dropped = Batches(dataset, drop_last=True, **options)
        assert order(dropped) == order(whole)
        assert dropped.count == len(whole)


@given(epochs, st.data())
def test_a_resumed_epoch_goes_on_with_the_same_batches(options, data):
    dataset = numbers(options.pop("n"))
    all_batches = [b["i"].tolist() for b in Batches(dataset, **options)]
    start = data.draw(st.integers(0, len(all_batches)))
    rest = Batches(dataset, start=start, **options)
    assert [b["i"].tolist() for b in rest] == all_batches[start:]
    assert rest.count == len(all_batches)


@given(st.integers(0, 2**32), st.integers(0, 1000))
def test_the_order_is_a_function_of_seed_and_epoch(seed, epoch):
    dataset = numbers(40)
    first = order(Batches(dataset, 8, seed=seed, epoch=epoch))
    assert order(Batches(dataset, 8, seed=seed, epoch=epoch)) == first
    assert order(Batches(dataset, 8, seed=seed, epoch=epoch + 1)) != first
    assert order(Batches(dataset, 8, seed=seed + 1, epoch=epoch)) != first
    assert order(Batches(dataset, 5, seed=seed, epoch=epoch)) == first


def test_inputs_and_labels_stay_together():
    fields = [Field("x", "float32", ("N", 2)), Field("y", "int64", ("N",), label=True)]
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    for batch in Batches(open_data((x, np.arange(20)), fields), 6, seed=1):
        np.testing.assert_array_equal(batch["x"][:, 0], 2 * batch["y"])


def test_a_batch_owns_its_memory():
    x = np.zeros((4, 2), np.float32)
    for batch in Batches(open_data({"x": x}, [Field("x", "float32", ("N", 2))]), 4, shuffle=False):
        batch["x"] += 1
    assert not x.any()


def test_a_fixed_batch_size_is_held():
    fixed = [Field("i", "int64", (8,))]
    check_batch_size(fixed, 8)
    dataset = open_data({"i": np.arange(20)}, fixed)
    assert [len(b["i"]) for b in Batches(dataset, 8, drop_last=True)] == [8, 8]
    with pytest.raises(DataError, match="batch_size is 4, but the model takes only batches of 8"):
        Batches(dataset, 4)
    with pytest.raises(DataError, match="the last batch's size is 4, but"):
        Batches(dataset, 8)


def test_a_fixed_batch_size_holds_for_streams():
    dataset = open_data(lambda epoch, seed: [{"i": np.arange(8)}, {"i": np.arange(7)}], [Field("i", "int64", (8,))])
    with pytest.raises(DataError, match="a batch's size is 7, but the model takes only batches of 8"):
        list(Batches(dataset, 8))


def no_worker_left():
    return not any(thread.name.startswith("dsd-ort-data") for thread in threading.enumerate())


@given(st.integers(0, 20), st.integers(1, 5))
def test_prefetch_gives_the_same_items_in_order(n, depth):
    assert list(prefetch(range(n), depth)) == list(range(n))
    assert no_worker_left()


def test_prefetch_works_ahead_while_the_consumer_is_busy():
    made = []
    ready = threading.Event()

    def items():
        for i in range(10):
            made.append(i)
            if i == 2:
                ready.set()
            yield i

    with closing(prefetch(items(), depth=2)) as ahead:
        assert next(ahead) == 0
        assert ready.wait(5)  # 1 and 2 are made though nobody has asked for them
        time.sleep(0.01)
        assert made == [0, 1, 2]  # and no more than that


def test_prefetch_raises_in_its_turn_what_the_source_raises():
    def items():
        yield 1
        yield 2
        raise DataError("broken")

    got = []
    with pytest.raises(DataError, match="broken"):
        got.extend(prefetch(items(), depth=4))
    ahead = prefetch(items(), depth=4)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(DataError, match="broken"):
        next(ahead)
    assert no_worker_left()


def test_prefetch_leaves_no_thread_and_closes_its_source_when_left_early():
    closed = []

    def items():
        try:
            yield from range(1000)
        finally:
            closed.append(True)

    source = items()  # held here, so that nothing but an explicit close ends it
    with closing(prefetch(source)) as ahead:
        for item in ahead:
            if item == 3:
                break
    assert closed == [True]
    assert no_worker_left()


def test_prefetch_that_is_left_early_finishes_only_the_item_at_hand():
    begun, gate = threading.Event(), threading.Event()
    made = []

    def items():
        for i in range(10):
            made.append(i)
            if i == 1:
                begun.set()
                assert gate.wait(5)
            yield i

    with closing(prefetch(items(), depth=4)) as ahead:
        next(ahead)
        assert begun.wait(5)
        opener = threading.Timer(0.05, gate.set)
        opener.start()
    opener.join()
    assert made == [0, 1]


def test_prefetch_leaves_no_thread_when_the_consumer_fails():
    with pytest.raises(ZeroDivisionError), closing(prefetch(range(10))) as ahead:
        for item in ahead:
            1 // item
    assert no_worker_left()


def test_prefetched_batches_equal_the_plain_ones():
    batches = Batches(numbers(50), 7, seed=1)
    assert order(prefetch(batches)) == order(batches)


@given(st.integers(0, 20), st.integers(1, 5))
def test_workers_give_what_calls_give_in_their_order(n, workers):
    def call(i):
        time.sleep(0.0001 * (i % 3))
        return i

    assert list(in_turn((partial(call, i) for i in range(n)), workers)) == list(range(n))
    assert no_worker_left()


def test_workers_are_at_several_calls_at_once_and_no_more():
    meeting, made = threading.Barrier(3, timeout=5), []

    def call(i):
        made.append(i)
        if i < 3:
            meeting.wait()  # three of them meet, or this fails
        return i

    with closing(in_turn((partial(call, i) for i in range(10)), 3)) as stream:
        assert next(stream) == 0
    assert len(made) <= 4


def test_one_worker_does_nothing_ahead():
    made = []
    stream = in_turn((partial(made.append, i) for i in range(3)), 1)
    next(stream)
    assert made == [0]
    assert no_worker_left()


def test_workers_raise_in_its_turn_what_a_call_raises():
    def call(i):
        if i == 2:
            raise DataError("broken")
        return i

    stream = in_turn((partial(call, i) for i in range(9)), 4)
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(DataError, match="broken"):
        next(stream)
    assert no_worker_left()


class Slow:
    """An object of the user's."""

    def __init__(self):
        self.threads = set()

    def __len__(self):
        return 20

    def __getitem__(self, i):
        self.threads.add(threading.get_ident())
        return {"i": i}


def test_an_object_from_python_is_asked_by_one_thread_however_many_workers_there_are():
    items = Slow()
    batches = Batches(open_data(items, NUMBER), 3, workers=4)
    assert sorted(order(batches)) == list(range(20))
    assert items.threads == {threading.get_ident()}
