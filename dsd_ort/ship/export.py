"""Trained weights into a copy of the source: every byte but the weights' own stays as it is.

The new file is the old one with *holes* where the weights' numbers stand; each hole is filled with as many bytes as it
has.  Weights of float16, bfloat16 and double are rounded back to their type; what training did not change keeps its
bytes (:mod:`dsd_ort.file.payload`), and so does every entry that is not finite in the source.

Two kinds of weights have no holes of the length of their bytes.  float16 and bfloat16 in ``int32_data`` are varints of
1 to 3 bytes: changed ones are written with 3 bytes each, and the lengths around them grow.  And a ConstantOfShape
node has no bytes for its weights, so its field in the graph gives way, in its place, to::

    node { op_type: "ConstantOfShape", output: w, … }  →  initializer { name: w, dims, data_type, raw_data: ⟨hole⟩ }

and the lengths of the graph around it grow.  Files of IR version 3, where every initializer has to be an input of the
model too, get a Constant node instead.  :func:`layout` says what a file then consists of: :func:`write_weights` writes
it, and :mod:`dsd_ort.ship.verify` compares a file with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx

from dsd_ort.errors import DivergedError, ModelError, RunError, nearest
from dsd_ort.file import reader
from dsd_ort.file.payload import TYPES, Coding, Floats, Values, bits, from_float32
from dsd_ort.file.protobuf import LARGEST, opened
from dsd_ort.file.splice import Copy, Edit, Hole, Piece, splice
from dsd_ort.file.tensors import Filled, Place, stored
from dsd_ort.file.writing import write
from dsd_ort.model import usage
from dsd_ort.model.source import Source
from dsd_ort.recipe import Recipe

CHUNK = 1 << 20
"""Bytes that are copied or compared at a time."""


def layout(source: Source, names: Iterable[str], locations: Mapping[str, str] | None = None) -> dict[Path, list[Piece]]:
    """Each of the source's files → the pieces of its copy, with holes for the weights called *names*.

    *locations* are other names for external-data files, by those that they have.
    """
    edits: dict[Path, list[Edit]] = {file: [] for file in source.files}
    for name in names:
        place = source.places[name]
        if isinstance(place, Filled):
            pieces = _stored(name, place, source.file.ir_version)
            field = place.node.field
            edits[source.path].append(Edit(field.start, field.end, pieces, field.parent))
        elif place.external:
            start = place.external.offset
            hole = Hole(name, 0, place.size, Coding(TYPES[place.dtype]))
            edits[source.path.parent / place.external.location].append(Edit(start, start + len(hole), (hole,)))
        else:
            first = 0
            for span in place.spans:
                hole = Hole(name, first, span.numbers, span.coding)
                edits[source.path].append(Edit(span.body, span.end, (hole,), span.parent))
                first += span.numbers
    for tensor in source.file.tensors:
        if (data := tensor.external) and data.entry:
            location = (locations or {}).get(data.location, data.location)
            if location != data.written:
                value = opened(data.entry.number, len(location.encode())) + location.encode()
                edits[source.path].append(Edit(data.entry.start, data.entry.end, (value,), data.entry.parent))
    return {file: splice(file.stat().st_size, edits[file]) for file in source.files}


def _stored(name: str, place: Filled, ir_version: int) -> tuple[bytes, Hole]:
    """The field of GraphProto that holds what a ConstantOfShape node makes; its last bytes are the hole."""
    hole = Hole(name, 0, place.size, Coding(TYPES[place.dtype]))
    tensor = onnx.TensorProto(dims=place.dims, data_type=place.dtype)
    own = place.node.outputs[0]  # in a subgraph it may be another than the public name
    if ir_version > 3:
        tensor.name = own
        return _opened([(5, tensor.SerializeToString()), (9, b"")], hole), hole
    attribute = onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR).SerializeToString()
    node = onnx.NodeProto(op_type="Constant", name=place.node.name, output=[own]).SerializeToString()
    return _opened([(1, node), (5, attribute), (5, tensor.SerializeToString()), (9, b"")], hole), hole


def _opened(levels: list[tuple[int, bytes]], hole: Hole) -> bytes:
    """What stands in front of a hole that lies in field in field: (number, the bytes in it before the next one)."""
    out = b""
    for number, before in reversed(levels):
        out = before + out
        out = opened(number, len(out) + len(hole)) + out
    return out


def write_weights(
    source: Source, weights: Mapping[str, Floats], destination: Path, *, recipe: Recipe | None = None
) -> None:
    """Writes the source with other weights to *destination*, and its external-data files beside it.

    The files appear under their names only when they are complete; the model file appears last.

    Args:
        source: the model; its files are only read.
        weights: parameters and statistics by name, float32 of their shapes; what is not there stays as it is.
        destination: the new model file; an existing one is replaced.
        recipe: how the model is used, which another file beside it then says (:mod:`dsd_ort.model.usage`).

    Raises:
        RunError: a name or shape that the model does not have, a destination that would overwrite the source or another
            model's data, a file that cannot be written, or a source that changed meanwhile.
        DivergedError: a weight is NaN or infinite, or too large for its type in the file.
        ModelError: the file would be too large for one ONNX file.
    """
    destination = Path(destination)
    _require_fitting(source, weights)
    source.require_unchanged()
    names = [name for name in weights if not (is_relaid(source.places[name]) and _same(source, name, weights[name]))]
    locations = _locations(source, names, destination)
    pieces = layout(source, names, locations)
    targets = {source.path.parent / old: destination.parent / new for old, new in locations.items()}
    targets = {source.path: destination, **targets}
    size = sum(len(piece) for piece in pieces[source.path])
    if size > LARGEST:
        raise ModelError(
            f"with its weights the model takes {size} bytes, and an ONNX file can have {LARGEST}",
            where=str(source.path),
            fix="save the model with external data first: onnx.save(model, path, save_as_external_data=True)",
        )
    new: dict[Path, Callable[[BinaryIO], None]] = {}
    if recipe is not None:
        said = usage.text(recipe, destination)
        usage.refuse_others(destination, said)
        new[usage.beside(destination)] = partial(_put, content=said.encode())
    for file in reversed(source.files):  # the model file last
        if not _is_same(file, targets[file]):
            new[targets[file]] = partial(_fill, file, pieces=pieces[file], source=source, weights=weights)
    try:
        write(new)
    except OSError as error:
        what = f"the model cannot be written: {error.strerror}"
        raise RunError(what, where=str(destination), fix="choose another place for it") from error


def _require_fitting(source: Source, weights: Mapping[str, Floats]) -> None:
    """Names, shapes and values."""
    parameters = {parameter.name: parameter for parameter in source.changeable}
    for name, value in weights.items():
        if name not in parameters:
            what, fix = f"the model has no parameter {name!r}", nearest(name, parameters) or None
            raise RunError(what, where=str(source.path), fix=fix or "give weights of this model")
        shape = parameters[name].shape
        if value.shape != shape or value.dtype != np.float32:
            raise RunError(
                f"the weights of {name!r} are {value.dtype}{list(value.shape)}, the model's are float32{list(shape)}",
                where=str(source.path),
                fix="give weights of this model",
            )
        if not np.isfinite(value).all():
            raise DivergedError(
                f"the weights of {name!r} are not finite",
                where=parameters[name].layer,
                fix="export an earlier phase, and train with a smaller learning rate",
            )
        dtype = TYPES[source.places[name].dtype]
        if dtype.itemsize == 2 and not np.isfinite(from_float32(value, dtype)).all():
            raise DivergedError(
                f"the weights of {name!r} reach {np.abs(value).max():g}, which is infinite as {dtype}",
                where=parameters[name].layer,
                fix="train with a smaller learning rate or more weight decay, or export the model in float32",
            )


def is_relaid(place: Place) -> bool:
    """Whether new weights take other bytes of the file than the old ones: then unchanged ones stay as they are."""
    return isinstance(place, Filled) or any(span.coding.varint for span in place.spans)


def _same(source: Source, name: str, value: Floats) -> bool:
    """Whether the file holds these weights already, to the bit."""
    return np.array_equal(bits(stored(source.path, source.places[name])), bits(_in_own_type(source, name, value)))


def _in_own_type(source: Source, name: str, value: Floats) -> Values:
    """The weights as the file gets them."""
    place = source.places[name]
    dtype, kept = TYPES[place.dtype], source.kept(name)
    old = stored(source.path, place) if dtype == np.float64 or kept.size else None
    new = from_float32(value, dtype, old if dtype == np.float64 else None)
    if old is not None and kept.size:
        new = new.copy()
        new.flat[kept] = old.flat[kept]
    return new


def _is_same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


def _locations(source: Source, names: Iterable[str], destination: Path) -> dict[str, str]:
    """The source's external-data files → what they are called beside *destination*: the same, where that is free.

    Otherwise they are called after it: ``final.onnx.data``.  One in which nothing changes may be the source's own.

    Raises:
        RunError: a name would overwrite the source, or data that another model may use.
    """
    if any(_is_same(file, destination) for file in source.files):
        raise RunError("the source is never overwritten", where=str(destination), fix="choose another name")
    if destination.is_dir():
        raise RunError("the destination is a folder", where=str(destination), fix="give the name of a new .onnx file")
    places = (source.places[name] for name in names)
    changed = {p.external.location for p in places if not isinstance(p, Filled) and p.external}
    found: dict[str, str] = {}
    for file in source.files[1:]:
        old = file.relative_to(source.path.parent).as_posix()
        named = _called_after(destination, source.path, old)
        free = (name for name in (old, named) if _is_free(destination, name, file, shared=old not in changed))
        if (name := next(free, None)) is None or name in found.values():
            raise RunError(
                f"the model's external data would overwrite {named!r}, which another model may use",
                where=str(destination),
                fix=f"choose another folder, as {destination.parent / destination.stem / destination.name}",
            )
        found[old] = name
    return found


def _called_after(destination: Path, model: Path, location: str) -> str:
    """``m.onnx.data`` of m.onnx becomes final.onnx.data, ``data/m.bin`` data/final.onnx.m.bin."""
    *folders, name = location.split("/")
    end = name.removeprefix(model.name).removeprefix(model.stem)
    return "/".join([*folders, destination.name + (end if end.startswith((".", "_")) else f".{name}")])


def _is_free(destination: Path, location: str, file: Path, *, shared: bool) -> bool:
    """Whether the data of *file* may be written at *location* beside *destination*, or is there and may be *shared*."""
    target = destination.parent / location
    if target == destination or target.is_dir():
        return False
    if not target.exists():
        return True
    if _is_same(file, target):
        return shared
    others = [path for path in destination.parent.glob("*.onnx") if path != destination]
    return location in _read_by(destination) and not any(location in _read_by(path) for path in others)


def _read_by(model: Path) -> set[str]:
    """The external-data files that the model at *model* names, if it is there."""
    try:
        with reader.mapped(model) as data:
            return {t.external.location for t in reader.read(data, model).tensors if t.external}
    except ModelError:
        return set()


def _put(new: BinaryIO, content: bytes) -> None:
    new.write(content)


def _fill(file: Path, new: BinaryIO, pieces: Iterable[Piece], source: Source, weights: Mapping[str, Floats]) -> None:
    """Writes the copy of *file* that *pieces* are."""
    with file.open("rb") as old:
        for piece in pieces:
            if isinstance(piece, Hole):
                values = _in_own_type(source, piece.name, weights[piece.name]).reshape(-1)
                new.write(piece.encode(values[piece.first : piece.first + piece.count]).data)
            elif isinstance(piece, Copy):
                old.seek(piece.start)
                left = len(piece)
                while left:
                    chunk = old.read(min(left, CHUNK))
                    if not chunk:
                        what = "the model changed while it was in use"
                        raise RunError(what, where=str(file), fix="start again with it")
                    new.write(chunk)
                    left -= len(chunk)
            else:
                new.write(piece)
