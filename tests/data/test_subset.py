"""Parts of data sets: they are data sets, split by class and by chance, or without what a list names."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
import pytest
import soundfile
from hypothesis import example, given
from hypothesis import strategies as st

from dsd_ort.data import Batches, Field, Subset, open_data, split, without
from dsd_ort.errors import DataError
from dsd_ort.recipe import Audio, Data

FIELDS = [Field("x", "float32", ("N", 2)), Field("y", "int64", ("N",), label=True, classes=10)]
IMAGES = [Field("image", "float32", ("N", 3, 4, 4)), Field("label", "int64", ("N",), label=True, classes=2)]
COUNTS = st.lists(st.integers(1, 30), min_size=1, max_size=6).filter(lambda counts: sum(counts) > 1)


def arrays(labels, **more):
    """Examples [i, 2i] with these labels."""
    x = np.outer(np.arange(len(labels)), [1.0, 2.0]).astype(np.float32)
    return open_data({"x": x, "y": np.asarray(labels), **more}, FIELDS)


class Objects:
    """The same, one by one; counts how often one was asked for."""

    def __init__(self, labels, lengths=None):
        self.labels, self.asked = labels, 0
        if lengths is not None:
            self.lengths = lengths

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        self.asked += 1
        return {"x": np.array([i, 2 * i], np.float32), "y": self.labels[i]}


KINDS = {"arrays": arrays, "examples": lambda labels: open_data(Objects(labels), FIELDS)}
kinds = pytest.mark.parametrize("kind", KINDS)


def numbers(dataset, **options):
    """Of the examples of one epoch."""
    return [int(i) for batch in Batches(dataset, 4, **options) for i in batch["x"][:, 0]]


@pytest.fixture
def folder(tmp_path):
    """Three pictures of cats and two of dogs."""
    for i, name in enumerate(("cat/1.png", "cat/2.png", "cat/3.png", "dog/1.png", "dog/2.png")):
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(np.full((4, 4, 3), 40 * i, np.uint8)).save(path)
    return tmp_path / "pets"


@pytest.fixture
def listed(tmp_path):
    def write(text):
        path = tmp_path / "suspects.csv"
        path.write_text(text)
        return path

    return write


@kinds
def test_a_subset_is_a_data_set_of_some_examples_in_their_order(kind):
    whole = KINDS[kind]([3, 1, 4, 1, 5, 9])
    part = Subset(whole, np.array([5, 0, 2]))
    assert (part.examples, part.fields, part.where) == (3, whole.fields, whole.where)
    assert part.notes == (*whole.notes, "3 of 6 examples")
    batch = part.gather(np.array([2, 0]))
    np.testing.assert_array_equal(batch["x"], [[2, 4], [5, 10]])
    np.testing.assert_array_equal(batch["y"], [4, 9])
    assert part.classes.tolist() == [9, 3, 4]
    again = Subset(part, np.array([1, 0]))
    assert numbers(again, shuffle=False) == [0, 5]
    assert again.classes.tolist() == [3, 9]


@kinds
def test_its_batches_are_those_of_data_that_never_had_more(kind):
    chosen = np.array([1, 2, 5, 6, 7, 9, 10])
    part, alone = Subset(KINDS[kind](np.arange(12) % 10), chosen), KINDS[kind](np.arange(7))
    for options in ({"shuffle": False}, {"seed": 3, "epoch": 2}, {"seed": 3, "drop_last": True}):
        assert numbers(part, **options) == [chosen[i] for i in numbers(alone, **options)]


def test_its_buckets_are_of_its_own_lengths():
    lengths = np.array([5, 1, 9, 1, 5, 9, 5, 1, 9])
    for whole in (arrays(np.zeros(9, int), lengths=lengths), open_data(Objects(np.zeros(9, int), lengths), FIELDS)):
        part = Subset(whole, np.array([1, 2, 3, 5, 7, 8]))
        assert part.lengths.tolist() == [1, 9, 1, 9, 1, 9]
        batches = [batch["x"][:, 0].astype(int) for batch in Batches(part, 3, bucket=True)]
        assert sorted(sorted(batch.tolist()) for batch in batches) == [[1, 3, 7], [2, 5, 8]]
    assert Subset(arrays([1, 2]), np.array([0])).lengths is None


def test_messages_name_examples_by_their_numbers_in_the_whole_data():
    values = Objects([0, 1, 2, 77])
    with pytest.raises(DataError, match="holds the label 77 in example 3"):
        Subset(open_data(values, FIELDS), np.array([0, 3])).gather(np.array([0, 1]))


def test_there_is_no_empty_subset():
    with pytest.raises(DataError, match="no example is left"):
        Subset(arrays([1, 2]), np.array([], int))


@given(COUNTS, st.floats(0.01, 0.99), st.integers(0, 2**32))
@example(counts=[1, 1, 4], share=0.5, seed=0)
def test_a_split_is_a_share_of_every_class(counts, share, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    data = arrays(labels)
    try:
        rest, part = split(data, share, seed)
    except DataError:
        assert round(share * sum(counts)) == 0 or max(counts) == 1
        return
    both = np.array([*numbers(rest, shuffle=False), *numbers(part, shuffle=False)])
    assert sorted(both.tolist()) == list(range(len(labels)))
    assert all(np.diff(numbers(side, shuffle=False)).min(initial=1) > 0 for side in (rest, part))
    for label, count in enumerate(counts):
        taken = int((part.classes == label).sum())
        assert taken < count
        assert min(count - 1, int(share * count)) <= taken <= np.ceil(share * count)
    if min(counts) > 1 / (1 - share):
        assert part.examples == round(share * len(labels))


@given(st.integers(2, 60), st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_without_classes_a_split_is_by_chance(examples, share, seed):
    data = open_data(
        {"x": np.outer(np.arange(examples), [1, 2]).astype(np.float32), "y": np.zeros((examples, 3), np.float32)},
        [FIELDS[0], Field("y", "float32", ("N", 3), label=True)],
    )
    assert data.classes is None
    wanted = min(round(share * examples), examples - 1)
    if wanted:
        rest, part = split(data, share, seed)
        assert (part.examples, rest.examples) == (wanted, examples - wanted)
        assert sorted(numbers(rest) + numbers(part)) == list(range(examples))


@kinds
def test_a_split_is_a_function_of_data_share_and_seed(kind):
    labels = np.arange(40) % 7
    drawn = {seed: numbers(split(KINDS[kind](labels), 0.3, seed).part, shuffle=False) for seed in range(5)}
    assert len({tuple(part) for part in drawn.values()}) == 5
    for seed, part in drawn.items():
        assert numbers(split(KINDS[kind](labels), 0.3, seed).part, shuffle=False) == part
        assert numbers(split(arrays(labels), 0.3, seed).part, shuffle=False) == part


def test_classes_of_the_same_size_give_one_more_by_chance():
    """Ten classes of five give five at 0.1: not always the same five classes."""
    labels = np.repeat(np.arange(10), 5)
    chosen = {tuple(sorted(split(arrays(labels), 0.1, seed).part.classes)) for seed in range(8)}
    assert all(len(set(classes)) == 5 for classes in chosen)
    assert len(chosen) > 1


def test_a_split_of_pictures_opens_none(folder, monkeypatch):
    data = open_data(folder, IMAGES)
    monkeypatch.setattr(PIL.Image, "open", None)
    rest, part = split(data, 0.4, 0)
    assert sorted(part.classes) == [0, 1] and sorted(rest.classes) == [0, 0, 1]
    assert sorted([*rest.names, *part.names]) == ["cat/1.png", "cat/2.png", "cat/3.png", "dog/1.png", "dog/2.png"]


def test_ignored_labels_are_a_class_of_their_own():
    fields = [FIELDS[0], Field("y", "int64", ("N",), label=True, classes=2, ignore_index=-1)]
    data = open_data({"x": np.zeros((12, 2), np.float32), "y": np.array([-1, 0, 1] * 4)}, fields)
    assert sorted(split(data, 0.25, 0).part.classes) == [-1, 0, 1]


@pytest.mark.parametrize(
    ("labels", "share", "what"),
    [
        ([0, 1], 0.0, "a share of 0 leaves nothing on one side"),
        ([0, 1], 1.0, "a share of 1 leaves nothing on one side"),
        ([0, 1], -0.5, "a share of -0.5 leaves nothing on one side"),
        ([0, 1], float("nan"), "a share of nan leaves nothing on one side"),
        ([0, 1, 2], 0.5, "a share of 0.5 of 3 examples is none, as every class keeps one"),
        ([0] * 10, 0.02, "a share of 0.02 of 10 examples is none"),
        ([0], 0.9, "a share of 0.9 of 1 examples is none"),
    ],
)
def test_a_split_of_nothing_is_refused(labels, share, what):
    with pytest.raises(DataError) as caught:
        split(arrays(labels), share, 0)
    assert caught.value.what == what and caught.value.fix


def test_a_stream_cannot_be_taken_apart(listed):
    stream = open_data(lambda epoch, seed: [{"x": np.zeros((2, 2), np.float32), "y": np.zeros(2, int)}], FIELDS)
    for take_apart in (lambda: split(stream, 0.5, 0), lambda: without(stream, listed("index\n0\n"))):
        with pytest.raises(DataError, match="a function that yields batches cannot be taken apart") as caught:
            take_apart()
        assert caught.value.fix == "give arrays, or an object with __len__ and __getitem__"


@kinds
def test_what_a_list_numbers_is_left_out(kind, listed):
    data = KINDS[kind](np.arange(6))
    assert numbers(without(data, listed("index,loss\n4,0.3\n1,0.2\n4,0.1\n")), shuffle=False) == [0, 2, 3, 5]
    assert numbers(without(data, listed("index\n")), shuffle=False) == list(range(6))
    same = f"\ufeffrank,index,data\r\n1,0,{data.digest}\r\n2,5,{data.digest}\r\n"
    assert numbers(without(data, listed(same)), shuffle=False) == [1, 2, 3, 4]


def test_what_a_list_names_is_left_out(folder, listed):
    data = open_data(folder, IMAGES)
    left = without(data, listed(f"file,index,data\ncat/2.png,0,{data.digest}\n"))
    assert left.names == ["cat/1.png", "cat/3.png", "dog/1.png", "dog/2.png"], "the name counts, not the number"
    assert without(data, listed("index\n0\n")).names == ["cat/2.png", "cat/3.png", "dog/1.png", "dog/2.png"]


def test_recordings_have_the_names_that_the_manifest_gives(tmp_path, listed):
    (tmp_path / "audio").mkdir()
    lines = []
    for name in ("a", "b", "a"):
        soundfile.write(tmp_path / "audio" / f"{name}.wav", np.zeros(1600), 8000)
        lines.append(json.dumps({"audio_filepath": f"audio/{name}.wav", "text": "a"}))
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    fields = [
        Field("features", "float32", ("N", "T", 12)),
        Field("label", "int64", ("N", None), label=True, classes=2, ignore_index=-1, blank=0),
    ]
    recipe = Data(alphabet="_a", audio=Audio(sample_rate=8000, mels=12))
    data = open_data(tmp_path / "train.jsonl", fields, recipe)
    assert data.names == ["audio/a.wav", "audio/b.wav", "audio/a.wav"] and data.classes is None
    assert without(data, listed("file\naudio/a.wav\n")).names == ["audio/b.wav"]
    (tmp_path / "train.jsonl").unlink()
    for name in ("a", "b"):
        (tmp_path / "audio" / f"{name}.txt").write_text("a")
    assert open_data(tmp_path / "audio", fields, recipe).names == ["a.wav", "b.wav"]


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("index\n1\n6\n", "there is no example '6'", "line 3, column 'index'"),
        ("index\n-1\n", "there is no example '-1'", "line 2, column 'index'"),
        ("index,loss\n1.0,2\n", "there is no example '1.0'", "line 2, column 'index'"),
        ("loss,index\n0.5\n", "there is no example ''", "line 2, column 'index'"),
        ("file\ncat/1.png\n", "the list has no column that names examples: it has 'file'", "suspects.csv"),
        ("", "the list has no column that names examples: it has nothing", "suspects.csv"),
        ("index\n0\n1\n2\n3\n4\n5\n", "no example is left", "the data given from Python"),
    ],
)
def test_lists_that_do_not_fit_are_refused(text, what, where, listed):
    with pytest.raises(DataError) as caught:
        without(arrays(np.arange(6)), listed(text))
    assert caught.value.what == what and caught.value.where.endswith(where) and caught.value.fix


def test_a_name_that_is_not_there_is_refused(folder, listed):
    with pytest.raises(DataError, match=r"pets has no file 'cat/9.png'") as caught:
        without(open_data(folder, IMAGES), listed("file\ncat/1.png\ncat/9.png\n"))
    assert caught.value.where.endswith("suspects.csv, line 3, column 'file'")
    assert caught.value.fix == "give names as the data has them, such as 'cat/1.png'"


def test_a_list_that_was_made_for_other_data_is_refused(listed):
    data, other = arrays([1, 2, 3]), arrays([1, 2, 4])
    with pytest.raises(DataError) as caught:
        without(data, listed(f"index,data\n1,{other.digest}\n"))
    made_for = f"the list was made for other data: {other.digest}, where this is {data.digest} (examples-digest)"
    assert caught.value.what == made_for
    assert caught.value.fix.startswith("make the list anew, or remove its column 'data'")


def test_a_list_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(DataError, match="the list cannot be read: No such file or directory"):
        without(arrays([1, 2]), tmp_path / "none.csv")
    (tmp_path / "wide.csv").write_bytes("index\n1\n".encode("utf-16"))
    with pytest.raises(DataError, match="the list is not text in UTF-8"):
        without(arrays([1, 2]), tmp_path / "wide.csv")
