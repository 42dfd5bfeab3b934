"""IDX, the format of MNIST and Fashion-MNIST.

``00 00`` · type · number of axes · one big-endian u32 for every axis · the values, big-endian, last axis fastest.  A
data set is a pair of files for every split: ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte``, each
possibly with ``.gz``.  Source: http://yann.lecun.com/exdb/mnist, "the IDX file format".
"""

from __future__ import annotations

import gzip
import math
import re
from pathlib import Path

import numpy as np

from dsd_ort.data.packed import DAMAGED, unzipped
from dsd_ort.errors import DataError

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

_NAME = re.compile(r"(?P<split>.+)-(?P<what>images|labels)[-.]idx\d-ubyte(\.gz)?")


def splits(folder: Path) -> dict[str, dict[str, Path]]:
    """``{"train": {"images": path, "labels": path}, …}`` of *folder*; an unpacked file goes before its .gz."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if match := _NAME.fullmatch(path.name):
            found.setdefault(match["split"], {}).setdefault(match["what"], path)
    return {split: {what: pair[what] for what in sorted(pair)} for split, pair in found.items()}


def pair(path: Path) -> dict[str, Path]:
    """``{"images": path, "labels": path}`` of a prefix (``…/fashion-mnist/train``) or of a folder with one split.

    Raises:
        DataError: the folder has several splits, or half of the pair is missing.
    """
    if found := splits(path):
        if len(found) > 1:
            raise DataError(
                f"the folder holds {len(found)} splits",
                where=str(path),
                fix="give the prefix of one: " + ", ".join(str(path / split) for split in found),
            )
        [(split, files)] = found.items()
    else:
        split, files = path.name, splits(path.parent)[path.name]
    for what in ("images", "labels"):
        if what not in files:
            raise DataError(
                f"the split {split!r} has no {what}",
                where=str(next(iter(files.values())).parent),
                fix=f"put {split}-{what}-idx{3 if what == 'images' else 1}-ubyte (or .gz) there",
            )
    return files


def read(path: Path) -> np.ndarray:
    """The array in an IDX file; memory-mapped unless it is compressed.

    Raises:
        DataError: not an IDX file, or longer or shorter than its header says.
    """
    packed = path.suffix == ".gz"
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            content = file.read(4 + 4 * 255)
        if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in DTYPES or len(content) < 4 + 4 * content[3]:
            fix = "give a file that begins with 00 00 and a type, 08…0E, or download it again"
            raise DataError("this is not an IDX file", where=str(path), fix=fix)
        dtype, axes = np.dtype(DTYPES[content[2]]), content[3]
        shape = tuple(int(size) for size in np.frombuffer(content, ">u4", axes, 4))
        start, size = 4 + 4 * axes, dtype.itemsize * math.prod(shape)
        if packed:
            what = f"the file is cut off or damaged: it has not the {start + size} bytes that its header promises"
            return unzipped(path, len(content), start, size, what).view(dtype).reshape(shape)
    except DAMAGED as error:
        raise DataError("the .gz file is damaged or cut off", where=str(path), fix="download it again") from error
    if (length := path.stat().st_size) != start + size:
        raise DataError(
            f"the file is cut off or damaged: it has {length} bytes, but its header promises {start + size}",
            where=str(path),
            fix="download it again",
        )
    return np.memmap(path, dtype, mode="r", offset=start, shape=shape)
