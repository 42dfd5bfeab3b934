from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsd_ort.data import Batches, Field, open_data
from dsd_ort.data.augment import Frame, Masks
from dsd_ort.errors import DataError
from dsd_ort.recipe import Audio, Data, Image

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(1, 256, (9, 3, 7, 6), dtype=np.uint8)  # no black, so that padding shows
CHANCE = RNG.random((9, 3))
X = Field("x", "float32", ("N", 3, None, None))


def reference(image, pad, crop, chance, flip):
    """One image, written down as the docstring says it."""
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
    height, width = (crop, crop) if crop else image.shape[1:]
    room = padded.shape[1] - height, padded.shape[2] - width
    top, left = (r // 2 for r in room) if chance is None else (int(c * (r + 1)) for c, r in zip(chance, room))  # noqa: B905
    cut = padded[:, top : top + height, left : left + width]
    return cut[:, :, ::-1] if flip and chance is not None and chance[2] < 0.5 else cut


frames = st.tuples(st.integers(0, 9), st.integers(1, 24), st.booleans(), st.booleans()).filter(
    lambda f: f[1] <= 6 + 2 * f[0]
)


@given(frames, st.sampled_from([1, 3]))
def test_images_are_padded_cropped_and_mirrored_one_by_one(frame, channel):
    pad, crop, flip, training = frame
    images = PIXELS if channel == 1 else PIXELS.transpose(0, 2, 3, 1)
    got = Frame(Image(crop=crop, pad=pad, flip=flip), channel)(images, CHANCE if training else None)
    expected = [reference(x, pad, crop, c if training else None, flip) for x, c in zip(PIXELS, CHANCE, strict=True)]
    np.testing.assert_array_equal(np.moveaxis(got, channel, 1), expected)


def test_without_a_crop_padded_images_keep_their_size():
    assert Frame(Image(pad=4))(PIXELS, CHANCE).shape == PIXELS.shape


def test_every_place_and_both_sides_come_up_about_equally_often():
    """9 places × 2 sides, 18000 draws: 1000 each, standard deviation 31."""
    images = np.broadcast_to(np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4), (18000, 1, 4, 4))
    got = Frame(Image(crop=2, flip=True))(images, np.random.default_rng(1).random((18000, 3)))
    _, times = np.unique(got.reshape(18000, 4), axis=0, return_counts=True)
    assert times.size == 18
    assert abs(times - 1000).max() < 150


def test_the_augmented_batch_is_normalised_afterwards_so_that_padding_is_black():
    data = Data(image=Image(pad=2), mean=(0.5,), std=(0.25,))
    got = open_data({"x": np.full((8, 3, 5, 5), 255, np.uint8)}, [X], data)
    values = got.gather(np.arange(8), np.random.default_rng(0))["x"]
    assert np.unique(values).tolist() == [-2.0, 2.0]  # (0 - ½)/¼ and (1 - ½)/¼
    np.testing.assert_array_equal(np.unique(got.gather(np.arange(8))["x"]), [2.0])


def test_two_images_of_one_example_are_cut_alike():
    fields = [Field(name, "float32", ("N", 3, 4, 4)) for name in ("left", "right")]
    data = Data(image=Image(crop=4, flip=True))
    dataset = open_data({"left": PIXELS, "right": PIXELS}, fields, data)
    batch = dataset.gather(np.arange(9), np.random.default_rng(5))
    np.testing.assert_array_equal(batch["left"], batch["right"])


@pytest.mark.parametrize("kind", ["arrays", "examples"])
def test_augmentation_is_a_function_of_seed_epoch_and_batch(kind):
    spec = {"x": PIXELS} if kind == "arrays" else [{"x": x} for x in PIXELS]
    dataset = open_data(spec, [X], Data(image=Image(pad=2, flip=True)))

    def epoch(**options):
        return [b["x"].tobytes() for b in Batches(dataset, 2, shuffle=False, **{"augment": True, **options})]

    once = epoch(seed=1, epoch=2)
    assert epoch(seed=1, epoch=2) == once
    assert epoch(seed=1, epoch=2, start=3) == once[3:]
    assert epoch(seed=1, epoch=3) != once != epoch(seed=2, epoch=2)
    assert epoch(augment=False) != once
    same = open_data({"x": np.repeat(PIXELS[:1], 9, axis=0)}, [X], Data(image=Image(pad=2, flip=True)))
    assert len({b["x"].tobytes() for b in Batches(same, 2, augment=True)}) > 1, "one batch's chance is not another's"


def test_arrays_and_single_examples_are_augmented_alike():
    data = Data(image=Image(crop=5, pad=1, flip=True))
    pair = [open_data(spec, [X], data) for spec in ({"x": PIXELS}, [{"x": x} for x in PIXELS])]
    left, right = (d.gather(np.arange(9), np.random.default_rng(3))["x"] for d in pair)
    np.testing.assert_array_equal(left, right)


def test_a_stream_is_left_alone():
    data = Data(image=Image(crop=2, flip=True))
    stream = open_data(lambda epoch, seed: [{"x": PIXELS}], [X], data)
    [batch] = Batches(stream, 9, augment=True)
    np.testing.assert_allclose(batch["x"], PIXELS / 255, rtol=1e-6)


def test_inputs_that_are_no_images_are_left_alone():
    table = {"x": RNG.random((4, 6), dtype=np.float32), "y": np.arange(4)}
    fields = [Field("x", "float32", ("N", 6)), Field("y", "int64", ("N",), label=True)]
    batch = open_data(table, fields, Data(image=Image(crop=2, flip=True))).gather(np.arange(4), RNG)
    np.testing.assert_array_equal(batch["x"], table["x"])


