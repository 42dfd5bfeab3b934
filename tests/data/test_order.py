"""Batches of examples of about one length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsd_ort.data import Batches, Field, open_data
from dsd_ort.data.order import POOL
from dsd_ort.errors import DataError

NUMBER = [Field("i", "int64", ("N",))]


def dataset(n, seed=0):
    return open_data({"i": np.arange(n), "lengths": np.random.default_rng(seed).integers(1, 1000, n)}, NUMBER)


def numbers(batches):
    return [batch["i"].tolist() for batch in batches]


@given(n=st.integers(1, 200), size=st.integers(1, 9), seed=st.integers(0, 2**32), epoch=st.integers(0, 99))
def test_a_bucketed_epoch_has_every_example_once_and_resumes(n, size, seed, epoch):
    options = {"bucket": True, "seed": seed, "epoch": epoch}
    batches = numbers(Batches(dataset(n), size, **options))
    assert sorted(i for batch in batches for i in batch) == list(range(n))
    assert len(batches) == Batches(dataset(n), size, **options).count
    assert sorted(map(len, batches), reverse=True)[: n // size] == [size] * (n // size)
    assert numbers(Batches(dataset(n), size, start=len(batches) // 2, **options)) == batches[len(batches) // 2 :]


def test_the_lengths_in_a_batch_are_close_together():
    data = dataset(1000)
    spread = [
        np.mean([np.ptp(data.lengths[batch]) for batch in numbers(Batches(data, 8, bucket=bucket))])
        for bucket in (True, False)
    ]
    assert spread[0] < 0.1 * spread[1]


def test_batches_and_their_members_change_from_epoch_to_epoch():
    data = dataset(64 * POOL)
    first, second = (numbers(Batches(data, 8, bucket=True, epoch=epoch)) for epoch in (0, 1))
    assert not {frozenset(b) for b in first} & {frozenset(b) for b in second}
    longest = [max(data.lengths[batch]) for batch in first]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2, "batches do not come in order of length"


def test_what_is_dropped_is_not_the_longest():
    data = dataset(10)
    dropped = [
        set(range(10)) - {i for b in numbers(Batches(data, 4, bucket=True, drop_last=True, seed=s)) for i in b}
        for s in range(40)
    ]
    assert {len(d) for d in dropped} == {2}
    assert set().union(*dropped) == set(range(10))


def test_without_shuffling_the_order_stays():
    assert numbers(Batches(dataset(7), 3, shuffle=False, bucket=True)) == [[0, 1, 2], [3, 4, 5], [6]]


def test_an_object_may_have_lengths():
    class Items(list):
        @property
        def lengths(self):
            return [len(x) for (x,) in self]

    items = Items((np.zeros(i + 1, np.float32),) for i in range(9))
    data = open_data(items, [Field("x", "float32", ("N", "T"))])
    assert data.lengths.tolist() == list(range(1, 10))
    assert sorted(b["x"].shape[1] for b in Batches(data, 3, bucket=True)) == [3, 6, 9]


def test_data_without_lengths_cannot_be_bucketed():
    with pytest.raises(DataError) as caught:
        Batches(open_data({"i": np.arange(4)}, NUMBER), 2, bucket=True)
    assert caught.value.what == "data.bucket needs the length of every example, and this data does not tell it"
    assert caught.value.fix == (
        "give an array called 'lengths', or the Python object an attribute of that name, or set data.bucket = false"
    )


@pytest.mark.parametrize("lengths", [np.arange(3), np.full(4, np.nan), np.array(["a"] * 4)])
def test_lengths_are_a_number_for_each_example(lengths):
    with pytest.raises(DataError, match="but should have one number for each of 4 examples"):
        Batches(open_data({"i": np.arange(4), "lengths": lengths}, NUMBER), 2, bucket=True)
