"""Where the tensors that carry values of the model stand, and what they hold.

Values of subgraphs (of If, Loop and Scan) count too, each under its public name (:meth:`contents.File.public`).  A
tensor is stored in one of three ways: as an initializer, in a Constant node, or by a ConstantOfShape node with a
constant shape, which has no bytes of its own.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.errors import ModelError
from dsd_ort.file import contents, payload
from dsd_ort.file.payload import Floats, Values

_STRETCHES = 64
_LARGE = 1 << 24
"""Bytes from which on a tensor is mapped."""
_PIECE = 1 << 18
"""Numbers that are looked at together."""


class Filled(NamedTuple):
    """A ConstantOfShape node with a constant shape: *dims* full of *value*."""

    node: contents.Node
    dims: tuple[int, ...]
    dtype: int
    value: float

    @property
    def size(self) -> int:
        return math.prod(self.dims)


Place = contents.Tensor | Filled


def locate(graph: ir.Graph, file: contents.File) -> dict[str, Place]:
    """Value of *graph*, the main one → where the tensor stands that carries it.

    Values of subgraphs take their public names, in place.

    Raises:
        ModelError: two tensors have one name.
    """
    found: dict[str, Place] = {}
    graphs = dict(_graphs(graph))
    for tensor in file.tensors:
        if not tensor.value:
            continue
        if tensor.value in found:
            what, where = f"two tensors are called {tensor.value!r}", f"{file.path}: {tensor.place}"
            raise ModelError(what, where=where, fix="export the model again")
        found[tensor.value] = tensor
    nodes = {scope: list(graph) for scope, graph in graphs.items()}
    for entry in file.nodes:
        node = nodes[entry.scope][entry.index]
        if node.op_type != "ConstantOfShape" or node.domain:
            continue
        shape = ir.convenience.get_const_tensor(node.inputs[0]) if node.inputs[0] is not None else None
        fill = node.attributes.get_tensor("value")
        if shape is not None:
            dims = tuple(int(d) for d in shape.numpy())
            dtype, value = (fill.dtype, fill.numpy().item()) if fill is not None else (ir.DataType.FLOAT, 0.0)
            public = file.public(entry.scope, entry.outputs[0])
            found[public] = Filled(entry, dims, int(dtype), float(value))
    for scope, inner in graphs.items():
        if scope:
            _publish(inner, scope, file)
    return found


def _graphs(graph: ir.Graph, scope: contents.Scope = ()) -> Iterator[tuple[contents.Scope, ir.Graph]]:
    """*graph* and the subgraphs in it, by scope."""
    yield scope, graph
    for index, node in enumerate(graph):
        for name, attribute in node.attributes.items():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from _graphs(attribute.as_graph(), (*scope, contents.step_into(node.op_type, index, name)))


def _publish(graph: ir.Graph, scope: contents.Scope, file: contents.File) -> None:
    """Gives the values of a subgraph their public names: no two values of the model have the same then."""
    values = [*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    for value in values:
        if value.name and value.name != (public := file.public(scope, value.name)):
            value.name = public


def stored(path: Path, place: Place) -> Values:
    """The tensor at a place of the model at *path*, in the type that it has there: a read-only array of its shape.

    A large one is mapped: it takes memory only as far as it is read, and the file has to stay as it is.

    Raises:
        ModelError: there is not data for all of its elements.
    """
    dtype = payload.TYPES[place.dtype]
    parts: list[Values | None]
    if isinstance(place, Filled):
        parts = [np.full(place.size, place.value, dtype)]
    elif (mapped := _mapped(path, place, dtype)) is not None:
        return mapped
    elif place.external:
        with (path.parent / place.external.location).open("rb") as stream:
            parts = [_decoded(stream, place.external.offset, place.external.length, payload.Coding(dtype))]
    else:
        with path.open("rb") as stream:
            parts = [_decoded(stream, span.body, span.end - span.body, span.coding) for span in place.spans]
    whole = [part for part in parts if part is not None]
    flat = whole[0] if len(whole) == 1 else np.concatenate([np.empty(0, dtype), *whole])
    if len(whole) < len(parts) or flat.size != place.size:
        what, where = "a tensor has not the data that its shape takes", getattr(place, "place", "ConstantOfShape")
        raise ModelError(what, where=f"{path}: {where}", fix="copy or export the file again")
    value = flat.reshape(place.dims)
    value.flags.writeable = False
    return value


def _mapped(path: Path, place: contents.Tensor, dtype: np.dtype[Any]) -> Values | None:
    """A large tensor whose bytes are those of an array, where the file has it; None for others."""
    if place.external:
        file, start = path.parent / place.external.location, place.external.offset
    elif len(place.spans) == 1 and place.spans[0].plain and place.spans[0].numbers == place.size:
        file, start = path, place.spans[0].body
    else:
        return None
    if place.size * dtype.itemsize < _LARGE or start % dtype.itemsize or sys.byteorder != "little":
        return None
    return np.asarray(np.memmap(file, dtype, "r", start, place.dims))


def read(path: Path, place: Place) -> Floats:
    """The same in float32, as :func:`payload.to_float32` makes it."""
    value = payload.to_float32(stored(path, place))
    value.flags.writeable = False
    return value


def sample(path: Path, place: Place, most: int) -> Floats:
    """About *most* entries ``[n]`` of the same, spread over all of them in stretches; all, if there are not more."""
    if place.size <= most or (found := _in_one_piece(path, place)) is None:
        return read(path, place).reshape(-1)[:: -(-place.size // most)]
    length = most // _STRETCHES
    return _stretches(*found, place, np.linspace(0, place.size - length, _STRETCHES, dtype=np.int64), length)


def leading(path: Path, place: Place, most: int) -> Floats:
    """The first entries of the same, about *most*: ``[k, …]``, the first k of what it holds along its longer axes."""
    dims = [dim for dim in place.dims if dim != 1]
    while len(dims) > 1 and math.prod(dims[1:]) > most:
        del dims[0]
    if dims and math.prod(dims) > most:
        dims[0] = max(1, most // math.prod(dims[1:]))
    count = math.prod(dims)
    if isinstance(place, Filled):
        return np.full(dims, place.value, np.float32)
    if count < place.size and (found := _in_one_piece(path, place)) is not None:
        return _stretches(*found, place, np.zeros(1, np.int64), count).reshape(dims)
    return read(path, place).reshape(-1)[:count].reshape(dims)


def _in_one_piece(path: Path, place: Place) -> tuple[Path, int] | None:
    """The file, and where in it the entries stand one behind the other; None where they do not."""
    if isinstance(place, contents.Tensor) and place.external:
        return path.parent / place.external.location, place.external.offset
    if isinstance(place, contents.Tensor) and len(place.spans) == 1 and place.spans[0].plain:
        return (path, place.spans[0].body) if place.spans[0].numbers == place.size else None
    return None


def _stretches(file: Path, begin: int, place: Place, starts: npt.NDArray[np.int64], length: int) -> Floats:
    """*length* entries from each of *starts*, one behind the other."""
    coding = payload.Coding(payload.TYPES[place.dtype])
    with file.open("rb") as stream:
        parts = [_decoded(stream, begin + int(at) * coding.width, length * coding.width, coding) for at in starts]
    return payload.to_float32(np.concatenate([part for part in parts if part is not None]))


class Numbers(NamedTuple):
    """What kinds of numbers a tensor has, in the order in which it is stored."""

    zeros: int
    not_finite: npt.NDArray[np.int64]
    """Where there are infinities and NaNs: positions, in order, in the flat tensor."""
    nans: int


def count(path: Path, place: Place) -> Numbers:
    """The same of the tensor at a place, of which never more than a piece is in memory."""
    first, zeros, nans = 0, 0, 0
    found = [np.empty(0, np.int64)]
    for part in _pieces(path, place):
        zeros += part.size - np.count_nonzero(part)
        if not (finite := np.isfinite(part)).all():
            found.append(first + np.flatnonzero(~finite))
            nans += int(np.isnan(part).sum())
        first += part.size
    return Numbers(zeros, np.concatenate(found), nans)


def _pieces(path: Path, place: Place) -> Iterator[Values]:
    """The numbers ``[n]`` of a tensor, one piece after another."""
    if isinstance(place, Filled):
        yield stored(path, place).reshape(-1)
        return
    coding = payload.Coding(payload.TYPES[place.dtype])
    if place.external:
        spans = [(path.parent / place.external.location, place.external.offset, place.external.length, coding)]
    else:
        spans = [(path, span.body, span.end - span.body, span.coding) for span in place.spans]
    for file, start, size, code in spans:
        step = size if code.varint else _PIECE * code.width  # where a varint ends, only its bytes say
        with file.open("rb") as stream:
            for at in range(start, start + size, step or 1):
                part = _decoded(stream, at, min(step, start + size - at), code)
                yield np.empty(0, code.dtype) if part is None else part


def _decoded(stream: BinaryIO, start: int, size: int, coding: payload.Coding) -> Values | None:
    stream.seek(start)
    return coding.decode(stream.read(size))


def identity(place: Place) -> object:
    """What is equal for tensors that are the same bytes, and for no others."""
    if isinstance(place, Filled):
        return place.node.field.start
    if place.external is None:
        return place.field.start
    return place.external.location, place.external.offset, place.dims, place.dtype
