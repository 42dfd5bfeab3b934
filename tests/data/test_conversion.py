from __future__ import annotations

import numpy as np
import pytest

from dsd_ort.data import open_data
from dsd_ort.errors import DataError
from dsd_ort.fields import Field
from dsd_ort.recipe import Data


def feed(array, field, data=None):
    """The whole array as the field gets it."""
    batch = open_data({field.name: array}, [field], data).gather(np.arange(len(array)))[field.name]
    assert batch.flags.c_contiguous
    assert batch.flags.aligned
    assert batch.dtype == np.dtype(field.dtype)
    return batch


def label(dtype="int64", shape=("N",), **options):
    return Field("y", dtype, shape, label=True, **options)


PIXELS = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
NCHW = Field("x", "float32", ("N", 3, 6, 7))
CHANNELS = Data(scale=1 / 255, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


def reference(nchw):
    mean, std = (np.array(v)[:, None, None] for v in (CHANNELS.mean, CHANNELS.std))
    return (nchw / 255 - mean) / std


def test_uint8_images_are_scaled_and_normalised_per_channel():
    nchw = PIXELS.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(feed(nchw, NCHW, CHANNELS), reference(nchw), atol=1e-6)


def test_nhwc_images_are_turned_to_nchw():
    data = Data(mean=CHANNELS.mean, std=CHANNELS.std, layout="nhwc")
    expected = feed(PIXELS.transpose(0, 3, 1, 2), NCHW, CHANNELS)
    np.testing.assert_array_equal(feed(PIXELS, NCHW, data), expected)


def test_nhwc_images_stay_for_a_model_that_takes_nhwc():
    data = Data(mean=CHANNELS.mean, std=CHANNELS.std, layout="nhwc")
    expected = feed(PIXELS.transpose(0, 3, 1, 2), NCHW, CHANNELS).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(feed(PIXELS, Field("x", "float32", ("N", 6, 7, 3)), data), expected)


def test_nhwc_is_turned_for_floats_too_and_not_for_labels():
    floats, data = PIXELS.astype(np.float32), Data(layout="nhwc")
    np.testing.assert_array_equal(feed(floats, NCHW, data), floats.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(feed(floats, label("float32", ("N", "a", "b", "c")), data), floats)


@pytest.mark.parametrize("shape", [("N", 1, 6, 7), ("N", 1, "H", "W"), (None, None, None, None)])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_missing_channel_axis_is_inserted(shape, layout):
    grey = PIXELS[..., 0]
    data = Data(scale=0.5, mean=[1.0], std=[2.0], layout=layout)
    expected = (grey[:, None] * 0.5 - 1) / 2
    np.testing.assert_array_equal(feed(grey, Field("x", "float32", shape), data), expected)


def test_a_missing_channel_axis_is_inserted_last_for_nhwc_models():
    assert feed(PIXELS[..., 0], Field("x", "float32", ("N", 6, 7, 1)), Data(layout="nhwc")).shape == (5, 6, 7, 1)


def test_symbolic_axes_take_any_size():
    assert feed(PIXELS, Field("x", "float32", ("N", "a", None, "c"))).shape == PIXELS.shape


def test_all_256_values_come_out_as_the_recipe_says():
    values = np.arange(256, dtype=np.uint8)[:, None]
    data = Data(scale=1 / 255, mean=[0.2860], std=[0.3530])
    expected = (np.arange(256.0)[:, None] / 255 - 0.2860) / 0.3530
    np.testing.assert_allclose(feed(values, Field("x", "float32", ("N", 1)), data), expected, rtol=0, atol=3e-7)


def test_uint8_is_normalised_for_half_and_double_too():
    for dtype, tolerance in (("float16", 1e-3), ("float64", 1e-6)):
        got = feed(PIXELS, Field("x", dtype, (None, 6, 7, 3)))
        np.testing.assert_allclose(got, PIXELS / 255, atol=tolerance)


def test_uint8_that_feeds_an_integer_input_or_a_label_stays_as_it_is():
    np.testing.assert_array_equal(feed(PIXELS, Field("x", "uint8", (None, 6, 7, 3))), PIXELS)
    np.testing.assert_array_equal(feed(PIXELS, Field("x", "int32", (None, 6, 7, 3))), PIXELS)
    np.testing.assert_array_equal(feed(PIXELS, label("float32", (None, 6, 7, 3))), PIXELS)


@pytest.mark.parametrize("source", ["float16", "float64", ">f4", ">f8"])
def test_floats_are_cast_to_the_inputs_float(source):
    values = np.linspace(-1, 1, 6).reshape(3, 2).astype(source)
    np.testing.assert_array_equal(feed(values, Field("x", "float32", ("N", 2))), values.astype(np.float32))


PLAIN = (
    "array 'x' is 8-bit and goes in as numbers from 0 to 1, as the recipe's [data] gives neither mean nor std: a model "
    "that was trained on normalised pictures answers as if by chance then; give them, or mean = [0]"
)


@pytest.mark.parametrize("source", ["arrays", "examples", "a stream"])
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, (PLAIN,)),
        ({"mean": (0.0,)}, ()),
        ({"std": (1.0,)}, ()),
        ({"scale": 1.0}, ()),
        ({"layout": "nhwc"}, (PLAIN,)),
    ],
)
def test_that_8_bit_numbers_are_not_normalised_is_noted_unless_the_recipe_says_so(source, said, expected):
    def stream(epoch, seed):
        yield whole

    whole = {"x": np.zeros((2, 4), np.uint8)}
    spec = {"arrays": whole, "examples": [{"x": row} for row in whole["x"]], "a stream": stream}[source]
    assert open_data(spec, [Field("x", "float32", ("N", 4))], Data(**said)).notes == expected
    assert open_data(spec, [Field("x", "uint8", ("N", 4))], Data(**said)).notes == ()


