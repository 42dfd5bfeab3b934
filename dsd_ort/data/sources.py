"""From what a user names (``--data``) to raw data: files by the table below, or Python objects and loaders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dsd_ort.data import idx, images, loader, packed, recordings, shards
from dsd_ort.data.source_forms import Arrays, Examples, Stream, reading
from dsd_ort.errors import DataError, nearest
from dsd_ort.fields import Field
from dsd_ort.recipe import Data


class Format(NamedTuple):
    """A kind of file or folder: what it is, whether a path is one, and how it opens for a model and a recipe."""

    name: str
    recognises: Callable[[Path], bool]
    opens: Callable[[Path, Sequence[Field], Data], Arrays | Examples]


def _npz(path: Path, *_: object) -> Arrays:
    """The archive's order is the arrays' order; an array is read whole, and only if the model wants it."""
    with reading(str(path), "the archive"):
        return Arrays({name: partial(packed.member, path, name) for name in packed.members(path)}, str(path))


def _npz_shards(path: Path, *_: object) -> Arrays:
    """The first archive's arrays, in its order."""
    archives = {file.name: _npz(file) for file in shards.archives(path)}
    first = next(iter(archives.values()))

    def read(name: str) -> np.ndarray:
        if lacking := next((file for file, archive in archives.items() if name not in archive.readers), None):
            raise DataError(f"{lacking} has no array {name!r}", where=str(path), fix="give all shards the same arrays")
        return shards.joined(name, {file: archive.read(name) for file, archive in archives.items()}, str(path))

    return Arrays({name: partial(read, name) for name in first.readers}, str(path))


def _npy_folder(path: Path, *_: object) -> Arrays:
    """Stems are names, in alphabetical order, or shards; memory-mapped, so they may be larger than memory."""

    def read(name: str, stems: Sequence[str]) -> np.ndarray:
        parts = {f"{stem}.npy": np.load(path / f"{stem}.npy", mmap_mode="r", allow_pickle=False) for stem in stems}
        return next(iter(parts.values())) if stems == [name] else shards.joined(name, parts, str(path))

    named = shards.numbered((file.stem for file in path.glob("*.npy")), str(path))
    return Arrays({name: partial(read, name, stems) for name, stems in named.items()}, str(path))


def _idx(path: Path, *_: object) -> Arrays:
    return Arrays({name: partial(idx.read, file) for name, file in idx.pair(path).items()}, str(path))


FORMATS = (
    Format("a .npz file", lambda path: path.suffix == ".npz" and path.is_file(), _npz),
    Format("a folder of .npy files", lambda path: path.is_dir() and any(path.glob("*.npy")), _npy_folder),
    Format(
        "shards (data/train for data/train-00000-of-00008.npz)",
        lambda path: bool(shards.archives(path)),
        _npz_shards,
    ),
    Format(
        "IDX files as the prefix of a split (mnist/train for mnist/train-images-idx3-ubyte.gz)",
        lambda path: bool(idx.splits(path)) or path.name in idx.splits(path.parent),
        _idx,
    ),
    Format("a folder with one sub-folder of images a class", images.is_image_folder, images.open_image_folder),
    Format("a manifest of recordings (.jsonl)", recordings.is_manifest, recordings.open_manifest),
    Format(
        "a folder of recordings with a .txt beside each",
        recordings.is_recordings_folder,
        recordings.open_recordings_folder,
    ),
)


def open_source(spec: Any, fields: Sequence[Field], data: Data) -> Arrays | Examples | Stream:
    """Raw data of a path, of ``module:function``, or of a Python object.

    *fields* and *data*, what the model wants and the recipe's section, count for images and recordings only.

    Raises:
        DataError: nothing there, or nothing that can be read.
    """
    if not isinstance(spec, (str, Path)):
        return loader.from_python(spec, "the data given from Python")
    path = Path(spec)
    with reading(str(path), "the data"):
        for format_ in FORMATS:
            if format_.recognises(path):
                return format_.opens(path, fields, data)
        if path.exists():
            raise _unknown(path)
    if isinstance(spec, str) and loader.is_spec(spec):
        return loader.open_spec(spec)
    siblings = {p.name for p in path.parent.iterdir()} | set(idx.splits(path.parent)) if path.parent.is_dir() else set()
    fix = nearest(path.name, sorted(siblings)) or "give " + ", ".join(f.name for f in FORMATS) + ", or module:function"
    raise DataError("there is no such file or folder", where=str(path), fix=fix)


def _unknown(path: Path) -> DataError:
    fix = "give " + ", ".join(f.name for f in FORMATS) + ", or module:function"
    if path.is_dir():
        held = sorted(path.iterdir())
        holds = ", ".join(p.name for p in held[:5]) + (", …" if len(held) > 5 else "") if held else "nothing"
        what = f"the folder holds no data that can be read here (it holds {holds})"
        if inner := [str(p) for p in held if any(f.recognises(p) for f in FORMATS)]:
            fix = "give one of the data sets in it: " + ", ".join(inner[:5])
    else:
        what = "the file is no data that can be read here"
    return DataError(what, where=str(path), fix=fix)
