"""What stands in an ONNX file, and where: tensors, nodes, the bytes of payloads, the names of values.

An ONNX file is a ``ModelProto``; its tensors stand at ``graph.initializer`` and in node attributes, also in those of
subgraphs and functions.  A floating-point tensor keeps its payload in one of three ways: ``raw_data``, a repeated field
of numbers, packed (one field) or not (one field a number), or external data (another file, an offset and a length).
How the numbers are written there, :mod:`dsd_ort.file.payload` knows; all but varints can be overwritten in place.
A Constant node may also hold floats as such, without a tensor around them: ``value_float`` and ``value_floats``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dsd_ort.file.payload import Coding
from dsd_ort.file.protobuf import Field

EXTERNAL = 1
"""``TensorProto.data_location``: in another file."""

Scope = tuple[str, ...]
"""Where a graph stands: ``()`` is the main graph, ``("If_3.then_branch",)`` a branch of its node 3, and so on."""


def step_into(op_type: str, index: int, attribute: str) -> str:
    """The name of a subgraph in a :data:`Scope`."""
    return f"{op_type}_{index}.{attribute}"


class Span(NamedTuple):
    """Bytes ``[body, end)`` of a payload, in fields that begin at ``start``.

    ``parent`` is the innermost message or packed field around these bytes, whose length they are a part of.
    """

    start: int
    body: int
    end: int
    coding: Coding
    parent: Field
    numbers: int
    """How many stand here; 0 where the bytes are not whole numbers."""

    @property
    def plain(self) -> bool:
        """Whether the bytes are those of raw data."""
        return self.coding.tag is None and not self.coding.varint


@dataclass(frozen=True)
class External:
    """A payload in another file: ``length`` bytes from ``offset`` of ``location``, relative to the model's folder.

    The ``location`` is the one that is there (:mod:`dsd_ort.file.external`); ``written`` is what the model file says.
    """

    location: str
    offset: int
    length: int
    fields: tuple[tuple[int, int], ...] = ()
    """The bytes of the model file that say so."""
    written: str = ""
    entry: Field | None = None
    """Where in the model file the location stands."""

    @property
    def end(self) -> int:
        return self.offset + self.length


@dataclass(frozen=True)
class Tensor:
    """A ``TensorProto``: where it stands, what it is, and where its payload stands."""

    field: Field
    place: str
    """For people: ``initializer 'w'``, ``node 3 (Constant c), attribute value``."""
    value: str | None
    """The public name of the value that it is stored for, as initializer or in a Constant node; None in functions."""
    dims: tuple[int, ...]
    dtype: int
    spans: tuple[Span, ...]
    """Raw data, and the repeated field of a floating-point type; others (``int64_data``, …) are not listed."""
    external: External | None
    initializer: bool = False
    name: str = ""
    """What the value is called in its own graph."""
    scope: Scope = ()
    attribute: bool = False
    """Whether it is no ``TensorProto``, but the floats of an attribute."""

    @property
    def size(self) -> int:
        return math.prod(self.dims)


@dataclass(frozen=True)
class Node:
    """A ``NodeProto`` of the main graph or of a subgraph in it: number *index* of the graph at *scope*."""

    field: Field
    op_type: str
    name: str
    outputs: tuple[str, ...]
    index: int = 0
    scope: Scope = ()


@dataclass
class File:
    """What stands in an ONNX file.  Nothing here holds the file open, or a weight."""

    path: Path
    size: int
    ir_version: int = 0
    tensors: list[Tensor] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    sparse: list[str] = field(default_factory=list)
    """Places of sparse tensors."""
    scopes: dict[str, set[Scope]] = field(default_factory=lambda: defaultdict(set))
    """Name of a value → the graphs that define one of this name."""

    def public(self, scope: Scope, name: str) -> str:
        """What the value *name* of the graph at *scope* is called outside: the same, where no other graph has one.

        Otherwise the way to it stands in front: ``If_3.then_branch/weight``.
        """
        return name if not scope or self.scopes[name] == {scope} else "/".join((*scope, name))
