"""Sequences that only carry tensors: lists of a fixed length, whose entries are tensors of the graph.

What makes one becomes a SequenceConstruct, and what reads one takes the entries from there, so that in the end nothing
reads the sequence itself.
"""

from __future__ import annotations

from itertools import repeat

import onnx_ir as ir

from dsd_ort.rewrite.operators import key
from dsd_ort.rewrite.site import Site


def as_list(site: Site) -> ir.Value:
    """A list of tensors"""
    return site.SequenceConstruct(*_made(site, site.node))


def at(site: Site) -> ir.Value:
    """The tensor itself"""
    entries = _entries(site, site.input(0))
    return site.Identity(entries[_position(site, site.node, 1, len(entries))])


def concat(site: Site) -> ir.Value:
    """Concat of the tensors, along a new axis where it asks for one"""
    entries, axis = _entries(site, site.input(0)), site.node.attributes["axis"].as_int()
    if site.node.attributes.get_int("new_axis", 0):
        entries = [site.Unsqueeze(entry, [axis]) for entry in entries]
    return site.Concat(*entries, axis=axis)


def _entries(site: Site, sequence: ir.Value) -> list[ir.Value]:
    node = sequence.producer()
    if node is None or key(node) not in _MAKERS:
        origin = f"the operator {node.op_type}" if node is not None else "an input"
        raise site.refusal(
            f"reads a sequence whose length is known at run time only, as it comes from {origin}",
            "export the model by tracing, so that it splits and concatenates tensors",
        )
    return _made(site, node)


def _made(site: Site, node: ir.Node) -> list[ir.Value]:
    """The entries of the sequence that *node* makes; the site's node makes it, or reads it."""
    return _MAKERS[key(node)](site, node)


def _constructed(site: Site, node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None]


def _copied(site: Site, node: ir.Node) -> list[ir.Value]:
    assert node.inputs[0] is not None
    return list(_entries(site, node.inputs[0]))


def _inserted(site: Site, node: ir.Node) -> list[ir.Value]:
    entries, new = _copied(site, node), node.inputs[1]
    assert new is not None
    entries.insert(_position(site, node, 2, len(entries)), new)
    return entries


def _erased(site: Site, node: ir.Node) -> list[ir.Value]:
    entries = _copied(site, node)
    del entries[_position(site, node, 1, len(entries) - 1)]
    return entries


def _split(site: Site, node: ir.Node) -> list[ir.Value]:
    """In pieces of one length (the last may be shorter), of the lengths of a list, or without the axis."""
    x, axis = node.inputs[0], node.attributes.get_int("axis", 0)
    assert x is not None
    given = None if len(node.inputs) < 2 or node.inputs[1] is None else site.known(node.inputs[1], "lengths")
    if given is not None and given.ndim:
        lengths = given.tolist()
    else:
        total, piece = site.size(x, axis), 1 if given is None else int(given)
        lengths = [*repeat(piece, total // piece), *([total % piece] if total % piece else [])]
    parts = list(site.several("Split", len(lengths), x, lengths, axis=axis))
    keeps = given is not None or node.attributes.get_int("keepdims", 1) != 0
    return parts if keeps else [site.Squeeze(part, [axis]) for part in parts]


def _position(site: Site, node: ir.Node, index: int, default: int) -> int:
    value = node.inputs[index] if index < len(node.inputs) else None
    return default if value is None else int(site.known(value, "positions").item())


_MAKERS = {
    "Identity": _copied,
    "SequenceConstruct": _constructed,
    "SequenceEmpty": lambda site, node: [],
    "SequenceErase": _erased,
    "SequenceInsert": _inserted,
    "SplitToSequence": _split,
}
"""Operator that makes a sequence → its entries."""
