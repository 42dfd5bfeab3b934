from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsd_ort.decode import ctc
from dsd_ort.errors import DataError

ALL = 10_000
"""A width that forgets nothing in these tests."""


def frames(frames: int, classes: int, seed: int) -> np.ndarray:
    """Log probabilities f64[T, C]."""
    logits = 2 * np.random.default_rng(seed).standard_normal((frames, classes))
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def said_by(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


def exact(logp: np.ndarray, blank: int = 0) -> dict[tuple[int, ...], float]:
    """Labels → log p, from all C^T paths."""
    p: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(logp.shape[1]), repeat=len(logp)):
        p[said_by(path, blank)] += math.exp(sum(logp[t, c] for t, c in enumerate(path)))
    return {labels: math.log(value) for labels, value in p.items()}


small = st.builds(frames, st.integers(1, 4), st.integers(2, 3), st.integers(0, 10_000))


def test_greedy_merges_repeats_before_it_drops_blanks() -> None:
    paths = [[1, 1, 0, 1, 2, 2], [0, 0, 0, 0, 0, 0], [2, 1, 2, 0, 0, 2]]
    assert ctc.greedy(np.eye(3, dtype=np.float32)[paths]) == [[1, 1, 2], [], [2, 1, 2, 2]]


def test_any_class_may_be_the_blank() -> None:
    assert ctc.greedy(np.eye(3)[[[2, 0, 0, 2, 0, 1]]], blank=2) == [[0, 0, 1]]
    assert ctc.beam(5 * np.eye(3)[[[2, 0, 0, 2, 0, 1]]], blank=2)[0][0].labels == [0, 0, 1]


@pytest.mark.parametrize("lengths", [[0, 2], [1, 5]])
def test_frames_behind_the_length_do_not_count(lengths: list[int]) -> None:
    logits = np.stack([frames(5, 3, seed) for seed in (0, 1)])
    cut = [logits[i : i + 1, :n] for i, n in enumerate(lengths)]
    assert ctc.greedy(logits, np.array(lengths)) == [ctc.greedy(part)[0] for part in cut]
    spoiled = logits.copy()
    for i, n in enumerate(lengths):
        spoiled[i, n:] = np.nan
    assert ctc.beam(spoiled, np.array(lengths)) == [ctc.beam(part)[0] for part in cut]


def test_a_length_beyond_the_frames_is_all_frames() -> None:
    logits = frames(4, 3, 0)[None]
    assert ctc.greedy(logits, np.array([9])) == ctc.greedy(logits)


@settings(max_examples=60, deadline=None)
@given(small, st.integers(0, 1))
def test_greedy_is_the_best_path(logp: np.ndarray, blank: int) -> None:
    paths = itertools.product(range(logp.shape[1]), repeat=len(logp))
    best = max(paths, key=lambda path: sum(logp[t, c] for t, c in enumerate(path)))
    assert ctc.greedy(logp[None], blank=blank) == [list(said_by(best, blank))]


@settings(max_examples=60, deadline=None)
@given(small, st.integers(0, 1))
def test_a_beam_that_forgets_nothing_has_the_probability_of_all_labels(logp: np.ndarray, blank: int) -> None:
    found = ctc.beam(logp[None], blank=blank, width=ALL)[0]
    assert {tuple(h.labels): h.score for h in found} == pytest.approx(exact(logp, blank), abs=1e-9)
    assert found == sorted(found, key=lambda h: -h.score), "the best first"


@settings(max_examples=60, deadline=None)
@given(small)
def test_a_beam_that_forgets_nothing_is_never_worse_than_the_best_path(logp: np.ndarray) -> None:
    assert ctc.beam(logp[None], width=ALL)[0][0].score >= exact(logp)[tuple(ctc.greedy(logp[None])[0])] - 1e-9


@settings(max_examples=60, deadline=None)
@given(small, st.integers(1, 4), st.integers(1, 3))
def test_a_narrow_beam_never_claims_more_than_the_probability(logp: np.ndarray, width: int, classes: int) -> None:
    found = ctc.beam(logp[None], width=width, classes=classes)[0]
    assert 1 <= len(found) <= width
    assert len({tuple(h.labels) for h in found}) == len(found), "no prefix twice"
    probabilities = exact(logp)
    assert all(h.score <= probabilities[tuple(h.labels)] + 1e-9 for h in found)


def test_many_paths_together_beat_the_best_one() -> None:
    p = np.array([[0.6, 0.4], [0.6, 0.4]])
    assert ctc.greedy(p[None]) == [[]]
    best, second = ctc.beam(p[None], width=2)[0]
    assert (best.labels, second.labels) == ([1], [])
    assert np.exp([best.score, second.score]) == pytest.approx([0.64, 0.36])


def test_logits_and_probabilities_are_understood() -> None:
    logp = frames(5, 4, 3)
    wanted = [h.labels for h in ctc.beam(logp[None])[0]]
    assert [h.labels for h in ctc.beam((logp + 7)[None].astype(np.float32))[0]] == wanted
    assert [h.labels for h in ctc.beam(np.exp(logp)[None].astype(np.float32))[0]] == wanted


