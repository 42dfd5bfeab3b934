"""Where the tensors that carry values of the main graph stand, and what they hold.

A tensor is stored in one of three ways: as an initializer, in a Constant node, or by a ConstantOfShape node with a
constant shape, which has no bytes of its own.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.errors import ModelError
from dsd_ort.graph import wire

Floats = npt.NDArray[np.float32]


class Filled(NamedTuple):
    """A ConstantOfShape node with a constant shape: *dims* full of *value*."""

    node: wire.Node
    dims: tuple[int, ...]
    dtype: int
    value: float

    @property
    def size(self) -> int:
        return math.prod(self.dims)


Place = wire.Tensor | Filled


def locate(graph: ir.Graph, file: wire.File) -> dict[str, Place]:
    """Value of the main graph → where the tensor stands that carries it.

    Raises:
        ModelError: two tensors have one name.
    """
    found: dict[str, Place] = {}
    for tensor in file.tensors:
        if not tensor.value:
            continue
        if tensor.value in found:
            what, where = f"two tensors are called {tensor.value!r}", f"{file.path}: {tensor.place}"
            raise ModelError(what, where=where, fix="export the model again")
        found[tensor.value] = tensor
    for entry, node in zip(file.nodes, graph, strict=True):
        if node.op_type != "ConstantOfShape" or node.domain:
            continue
        shape = ir.convenience.get_const_tensor(node.inputs[0]) if node.inputs[0] is not None else None
        fill = node.attributes.get_tensor("value")
        if shape is not None:
            dims = tuple(int(d) for d in shape.numpy())
            dtype, value = (fill.dtype, fill.numpy().item()) if fill is not None else (ir.DataType.FLOAT, 0.0)
            found[entry.outputs[0]] = Filled(entry, dims, int(dtype), float(value))
    return found


def read(path: Path, place: Place) -> Floats:
    """The float32 tensor at a place of the model at *path*: a read-only array of its shape."""
    if isinstance(place, Filled):
        flat = np.full(place.dims, place.value, np.float32)
    elif place.external:
        file = path.parent / place.external.location
        flat = np.fromfile(file, "<f4", place.size, offset=place.external.offset).astype(np.float32, copy=False)
    else:
        parts = []
        with path.open("rb") as stream:
            for span in place.spans:
                stream.seek(span.body)
                part = wire.decode(stream.read(span.end - span.body), span.tagged)
                assert part is not None, "the file changed"
                parts.append(part)
        flat = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.float32), *parts])
    value = flat.reshape(place.dims)
    value.flags.writeable = False
    return value


def identity(place: Place) -> object:
    """What is equal for tensors that are the same bytes, and for no others."""
    if isinstance(place, Filled):
        return place.node.field.start
    if place.external is None:
        return place.field.start
    return place.external.location, place.external.offset, place.dims, place.dtype
