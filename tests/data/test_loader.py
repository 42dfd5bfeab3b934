from __future__ import annotations

import sys

import numpy as np

from dsd_ort.data import Batches, Field, open_data

FIELDS = [Field("x", "float32", ("N", 2)), Field("y", "int64", ("N",), label=True, classes=3)]

ARRAYS = """
import numpy as np
def arrays(): return {"x": np.arange(12, dtype=np.float32).reshape(6, 2), "y": np.arange(6) % 3}
def pair(split="train"): return tuple(arrays().values())
table = arrays()
class Examples:
    def __len__(self): return 6
    def __getitem__(self, i): return {"x": arrays()["x"][i], "y": int(arrays()["y"][i])}
class Pairs(Examples):
    def __getitem__(self, i): return tuple(super().__getitem__(i).values())
"""

STREAM = """
import numpy as np
drawn = []
def stream(epoch, seed):
    try:
        for i in range(4):
            drawn.append((epoch, seed, i))
            yield {"x": np.full((i + 1, 2), 10 * epoch + i, np.float32), "y": np.zeros(i + 1, np.int32)}
    finally:
        drawn.append("closed")
def reused(epoch, seed):
    x = np.empty((2, 2), np.float32)
    for i in range(3):
        x[:] = i
        yield x, np.zeros(2, np.int64)
"""


def batches(spec, **options):
    return list(Batches(open_data(spec, FIELDS), 4, **options))


def assert_same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name])


def test_every_kind_of_loader_gives_the_same_batches(write_module):
    write_module("kinds", ARRAYS)
    expected = batches("kinds:arrays", seed=3)
    assert [len(b["y"]) for b in expected] == [4, 2]
    for name in ("pair", "table", "Examples", "Pairs"):
        assert_same(batches(f"kinds:{name}", seed=3), expected)


def test_loaders_may_be_given_as_objects():
    x, y = np.arange(12, dtype=np.float32).reshape(6, 2), np.arange(6) % 3
    expected = batches({"x": x, "y": y})
    assert_same(batches(lambda: (x, y)), expected)
    assert_same(batches([{"x": x[i], "y": y[i]} for i in range(6)]), expected)


def test_modules_are_found_in_the_current_folder_and_in_packages(write_module, tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "deep.py").write_text(ARRAYS)
    write_module("unused", "")
    assert len(batches("inner.deep:arrays")) == 2


def test_a_stream_chooses_its_batches_and_knows_epoch_and_seed(write_module):
    write_module("flow", STREAM)
    dataset = open_data("flow:stream", FIELDS)
    flow = sys.modules["flow"]
    assert flow.drawn == [(0, 0, 0), "closed"]  # only the first batch, to match and check
    epoch = Batches(dataset, 4, seed=7, epoch=2)
    assert epoch.count is None
    assert [b["x"][0, 0] for b in epoch] == [20, 21, 22, 23]
    assert [len(b["y"]) for b in epoch] == [1, 2, 3, 4]
    assert (2, 7, 3) in flow.drawn


def test_a_resumed_stream_passes_over_the_batches_it_has_seen(write_module):
    write_module("flow", STREAM)
    dataset = open_data("flow:stream", FIELDS)
    assert_same(list(Batches(dataset, 4, start=2)), list(Batches(dataset, 4))[2:])
    assert list(Batches(dataset, 4, start=4)) == []


def test_a_stream_that_is_left_early_is_closed(write_module):
    write_module("flow", STREAM)
    iterator = iter(Batches(open_data("flow:stream", FIELDS), 4))
    next(iterator)
    drawn = sys.modules["flow"].drawn
    drawn.clear()
    iterator.close()
    assert drawn == ["closed"]


def test_an_iterator_with_a_close_is_closed_at_its_end():
    class Source:
        closed = 0

        def __init__(self):
            self.left = [(np.zeros((1, 2), np.float32), np.zeros(1, np.int64))] * 2

        def __iter__(self):
            return self

        def __next__(self):
            if not self.left:
                raise StopIteration
            return self.left.pop()

        def close(self):
            Source.closed += 1

    sources = [Source(), Source()]  # one to match and check, one for the epoch
    assert len(list(Batches(open_data(lambda epoch, seed: sources.pop(), FIELDS), 4))) == 2
    assert Source.closed == 2


def test_a_stream_may_write_every_batch_into_the_same_memory(write_module):
    write_module("flow", STREAM)
    assert [b["x"][0, 0] for b in batches("flow:reused")] == [0, 1, 2]
