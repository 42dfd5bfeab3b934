"""Sentences from a model that says which word follows those before it.

Given words w_0 = *start*, w_1, …, w_n and what the sentence is about, z (an image, …), position t of the model's scores
is about w_{t+1}, and *end* is a word like others::

    log p(w_1 … w_n | z) = Σ_{t=0}^{n} log p(w_{t+1} | w_0 … w_t, z),   w_{n+1} = end

:func:`greedy` takes the most probable word each time.  :func:`beam` keeps the *width* best beginnings and looks for the
sentence of the greatest ::

    log p(w_1 … w_n | z) / ((5 + n + 1) / 6)^α

(Wu et al., arXiv:1609.08144, equation 14, without coverage; the end counts as a word).  With α = 0 it is the most
probable sentence, which tends to be short, as each word costs probability.

A model is run anew on the whole beginning for each word, as an ONNX file keeps no state: a sentence of n words costs
about n²/2 positions.  It works for every such model, and is slower than a graph of one step with its state as an input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dsd_ort.decode.likelihood import Hypothesis, LogProbabilities, Scores, best_of, log_probabilities
from dsd_ort.errors import DataError

Inputs = Mapping[str, npt.NDArray[Any]]
"""What the sentences are about: axis 0 of each array is the example."""
Model = Callable[[npt.NDArray[np.int64], Inputs], Scores]
"""Words i64[M, T] and the other inputs of M examples → scores f32[M, T, V], as logits or (log) probabilities."""


def greedy(
    model: Model, inputs: Inputs, *, start: int, end: int, limit: int, never: Sequence[int] = ()
) -> list[list[int]]:
    """The most probable next word each time, until it is *end*, for all examples at once.

    Args:
        model: a :class:`~dsd_ort.decode.Captioner`, or a function.
        inputs: what the sentences are about, N examples; a model that takes nothing but words says one sentence.
        start: the word in front of all sentences.
        end: the word behind them.
        limit: the most words of a sentence; it is cut there.
        never: words that are never said, such as padding.

    Returns:
        The words of each example, without start and end.

    Raises:
        DataError: the inputs, words or scores do not fit together, or the scores are no numbers.
    """
    asked = _Asked(model, inputs, end, never)
    rows = _examples(asked, limit)
    said: list[list[int]] = [[] for _ in rows]
    words = np.full((len(rows), 1), start, np.int64)
    for _ in range(limit):
        if not len(rows):
            break
        best = _next_word(asked, words, rows).argmax(axis=1)
        going = best != end
        words, rows = np.column_stack([words, best])[going], rows[going]
        for row, word in zip(rows, best[going], strict=True):
            said[row].append(int(word))
    return said


def beam(
    model: Model,
    inputs: Inputs,
    *,
    start: int,
    end: int,
    limit: int,
    width: int = 5,
    alpha: float = 0.0,
    never: Sequence[int] = (),
) -> list[list[Hypothesis]]:
    """The best sentences of each example, the best first.

    Args:
        model: a :class:`~dsd_ort.decode.Captioner`, or a function.
        inputs: what the sentences are about, N examples; a model that takes nothing but words says one sentence.
        start: the word in front of all sentences.
        end: the word behind them.
        limit: the most words of a sentence; longer ones are not looked at, and one of *limit* words ends like others.
        width: how many beginnings are kept, and how many sentences are found.  The model runs on N·width at once.
        alpha: of the length normalisation.
        never: words that are never said, such as padding.

    Returns:
        For each example at most *width* hypotheses: words, without start and end, and log p over its normalisation.

    Raises:
        DataError: the inputs, words or scores do not fit together, or the scores are no numbers.
    """
    if width < 1:
        raise DataError(f"with width = {width} nothing is found", fix="give 1 or more")
    asked = _Asked(model, inputs, end, never)
    found = [_Search([Hypothesis([], 0.0)], []) for _ in _examples(asked, limit)]
    for left in reversed(range(limit + 1)):
        counts = [len(search.open) for search in found]
        if not any(counts):
            break
        words = np.array([(start, *beginning.labels) for search in found for beginning in search.open], np.int64)
        rows = np.repeat(np.arange(len(found)), counts)
        scores = np.split(_next_word(asked, words, rows), np.cumsum(counts)[:-1])
        found = [
            _advance(s, part, end=end, width=width, alpha=alpha, left=left)
            for s, part in zip(found, scores, strict=True)
        ]
    return [search.ended for search in found]


class _Asked(NamedTuple):
    """A model, and what it is asked."""

    model: Model
    inputs: Inputs
    end: int
    never: Sequence[int]


class _Search(NamedTuple):
    """One example's beginnings, all of one length and with log p, and its whole sentences with their final scores."""

    open: list[Hypothesis]
    ended: list[Hypothesis]
    """At most *width*, the best first."""


