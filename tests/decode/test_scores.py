from __future__ import annotations

import math
import sys
from collections import Counter
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsd_ort.decode import scores
from dsd_ort.errors import DataError, InstallationError


def distance(a: list[str], b: list[str]) -> int:
    """Levenshtein's, by its definition."""

    @cache
    def d(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(d(i - 1, j) + 1, d(i, j - 1) + 1, d(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return d(len(a), len(b))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=7), st.lists(st.integers(0, 3), max_size=7))
def test_the_distance_of_one_pair_is_levenshteins(said: list[int], right: list[int]) -> None:
    assert scores.distance(said, right) == distance([*map(str, said)], [*map(str, right)])


def exact_bleu(hypotheses: list[list[str]], references: list[list[list[str]]], n: int) -> float:
    """BLEU-n by its definition."""
    said = sum(map(len, hypotheses))
    right = sum(
        min((abs(len(r) - len(h)), len(r)) for r in rs)[1] for h, rs in zip(hypotheses, references, strict=True)
    )
    if not said:
        return 0.0
    logarithm = min(0.0, 1 - right / said)
    for k in range(1, n + 1):
        hit = total = 0
        for h, rs in zip(hypotheses, references, strict=True):
            mine, theirs = grams(h, k), [grams(r, k) for r in rs]
            hit += sum(min(count, max(t[gram] for t in theirs)) for gram, count in mine.items())
            total += sum(mine.values())
        if not hit:
            return 0.0
        logarithm += math.log(hit / total) / n
    return 100 * math.exp(logarithm)


def grams(words: list[str], k: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + k]) for i in range(len(words) - k + 1))


sentence = st.lists(st.sampled_from(["a", "b", "cc"]), max_size=7)
pairs = st.lists(st.tuples(sentence, sentence), max_size=4)


def test_rates_are_of_the_corpus_and_not_means_of_rates() -> None:
    assert scores.wer(["a", "a b c d e f g h"], ["x", "a b c d e f g h"]) == pytest.approx(1 / 9)
    assert scores.cer(["kitten"], ["sitting"]) == pytest.approx(3 / 7)


def test_a_rate_may_exceed_one() -> None:
    assert scores.wer(["a b c"], ["x"]) == 3


def test_what_is_said_for_an_empty_reference_is_inserted() -> None:
    assert scores.word_edits(["a b", "c"], ["", "c"]) == (2, 1)
    assert scores.character_edits(["ab", "", ""], ["", "", "abc"]) == (5, 3)
    assert scores.cer([""], [""]) == scores.wer([], []) == 0
    assert scores.cer(["a"], [""]) == math.inf


def test_spaces_part_words_and_are_characters() -> None:
    assert scores.word_edits(["  a   b "], ["a b"]) == (0, 2)
    assert scores.character_edits([" a b"], ["a b "]) == (2, 4)


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_edits_are_levenshteins(corpus: list[tuple[list[str], list[str]]]) -> None:
    said, right = ([" ".join(pair[i]) for pair in corpus] for i in (0, 1))
    wanted = sum(distance(h, r) for h, r in corpus), sum(len(r) for _, r in corpus)
    assert scores.word_edits(said, right) == wanted
    wanted = sum(distance(list(h), list(r)) for h, r in zip(said, right, strict=True)), sum(map(len, right))
    assert scores.character_edits(said, right) == wanted


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(sentence, st.lists(sentence, min_size=1, max_size=3)), min_size=1, max_size=4))
def test_bleu_is_papinenis_with_any_number_of_references(corpus: list[tuple[list[str], list[list[str]]]]) -> None:
    hypotheses, references = [h for h, _ in corpus], [rs for _, rs in corpus]
    found = scores.bleu([" ".join(h) for h in hypotheses], [[" ".join(r) for r in rs] for rs in references])
    assert found == pytest.approx({n: exact_bleu(hypotheses, references, n) for n in (1, 2, 3, 4)})


def test_a_repeated_word_counts_as_often_as_a_reference_has_it() -> None:
    # Papineni et al. 2002, example 2
    references = ["the cat is on the mat", "there is a cat on the mat"]
    assert scores.bleu(["the the the the the the the"], [references])[1] == pytest.approx(100 * 2 / 7)


def test_bleu_of_the_reference_itself_is_100() -> None:
    assert scores.bleu(["a dog runs on grass ."], [["x", "a dog runs on grass ."]]) == pytest.approx(
        dict.fromkeys([1, 2, 3, 4], 100.0)
    )


def test_what_cannot_be_rated_is_named() -> None:
    with pytest.raises(DataError, match="there are 1 hypotheses and 2 references") as caught:
        scores.wer(["a"], ["a", "b"])
    assert caught.value.fix == "give one hypothesis and its reference for each example"
    with pytest.raises(DataError, match="example 1 has no reference"):
        scores.bleu(["a", "b"], [["a"], []])
    with pytest.raises(DataError, match="there are no sentences to rate"):
        scores.bleu([], [])


@pytest.mark.parametrize("package", ["jiwer", "sacrebleu"])
def test_a_missing_package_is_named_with_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InstallationError, match=f"{package} is not installed, which rates text") as caught:
        scores.cer(["a"], ["a"]) if package == "jiwer" else scores.bleu(["a"], [["a"]])
    assert caught.value.fix == 'pip install "dsd-ort[text]"'
