"""Sequences that only carry tensors."""

from __future__ import annotations

from tests.graph.legalize.cases.case import Case


def sequence(nodes: str, expected: str, inputs: str = "float[N, 6] x") -> Case:
    numbers = "int64 zero = {0}, int64 one = {1}, int64 last = {-1}, int64 four = {4}, int64[2] uneven = {2, 4}"
    return Case(f"({inputs}) => (float[] y) <{numbers}> {{ {nodes} }}", expected)


PAIR = "float[N, 6] x, float[N, 6] z"

CASES = [
    sequence("s = SplitToSequence <axis = 1> (x, uneven) y = SequenceAt (s, one)", "Identity(Slice(x, [2], [6], [1]))"),
    sequence(
        "s = SplitToSequence <axis = 1> (x, four) a = SequenceAt (s, last) b = SequenceAt (s, zero) "
        "y = Concat <axis = 1> (a, b)",
        "Concat(Identity(Split(x, [4 2], axis=1).1), Identity(Split(x, [4 2], axis=1)), axis=1)",
    ),
    sequence(
        "s = SplitToSequence <keepdims = 0> (x) y = ConcatFromSequence <axis = 1, new_axis = 1> (s)",
        "Concat(Unsqueeze(Squeeze(Split(x, [1 1], axis=0), [0]), [1]), "
        "Unsqueeze(Squeeze(Split(x, [1 1], axis=0).1, [0]), [1]), axis=1)",
        "float[2, 3] x",
    ),
    sequence(
        "s = SequenceConstruct (x, z) t = Identity (s) y = ConcatFromSequence <axis = 0> (t)",
        "Concat(x, z, axis=0)",
        PAIR,
    ),
    sequence(
        "e = SequenceEmpty <dtype = 1> () a = SequenceInsert (e, x) b = SequenceInsert (a, z, zero) "
        "c = SequenceInsert (b, x, last) d = SequenceErase (c, one) f = SequenceErase (d) g = SequenceInsert (f, x) "
        "y = ConcatFromSequence <axis = -1> (g)",
        "Concat(z, x, axis=-1)",
        PAIR,
    ),
]
