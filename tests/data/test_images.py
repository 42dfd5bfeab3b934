from __future__ import annotations

import sys
import threading

import numpy as np
import PIL.Image
import pytest

from dsd_ort.data import Batches, Field, images, open_data
from dsd_ort.data.cache import Cache
from dsd_ort.errors import DataError, InstallationError
from dsd_ort.recipe import Data, Image

RNG = np.random.default_rng(0)
LABEL = Field("label", "int64", ("N",), label=True, classes=3)
RGB = [Field("image", "float32", ("N", 3, 4, 5)), LABEL]
OPEN = [Field("image", "float32", ("N", 3, None, None)), LABEL]


def pixels(height=4, width=5, channels=3):
    return RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.fixture
def write(tmp_path):
    """Writes an image into a sub-folder; returns the folder of all."""

    def write(name, array, mode=None):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = PIL.Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
        (image.convert(mode) if mode else image).save(path)
        return tmp_path / "data"

    return write


def test_sub_folders_are_classes_in_the_order_of_their_names(write):
    arrays = [pixels() for _ in range(4)]
    for name, array in zip(("dog/1.png", "cat/2.bmp", "cat/1.PNG", "dog/x.tif"), arrays, strict=True):
        folder = write(name, array)
    (folder / "bird").mkdir()  # an empty class is a class
    (folder / ".thumbnails").mkdir()
    (folder / "notes.txt").write_text("of mine")
    (folder / "cat" / "Thumbs.db").write_text("")
    (folder / "cat" / ".1.png").write_text("a Mac's")
    dataset = open_data(folder, RGB, Data(mean=(0,)))
    assert dataset.examples == 4
    assert dataset.notes == (
        "3 classes: 0 bird, 1 cat, 2 dog",
        "2 files are no images and are left out",
    )
    batch = dataset.gather(np.arange(4))
    assert batch["label"].tolist() == [1, 1, 2, 2]
    expected = np.stack([arrays[i].transpose(2, 0, 1) for i in (2, 1, 0, 3)]) / 255
    np.testing.assert_allclose(batch["image"], expected, rtol=1e-6)


def test_many_classes_are_noted_in_short(write):
    for i in range(25):
        folder = write(f"c{i:02}/1.png", pixels())
    dataset = open_data(folder, [RGB[0], Field("label", "int64", ("N",), label=True, classes=25)], Data(std=(1,)))
    assert dataset.notes == ("25 classes: 0 c00, 1 c01, 2 c02, …, 24 c24",)


@pytest.mark.parametrize(("layout", "model"), [("nchw", "nchw"), ("nhwc", "nchw"), ("nchw", "nhwc"), ("nhwc", "nhwc")])
@pytest.mark.parametrize("fixed", [True, False])
def test_the_model_decides_on_the_layout_whatever_the_recipe_says(write, layout, model, fixed):
    array = pixels()
    size = (4, 5) if fixed else ("H", "W")
    shape = ("N", 3, *size) if model == "nchw" else ("N", *size, 3)
    data = Data(layout=layout, mean=(0.1, 0.2, 0.3), scale=1.0)
    batch = open_data(write("a/1.png", array), [Field("x", "float32", shape), LABEL], data).gather(np.arange(1))
    expected = array - np.array([0.1, 0.2, 0.3])
    expected = expected.transpose(2, 0, 1) if model == "nchw" else expected
    np.testing.assert_allclose(batch["x"][0], expected, rtol=1e-6)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
@pytest.mark.parametrize("held", ["L", "RGB", "RGBA", "P", "CMYK", "1", "LA"])
def test_channels_are_as_the_model_wants_them(write, channels, mode, held):
    folder = write(f"a/1.{'tif' if held == 'CMYK' else 'png'}", pixels(), held)
    batch = open_data(folder, [Field("x", "uint8", ("N", channels, 4, 5)), LABEL]).gather(np.arange(1))
    file = next((folder / "a").iterdir())
    with PIL.Image.open(file) as image:
        expected = np.atleast_3d(np.asarray(image.convert(mode)))
    np.testing.assert_array_equal(batch["x"][0], expected.transpose(2, 0, 1))


