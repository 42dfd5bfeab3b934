"""Shards: arrays in several files, as if they were in one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsd_ort.data import Batches, open_data, shards
from dsd_ort.data.shards import Shards, numbered
from dsd_ort.errors import DataError
from dsd_ort.fields import Field
from dsd_ort.recipe import Data

FIELDS = [
    Field("image", "float32", ("N", 3, 4)),
    Field("label", "int64", ("N",), label=True, classes=5),
]
SIZES = (7, 1, 5, 9)


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    n = sum(SIZES)
    return {"image": rng.standard_normal((n, 3, 4), np.float32), "label": rng.integers(0, 5, n)}


def write(folder: Path, form: str) -> Path:
    """The arrays in four shards."""
    folder.mkdir()
    begin = 0
    for number, size in enumerate(SIZES):
        part = {name: array[begin : begin + size] for name, array in arrays().items()}
        begin += size
        if form == "npz":
            np.savez(folder / f"train-{number:05d}-of-{len(SIZES):05d}.npz", **part)
        else:
            for name, array in part.items():
                np.save(folder / f"{name}-{number:05d}-of-{len(SIZES):05d}.npy", array)
    return folder


@pytest.mark.parametrize("form", ["npz", "npy"])
@pytest.mark.parametrize("together", [True, False])
def test_batches_are_those_of_one_file(
    form: str, together: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not together:
        monkeypatch.setattr(shards, "TOGETHER", 0)
    data = open_data(write(tmp_path / "shards", form), FIELDS, Data())
    whole = open_data(arrays(), FIELDS, Data())
    assert data.examples == whole.examples == sum(SIZES)
    assert data.digest == whole.digest, "so a run goes on with either"
    for one, other in zip(Batches(data, 4, seed=3), Batches(whole, 4, seed=3), strict=True):
        for name in one:
            assert one[name].tobytes() == other[name].tobytes()
            assert one[name].dtype == other[name].dtype


@given(st.lists(st.integers(0, sum(SIZES) - 1), max_size=30), st.slices(sum(SIZES)))
def test_rows_are_those_of_the_array(numbers: list[int], part: slice) -> None:
    whole = arrays()["image"]
    cut = Shards(np.split(whole, np.cumsum(SIZES)[:-1]))
    assert np.array_equal(cut[np.array(numbers, np.int64)], whole[np.array(numbers, np.int64)])
    assert np.array_equal(cut[part], whole[part])
    assert np.array_equal(np.asarray(cut), whole)
    assert (cut.shape, cut.dtype, cut.nbytes, len(cut)) == (whole.shape, whole.dtype, whole.nbytes, len(whole))


def test_a_name_with_a_number_is_no_shard() -> None:
    assert numbered(["input_0", "input_1", "label"], "") == {name: [name] for name in ("input_0", "input_1", "label")}


@pytest.mark.parametrize(
    ("stems", "told"),
    [
        (["x-0-of-3", "x-2-of-3"], "of 3 shards, number 1 is not there"),
        (["x-0-of-2", "x-1-of-3", "x-2-of-3"], "do not go together"),
        (["x-0-of-2", "x-00-of-2", "x-1-of-2"], "do not go together"),
        (["x-0-of-2", "x-1-of-2", "x-2-of-2"], "there is a shard 2 of 2"),
    ],
)
def test_what_is_not_whole_is_refused(stems: list[str], told: str) -> None:
    with pytest.raises(DataError, match="'x' is not whole") as caught:
        numbered(stems, "folder")
    assert told in str(caught.value)


def test_shards_that_differ_are_refused(tmp_path: Path) -> None:
    last = write(tmp_path / "shards", "npz") / "train-00003-of-00004.npz"
    np.savez(last, image=np.zeros((2, 3, 5), np.float32), label=np.zeros(2, np.int64))
    with pytest.raises(DataError, match="the shards of 'image' differ") as caught:
        open_data(tmp_path / "shards", FIELDS, Data())
    assert last.name in str(caught.value)
    np.savez(last, image=np.zeros((2, 3, 4), np.float32))
    with pytest.raises(DataError, match=f"{last.name} has no array 'label'"):
        open_data(tmp_path / "shards", FIELDS, Data())
    last.unlink()
    with pytest.raises(DataError, match="'train' is not whole: of 4 shards, number 3 is not there"):
        open_data(tmp_path / "shards", FIELDS, Data())


def test_two_data_sets_of_a_folder_are_two(tmp_path: Path) -> None:
    """Their shards are named by what their names begin with; files without numbers are no shards."""
    folder = write(tmp_path / "shards", "npz")
    for file in list(folder.iterdir()):
        file.with_name(file.name.replace("train", "test")).write_bytes(file.read_bytes())
    with pytest.raises(DataError, match="holds no data that can be read"):
        open_data(folder, FIELDS, Data())
    for name in ("train", "test"):
        assert open_data(folder / name, FIELDS, Data()).examples == sum(SIZES)
    (tmp_path / "plain").mkdir()
    for name in ("train", "test"):
        np.savez(tmp_path / "plain" / f"{name}.npz", **arrays())
    with pytest.raises(DataError, match="holds no data that can be read") as caught:
        open_data(tmp_path / "plain", FIELDS, Data())
    assert "give one of the data sets in it" in str(caught.value)
