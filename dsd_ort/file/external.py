"""The files that a model's external data stands in: those that it names, or those that it means where they were moved.

A *location* is a path relative to the model's folder.  Models are moved and renamed, and what they name stays; so where
there is no such file, it is, in this order,

1. the one of that name in the model's own folder, whatever folder the location names;
2. where only one file is missing, the one that is called after the model (``NAME.onnx.data``, ``NAME.data``, …) and has
   exactly the bytes that the model's tensors take.

Links are followed, but not out of the folder that the model is in, or, where the model is a link itself, out of the
one that this leads to: so caches are read whose names are links into a store, where all files lie side by side.  An
absolute path, ``..`` out of the folder, a folder, a device and a pipe are refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dsd_ort.errors import ModelError
from dsd_ort.file.contents import File

_CALLED = ("{name}.data", "{name}_data", "{stem}.data", "{stem}.bin", "{stem}.weights")
"""What exporters call the file, after the model."""


def found(file: File) -> tuple[Path, ...]:
    """The files of *file*, the model's own first; its tensors then name them, whatever names they had.

    Raises:
        ModelError: a file is missing, too short or outside of the model's folder.
    """
    ends: dict[str, int] = {}
    for tensor in file.tensors:
        if tensor.external:
            location = tensor.external.location
            ends[location] = max(ends.get(location, 0), tensor.external.end)
    there = {location: location for location in ends if _is_there(file.path, location)}
    missing = [location for location in ends if location not in there]
    for location in missing:
        meant = _meant(file.path, location, ends[location], alone=len(missing) == 1)
        names = (name for name in meant if name not in ends)
        there[location] = next(names, location)
    for number, tensor in enumerate(file.tensors):
        if external := tensor.external:
            external = replace(external, location=there[external.location])
            file.tensors[number] = replace(tensor, external=external)
            _refuse(file.path, external.location, external.end, f"{file.path}: {tensor.place}")
    return file.path, *(file.path.parent / location for location in sorted(set(there.values())))


def _is_there(model: Path, location: str) -> bool:
    return _is_inside(model, location) and _is_file(model.parent / location)


def _is_file(path: Path) -> bool:
    """Whether it is a file, and no folder, device or pipe, be it by a link."""
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that nobody may enter
        return False


def _is_inside(model: Path, location: str) -> bool:
    try:
        path = (model.parent / location).resolve()
    except (OSError, RuntimeError):  # links in a circle lead nowhere
        return True
    folders = (model.parent.resolve(), model.resolve().parent)
    return not Path(location).is_absolute() and any(path.is_relative_to(folder) for folder in folders)


def _meant(model: Path, location: str, end: int, *, alone: bool) -> Iterator[str]:
    """The files that are there and may be the one that is not."""
    own = re.split(r"[\\/]", location)[-1]
    if _is_there(model, own):
        yield own
    for called in _CALLED if alone else ():
        name = called.format(name=model.name, stem=model.stem)
        if _is_there(model, name) and (model.parent / name).stat().st_size == end:
            yield name


def _refuse(model: Path, location: str, end: int, where: str) -> None:
    path = model.parent / location
    if not _is_inside(model, location):
        raise ModelError(
            f"external data at {location!r} is outside of the model's folder",
            where=where,
            fix=f"put the file in the model's own folder (no link), as {model.parent / path.name}",
        )
    if not _is_file(path):
        what = "is no file" if os.path.lexists(path) else "is missing"
        raise ModelError(
            f"the external data file {location!r} {what}",
            where=where,
            fix=f"put the file that was exported with the model at {path}",
        )
    if (size := path.stat().st_size) < end:
        raise ModelError(
            f"the external data file {location!r} is too short: it has {size} bytes, "
            f"and this tensor ends at byte {end}",
            where=where,
            fix="copy or export the file again",
        )