def test_what_is_transparent_shows_white_where_the_model_wants_no_transparency(write):
    array = np.zeros((1, 3, 4), np.uint8)
    array[0, :, 3] = 0, 128, 255
    folder = write("a/1.png", array)
    assert images.read(folder / "a" / "1.png", "L")[0, :, 0].tolist() == [255, 127, 0]
    assert images.read(folder / "a" / "1.png", "RGBA")[0, :, 3].tolist() == [0, 128, 255]


def test_grey_of_16_bits_keeps_its_upper_8(write):
    folder = write("a/1.png", np.array([[0, 255, 256, 65535]], np.uint16))
    assert images.read(folder / "a" / "1.png", "L")[0, :, 0].tolist() == [0, 0, 1, 255]


def test_a_portable_grey_map_of_16_bits_too(tmp_path):
    (tmp_path / "1.pgm").write_bytes(b"P5 2 1 65535\n" + bytes([0, 255, 3, 0]))
    assert images.read(tmp_path / "1.pgm", "L")[0, :, 0].tolist() == [0, 3]


def test_of_an_animation_the_first_picture_counts(tmp_path):
    frames = [PIL.Image.new("L", (2, 2), value) for value in (10, 200)]
    frames[0].save(tmp_path / "1.gif", save_all=True, append_images=frames[1:])
    assert (images.read(tmp_path / "1.gif", "L") == 10).all()


@pytest.mark.parametrize(("size", "resize", "expected"), [((40, 30), 15, (20, 15)), ((7, 10), 5, (5, 7))])
def test_the_shorter_side_is_resized_and_pixels_averaged(write, size, resize, expected):
    array = pixels(*size)
    got = images.read(write("a/1.png", array) / "a" / "1.png", "RGB", resize)
    assert got.shape == (*expected, 3)
    assert got.std() < 0.8 * array.std(), "noise is averaged"
    flat = write("a/2.png", np.full((*size, 3), 77, np.uint8))
    assert (images.read(flat / "a" / "2.png", "RGB", resize) == 77).all()


def test_images_of_any_size_become_one_by_resize_and_crop(write):
    for i, size in enumerate([(9, 12), (12, 9), (30, 20)]):
        folder = write(f"a/{i}.png", pixels(*size))
    dataset = open_data(folder, [Field("image", "float32", ("N", 3, 6, 6)), LABEL], Data(image=Image(resize=8, crop=6)))
    middle = dataset.gather(np.arange(3))["image"]
    assert middle.shape == (3, 3, 6, 6)
    resized = images.read(folder / "a" / "0.png", "RGB", 8)  # 8 × 10
    np.testing.assert_allclose(middle[0], resized[1:7, 2:8].transpose(2, 0, 1) / 255, rtol=1e-6)
    drawn = [b["image"].tobytes() for b in Batches(dataset, 3, seed=1, augment=True)]
    assert drawn == [b["image"].tobytes() for b in Batches(dataset, 3, seed=1, augment=True)]
    assert drawn != [middle.tobytes()]


@pytest.mark.parametrize("fields", [RGB, OPEN])
def test_images_of_different_sizes_without_a_crop_are_refused_by_name(write, fields):
    write("a/1.png", pixels())
    folder = write("a/2.png", pixels(5, 5))
    with pytest.raises(DataError) as caught:
        open_data(folder, fields).gather(np.arange(2))
    assert caught.value.what == (
        "image a/2.png has {'image': (5, 5, 3), 'label': ()}, "
        "others of its batch have {'image': (4, 5, 3), 'label': ()}"
    )
    assert caught.value.fix == "set data.image.resize and data.image.crop, so that all images become one size"


def test_images_that_do_not_have_the_models_size_are_refused_with_the_way_out(write):
    with pytest.raises(DataError) as caught:
        open_data(write("a/1.png", pixels(8, 8)), RGB)
    assert caught.value.what == (
        "array 'image' has shape [1, 8, 8, 3], but input 'image' takes [N, 3, 4, 5]: taken as [1, 3, 8, 8]: "
        "axis 2 is 8, not 4"
    )
    assert caught.value.fix == "set data.image.resize and data.image.crop, so that all images become one size"


def test_more_folders_than_classes_are_refused(write):
    for name in ("a", "b", "c", "d"):
        folder = write(f"{name}/1.png", pixels())
    with pytest.raises(DataError) as caught:
        open_data(folder, RGB)
    assert caught.value.what == "the folder has 4 sub-folders, but the model has 3 classes"
    assert caught.value.fix == "remove what is no class of the model's; d would be too many"


