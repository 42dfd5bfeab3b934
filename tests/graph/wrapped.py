"""A graph whose nodes stand inside of a node: in both branches of an If, or in the body of a Scan of one step."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import onnx
from onnx import helper


def in_branches(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Gives y where the input ``branch`` is true, else -y."""
    around = {value.name for value in (*proto.graph.input, *proto.graph.initializer)}
    negated = helper.make_node("Neg", ["y/no"], ["z/no"], "negated")
    yes = _body("yes", [], _copies(proto, around, "/yes"), ("y/yes", proto))
    no = _body("no", [], [*_copies(proto, around, "/no"), negated], ("z/no", proto))
    flag = helper.make_tensor_value_info("branch", onnx.TensorProto.BOOL, [])
    return _with(proto, [helper.make_node("If", ["branch"], ["y"], "if", then_branch=yes, else_branch=no)], [flag])


def at_a_step(proto: onnx.ModelProto, sequences: Collection[str]) -> onnx.ModelProto:
    """The inputs *sequences* come to the nodes as those of a first and only step."""
    given = [value for value in proto.graph.input if value.name in sequences]
    around = {value.name for value in (*proto.graph.input, *proto.graph.initializer)} - {value.name for value in given}
    inputs = [onnx.ValueInfoProto(name=f"{value.name}/step", type=value.type) for value in given]
    body = _body("step", inputs, _copies(proto, around, "/step"), ("y/step", proto))
    whole = [f"{value.name}/whole" for value in given]
    nodes = [helper.make_node("Constant", [], ["first"], "first", value_ints=[0])]
    nodes += [helper.make_node("Unsqueeze", [v.name, "first"], [name]) for v, name in zip(given, whole, strict=True)]
    nodes.append(helper.make_node("Scan", whole, ["y/whole"], "scan", body=body, num_scan_inputs=len(whole)))
    return _with(proto, [*nodes, helper.make_node("Squeeze", ["y/whole", "first"], ["y"], "only")])


def _body(
    name: str,
    inputs: Iterable[onnx.ValueInfoProto],
    nodes: Iterable[onnx.NodeProto],
    output: tuple[str, onnx.ModelProto],
) -> onnx.GraphProto:
    value = onnx.ValueInfoProto(name=output[0], type=output[1].graph.output[0].type)
    return helper.make_graph(list(nodes), name, list(inputs), [value])


def _copies(proto: onnx.ModelProto, around: Collection[str], ending: str) -> Iterable[onnx.NodeProto]:
    """The nodes of *proto*, whose values, but for those *around*, are called otherwise."""
    for node in proto.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [name if name in around or not name else name + ending for name in node.input]
        copy.output[:] = [name and name + ending for name in node.output]
        copy.name = (node.name or node.output[0]) + ending
        yield copy


def _with(
    proto: onnx.ModelProto, nodes: Iterable[onnx.NodeProto], inputs: Iterable[onnx.ValueInfoProto] = ()
) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    made.graph.input.extend(inputs)
    return made