@settings(max_examples=30, deadline=None)
@given(small, st.integers(0, 1000))
def test_a_language_model_adds_its_score_to_that_of_each_prefix(logp: np.ndarray, seed: int) -> None:
    def score(prefix: tuple[int, ...]) -> float:
        return float(np.random.default_rng([seed, *prefix]).normal()) if prefix else 0.0

    found = ctc.beam(logp[None], width=ALL, score=score)[0]
    wanted = {labels: p + score(labels) for labels, p in exact(logp).items()}
    assert {tuple(h.labels): h.score for h in found} == pytest.approx(wanted, abs=1e-9)
    assert found == sorted(found, key=lambda h: -h.score)


def test_a_language_model_decides_what_stays_in_a_narrow_beam() -> None:
    logp = np.log(np.array([[0.2, 0.5, 0.3], [0.8, 0.1, 0.1], [0.2, 0.5, 0.3]]))
    assert ctc.beam(logp[None], width=1)[0][0].labels == [1, 1]
    asked = []

    def score(prefix: tuple[int, ...]) -> float:
        asked.append(prefix)
        return -9.0 * prefix.count(1)

    assert ctc.beam(logp[None], width=1, score=score)[0][0].labels == [2, 2]
    assert len(asked) == len(set(asked)), "each prefix once"


def test_a_language_model_may_forbid_everything() -> None:
    assert ctc.beam(frames(3, 3, 0)[None], score=lambda prefix: -math.inf) == [[]]


def test_long_utterances_do_not_underflow() -> None:
    found = ctc.beam(frames(1500, 4, 0)[None], width=4)[0]
    assert -5000 < found[0].score < -500


def test_no_examples_or_no_frames_are_no_labels() -> None:
    assert ctc.greedy(np.zeros((0, 5, 3))) == ctc.beam(np.zeros((0, 5, 3))) == []
    assert ctc.greedy(np.zeros((1, 0, 3))) == [[]]
    assert ctc.beam(np.zeros((1, 0, 3))) == [[([], 0.0)]]


def test_what_does_not_fit_together_is_named() -> None:
    logits = np.zeros((2, 5, 3), np.float32)
    with pytest.raises(DataError, match=r"the scores have the shape \[5, 3\], not \[N, T, C\]") as caught:
        ctc.greedy(logits[0])
    assert caught.value.fix == "move their axes: examples, frames, classes"
    with pytest.raises(DataError, match="the blank is class 3, and there are 3 classes"):
        ctc.greedy(logits, blank=3)
    with pytest.raises(DataError, match=r"the lengths have the shape \[3\], not \[2\]"):
        ctc.beam(logits, np.array([1, 2, 3]))
    with pytest.raises(DataError, match="with width = 0 and classes = None nothing is found"):
        ctc.beam(logits, width=0)


def test_scores_that_are_no_numbers_are_named_with_their_frame() -> None:
    logits = np.zeros((2, 5, 3), np.float32)
    logits[1, 4, 0] = np.nan
    with pytest.raises(DataError, match="the scores of example 1 are NaN or infinite in frame 4"):
        ctc.beam(logits)
    assert ctc.greedy(logits) == [[], []], "the best path exists all the same"
    assert ctc.beam(logits, np.array([5, 4]))[1], "frames that do not count may hold anything"


@settings(max_examples=40, deadline=None)
@given(small, st.integers(0, 2), st.lists(st.integers(0, 1), max_size=4))
def test_the_likelihood_of_labels_is_the_sum_over_all_paths(logp: np.ndarray, blank: int, drawn: list[int]) -> None:
    blank %= logp.shape[1]
    labels = [(blank + 1 + i) % logp.shape[1] for i in drawn if logp.shape[1] > 2 or i == 0]
    padded = np.full((1, 6), -1)
    padded[0, : len(labels)] = labels
    found = ctc.log_likelihood(logp[None], padded, blank=blank)
    assert found.shape == (1,)
    assert found[0] == pytest.approx(exact(logp, blank).get(tuple(labels), -math.inf), rel=1e-9, abs=1e-12)


def test_the_likelihood_is_of_the_frames_that_count() -> None:
    logp = np.stack([frames(5, 3, seed) for seed in range(4)])
    labels, lengths = np.array([[1, 2], [1, -1], [-1, -1], [2, -1]]), np.array([4, 2, 0, 0])
    spoiled = logp.copy()
    for i, n in enumerate(lengths):
        spoiled[i, n:] = np.nan
    found = ctc.log_likelihood(spoiled, labels, lengths)
    for i, n in enumerate(lengths[:2]):
        assert found[i] == pytest.approx(ctc.log_likelihood(logp[i : i + 1, :n], labels[i : i + 1])[0])
    assert found[2:].tolist() == [0.0, -math.inf], "no frames say nothing, with certainty"
