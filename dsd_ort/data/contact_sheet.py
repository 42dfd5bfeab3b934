"""Pictures of a data set on one sheet, each above its caption: what is in some examples, at a glance.

Pictures are what the model is fed, cut from the middle; each is stretched to its own darkest and brightest value, and
the normalisation of the recipe is taken back before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dsd_ort.data.images import require_pillow
from dsd_ort.data.subset import Counted
from dsd_ort.errors import DataError
from dsd_ort.fields import Field
from dsd_ort.notes import plain
from dsd_ort.recipe import Data

if TYPE_CHECKING:
    from PIL.Image import Image

TILE = 96
"""Pixels of a picture's side."""
CAPTION = 16
"""Pixels of the line below it."""
_GAP = 8
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def refuse_without_pictures(data: Counted, where: Path) -> None:
    """What would prevent a sheet, before anything is computed.

    Raises:
        DataError: no input of the model is pictures.
        InstallationError: Pillow is missing.
    """
    require_pillow("a contact sheet is a picture, and Pillow, which writes it, is not installed", where)
    _pictures(data)


def write(path: Path, data: Counted, numbers: Sequence[int], captions: Sequence[str], recipe: Data) -> None:
    """The examples of these *numbers* as one PNG file.

    Raises:
        DataError: there are no pictures among the inputs, one cannot be read, or the sheet cannot be written.
        InstallationError: Pillow is missing.
    """
    refuse_without_pictures(data, path)
    pictures = (_picture(data, number, recipe) for number in numbers)
    sheet = _sheet([(picture, caption) for picture, caption in zip(pictures, captions, strict=True)])
    try:
        sheet.save(path, "PNG")
    except OSError as error:
        fix = "make room or permissions, or choose another place"
        raise DataError(f"the sheet cannot be written: {error.strerror}", where=str(path), fix=fix) from error


def _sheet(tiles: Sequence[tuple[npt.NDArray[np.uint8], str]]) -> Image:
    """As many columns as rows, or one more."""
    import PIL.Image
    import PIL.ImageDraw
    import PIL.ImageFont

    columns = max(1, math.ceil(math.sqrt(len(tiles))))
    rows = max(1, math.ceil(len(tiles) / columns))
    width, height = TILE + _GAP, TILE + CAPTION + _GAP
    sheet = PIL.Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), "white")
    draw, font = PIL.ImageDraw.Draw(sheet), PIL.ImageFont.load_default()
    for number, (pixels, caption) in enumerate(tiles):
        row, column = divmod(number, columns)
        x, y = _GAP + column * width, _GAP + row * height
        sheet.paste(_fitted(pixels), (x, y))
        draw.text((x, y + TILE + 2), plain(caption), fill="black", font=font)
    return sheet


def _fitted(pixels: npt.NDArray[np.uint8]) -> Image:
    """A picture u8[H, W, C] as large as a tile has room for; small ones keep their edges."""
    import PIL.Image

    picture = PIL.Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels, _MODES[pixels.shape[-1]])
    scale = TILE / max(picture.size)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    way = PIL.Image.Resampling.NEAREST if scale > 1 else PIL.Image.Resampling.BOX
    return picture.resize((size[0], size[1]), way).convert("RGB")


def _picture(data: Counted, number: int, recipe: Data) -> npt.NDArray[np.uint8]:
    """u8[H, W, C]."""
    field, axis = _pictures(data)
    values = np.moveaxis(data.gather(np.array([number]))[field.name][0].astype(np.float64), axis - 1, -1)
    if len(recipe.shift) in (1, values.shape[-1]) and len(recipe.spread) in (1, values.shape[-1]):
        values = values * recipe.spread + recipe.shift
    low, high = values.min(), values.max()
    return np.asarray(np.round(255 * (values - low) / (high - low or 1)), np.uint8)


def _pictures(data: Counted) -> tuple[Field, int]:
    """The first input of four axes, and its axis of channels."""
    for field in data.fields:
        axes: list[Any] = [axis for axis in (1, 3) if len(field.shape) == 4 and field.shape[axis] in _MODES]
        if axes and not field.label:
            return field, axes[0]
    raise DataError(
        "no input of the model is pictures: none has four axes, one of them 1, 3 or 4 channels",
        where=data.where,
        fix="leave the sheet out",
    )
