"""Nodes: inputs, outputs and attributes are those of ONNX's schemas."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import onnx
import onnx.defs

from dsd_ort.file.limits import ATTRIBUTE, FILLED, STEPS, malformed, refuse_bad_name
from dsd_ort.model.wellformed.tensors import refuse_bad_tensor, refuse_bad_type

A = onnx.AttributeProto
_FIELDS = {
    A.FLOAT: "f",
    A.INT: "i",
    A.STRING: "s",
    A.TENSOR: "t",
    A.GRAPH: "g",
    A.SPARSE_TENSOR: "sparse_tensor",
    A.TYPE_PROTO: "tp",
    A.FLOATS: "floats",
    A.INTS: "ints",
    A.STRINGS: "strings",
    A.TENSORS: "tensors",
    A.GRAPHS: "graphs",
    A.SPARSE_TENSORS: "sparse_tensors",
    A.TYPE_PROTOS: "type_protos",
}
"""Type of an attribute → where its value stands."""
_LISTS = frozenset({A.FLOATS, A.INTS, A.STRINGS, A.TENSORS, A.GRAPHS, A.SPARSE_TENSORS, A.TYPE_PROTOS})
_PLAIN = frozenset({A.FLOAT, A.INT, A.STRING})
_FROM_ONE = frozenset(
    {
        "strides",
        "dilations",
        "kernel_shape",
        "group",
        "blocksize",
        "hidden_size",
        "num_outputs",
        "size",
        "max_gram_length",
    }
)
"""Attributes of ONNX's operators that are 1 or more: native code divides by them."""
_KINDS = {getattr(onnx.defs.OpSchema.AttrType, name): code for name, code in A.AttributeType.items() if code}
_OPTIONAL = onnx.defs.OpSchema.FormalParameterOption.Optional
_LARGEST = 1 << 31
_AXES = frozenset({"pads", "output_padding", "axis", "batch_axis", *_FROM_ONE})
"""Attributes whose size native code multiplies without a look at it."""
_ELEMENT_TYPES = frozenset(
    {("Cast", "to"), ("RandomNormal", "dtype"), ("RandomUniform", "dtype"), ("EyeLike", "dtype")}
)
_ONE_VALUE = frozenset(
    {
        "value",
        "value_float",
        "value_floats",
        "value_int",
        "value_ints",
        "value_string",
        "value_strings",
        "sparse_value",
    }
)
"""What a Constant may hold, one of them."""


def refuse_bad_node(node: onnx.NodeProto, versions: Mapping[str, int], where: str, *, in_function: bool) -> None:
    """Raises ModelError: names, attributes, inputs or outputs that the node's operator does not have.

    Of operators that ONNX does not know, only what holds of all.
    """
    for name in (node.name, node.op_type, node.domain, *node.input, *node.output):
        refuse_bad_name(name, where)
    if not node.op_type:
        raise malformed("a node has no operator", where)
    if not any(node.output):
        raise malformed("a node has no output", where)
    seen: set[str] = set()
    for attribute in node.attribute:
        refuse_bad_name(attribute.name, where)
        at = f"{where}, attribute {attribute.name}"
        if attribute.name in seen or not attribute.name:
            what = "a node has an attribute twice" if attribute.name else "a node has an attribute without a name"
            raise malformed(what, at)
        seen.add(attribute.name)
        _refuse_bad_attribute(attribute, at, in_function=in_function)
    schema = _schema(node, versions, where)
    if schema is not None:
        _refuse_unlike(node, schema, where)
        _refuse_bad_values(node, where)


def _refuse_bad_attribute(attribute: onnx.AttributeProto, where: str, *, in_function: bool) -> None:
    if attribute.ref_attr_name:
        if not in_function:
            raise malformed("it refers to an attribute of a function, and stands in none", where)
        return
    field = _FIELDS.get(attribute.type)
    if field is None:
        raise malformed(f"an attribute's type {attribute.type} is none of ONNX's", where)
    held = [name for kind, name in _FIELDS.items() if _is_set(attribute, kind, name)]
    if (others := [name for name in held if name != field]) or not (held or attribute.type in _LISTS | _PLAIN):
        has = f"has a value in {', '.join(others)}" if others else "has no value"
        raise malformed(f"an attribute of type {A.AttributeType.Name(attribute.type)} {has}", where)
    size = len(attribute.s) + 4 * len(attribute.floats) + 8 * len(attribute.ints) + sum(map(len, attribute.strings))
    if size > ATTRIBUTE:
        raise malformed(f"an attribute takes {size} bytes; {ATTRIBUTE} is the most there can be", where)
    for tensor in (*([attribute.t] if attribute.type == A.TENSOR else []), *attribute.tensors):
        refuse_bad_tensor(tensor, where)


