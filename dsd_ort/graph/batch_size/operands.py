"""Values without the batch that meet it: once for all examples, or repeated for each."""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.graph.batch_size.marks import Mark
from dsd_ort.graph.batch_size.site import Site
from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.operators import Does, facts
from dsd_ort.rewrite.shapes import sizes_of


def once(site: Site, value: ir.Value, axis: int, mark: Mark) -> ir.Value:
    """*value*, which is the same for every example along *axis*, with length 1 there."""
    if site.shape(value)[axis] == 1:
        return value
    if mark.before * mark.after > 1 or not _is_same(site, value, axis):
        raise site.refusal(f"{value.name!r} has a part for each example")
    maker = value.producer()
    if maker is not None and maker.op_type == "Expand" and sizes_of(_read(maker, 0)) == sizes_of(value):
        return once(site, _read(maker, 0), axis, mark)  # with another batch it would not fit its target
    return site.Slice(value, [0], [1], [axis])


def repeated(site: Site, value: ir.Value, mark: Mark) -> ir.Value:
    """*value*, which is the same for every example, repeated for the batch."""
    if mark.before * mark.after > 1:
        raise site.refusal(f"{value.name!r} has to be repeated within an axis")
    one, behind = once(site, value, mark.axis, mark), len(site.shape(value)) - mark.axis - 1
    new = site.Expand(one, site.Concat([1] * mark.axis, site.batch.length, [1] * behind, axis=0))
    new.shape, site.marks[new] = value.shape, mark
    return new


def _is_same(site: Site, value: ir.Value, axis: int) -> bool:
    """Whether *value* is known to be the same all along *axis*."""
    array = constant_value(value)
    if array is not None:
        return bool((array == array.take([0], axis)).all())
    operands = _along(site, value, axis)
    return operands is not None and all(site.shape(x)[at] == 1 or _is_same(site, x, at) for x, at in operands)


def _along(site: Site, value: ir.Value, axis: int) -> list[tuple[ir.Value, int]] | None:
    """The operands of what computes *value*, and their axes, that decide how it changes along *axis*."""
    maker = value.producer()
    if maker is None or maker.domain:
        return None
    if maker.op_type == "Gemm" and axis == 0 and not maker.attributes.get_int("transA", 0):
        return [(_read(maker, 0), 0)]
    if maker.op_type == "Gather":
        indices, at = _read(maker, 1), axis - maker.attributes.get_int("axis", 0)
        return [(indices, at)] if 0 <= at < len(site.shape(indices)) else None
    operands = maker.inputs[:1] if maker.op_type == "Expand" else maker.inputs
    if Does.ENTRYWISE not in facts(maker).does and maker.op_type not in ("Expand", "Identity"):
        return [] if maker.op_type == "ConstantOfShape" else None
    rank = len(site.shape(value))
    places = [(other, axis - rank + len(site.shape(other))) for other in operands if other is not None]
    return [(other, at) for other, at in places if at >= 0]


def _read(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value
