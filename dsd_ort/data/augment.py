"""What chance does to inputs in training: images in a frame, and features of recordings behind masks.

Images are padded, cropped and mirrored by chance in training, and cut from the middle otherwise.

With images ``[b, C, H, W]``, p = pad, and c = crop, or H and W where there is none::

    padded   zeros [b, C, H + 2p, W + 2p] with the image in the middle
    training    top = ⌊u·(H + 2p - c + 1)⌋, left = ⌊v·(W + 2p - c + 1)⌋, mirrored where flip is set and w < ½
    otherwise   top = ⌊(H + 2p - c) / 2⌋,   left = ⌊(W + 2p - c) / 2⌋,   never mirrored
    out      padded[…, top : top + c, left : left + c], f or u8 [b, C, c, c]

u, v and w are uniform in [0, 1), three for each example, and shared by all images of an example, so that two views of
one scene are cut alike.  Padding is 0 in the array's own numbers: black in uint8, which is normalised later.  Outside
of training it shows only where the crop is larger than the image, as in torchvision's CenterCrop.

Features ``[b, T, F]`` are 0, the mean of what is normalised, along some frames and some bands in a row, in training
only (SpecAugment without warping, Park et al. 2019, arXiv 1904.08779)::

    width = ⌊u·(m + 1)⌋, start = ⌊v·(size - width + 1)⌋      m the most of them, ``time_mask`` or ``frequency_mask``
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dsd_ort.data.columns import describe
from dsd_ort.errors import DataError
from dsd_ort.fields import Field
from dsd_ort.recipe import Audio, Image

COLOURS = (1, 3, 4)
"""The numbers of channels that pictures have."""


@dataclass(frozen=True)
class Frame:
    """What is done to one array's images; ``channel`` is their axis of channels, 1 or 3."""

    image: Image
    channel: int = 1

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """What becomes of ``[b, C, H, W]`` or ``[b, H, W, C]``."""
        crop = self.image.crop
        if crop is None:
            return shape
        return (shape[0], shape[1], crop, crop) if self.channel == 1 else (shape[0], crop, crop, shape[3])

    def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """H and W."""
        return (shape[2], shape[3]) if self.channel == 1 else (shape[1], shape[2])

    def refuse(self, shape: tuple[int, ...], what: str, where: str) -> None:
        """Raises DataError: the crop does not fit into *what*, or its channels stand elsewhere."""
        (height, width), other = self.size(shape), 4 - self.channel
        if shape[self.channel] not in COLOURS and shape[other] in COLOURS and shape[2] > max(COLOURS):
            raise DataError(
                f"the recipe's [data.image] takes axis {self.channel} of {what} for its channels, "
                f"but it is {shape[self.channel]} long, and axis {other} is {shape[other]}",
                where=where,
                fix=f'set layout = "{"nhwc" if self.channel == 1 else "nchw"}" in the recipe\'s [data]',
            )
        crop, pad = self.image.crop, self.image.pad
        if crop is not None and crop > min(height, width) + 2 * pad:
            padded = f" with {pad} pixels around it" if pad else ""
            raise DataError(
                f"data.image.crop = {crop} is larger than {what}, which is {height} × {width}{padded}",
                where=where,
                fix="set a smaller crop or more pad; images from files can be made larger with data.image.resize",
            )

    def __call__(self, images: np.ndarray, chance: np.ndarray | None) -> np.ndarray:
        """The framed images, as new memory in the same layout; *chance* is u, v and w, f64[b, 3], or None."""
        images, pad = np.moveaxis(images, self.channel, 1), self.image.pad
        size = images.shape[2:]
        crop = size if self.image.crop is None else (self.image.crop, self.image.crop)
        room = [side + 2 * pad - part for side, part in zip(size, crop, strict=True)]
        out = np.zeros((*images.shape[:2], *crop), images.dtype)
        for i, image in enumerate(images):
            corner = [r // 2 if chance is None else int(chance[i, axis] * (r + 1)) for axis, r in enumerate(room)]
            (top, row), (left, column) = (_overlap(*args, pad) for args in zip(corner, crop, size, strict=True))
            out[i][:, row, column] = image[:, top, left]
        if self.image.flip and chance is not None:
            mirrored = chance[:, 2] < 0.5
            out[mirrored] = out[mirrored][..., ::-1]
        return np.moveaxis(out, 1, self.channel)


@dataclass(frozen=True)
class Masks:
    """What is done to features, ``[b, T, F]``, or ``[b, F, T]`` with the layout "ft"."""

    audio: Audio

    def __call__(self, features: np.ndarray, chance: np.ndarray | None) -> np.ndarray:
        """The features behind masks, new memory; *chance* is u and v of frames, then of bands, f64[b, 4], or None."""
        if chance is None:
            return features
        out: np.ndarray = features.copy()
        time, band = (1, 2) if self.audio.layout == "tf" else (2, 1)
        self._hide(np.moveaxis(out, time, 1), self.audio.time_mask, *chance.T[:2])
        self._hide(np.moveaxis(out, band, 1), self.audio.frequency_mask, *chance.T[2:])
        return out

    @staticmethod
    def _hide(features: np.ndarray, most: int, u: np.ndarray, v: np.ndarray) -> None:
        size = features.shape[1]
        widths = (u * (min(most, size) + 1)).astype(int)
        starts = (v * (size - widths + 1)).astype(int)
        for rows, start, width in zip(features, starts, widths, strict=True):
            rows[start : start + width] = 0


def masked(field: Field, audio: Audio) -> bool:
    """Whether what feeds *field* is masked: an input of three axes, of floats."""
    asked = audio.time_mask > 0 or audio.frequency_mask > 0
    return asked and not field.label and len(field.shape) == 3 and np.dtype(field.dtype).kind == "f"


def _overlap(start: int, length: int, size: int, pad: int) -> tuple[slice, slice]:
    """Of a window from *start* on in the padded image: what of the image is in it, and where in the window that is."""
    first = start - pad
    low = max(first, 0)
    high = max(low, min(first + length, size))
    return slice(low, high), slice(low - first, high - first)


def frames(field: Field, image: Image) -> bool:
    """Whether there is anything to do to what feeds *field*: an input of four axes, of floats or bytes."""
    asked = image.crop is not None or image.pad > 0 or image.flip
    return asked and not field.label and len(field.shape) == 4 and np.dtype(field.dtype).kind in "fu"


def draw(rng: np.random.Generator | None, examples: int) -> np.ndarray | None:
    """The chance of a batch, f64[examples, 7]: three numbers for images, four for features; None without *rng*."""
    return None if rng is None else rng.random((examples, 7))


def refuse_labels_in_place(fields: Sequence[Field], image: Image, where: str) -> None:
    """Raises DataError: images would move, and a label that says something of places in them would not."""
    moved = next((field for field in fields if frames(field, image)), None)
    still = next((field for field in fields if field.label and len(field.shape) > 2), None)
    if moved and still:
        raise DataError(
            f"the recipe's [data.image] crops or mirrors {describe(moved)}, but would leave {describe(still)}, "
            "which has places too, as it is",
            where=where,
            fix="remove crop, pad and flip there, and change both alike in a stream of your own",
        )