def test_a_cast_between_floats_is_noted():
    field = Field("x", "float32", ("N",))
    assert open_data({"x": np.zeros(2)}, [field]).notes == ("array 'x' is cast from float64 to float32",)
    assert open_data({"x": np.zeros(2, ">f4")}, [field]).notes == ()


@pytest.mark.parametrize("source", ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_class_labels_may_be_integers_of_any_width(source):
    values = np.array([0, 1, 1, 0]).astype(source)
    np.testing.assert_array_equal(feed(values, label(classes=2)), values)
    np.testing.assert_array_equal(feed(values, label("float32")), values)


def test_labels_may_have_an_axis_of_size_1_too_much_or_too_little():
    values = np.arange(4)
    np.testing.assert_array_equal(feed(values[:, None], label(classes=4)), values)
    np.testing.assert_array_equal(feed(values.astype(np.float32), label("float32", ("N", 1))), values[:, None])


@pytest.mark.parametrize(("source", "ignored"), [("uint8", 255), ("int64", -100), ("int8", -1)])
def test_the_ignored_label_is_let_through(source, ignored):
    values = np.array([0, ignored, 2]).astype(source)
    np.testing.assert_array_equal(feed(values, label(classes=3, ignore_index=ignored)), [0, ignored, 2])
    with pytest.raises(DataError, match=f"holds the label {ignored} in example 1"):
        feed(values, label(classes=3))


def test_dense_class_labels_are_checked_in_every_place():
    values = np.zeros((4, 3, 3), np.int32)
    values[2, 0, 1] = 5
    field = label(shape=("N", "h", "w"), classes=5)
    with pytest.raises(DataError, match=r"holds the label 5 in example 2 at \[0, 1\], outside \[0, 5\)"):
        feed(values, field)
    np.testing.assert_array_equal(feed(values[:2], field), values[:2])


def test_integers_may_be_narrowed_while_they_keep_their_value():
    field = Field("x", "int32", ("N",))
    np.testing.assert_array_equal(feed(np.array([7, -(2**31)]), field), [7, -(2**31)])
    with pytest.raises(DataError, match="holds 2147483648 in example 1, which does not fit into int32"):
        feed(np.array([7, 2**31]), field)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "by batch"])
def test_values_that_are_not_finite_are_found_with_their_place(monkeypatch, value, whole):
    monkeypatch.setattr("dsd_ort.data.dataset._SWEEP", 64)  # several pieces
    monkeypatch.setattr("dsd_ort.data.dataset.CHECKED_WHOLE", 2**30 if whole else 0)
    values = np.zeros((50, 2, 2))
    values[31, 1, 0] = value
    field = Field("x", "float32", ("N", 2, 2))
    text = r"array 'x' holds .* in example 31 at \[1, 0\]"
    if whole:
        with pytest.raises(DataError, match=text):
            open_data({"x": values}, [field])
    else:
        dataset = open_data({"x": values}, [field])
        assert len(dataset.gather(np.array([3, 30]))["x"]) == 2
        with pytest.raises(DataError, match=text):
            dataset.gather(np.array([3, 31]))


def test_class_labels_are_checked_whole_however_large(monkeypatch):
    monkeypatch.setattr("dsd_ort.data.dataset.CHECKED_WHOLE", 0)
    monkeypatch.setattr("dsd_ort.data.dataset._SWEEP", 64)
    values = np.zeros(1000, np.int64)
    values[777] = -1
    with pytest.raises(DataError, match="holds the label -1 in example 777"):
        open_data({"y": values}, [label(classes=3)])


RATE = [Field("x", "float32", ("N", 2)), Field("sr", "int64", ())]
X = np.ones((4, 2), np.float32)


@pytest.mark.parametrize("rate", [np.int32(16000), np.full(4, 16000)])
def test_an_input_without_axes_takes_one_number_for_a_batch(rate):
    data = open_data({"x": X, "sr": rate}, RATE)
    assert data.examples == 4
    batch = data.gather(np.array([2, 0]))
    assert batch["sr"].shape == () and batch["sr"].dtype == np.int64 and batch["sr"] == 16000
    assert batch["x"].shape == (2, 2)


def test_each_batch_of_a_stream_has_a_number_of_its_own():
    def stream(epoch, seed):
        for rate in (16000, 8000):
            yield {"x": X, "sr": rate}

    assert [batch["sr"].item() for batch in open_data(stream, RATE).batches(0, 0)] == [16000, 8000]


def test_examples_of_one_batch_share_the_number():
    class Examples:
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return {"x": X[index], "sr": 16000 if index < 2 else 8000}

    data = open_data(Examples(), RATE)
    assert data.gather(np.array([3, 2]))["sr"] == 8000
    with pytest.raises(DataError, match="'sr' holds 16000 and 8000 in one batch, and input 'sr' takes one") as caught:
        data.gather(np.arange(4))
    assert "from a Python function" in caught.value.fix


def test_an_input_without_axes_takes_no_array_of_more():
    with pytest.raises(DataError, match=r"array 'sr' has shape \[4, 2\], but input 'sr' takes \[\]"):
        open_data({"x": X, "sr": X.astype(np.int64)}, RATE)


def test_who_gives_no_number_for_an_input_without_axes_is_told_the_line_of_the_recipe():
    with pytest.raises(DataError, match="no array for input 'sr'") as caught:
        open_data({"x": X}, RATE)
    assert caught.value.fix == (
        "for input 'sr', a number that a batch shares, or one for good in the recipe: [input.sr] value = 16000"
    )
