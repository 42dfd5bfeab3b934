"""Examples of different lengths in one batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsd_ort.data import Batches, Field, open_data
from dsd_ort.errors import DataError
from dsd_ort.recipe import Data, Image

FRAMES = Field("x", "float32", ("N", "T", 3))
TEXT = Field("y", "int64", ("N", None), label=True, classes=9, ignore_index=-1, blank=0)
IMAGE = Field("image", "float32", ("N", 3, None, None))
SAME = "give all examples the same names and shapes, or a stream of batches that are padded"


def examples(lengths, dtype=np.uint8):
    """Example i: frames of i + 1, and the label 1, 2, …"""
    return [
        {"x": np.full((frames, 3), i + 1, np.float32), "y": np.arange(1, entries + 1).astype(dtype)}
        for i, (frames, entries) in enumerate(lengths)
    ]


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5)), min_size=1, max_size=5))
def test_inputs_are_filled_up_with_0_and_labels_with_what_is_ignored(lengths):
    batch = open_data(examples(lengths), [FRAMES, TEXT]).gather(np.arange(len(lengths)))
    assert batch["x"].shape == (len(lengths), max(t for t, _ in lengths), 3)
    assert batch["y"].shape == (len(lengths), max(1, *(u for _, u in lengths)))
    for i, (frames, entries) in enumerate(lengths):
        assert (batch["x"][i, :frames] == i + 1).all()
        assert (batch["x"][i, frames:] == 0).all()
        assert batch["y"][i, :entries].tolist() == list(range(1, entries + 1))
        assert (batch["y"][i, entries:] == -1).all()


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 8)), min_size=1, max_size=5), st.integers(1, 12))
def test_open_axes_are_filled_up_to_a_multiple(lengths, multiple):
    batch = open_data(examples(lengths), [FRAMES, TEXT], Data(pad_to=multiple)).gather(np.arange(len(lengths)))
    (_, frames, bands), (_, entries) = batch["x"].shape, batch["y"].shape
    most, longest = max(t for t, _ in lengths), max(1, *(u for _, u in lengths))
    assert frames % multiple == entries % multiple == 0
    assert most <= frames < most + multiple
    assert longest <= entries < longest + multiple
    assert bands == 3, "the model fixes it"
    for i, (own, text) in enumerate(lengths):
        assert (batch["x"][i, :own] == i + 1).all()
        assert (batch["x"][i, own:] == 0).all()
        assert batch["y"][i].tolist() == [*range(1, text + 1), *[-1] * (entries - text)]


def test_pictures_and_labels_that_cannot_be_ignored_are_not_filled_up():
    classes = Field("y", "int64", ("N",), label=True, classes=9)
    data = open_data([{"x": np.ones((4, 3), np.float32), "y": np.array(2)}], [FRAMES, classes], Data(pad_to=10))
    batch = data.gather(np.arange(1))
    assert (batch["x"].shape, batch["y"].shape) == ((1, 10, 3), (1,))


def test_labels_are_not_cast_on_the_way():
    with pytest.raises(DataError, match="array 'y' holds float64, but label 'y' takes int64"):
        open_data(examples([(1, 1), (1, 2)], np.float64), [FRAMES, TEXT]).gather(np.arange(2))


def test_ctcs_blank_is_no_label():
    wrong = [{"x": np.zeros((2, 3), np.float32), "y": np.array([1, 0])}]
    with pytest.raises(DataError) as caught:
        open_data(wrong, [FRAMES, TEXT]).gather(np.arange(1))
    assert caught.value.what == "array 'y' holds the label 0 in example 0 at [1], which is ctc's blank"
    assert caught.value.fix == "count labels past the blank, or set loss.blank to its class"


@pytest.mark.parametrize(
    ("fields", "changed", "what"),
    [
        ([Field("x", "float32", ("N", 4, 3)), TEXT], {}, "{'x': (5, 3), 'y': (2,)}"),  # the model fixes the axis
        ([FRAMES, Field("y", "int64", ("N", None), label=True)], {"x": (4, 3)}, "{'x': (4, 3), 'y': (2,)}"),
        ([FRAMES, TEXT], {"x": (4, 3, 1)}, "{'x': (4, 3, 1), 'y': (2,)}"),
    ],
    ids=["fixed axis", "no ignore_index", "axes"],
)
def test_what_cannot_be_filled_up_is_refused(fields, changed, what):
    pair = examples([(4, 1), (5, 2)])
    for name, shape in changed.items():
        pair[1][name] = np.ones(shape, np.float32)
    with pytest.raises(DataError) as caught:
        open_data(pair, fields).gather(np.arange(2))
    assert caught.value.what == f"example 1 has {what}, others of its batch have {{'x': (4, 3), 'y': (1,)}}"
    assert caught.value.fix == SAME


def test_arrays_that_no_one_wants_may_differ():
    pair = [{"x": np.zeros((2, 3), np.float32), "more": np.zeros(n)} for n in (1, 2)]
    assert open_data(pair, [FRAMES]).gather(np.arange(2))["x"].shape == (2, 2, 3)


def test_images_of_different_sizes_are_cropped_to_one():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 9, 9), dtype=np.uint8)
    pair = [{"image": pixels[0, :, :5, :9]}, {"image": pixels[1, :, :8, :6]}]
    batch = open_data(pair, [IMAGE], Data(image=Image(crop=4))).gather(np.array([1, 0]))["image"]
    np.testing.assert_allclose(batch[0], pixels[1, :, 2:6, 1:5] / 255, rtol=1e-6)
    np.testing.assert_allclose(batch[1], pixels[0, :, 0:4, 2:6] / 255, rtol=1e-6)


def test_images_of_different_sizes_without_a_crop_are_filled_up_but_not_moved():
    pair = [{"image": np.full((3, h, w), 255, np.uint8)} for h, w in ((2, 3), (3, 1))]
    batch = open_data(pair, [IMAGE]).gather(np.arange(2))["image"]
    assert batch[:, 0].tolist() == [[[1, 1, 1], [1, 1, 1], [0, 0, 0]], [[1, 0, 0], [1, 0, 0], [1, 0, 0]]]
    with pytest.raises(DataError) as caught:
        open_data(pair, [IMAGE], Data(image=Image(flip=True))).gather(np.arange(2))
    assert caught.value.what.startswith("example 1 has {'image': (3, 3, 1)}")
    assert caught.value.fix == "set data.image.crop, so that all become one size"


def test_one_image_that_is_smaller_than_the_crop_is_named():
    pair = [{"image": np.zeros((3, h, 9), np.uint8)} for h in (9, 4)]
    with pytest.raises(DataError, match=r"data\.image\.crop = 5 is larger than example 1, which is 4 × 9\n"):
        open_data(pair, [IMAGE], Data(image=Image(crop=5))).gather(np.arange(2))


def test_a_batch_is_only_as_long_as_its_longest():
    dataset = open_data(examples([(1, 1), (2, 1), (6, 1)]), [FRAMES, TEXT])
    assert [b["x"].shape[1] for b in Batches(dataset, 2, shuffle=False)] == [2, 6]
