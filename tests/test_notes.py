"""Sentences of older run folders become the records that are written today."""

from __future__ import annotations

import pytest

from dsd_ort.notes import Note, formerly


@pytest.mark.parametrize("name", ["pool1", "act: one", "it's: one", 'it\'s: "one": two', r"a\: b", "'", "", "a\n: b"])
def test_a_rewrite_has_the_whole_name_of_its_node(name: str) -> None:
    node, words = f"AveragePool {name!r}", "MaxPool 'q': both, or one"
    assert formerly(f"{node}: {words}") == Note(kind="rewrite", node=node, words=words)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("training", "bfloat16 and double: computed in float32 for training"),
        ("evaluation", "evaluated in float32, as bfloat16 does not run on the CPU: no kernel for MatMul 'h': none"),
        ("recipe", "ctc counts all frames; if 'frames' has their number, name it as loss.lengths"),
        ("training", "bn.mean: Follows the batches; training_model.onnx itself keeps it as it is"),
    ],
)
def test_what_is_said_of_the_whole_model_is_left_whole(kind: str, sentence: str) -> None:
    assert formerly(sentence) == Note(kind=kind, words=sentence)