@pytest.mark.parametrize(
    ("layout", "model"), [("nchw", ("N", 3, 4, 4)), ("nhwc", ("N", 3, 4, 4)), ("nhwc", ("N", 4, 4, 3))]
)
def test_the_crop_decides_on_the_size_that_the_model_gets(layout, model):
    array = PIXELS if layout == "nchw" else PIXELS.transpose(0, 2, 3, 1)
    data = Data(layout=layout, image=Image(crop=4, flip=True))
    batch = open_data({"x": array}, [Field("x", "float32", model)], data).gather(np.arange(9), np.random.default_rng(2))
    expected = Frame(Image(crop=4, flip=True))(PIXELS, np.random.default_rng(2).random((9, 7))[:, :3]) / 255
    expected = expected if model[1] == 3 else expected.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(batch["x"], expected, rtol=1e-6)


def test_what_arrays_do_not_need_is_noted():
    assert open_data({"x": PIXELS}, [X], Data(mean=(0,), image=Image(resize=5))).notes == (
        "data.image.resize is for images from files: these arrays keep their size",
    )


Y = Field("y", "int64", ("N", "h", "w"), label=True, classes=3)


@pytest.mark.parametrize(
    ("field", "image", "array", "what", "fix"),
    [
        (
            X,
            Image(crop=9, pad=1),
            PIXELS,
            "data.image.crop = 9 is larger than array 'x', which is 7 × 6 with 1 pixels around it",
            "set a smaller crop or more pad; images from files can be made larger with data.image.resize",
        ),
        (
            Field("x", "float32", ("N", 3, 4, 4)),
            Image(crop=5),
            PIXELS,
            "array 'x' has shape [9, 3, 7, 6], but input 'x' takes [N, 3, 4, 4]: taken as [9, 3, 5, 5]: "
            "axis 2 is 5, not 4",
            "set data.image.crop = 4, or remove it where the model's images are not square",
        ),
        (
            Field("x", "float32", ("N", 3, 7, 6)),
            Image(crop=5),
            PIXELS,
            "array 'x' has shape [9, 3, 7, 6], but input 'x' takes [N, 3, 7, 6]: taken as [9, 3, 5, 5]: "
            "axis 2 is 5, not 7",
            "set data.image.crop = 7, or remove it where the model's images are not square",
        ),
        (
            Field("x", "float32", ("N", None, None, None)),
            Image(flip=True),
            PIXELS.transpose(0, 2, 3, 1),
            "the recipe's [data.image] takes axis 1 of array 'x' for its channels, but it is 7 long, and axis 3 is 3",
            'set layout = "nhwc" in the recipe\'s [data]',
        ),
    ],
)
def test_images_that_cannot_be_framed_are_refused(field, image, array, what, fix):
    with pytest.raises(DataError) as caught:
        open_data({"x": array}, [field], Data(image=image))
    assert (caught.value.what, caught.value.fix) == (what, fix)


def test_a_label_with_places_is_not_left_behind():
    with pytest.raises(DataError) as caught:
        open_data({"x": PIXELS, "y": np.zeros((9, 7, 6), int)}, [X, Y], Data(image=Image(flip=True)))
    assert caught.value.what == (
        "the recipe's [data.image] crops or mirrors input 'x', but would leave label 'y', which has places too, "
        "as it is"
    )
    assert caught.value.fix == "remove crop, pad and flip there, and change both alike in a stream of your own"


@pytest.mark.parametrize("layout", ["tf", "ft"])
def test_masks_hide_frames_and_bands_in_a_row_and_no_more_than_asked(layout: str) -> None:
    features = np.ones((500, 12, 9) if layout == "tf" else (500, 9, 12), np.float32)
    seen = Masks(Audio(time_mask=4, frequency_mask=3, layout=layout))(
        features, np.random.default_rng(3).random((500, 4))
    )
    assert (features == 1).all(), "what is cached stays as it was"
    hidden = (seen if layout == "tf" else seen.transpose(0, 2, 1)) == 0
    frames, bands = hidden.all(axis=2), hidden.all(axis=1)
    np.testing.assert_array_equal(hidden, frames[:, :, None] | bands[:, None, :])
    for lines, most in ((frames, 4), (bands, 3)):
        widths = lines.sum(axis=1)
        assert set(widths) == set(range(most + 1))
        ends = np.flatnonzero(np.diff(lines.astype(int), axis=1).clip(min=0).sum(axis=1) > 1)
        assert ends.size == 0, "in a row"
        assert (lines.any(axis=0)).all(), "anywhere"


def test_masks_wider_than_a_recording_hide_all_of_it_at_most() -> None:
    seen = Masks(Audio(time_mask=50))(np.ones((40, 3, 2), np.float32), np.random.default_rng(3).random((40, 4)))
    assert set((seen == 0).all(axis=2).sum(axis=1)) == {0, 1, 2, 3}


def test_features_are_masked_in_training_only_and_by_seed_epoch_and_batch() -> None:
    field = Field("features", "float32", ("N", None, 5))
    data = Data(audio=Audio(time_mask=3, frequency_mask=2))
    opened = open_data({"features": np.ones((8, 6, 5), np.float32)}, [field], data)
    assert (next(iter(Batches(opened, 8)))["features"] == 1).all()
    first, again, other = (
        next(iter(Batches(opened, 8, epoch=epoch, shuffle=False, augment=True)))["features"] for epoch in (0, 0, 1)
    )
    assert (first == 0).any() and not np.array_equal(first, other)
    np.testing.assert_array_equal(first, again)
