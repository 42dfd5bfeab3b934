"""What a bug of ONNX Runtime's gradient builder wants of a graph.

The builder calls the gradient of v ``v_grad`` and defines it once a node that it differentiates, except that
it sums those of a value that carries gradient.  So it defines one name twice, and fails, where

- a node reads the same trainable input twice, as in Mul(w, w);
- two nodes whose gradient has an output for every input share an input that carries no gradient.

An Identity in front gives each its own name (:func:`separate`).  Single numbers are :func:`settle_numbers`, and what
rules split in parts that no gradient arrives at is :func:`slice_parts`.
"""

from __future__ import annotations

from collections.abc import Set

import onnx_ir as ir

from dsd_ort.graph.legalize.native import layout
from dsd_ort.rewrite.nodes import Nodes, take_over
from dsd_ort.rewrite.operators import facts, key
from dsd_ort.rewrite.path import Path
from dsd_ort.rewrite.site import Site, apply

_GRADIENT_OF_ALL_INPUTS = {"Concat", "LayerNormalization", "com.microsoft.BatchNormInternal"}


def separate(path: Path, trainable: Set[ir.Value]) -> None:
    """Inserts those Identities, in place."""
    for node in path.nodes():
        all_inputs = range(facts(node).native) if key(node) in _GRADIENT_OF_ALL_INPUTS else ()
        for i, value in enumerate(node.inputs):
            if value is None:
                continue
            repeated = value in trainable and value in node.inputs[:i]
            shared = i in all_inputs and not path.carries(value) and len(value.uses()) > 1
            if repeated or shared:
                node.replace_input_with(i, _copy(node, value))


def slice_parts(path: Path) -> None:
    """Slices take the place of Splits not all of whose outputs carry gradient, in place."""
    for node in list(path.nodes()):
        if key(node) == "Split":
            apply(layout.split, Site(node, path))


def settle_numbers(path: Path) -> None:
    """Puts a Reshape behind every single number on the path, in place.

    The builder's constants have one axis, and so has the gradient of a value without any that met one of them.  That
    is one too many for a gradient that puts reduced axes back, but not for Reshape's.
    """
    for node in list(path.nodes()):
        for value in node.outputs:
            number = value.shape is not None and value.shape.rank() == 0
            if number and path.carries(value) and node.op_type != "Reshape":
                _reshape(value)


def _reshape(value: ir.Value) -> None:
    new = Nodes(str(value.name))
    number = new.Reshape(value, [])
    new.put_behind(value)
    take_over(value, number, f"{value.name}/number")


def _copy(node: ir.Node, value: ir.Value) -> ir.Value:
    new = Nodes(str(value.name))
    copy = new.Identity(value)
    new.put_before(node)
    return copy
