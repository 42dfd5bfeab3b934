from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsd_ort.decode import words
from dsd_ort.errors import DataError

START, END = 1, 2


class Table:
    """A model that gives each beginning logits of its own, drawn; its only input is a seed i64[N]."""

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary, self.runs = vocabulary, 0

    def __call__(self, said: np.ndarray, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        self.runs += 1
        rows = zip(said.tolist(), inputs["seed"].tolist(), strict=True)
        return np.array([[self.row(seed, row[: t + 1]) for t in range(len(row))] for row, seed in rows])

    def row(self, seed: int, beginning: list[int]) -> np.ndarray:
        return 2 * np.random.default_rng([seed, *beginning]).standard_normal(self.vocabulary)

    def log_probability(self, seed: int, sentence: tuple[int, ...]) -> float:
        total, beginning = 0.0, [START]
        for word in (*sentence, END):
            logits = self.row(seed, beginning)
            total += logits[word] - math.log(np.exp(logits).sum())
            beginning.append(word)
        return total


def exact(model: Table, seed: int, limit: int, alpha: float, never: tuple[int, ...]) -> dict[tuple[int, ...], float]:
    """Sentences → score, all that there are."""
    inner = [word for word in range(model.vocabulary) if word != END and word not in never]
    every = (s for n in range(limit + 1) for s in itertools.product(inner, repeat=n))
    return {s: model.log_probability(seed, s) / ((5 + len(s) + 1) / 6) ** alpha for s in every}


def trap(said: np.ndarray, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Words 0 and 3 may follow the start, at 0.6 and 0.4; after 0 comes anything, after 3 the end, for certain."""
    table = np.array([[0.25, 0.25, 0.25, 0.25], [0.6, 0, 0, 0.4], [0.25] * 4, [0, 0, 1, 0]])
    return table[said]


def test_the_word_that_looks_best_is_not_the_sentence_that_is_best() -> None:
    assert words.greedy(trap, {}, start=START, end=END, limit=1) == [[0]]
    (found,) = words.beam(trap, {}, start=START, end=END, limit=1, width=4)
    assert [h.labels for h in found] == [[3], [0]]
    assert np.exp([h.score for h in found]) == pytest.approx([0.4, 0.15])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.7, 2.0]), st.sampled_from([(), (0,), (0, 1)]))
def test_a_beam_that_forgets_nothing_finds_all_sentences(seed: int, alpha: float, never: tuple[int, ...]) -> None:
    model = Table(4)
    asked = {"start": START, "end": END, "limit": 3, "never": never}
    (found,) = words.beam(model, {"seed": np.array([seed])}, width=1000, alpha=alpha, **asked)
    wanted = exact(model, seed, 3, alpha, never)
    assert {tuple(h.labels): h.score for h in found} == pytest.approx(wanted, abs=1e-9)
    assert found == sorted(found, key=lambda h: -h.score), "the best first"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([-1.0, 0.0, 0.7, 2.0]))
def test_to_stop_early_changes_no_result(seed: int, alpha: float) -> None:
    """A width that holds all open beginnings of each length, but not all sentences."""
    model, wanted = Table(3), exact(Table(3), seed, 4, alpha, ())
    asked = {"start": START, "end": END, "limit": 4, "width": 16, "alpha": alpha}
    (found,) = words.beam(model, {"seed": np.array([seed])}, **asked)
    best = sorted(wanted, key=lambda sentence: -wanted[sentence])[:16]
    assert [tuple(h.labels) for h in found] == best


def test_a_search_stops_when_nothing_better_can_come() -> None:
    calls = []

    def model(said: np.ndarray, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        calls.append(said.shape)
        return trap(said, inputs)

    words.beam(model, {}, start=START, end=END, limit=50, width=1)
    assert len(calls) < 5


@pytest.mark.parametrize("width", [1, 3])
def test_examples_are_searched_together_as_they_are_alone(width: int) -> None:
    model, asked = Table(5), {"start": START, "end": END, "limit": 6, "never": (0,)}
    seeds = np.arange(7)
    alone = [{"seed": seeds[i : i + 1]} for i in range(7)]
    together = {"seed": seeds}
    assert words.greedy(model, together, **asked) == [words.greedy(model, one, **asked)[0] for one in alone]
    found = words.beam(model, together, width=width, **asked)
    assert found == [words.beam(model, one, width=width, **asked)[0] for one in alone]
    assert all(0 not in h.labels and END not in h.labels and len(h.labels) <= 6 for one in found for h in one)


def test_a_beam_of_one_that_ends_is_greedy_with_a_score() -> None:
    model, asked = Table(3), {"start": START, "end": END, "limit": 30}
    said = words.greedy(model, {"seed": np.arange(5)}, **asked)
    for seed, sentence in enumerate(said):
        (found,) = words.beam(model, {"seed": np.array([seed])}, width=1, **asked)
        assert found[0].score >= model.log_probability(seed, tuple(sentence)) - 1e-9


def test_greedy_stops_at_the_limit_and_when_all_have_ended() -> None:
    def never_ends(said: np.ndarray, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.eye(4)[np.zeros_like(said)]

    def ends(said: np.ndarray, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.eye(4)[np.full_like(said, END)]

    assert words.greedy(never_ends, {"x": np.zeros(2)}, start=START, end=END, limit=3) == [[0, 0, 0]] * 2
    assert words.greedy(ends, {"x": np.zeros(2)}, start=START, end=END, limit=10**9) == [[], []]


def test_the_start_may_also_be_the_end() -> None:
    assert words.greedy(lambda said, inputs: np.eye(3)[(said + 1) % 3], {}, start=0, end=0, limit=9) == [[1, 2]]


def test_no_examples_are_no_sentences() -> None:
    empty, asked = {"seed": np.zeros(0, np.int64)}, {"start": START, "end": END, "limit": 3}
    assert words.greedy(Table(4), empty, **asked) == words.beam(Table(4), empty, **asked) == []


def test_a_sentence_that_cannot_end_is_none() -> None:
    def endless(said: np.ndarray, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.broadcast_to(np.array([0.5, 0.5, 0.0]), (*said.shape, 3))

    assert words.beam(endless, {}, start=START, end=END, limit=3) == [[]]


def refused(match: str, **changed: object) -> DataError:
    asked = {"start": START, "end": END, "limit": 3, "inputs": {"seed": np.arange(2)}, "model": Table(4)} | changed
    for search in (words.greedy, words.beam):
        with pytest.raises(DataError, match=match) as caught:
            search(asked["model"], asked["inputs"], **{k: v for k, v in asked.items() if k not in ("model", "inputs")})
    return caught.value


def test_what_does_not_fit_together_is_named() -> None:
    refused("with limit = 0 no word may be said", limit=0)
    assert refused("no sentence may end: never has its end, 2", never=[2]).fix == "leave it out of never"
    error = refused("examples: a 2, b 3", inputs={"a": np.zeros(2), "b": np.zeros(3)})
    assert error.fix == "give arrays whose axis 0 is the example, all of one length"
    refused("differ in the number of examples: a 0", inputs={"a": np.float32(1)})
    error = refused("the word 9 is not among the model's, which has 4", never=[9])
    assert error.fix == "give words in [0, 4) as end and never"
    with pytest.raises(DataError, match="with width = 0 nothing is found"):
        words.beam(Table(4), {}, start=START, end=END, limit=3, width=0)


def test_scores_of_a_wrong_shape_or_without_meaning_are_named() -> None:
    error = refused(
        r"for words of the shape \[2, 1\] the scores have the shape \[2, 4\]",
        model=lambda said, inputs: np.zeros((len(said), 4)),
    )
    assert "[N, T, V]" in (error.fix or "")

    def broken(said: np.ndarray, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.where(inputs["seed"] == 1, np.nan, 0.0)[:, None, None] + np.zeros((*said.shape, 4))

    refused("the scores of example 1 are NaN or infinite", model=broken)