def _advance(search: _Search, scores: LogProbabilities, *, end: int, width: int, alpha: float, left: int) -> _Search:
    """The search with one word more, from log p of the next word f64[W, V]; *left* more may follow."""
    if not search.open:
        return search
    length = len(search.open[0].labels) + 1
    totals = scores + np.array([[beginning.score] for beginning in search.open])
    ends = totals[:, end] / _penalty(length, alpha)
    ended = search.ended + [
        Hypothesis(s.labels, float(e)) for s, e in zip(search.open, ends, strict=True) if e > -np.inf
    ]
    ended = sorted(ended, key=lambda sentence: -sentence.score)[:width]
    totals[:, end] = -np.inf
    best = best_of(totals.ravel(), width if left else 0)
    rows, words = np.divmod(best, totals.shape[1])
    longer = [
        Hypothesis([*search.open[row].labels, int(word)], float(totals[row, word]))
        for row, word in zip(rows, words, strict=True)
    ]
    # More words only cost, so no sentence can come to more than its beginning's log p over the largest penalty.
    if longer and len(ended) == width:
        largest = max(_penalty(length + 1, alpha), _penalty(length + left, alpha))
        longer = longer if longer[0].score / largest > ended[-1].score else []
    return _Search(longer, ended)


def _penalty(length: int, alpha: float) -> float:
    return float(((5 + length) / 6) ** alpha)


def _next_word(asked: _Asked, words: npt.NDArray[np.int64], rows: npt.NDArray[np.intp]) -> LogProbabilities:
    """The log p of the word after *words* i64[M, T], f64[M, V], of the examples in *rows*."""
    scores = asked.model(words, {name: array[rows] for name, array in asked.inputs.items()})
    where = "what the model gives"
    if scores.ndim != 3 or scores.shape[:2] != words.shape:
        raise DataError(
            f"for words of the shape {list(words.shape)} the scores have the shape {list(scores.shape)}",
            where=where,
            fix="use a model whose output is [N, T, V]: for each word, scores of all words that may follow it",
        )
    vocabulary = scores.shape[2]
    for word in (asked.end, *asked.never):
        if not 0 <= word < vocabulary:
            raise DataError(
                f"the word {word} is not among the model's, which has {vocabulary}",
                where=where,
                fix=f"give words in [0, {vocabulary}) as end and never",
            )
    found = log_probabilities(scores[:, -1])
    if np.isnan(found).any():
        raise DataError(
            f"the scores of example {int(rows[np.isnan(found).any(axis=1).argmax()])} are NaN or infinite",
            where=where,
            fix="look for NaN or infinity in the model's weights and in its inputs",
        )
    found[:, list(asked.never)] = -np.inf
    return found


def _examples(asked: _Asked, limit: int) -> npt.NDArray[np.intp]:
    """The numbers of the examples."""
    if limit < 1:
        raise DataError(f"with limit = {limit} no word may be said", fix="give a limit of 1 or more")
    if asked.end in asked.never:
        raise DataError(f"no sentence may end: never has its end, {asked.end}", fix="leave it out of never")
    sizes = {name: array.shape[0] if array.ndim else 0 for name, array in asked.inputs.items()}
    if len(set(sizes.values())) > 1 or not all(array.ndim for array in asked.inputs.values()):
        raise DataError(
            "the inputs differ in the number of examples: " + ", ".join(f"{name} {n}" for name, n in sizes.items()),
            where="inputs",
            fix="give arrays whose axis 0 is the example, all of one length",
        )
    return np.arange(next(iter(sizes.values()), 1))
