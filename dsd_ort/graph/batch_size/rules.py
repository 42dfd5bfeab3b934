"""What becomes of a node that the batch comes to: where the batch stands behind it, and what is written anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import onnx_ir as ir

from dsd_ort.graph.batch_size.marks import Mark, inferred, reshaped
from dsd_ort.graph.batch_size.operands import once, repeated
from dsd_ort.graph.batch_size.site import Site
from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.operators import Does, facts, key
from dsd_ort.rewrite.shapes import sizes_of

Rule: TypeAlias = Callable[[Site], None]
"""Sets the marks of the outputs; it leaves them unset where the batch is lost."""

_END = 2**63 - 1


def rule_of(node: ir.Node) -> Rule:
    """What carries the batch through *node*: a rule of its own, or of its kind."""
    known = facts(node)
    of_kind = by_entry if Does.ENTRYWISE in known.does else recurrent if known.gates else carry
    return RULES.get(key(node), of_kind)


def carry(site: Site) -> None:
    """The mark goes where shape inference has it."""
    node = site.node
    found = inferred(node, site.marks, site.opset)
    if not found and node.domain:  # an operator of another domain: an axis that keeps place and length keeps the batch
        value, mark = site.marked()
        sizes = sizes_of(value)
        for output in node.outputs:
            other = sizes_of(output)
            if sizes and other and len(sizes) == len(other) and sizes[mark.axis] == other[mark.axis]:
                found[output] = mark
    site.marks.update(found)


def by_entry(site: Site) -> None:
    """Operands that have the batch's length stand once for all of it."""
    value, mark = site.marked()
    from_end = mark.axis - site.rank(value)
    for i, other in enumerate(site.node.inputs):
        if other is None or other in site.marks or -from_end > site.rank(other):
            continue
        shape = site.shape(other)
        if shape[from_end] > 1:
            site.node.replace_input_with(i, once(site, other, from_end + len(shape), mark))
    carry(site)


def concat(site: Site) -> None:
    """Operands without the batch are repeated for it."""
    node, (value, mark) = site.node, site.marked()
    if node.attributes.get_int("axis", 0) % site.rank(value) == mark.axis:
        raise site.refusal("it joins examples")
    for i, other in enumerate(node.inputs):
        if other is not None and other not in site.marks:
            node.replace_input_with(i, repeated(site, other, mark))
    site.marks[node.outputs[0]] = mark


def recurrent(site: Site) -> None:
    """Initial states and lengths are repeated for the batch."""
    node = site.node
    for i, axis in ((4, 0), (5, 1), (6, 1)):
        other = node.inputs[i] if i < len(node.inputs) else None
        if other is not None and other not in site.marks:
            node.replace_input_with(i, repeated(site, other, Mark(axis)))
    carry(site)


def reshape(site: Site) -> None:
    node, x, target = site.node, site.node.inputs[0], site.node.inputs[1] if len(site.node.inputs) > 1 else None
    shape, other = site.shape(x), site.shape(node.outputs[0])
    assert x is not None
    mark = reshaped(site.marks[x], shape, other, site.batch.k)
    if mark is None:
        raise site.refusal(f"from {shape} to {other} the batch is not one axis")
    entries = constant_value(target)
    if node.op_type == "Reshape" and entries is not None and entries[mark.axis] != -1:
        new = [-1 if axis == mark.axis else size for axis, size in enumerate(other)]
        node.replace_input_with(1, site.constant(new))
    site.marks[node.outputs[0]] = mark


def expand(site: Site) -> None:
    """1 in the target shape keeps a length."""
    node, x, target = site.node, site.node.inputs[0], constant_value(site.node.inputs[1])
    if x not in site.marks:
        return
    shape, other, mark = site.shape(x), site.shape(node.outputs[0]), site.marks[x]
    axis = mark.axis + len(other) - len(shape)
    if other[axis] != shape[mark.axis]:
        raise site.refusal("it repeats examples")
    if target is not None and (at := axis - len(other) + len(target)) >= 0:
        node.replace_input_with(1, site.constant([1 if i == at else n for i, n in enumerate(target)]))
    site.marks[node.outputs[0]] = mark._replace(axis=axis)


def slice_(site: Site) -> None:
    node, x = site.node, site.node.inputs[0]
    if x not in site.marks:
        return
    mark, shape = site.marks[x], site.shape(x)
    starts, ends, axes, steps = (constant_value(v) for v in [*node.inputs[1:], *[None] * 4][:4])
    if site.shape(node.outputs[0])[mark.axis] != shape[mark.axis]:
        raise site.refusal("it picks examples")
    listed = list(range(len(shape))) if axes is None else [int(axis) % len(shape) for axis in axes]
    if ends is not None and mark.axis in listed:
        at = listed.index(mark.axis)
        if (steps is not None and steps[at] < 0) or starts is None or starts[at] != 0:
            raise site.refusal("it changes the order of examples")
        node.replace_input_with(2, site.constant([_END if i == at else n for i, n in enumerate(ends)]))
    site.marks[node.outputs[0]] = mark


def resize(site: Site) -> None:
    node, x = site.node, site.node.inputs[0]
    sizes = constant_value(node.inputs[3]) if len(node.inputs) > 3 else None
    axes = list(node.attributes.get_ints("axes", range(len(site.shape(x)))))
    assert x is not None
    mark = site.marks[x]
    if sizes is not None and mark.axis in axes:
        if mark != Mark(mark.axis):
            raise site.refusal("its sizes hold the batch in part of an axis")
        at = axes.index(mark.axis)
        node.replace_input_with(3, site.Concat(sizes[:at], site.batch.length, sizes[at + 1 :], axis=0))
    site.marks[node.outputs[0]] = mark


def einsum(site: Site) -> None:
    node = site.node
    terms, _, result = node.attributes.get_string("equation", "").replace(" ", "").partition("->")
    for value, term in zip(node.inputs, terms.split(","), strict=False):
        if value in site.marks and "." not in term and (letter := term[site.marks[value].axis]) in result:
            site.marks[node.outputs[0]] = site.marks[value]._replace(axis=result.index(letter))


RULES: Mapping[str, Rule] = {
    "Concat": concat,
    "Einsum": einsum,
    "Expand": expand,
    "Flatten": reshape,
    "Reshape": reshape,
    "Resize": resize,
    "Slice": slice_,
}
