"""A folder of images, one sub-folder a class::

    train/cat/1.jpg
    train/cat/2.png
    train/dog/1.jpg        → image u8[H, W, C], label i64[]

The sorted names of the sub-folders are the classes 0, 1, …; an empty one is a class too, so that folders for training
and for evaluation count alike if they have the same sub-folders.  Names that begin with a dot are passed over.

C is what the model's input of four axes wants: 1 grey, 3 RGB, 4 RGBA.  Where it wants no transparency, what is
transparent shows white.  Grey of 16 bits keeps its upper 8, an animation its first picture, and pictures are not turned
by what their camera noted of them (as in torchvision).  With ``data.image.resize``, the shorter side becomes that
long, and the longer one ⌊resize·longer/shorter⌋: bilinear, and averaged over the pixels that fall together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsd_ort.data.cache import Cache
from dsd_ort.data.source_forms import Examples, Files, unreadable
from dsd_ort.errors import DataError, InstallationError
from dsd_ort.fields import Field
from dsd_ort.recipe import Data

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What a file may be, whatever its name says; Pillow knows others, for some of which it starts programs."""
PIXELS = 1 << 26
"""Of one picture: 67 million."""
SMALL = 64 * 64
"""Pixels: of fewer, half of the time is Pillow's in Python, for which threads wait for each other.  Two threads read
JPEGs of 28 × 28 at 0.6 of the speed of one, of 64 × 64 at 0.9, of 224 × 224 at 1.3; PNGs at 0.6, 1.4 and 1.8."""
_MODES = {3: "RGB", 1: "L", 4: "RGBA"}  # the likeliest first: an axis of 1 or 4 may be a height or a width
_LISTED = 20  # classes that are all named in a note


def is_image_folder(path: Path) -> bool:
    return path.is_dir() and any(_is_image(file) for folder in _folders(path) for file in folder.iterdir())


def open_image_folder(path: Path, fields: Sequence[Field], data: Data) -> Examples:
    """The images and labels of all sub-folders, read when they are asked for.

    Raises:
        DataError: more classes than the model has.
        InstallationError: Pillow is missing.
    """
    require_pillow("the data is a folder of images, and Pillow, which reads them, is not installed", path)
    folders = _folders(path)
    classes = next((field.classes for field in fields if field.label and field.classes is not None), None)
    if classes is not None and len(folders) > classes:
        names = ", ".join(folder.name for folder in folders[classes : classes + 3])
        raise DataError(
            f"the folder has {len(folders)} sub-folders, but the model has {classes} classes",
            where=str(path),
            fix=f"remove what is no class of the model's; {names} would be too many",
        )
    held = [_by_name(folder) for folder in folders]
    items = ImageFolder(
        files=[file for files in held for file in files if _is_image(file)],
        labels=[label for label, files in enumerate(held) for file in files if _is_image(file)],
        mode=_MODES[_channels(fields)],
        resize=data.image.resize,
    )
    others = sum(map(len, held)) - len(items)
    return Examples(
        items,
        str(path),
        title=items.title,
        notes=(_classes_note(folders), *([f"{others} files are no images and are left out"] if others else ())),
        hints={"image": "set data.image.resize and data.image.crop, so that all images become one size"},
        images=True,
        own_names=True,
        files=Files(path, [f"{file.parent.name}/{file.name}" for file in items.files], items.labels),
        parallel=_pay_for_threads(items.files),
    )


def _pay_for_threads(files: Sequence[Path]) -> bool:
    """By the size that the first one says it has; what cannot be read is said when it is."""
    import PIL.Image

    try:
        with PIL.Image.open(files[0], formats=FORMATS) as image:
            pixels: int = math.prod(image.size)
    except Exception:  # there is none, or it is damaged: Pillow raises almost anything
        return True
    return pixels >= SMALL


class ImageFolder:
    """Example *i*: ``image`` u8[H, W, C] and ``label`` i64[]."""

    def __init__(self, files: Sequence[Path], labels: Sequence[int], mode: str, resize: int | None) -> None:
        self.files, self.labels, self.mode, self.resize = files, labels, mode, resize
        self._cache = Cache()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {"image": self._cache.get(index, self._read), "label": np.asarray(self.labels[index], np.int64)}

    def title(self, index: int) -> str:
        return f"image {self.files[index].parent.name}/{self.files[index].name}"

    def _read(self, index: int) -> np.ndarray:
        return read(self.files[index], self.mode, self.resize)


def read(path: Path, mode: str = "RGB", resize: int | None = None) -> np.ndarray:
    """One picture, u8[H, W, C]; *mode* is L, RGB or RGBA, *resize* the length of its shorter side.

    Raises:
        DataError: it is damaged, no picture, or not of bytes.
    """
    import PIL.Image

    try:
        with PIL.Image.open(path, formats=FORMATS) as image:
            _refuse_large(image.size, path)
            pixels = np.asarray(_resized(_converted(image, mode, path), resize, path), np.uint8)
    except DataError:
        raise
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise _large(path) from error
    except Exception as error:  # Pillow raises almost anything on a damaged file
        what = "it is no picture that Pillow knows" if isinstance(error, PIL.UnidentifiedImageError) else str(error)
        raise unreadable("image", path, what, "remove the file, or write it again") from error
    return np.atleast_3d(pixels)


def _converted(image: Image, mode: str, path: Path) -> Image:
    import PIL.Image

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):  # at most 16 bits there
        image = PIL.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        fix = "save it with 8 or 16 bits a channel, or give its numbers as an array"
        raise DataError("the image has pixels of 32 bits", where=str(path), fix=fix)
    if mode != "RGBA" and (image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info):
        seen = image.convert("RGBA")
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", seen.size, "white"), seen)
    return image if image.mode == mode else image.convert(mode)  # which would copy


def _resized(image: Image, resize: int | None, path: Path) -> Image:
    import PIL.Image

    shorter = min(image.size)
    if resize is None or resize == shorter:
        return image
    width, height = (resize * side // shorter for side in image.size)
    _refuse_large((width, height), path)
    return image.resize((width, height), PIL.Image.Resampling.BILINEAR)


def _refuse_large(size: tuple[int, int], path: Path) -> None:
    """Raises DataError before memory is taken for more pixels than any picture has."""
    if math.prod(size) > PIXELS:
        raise _large(path)


def _large(path: Path) -> DataError:
    what = f"the image has, or would have at this size, more than {PIXELS:,} pixels"
    return DataError(what, where=str(path), fix="remove the file, or make it smaller")


def _folders(path: Path) -> list[Path]:
    return [p for p in _by_name(path) if p.is_dir() and not p.name.startswith(".")]


def _by_name(path: Path) -> list[Path]:
    return sorted(path.iterdir(), key=lambda p: p.name)  # paths themselves compare otherwise on Windows


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _channels(fields: Sequence[Field]) -> int:
    """The model's, or 3 where it does not say."""
    shapes = [field.shape for field in fields if not field.label and len(field.shape) == 4]
    sizes = [size for shape in shapes for size in (shape[1], shape[3])]
    return next((number for number in _MODES if number in sizes), 3)


def _classes_note(folders: Sequence[Path]) -> str:
    names = [f"{number} {folder.name}" for number, folder in enumerate(folders)]
    shown = names if len(names) <= _LISTED else [*names[:3], "…", names[-1]]
    return f"{len(names)} classes: {', '.join(shown)}"


def require_pillow(what: str, where: Path) -> None:
    """Raises InstallationError, with *what* is wrong and *where*, if Pillow is missing."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise InstallationError(what, where=str(where), fix='pip install "dsd-ort[images]"') from error