def _is_set(attribute: onnx.AttributeProto, kind: int, name: str) -> bool:
    value = getattr(attribute, name)
    if kind in _LISTS:
        return len(value) > 0
    # Numbers and texts that are 0 or empty may be left out, or be there beside another: some writers do not tell.
    return bool(value) if kind in _PLAIN else attribute.HasField(name)


@lru_cache(maxsize=4096)
def _known(op_type: str, version: int, domain: str) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None


def _schema(node: onnx.NodeProto, versions: Mapping[str, int], where: str) -> onnx.defs.OpSchema | None:
    domain = "" if node.domain == "ai.onnx" else node.domain
    if domain not in versions:
        return None
    schema = _known(node.op_type, versions[domain], domain)
    if schema is None and (later := _known(node.op_type, _LARGEST - 1, domain)) is not None:
        what = f"{node.op_type} does not exist in the model's operator set {versions[domain]}, but from"
        raise malformed(f"{what} {later.since_version} on", where, "export the model again, for a newer operator set")
    return schema


def _refuse_unlike(node: onnx.NodeProto, schema: onnx.defs.OpSchema, where: str) -> None:
    kind = node.op_type
    for what, names, least, most, parameters in (
        ("inputs", node.input, schema.min_input, schema.max_input, schema.inputs),
        ("outputs", node.output, schema.min_output, schema.max_output, schema.outputs),
    ):
        if not least <= len(names) <= most:
            up = " or more" if most >= _LARGEST - 1 else f" to {most}" if least < most else ""
            raise malformed(f"{kind} has {len(names)} {what}, and takes {least}{up}", where)
        for parameter, name in zip(parameters, names, strict=False):
            if not name and parameter.option != _OPTIONAL:
                raise malformed(f"{kind} is without its {what[:-1]} {parameter.name}", where)
    given = {attribute.name: attribute for attribute in node.attribute}
    for name, attribute in given.items():
        known = schema.attributes.get(name)
        if known is None and not name.startswith("__"):
            raise malformed(f"{kind} has no attribute {name!r}", where, "remove it, or export the model again")
        if known is not None and not attribute.ref_attr_name and _KINDS[known.type] != attribute.type:
            is_, has = (A.AttributeType.Name(code) for code in (attribute.type, _KINDS[known.type]))
            raise malformed(f"the attribute {name!r} of {kind} is {is_}, and has to be {has}", where)
    for name, known in schema.attributes.items():
        if known.required and name not in given:
            raise malformed(f"{kind} is without its attribute {name!r}", where)


def _refuse_bad_values(node: onnx.NodeProto, where: str) -> None:
    """What no schema says, and native code does not look at before it counts on it."""
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            continue
        numbers = [attribute.i] if attribute.type == A.INT else attribute.ints if attribute.type == A.INTS else ()
        name = attribute.name
        if name in _FROM_ONE and any(number < 1 for number in numbers):
            raise malformed(
                f"the attribute {name!r} of {node.op_type} is {list(numbers)}, and has to be 1 or more", where
            )
        if name in _AXES and any(not -_LARGEST <= number < _LARGEST for number in numbers):
            raise malformed(
                f"the attribute {name!r} of {node.op_type} is {list(numbers)}: no tensor is that large", where
            )
        if (node.op_type, name) in _ELEMENT_TYPES:
            refuse_bad_type(attribute.i, f"{where}, attribute {name}")
    if node.op_type == "Constant" and len([a for a in node.attribute if a.name in _ONE_VALUE]) != 1:
        raise malformed("a Constant has to have one value", where)
    if node.op_type == "ConstantOfShape":
        for attribute in node.attribute:
            if attribute.name == "value" and list(attribute.t.dims) not in ([], [1]):
                raise malformed("the value of a ConstantOfShape is not one number", where)


def refuse_many_steps(node: onnx.NodeProto, steps: list[int], where: str) -> None:
    """Raises ModelError: a Loop that nothing else ends takes longer than anybody waits."""
    if max(steps, default=0) > STEPS and not _may_end(node):
        raise malformed(f"a Loop takes {steps[0]} steps; {STEPS} is the most where nothing else ends it", where)


def _may_end(loop: onnx.NodeProto) -> bool:
    """Whether its body computes if it goes on."""
    body = next(a.g for a in loop.attribute if a.name == "body")
    makers = {name: inner for inner in body.node for name in inner.output}
    name = body.output[0].name
    while name in makers and makers[name].op_type == "Identity":
        name = makers[name].input[0]
    return name in makers and makers[name].op_type != "Constant"


def refuse_large_shape(node: onnx.NodeProto, sizes: list[int], where: str) -> None:
    """Raises ModelError: a constant shape *sizes* that *node* fills is negative, or takes more than there is memory."""
    count = 1
    for size in sizes:
        count *= size
    if any(size < 0 for size in sizes):
        raise malformed(f"{node.op_type} has the shape {sizes}, with a negative length", where)
    if count > FILLED:
        raise malformed(f"{node.op_type} makes {count} numbers; {FILLED} are the most that one node may make", where)
