"""Sequences in steps: f32[T, …] cut into T values, and put together again, in a form that CUDA can record.

The CUDA kernels of Split and Concat take the addresses of their parts by value only if the parts are equal and at most
32; others are copied from the host's memory at each run (:mod:`~.recording`).  So a long sequence is cut by
Slice into blocks of 32 first; and put together block by block, all as long as the first, the last one filled up with
its last step, which a Slice takes off in the end.

Steps are joined along the first axis that they have: [T, N, …] is [T·N, …] in memory, and Reshape copies nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

PARTS = 32
"""Most parts of a Split or Concat."""


class Writer:
    """New nodes, in order, with types and shapes of what they give.

    Args:
        name: all names begin with it.
        opset: of the operators.
    """

    def __init__(self, name: str, opset: int) -> None:
        self.name, self.opset = name, opset
        self.nodes: list[ir.Node] = []
        self._numbers: dict[tuple[int, ...], ir.Value] = {}

    def op(
        self, op_type: str, *inputs: ir.Value | None, like: ir.Value, shape: Sequence[int], **attributes: object
    ) -> ir.Value:
        """The output of a new node: of the type of *like*, shaped *shape*."""
        return self.several(op_type, 1, *inputs, like=like, shape=shape, **attributes)[0]

    def several(
        self,
        op_type: str,
        count: int,
        *inputs: ir.Value | None,
        like: ir.Value,
        shape: Sequence[int],
        **attributes: object,
    ) -> Sequence[ir.Value]:
        """The *count* outputs of a new node, all alike."""
        name = f"{self.name}/{op_type}_{len(self.nodes)}"
        node = ir.node(op_type, inputs, attributes, num_outputs=count, name=name)  # type: ignore[arg-type]
        for i, output in enumerate(node.outputs):
            output.name, output.type, output.shape = f"{name}_{i}", like.type, ir.Shape(shape)
        self.nodes.append(node)
        return node.outputs

    def numbers(self, *numbers: int) -> ir.Value:
        """A constant i64[n]; the same for the same *numbers*."""
        if numbers not in self._numbers:
            self._numbers[numbers] = self.constant(ir.tensor(np.array(numbers, np.int64)))
        return self._numbers[numbers]

    def constant(self, tensor: ir.TensorProtocol) -> ir.Value:
        node = ir.node("Constant", [], {"value": tensor}, name=f"{self.name}/Constant_{len(self.nodes)}")
        (value,) = node.outputs
        value.name, value.type, value.shape = node.name, ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
        self.nodes.append(node)
        return value

    def copy(
        self,
        node: ir.Node,
        inputs: Sequence[ir.Value | None],
        name: str,
        *,
        attributes: Mapping[str, ir.Attr] | None = None,
        front: Sequence[int] = (),
    ) -> Sequence[ir.Value]:
        """The outputs of a copy of *node* that reads *inputs*.

        Args:
            node: what is copied.
            inputs: in the place of its inputs.
            name: begins the names of the copy.
            attributes: in the place of its attributes.
            front: axes that shapes get in front.
        """
        outputs = [
            ir.Value(name=f"{name}/{old.name}", type=old.type, shape=_behind(front, old.shape)) for old in node.outputs
        ]
        given = node.attributes if attributes is None else attributes
        new = ir.Node(
            node.domain,
            node.op_type,
            inputs,
            given.values(),
            overload=node.overload,
            outputs=outputs,
            name=f"{name}/{node.outputs[0].name}",
        )
        self.nodes.append(new)
        return outputs


def _behind(front: Sequence[int], shape: ir.Shape | None) -> ir.Shape | None:
    return None if shape is None else ir.Shape([*front, *shape])


def cut(writer: Writer, sequence: ir.Value, length: int, shape: Sequence[int]) -> list[ir.Value]:
    """The *length* steps of *sequence*, which has them along its first axis, each of *shape*."""
    rows, rest = (shape[0], list(shape[1:])) if shape else (1, [])
    flat = sequence if not shape else _reshaped(writer, sequence, [length * rows, *rest])
    steps: list[ir.Value] = []
    for at in range(0, length, PARTS):
        count = min(PARTS, length - at)
        block = flat if count == length else _part(writer, flat, at * rows, (at + count) * rows)
        steps += _split(writer, block, count, [rows, *rest]) if count > 1 else [block]
    return steps if shape else [_reshaped(writer, step, []) for step in steps]


def put_together(writer: Writer, steps: Sequence[ir.Value], shape: Sequence[int]) -> ir.Value:
    """The sequence of *steps*, each of *shape*, along a new first axis: the inverse of :func:`cut`."""
    rows, rest = (shape[0], list(shape[1:])) if shape else (1, [])
    parts, size = list(steps) if shape else [_reshaped(writer, step, [1]) for step in steps], rows
    while len(parts) > 1:
        block = math.ceil(len(parts) / math.ceil(len(parts) / PARTS))
        parts += [parts[-1]] * (-len(parts) % block)
        blocks = [parts[at : at + block] for at in range(0, len(parts), block)]
        size *= block
        parts = [writer.op("Concat", *each, like=each[0], shape=[size, *rest], axis=0) for each in blocks]
    (whole,) = parts
    if size > len(steps) * rows:
        whole = _part(writer, whole, 0, len(steps) * rows)
    return _reshaped(writer, whole, [len(steps), *shape]) if shape else whole


def to_front(writer: Writer, value: ir.Value, axis: int) -> ir.Value:
    """*value* with its axis *axis* in front of the others."""
    shape = _sizes(value)
    perm = [axis, *(i for i in range(len(shape)) if i != axis)]
    return _transposed(writer, value, perm) if axis else value


def from_front(writer: Writer, value: ir.Value, axis: int) -> ir.Value:
    """*value* with its first axis as axis *axis*: the inverse of :func:`to_front`."""
    perm = [*range(1, axis + 1), 0, *range(axis + 1, len(_sizes(value)))]
    return _transposed(writer, value, perm) if axis else value


def _transposed(writer: Writer, value: ir.Value, perm: list[int]) -> ir.Value:
    shape = _sizes(value)
    return writer.op("Transpose", value, like=value, shape=[shape[i] for i in perm], perm=perm)


def _sizes(value: ir.Value) -> list[int]:
    assert value.shape is not None
    return [int(dim) for dim in value.shape]  # type: ignore[arg-type]


def _reshaped(writer: Writer, value: ir.Value, shape: list[int]) -> ir.Value:
    return writer.op("Reshape", value, writer.numbers(*shape), like=value, shape=shape)


def _part(writer: Writer, value: ir.Value, start: int, end: int) -> ir.Value:
    shape = [end - start, *_sizes(value)[1:]]
    inputs = [writer.numbers(start), writer.numbers(end), writer.numbers(0)]
    return writer.op("Slice", value, *inputs, like=value, shape=shape)


def _split(writer: Writer, value: ir.Value, count: int, shape: Sequence[int]) -> Sequence[ir.Value]:
    several = {"num_outputs": count} if writer.opset >= 18 else {}
    return writer.several("Split", count, value, like=value, shape=shape, axis=0, **several)
