from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from dsd_ort.data import open_data
from dsd_ort.data.dataset import ArrayData
from dsd_ort.fields import Field
from dsd_ort.recipe import Data

FIELDS = [Field("image", "float32", ("N", 1, 4, 4)), Field("label", "int64", ("N",), label=True, classes=10)]
EVERYTHING = np.arange(12)


def normalised(images):
    return (images / 255).astype(np.float32)[:, None]


def assert_holds(dataset, images, labels):
    batch = dataset.gather(EVERYTHING)
    assert dataset.examples == 12
    assert list(batch) == ["image", "label"]
    np.testing.assert_allclose(batch["image"], normalised(images), rtol=1e-6)
    np.testing.assert_array_equal(batch["label"], labels)


def test_npz_by_name(tmp_path, images, labels):
    np.savez(tmp_path / "d.npz", label=labels, image=images)
    assert_holds(open_data(tmp_path / "d.npz", FIELDS), images, labels)


def test_compressed_npz_by_position_in_the_order_of_the_archive(tmp_path, images, labels):
    np.savez_compressed(tmp_path / "d.npz", z=images, a=labels)
    dataset = open_data(str(tmp_path / "d.npz"), FIELDS, Data(mean=(0,)))
    assert_holds(dataset, images, labels)
    assert dataset.notes == ("array 'z' feeds input 'image'", "array 'a' feeds label 'label'")


def test_npz_arrays_that_no_one_wants_are_not_read(tmp_path, images, labels):
    np.savez(tmp_path / "d.npz", image=images, names=np.array([{}, 1], dtype=object), label=labels)
    dataset = open_data(tmp_path / "d.npz", FIELDS, Data(mean=(0,)))
    assert_holds(dataset, images, labels)
    assert dataset.notes == ("not used: 'names'",)


def test_folder_of_npy_is_memory_mapped(tmp_path, images, labels):
    np.save(tmp_path / "image.npy", images)
    np.save(tmp_path / "label.npy", labels)
    dataset = open_data(tmp_path, FIELDS)
    assert_holds(dataset, images, labels)
    assert isinstance(dataset, ArrayData)
    assert all(isinstance(array.base, np.memmap) for array, _, _ in dataset._columns)


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_mapped_arrays_of_either_order_give_c_contiguous_batches(tmp_path, order):
    values = np.random.default_rng(0).random((9, 3, 4), dtype=np.float32)
    np.save(tmp_path / "x.npy", np.asarray(values, order=order))
    batch = open_data(tmp_path, [Field("x", "float32", ("N", 3, 4))]).gather(np.array([8, 0, 3]))["x"]
    assert batch.flags.c_contiguous
    np.testing.assert_array_equal(batch, values[[8, 0, 3]])


@pytest.mark.parametrize("ending", ["-idx{}-ubyte", "-idx{}-ubyte.gz", ".idx{}-ubyte"])
def test_idx_by_the_prefix_of_a_split(tmp_path, write_idx, images, labels, ending):
    write_idx("train-images" + ending.format(3), images)
    write_idx("train-labels" + ending.format(1), labels)
    write_idx("t10k-images-idx3-ubyte.gz", images[:5])
    write_idx("t10k-labels-idx1-ubyte.gz", labels[:5])
    assert_holds(open_data(f"{tmp_path}/train", FIELDS), images, labels)
    assert open_data(tmp_path / "t10k", FIELDS).examples == 5


def test_idx_by_a_folder_with_one_split(tmp_path, write_idx, images, labels):
    write_idx("emnist-letters-train-images-idx3-ubyte", images)
    write_idx("emnist-letters-train-labels-idx1-ubyte.gz", labels)
    assert_holds(open_data(tmp_path, FIELDS), images, labels)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
def test_idx_of_every_type_comes_in_native_byte_order(tmp_path, write_idx, dtype):
    values = np.arange(-6, 6).astype(dtype).reshape(4, 3)
    write_idx("a-images-idx2-ubyte", values)
    write_idx("a-labels-idx1-ubyte", np.zeros(4, np.uint8))
    target = "float32" if dtype.startswith("f") else "int64"
    fields = [Field("x", target, ("N", 3)), Field("y", "int64", ("N",), label=True)]
    batch = open_data(tmp_path / "a", fields).gather(np.arange(4))
    assert batch["x"].dtype == np.dtype(target)
    assert batch["x"].dtype.isnative
    np.testing.assert_array_equal(batch["x"], values)


def test_dict_and_tuple_from_python(images, labels):
    assert_holds(open_data({"label": labels, "image": images}, FIELDS), images, labels)
    assert_holds(open_data((images, labels), FIELDS), images, labels)


def test_a_tuple_goes_by_position_even_where_inputs_have_numbers_for_names(images, labels):
    exported = [Field("1", "float32", ("N", 1, 4, 4)), Field("0", "int64", ("N",), label=True, classes=10)]
    np.testing.assert_array_equal(open_data((images, labels), exported).gather(EVERYTHING)["0"], labels)


def test_a_single_array_and_a_single_input_match(images):
    assert open_data(images, [Field("x", "float32", ("N", 1, 4, 4))]).gather(EVERYTHING)["x"].shape == (12, 1, 4, 4)


def test_files_are_closed_after_opening(tmp_path, images, labels):
    np.savez(tmp_path / "d.npz", image=images, label=labels)
    open_data(tmp_path / "d.npz", FIELDS)
    gc.collect()  # an open file would warn here, and warnings are errors
    (tmp_path / "d.npz").unlink()
    assert not Path(tmp_path / "d.npz").exists()
