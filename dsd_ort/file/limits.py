"""How large the parts of a model may be, and the error of what is not well-formed."""

from __future__ import annotations

from dsd_ort.errors import ModelError

NODES = 1_000_000
"""In all graphs of a file together."""
DEPTH = 24
"""Bodies inside of bodies (of If, Loop, Scan and SequenceMap); protobuf's own readers end at 33."""
NAME = 4096
"""Bytes of a name: of a value, a node, an operator, an attribute."""
RANK = 32
"""Axes of a tensor: NumPy has no more."""
ATTRIBUTE = 1 << 26
"""Bytes of an attribute, tensors apart."""
FILLED = 1 << 28
"""Numbers that one node makes out of a shape that the file says: ConstantOfShape, Expand, Tile, Range."""
STEPS = 1 << 20
"""Of a Loop whose number of steps is in the file, and that nothing else ends."""


def refuse_bad_name(name: str, where: str) -> None:
    """Raises ModelError: *name* is longer than :data:`NAME`."""
    if 4 * len(name) > NAME and len(name.encode("utf-8", "replace")) > NAME:
        raise malformed(f"a name is longer than {NAME} bytes: {name[:80]}…", where, "give it a shorter one")


def malformed(what: str, where: str, fix: str = "export the model again") -> ModelError:
    return ModelError(what, where=where, fix=fix)
