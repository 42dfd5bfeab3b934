"""The texts of the recurrences, in all their variants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

import onnx
import pytest

from dsd_ort.graph.autograd import recurrent_gru, recurrent_lstm, recurrent_rnn
from dsd_ort.graph.autograd.recurrent import ACTIVATIONS, Activation, Recurrence
from dsd_ort.rewrite.autograd import Operator

FLAGS = (False, True)
ARRIVING = (("y",), ("l",), ("y", "l"))


def variants(function: Activation) -> Iterator[Operator]:
    for clip, lengths, large, arriving in product((None, 0.5), FLAGS, FLAGS, ARRIVING):
        layer = Recurrence(False, clip, lengths, arriving, large)
        yield recurrent_rnn.Cell(layer, function).operator()
        yield recurrent_gru.LinearBeforeReset(layer, function, function).operator()
        yield recurrent_gru.ResetBeforeLinear(layer, function, function).operator()
        for peepholes, coupled in product(FLAGS, FLAGS):
            yield recurrent_lstm.Cell(layer, function, function, function, peepholes, coupled).operator()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_no_name_stands_for_two_things_and_none_for_nothing(name: str) -> None:
    for operator in variants(Activation(name, 0.5, 0.25)):
        for function in operator:
            known = checked(function.node, set(function.input))
            assert set(function.output) <= known


def checked(nodes: Iterable[onnx.NodeProto], known: set[str]) -> set[str]:
    """The names that are known behind *nodes*, where *known* are in front of them."""
    known = set(known)
    for node in nodes:
        assert set(node.input) <= known, node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                inputs = {value.name for value in attribute.g.input}
                assert not inputs & known, node
                inside = checked(attribute.g.node, known | inputs)
                assert {value.name for value in attribute.g.output} <= inside - known, node
                assert not (inside - known) & set(node.output), node
        assert not set(node.output) & known, node
        known |= set(node.output)
    return known


def test_operators_that_differ_have_different_names() -> None:
    made = list(variants(Activation("HardSigmoid", 0.5, 0.25)))
    texts = {str(operator.forward) + str(operator.backward) for operator in made}
    assert len({operator.name for operator in made}) == len(texts)
