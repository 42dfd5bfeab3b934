from __future__ import annotations

import sys

import numpy as np
import PIL.Image
import pytest

from dsd_ort.data import contact_sheet, open_data
from dsd_ort.data.contact_sheet import CAPTION, TILE
from dsd_ort.errors import DataError, InstallationError
from dsd_ort.fields import Field
from dsd_ort.recipe import Data

GAP = 8


def fields(*shape):
    return [Field("x", "float32", ("N", *shape)), Field("label", "int64", ("N",), label=True, classes=2)]


def sheet(tmp_path, pixels, shape, numbers, **options):
    recipe = Data(**options)
    data = open_data({"x": pixels, "label": np.zeros(len(pixels), np.int64)}, fields(*shape), recipe)
    contact_sheet.write(tmp_path / "sheet.png", data, numbers, [f"{n}: 0 -> 1" for n in numbers], recipe)
    with PIL.Image.open(tmp_path / "sheet.png") as image:
        assert image.format == "PNG"
        return np.asarray(image)


def tile(pixels, row, column):
    y, x = GAP + row * (TILE + CAPTION + GAP), GAP + column * (TILE + GAP)
    return pixels[y : y + TILE, x : x + TILE], pixels[y + TILE : y + TILE + CAPTION, x : x + TILE]


def test_small_grey_pictures_are_enlarged_with_their_edges_and_have_captions(tmp_path):
    pictures = np.zeros((5, 1, 2, 2), np.uint8)
    pictures[:, 0, 0, 1] = 255
    pictures[3, 0] = [[10, 10], [20, 10]]
    drawn = sheet(tmp_path, pictures, (1, 2, 2), [3, 0, 1])
    assert drawn.shape == (2 * (TILE + CAPTION + GAP) + GAP, 2 * (TILE + GAP) + GAP, 3)
    first, caption = tile(drawn, 0, 0)
    assert (first[TILE // 2 :, : TILE // 2] == 255).all() and not first[: TILE // 2].any(), "stretched to its own range"
    assert caption.min() < 128
    second, _ = tile(drawn, 0, 1)
    assert (second[: TILE // 2, TILE // 2 :] == 255).all() and not second[TILE // 2 :].any()
    assert (tile(drawn, 1, 1)[0] == 255).all(), "white where no picture is left"


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_colours_are_those_of_the_picture_whatever_the_recipe_normalises_by(tmp_path, layout):
    picture = np.zeros((1, 200, 100, 3), np.uint8)
    picture[:, :, :50, 0], picture[:, :, 50:, 1], picture[:, 100:, :, 2] = 255, 128, 64
    drawn = sheet(
        tmp_path,
        picture if layout == "nhwc" else picture.transpose(0, 3, 1, 2),
        (3, 200, 100),
        [0],
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        layout=layout,
    )
    found, _ = tile(drawn, 0, 0)
    assert found[10, 10].tolist() == [255, 0, 0] and found[10, 40].tolist() == [0, 128, 0]
    assert found[80, 10].tolist() == [255, 0, 64] and found[10, 60].tolist() == [255, 255, 255], "half as wide as high"


def test_what_is_no_picture_and_a_missing_package_are_refused(tmp_path, monkeypatch):
    data = open_data({"x": np.zeros((2, 6), np.float32), "label": np.zeros(2, np.int64)}, fields(6))
    with pytest.raises(DataError, match="no input of the model is pictures") as caught:
        contact_sheet.refuse_without_pictures(data, tmp_path / "sheet.png")
    assert caught.value.fix == "leave the sheet out"
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(InstallationError, match="a contact sheet is a picture, and Pillow") as missing:
        contact_sheet.refuse_without_pictures(data, tmp_path / "sheet.png")
    assert missing.value.fix == 'pip install "dsd-ort[images]"'


def test_a_sheet_that_cannot_be_written_is_an_error(tmp_path):
    pictures = {"x": np.zeros((2, 1, 3, 3), np.uint8), "label": np.zeros(2, np.int64)}
    with pytest.raises(DataError, match="the sheet cannot be written: No such file or directory"):
        contact_sheet.write(tmp_path / "none" / "s.png", open_data(pictures, fields(1, 3, 3)), [0], ["0"], Data())