def test_the_folder_above_the_splits_is_refused_with_their_names(write, tmp_path):
    write("val/a/1.png", pixels())
    folder = write("train/a/1.png", pixels())
    with pytest.raises(DataError) as caught:
        open_data(folder, RGB)
    assert caught.value.what == "the folder holds no data that can be read here (it holds train, val)"
    assert caught.value.fix == f"give one of the data sets in it: {folder / 'train'}, {folder / 'val'}"


@pytest.mark.parametrize("damage", ["empty", "text", "cut off", "header"])
@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "webp", "bmp"])
def test_a_damaged_image_is_named(write, damage, ending):
    folder = write(f"a/1.{ending}", pixels(40, 40))
    path = folder / "a" / f"1.{ending}"
    content = path.read_bytes()
    damaged = {"empty": b"", "text": b"hello " * 9, "cut off": content[: len(content) // 2], "header": content[:20]}
    path.write_bytes(damaged[damage])
    with pytest.raises(DataError) as caught:
        images.read(path)
    assert caught.value.what.startswith("the image cannot be read: ")
    assert caught.value.where == str(path)
    assert caught.value.fix == "remove the file, or write it again"


def test_pixels_of_32_bits_are_refused(tmp_path):
    PIL.Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "1.tif")
    with pytest.raises(DataError, match="the image has pixels of 32 bits"):
        images.read(tmp_path / "1.tif")


def test_without_pillow_the_way_to_it_is_told(write, monkeypatch):
    folder = write("a/1.png", pixels())
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InstallationError) as caught:
        open_data(folder, RGB)
    assert caught.value.what == "the data is a folder of images, and Pillow, which reads them, is not installed"
    assert caught.value.fix == 'pip install "dsd-ort[images]"'


def test_an_image_is_decoded_once_while_there_is_room(write):
    folder = write("a/1.png", pixels())
    dataset = open_data(folder, RGB)
    first = dataset.gather(np.array([0, 0]))["image"]
    (folder / "a" / "1.png").unlink()
    np.testing.assert_array_equal(dataset.gather(np.array([0, 0]))["image"], first)


def test_workers_change_nothing_of_the_batches(write):
    for number in range(17):
        folder = write(f"{number % 3}/{number}.png", pixels(64 + number % 4, 80))
    data = Data(image=Image(resize=8, crop=6, pad=1, flip=True))
    fields = [Field("image", "float32", ("N", 3, 6, 6)), LABEL]

    def epoch(workers):
        opened = open_data(folder, fields, data)
        assert opened.parallel
        batches = Batches(opened, 4, seed=1, epoch=2, augment=True, workers=workers)
        return [(b["image"].tobytes(), b["label"].tobytes()) for b in batches]

    assert epoch(1) == epoch(2) == epoch(5)


@pytest.mark.parametrize(("height", "width", "several"), [(64, 64, True), (63, 64, False), (200, 21, True)])
def test_pictures_that_threads_would_slow_down_are_read_by_one(write, height, width, several):
    assert open_data(write("a/1.png", pixels(height, width)), OPEN).parallel == several


def test_of_a_picture_that_is_none_the_reading_says_so(write):
    folder = write("a/1.png", pixels())
    (folder / "a" / "1.png").write_text("no picture")
    with pytest.raises(DataError, match="no picture that Pillow knows"):
        open_data(folder, RGB)


def test_a_cache_keeps_what_comes_first_up_to_its_size():
    made = []

    def make(number):
        made.append(number)
        return np.full(10, number, np.uint8)

    cache = Cache(25)
    for number in (0, 1, 2, 0, 1, 2):
        assert (cache.get(number, make) == number).all()
    assert made == [0, 1, 2, 2]


def test_a_cache_that_several_threads_fill_keeps_no_more_than_its_size():
    cache = Cache(10 * 50)
    threads = [
        threading.Thread(target=lambda: [cache.get(i, lambda i: np.full(10, i, np.uint8)) for i in range(200)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = [cache.get(number, lambda number: np.zeros(0, np.uint8)).size for number in range(200)]
    assert sum(kept) == 10 * 50
