"""Labels from the frame-wise scores of a model that was trained with CTC.

In each of T frames a model says one of C classes, one of which is the *blank*.  A path says labels by merging repeats
and then dropping blanks, B(a a - a b b) = a a b, and many paths say the same::

    p(labels) = Σ over paths with B(path) = labels of Π_t p_t(path_t)

:func:`greedy` takes the single best path (Graves et al., ICML 2006, "best path decoding").  :func:`beam` looks for the
labels of the greatest p.  It adds up the paths of each prefix, those that end in a blank and those that end in its last
label (Hannun et al., arXiv:1408.2873, algorithm 1)::

    blank_t(l)   = p_t(-)·(blank_{t-1}(l) + label_{t-1}(l))
    label_t(l·c) = p_t(c)·(label_{t-1}(l·c) + blank_{t-1}(l) + [l does not end in c]·label_{t-1}(l))

and forgets all but the *width* best prefixes after each frame.  What it then knows of p(labels) is a lower bound, and p
itself if nothing was forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dsd_ort.decode.likelihood import Hypothesis, LogProbabilities, Scores, best_of, log_probabilities
from dsd_ort.errors import DataError

Prefix = tuple[int, ...]
Lengths = npt.NDArray[np.integer]
Score = Callable[[Prefix], float]


def greedy(logits: Scores, lengths: Lengths | None = None, blank: int = 0) -> list[list[int]]:
    """What the best path says: the highest class of each frame, repeats merged, blanks dropped.

    Args:
        logits: f32[N, T, C]; logits, log probabilities and probabilities do alike.
        lengths: i64[N], how many frames of each example count; by default, and at most, all.
        blank: the class that stands for no label.

    Returns:
        The labels of each example.

    Raises:
        DataError: logits, lengths and blank do not fit together.
    """
    counts = _frame_counts(logits, lengths, blank)
    best = logits.argmax(axis=2)
    said = best != blank
    said[:, 1:] &= best[:, 1:] != best[:, :-1]
    said &= np.arange(best.shape[1]) < counts[:, None]
    return [path[counted].tolist() for path, counted in zip(best, said, strict=True)]


def beam(
    logits: Scores,
    lengths: Lengths | None = None,
    blank: int = 0,
    *,
    width: int = 16,
    classes: int | None = None,
    score: Score | None = None,
) -> list[list[Hypothesis]]:
    """The most probable labels of each example, the best first.

    Args:
        logits: f32[N, T, C]; logits, log probabilities or probabilities.
        lengths: i64[N], how many frames of each example count; by default, and at most, all.
        blank: the class that stands for no label.
        width: how many prefixes are kept after each frame.
        classes: only so many of a frame's classes, the most probable ones, make a prefix longer; by default all.
        score: a language model: what to add to the log probability of a prefix (the paper's α·log p(words) + β·words).
            It is asked once for each prefix that is looked at, thousands an example, so give few *classes* with it.

    Returns:
        For each example at most *width* hypotheses: labels, and log p(labels) plus their *score*.

    Raises:
        DataError: logits, lengths and blank do not fit together, or the scores of a frame that counts are no numbers.
    """
    if width < 1 or (classes is not None and classes < 1):
        raise DataError(f"with width = {width} and classes = {classes} nothing is found", fix="give 1 or more")
    counts = _frame_counts(logits, lengths, blank)
    found = []
    for example, count in enumerate(counts):
        frames = log_probabilities(logits[example, :count])
        wrong = np.isnan(frames).any(axis=1)
        if wrong.any():
            raise DataError(
                f"the scores of example {example} are NaN or infinite in frame {int(wrong.argmax())}",
                where="what the model gives",
                fix="look for NaN or infinity in the model's weights and in its input",
            )
        found.append(_search(frames, blank, width, classes, score))
    return found


class _Beam(NamedTuple):
    """W prefixes, and the log probabilities of their paths that end in a blank and in their last label, f64[W]."""

    prefixes: list[Prefix]
    blank: LogProbabilities
    label: LogProbabilities


def _search(
    frames: LogProbabilities, blank: int, width: int, classes: int | None, score: Score | None
) -> list[Hypothesis]:
    """The hypotheses of one example, from log p f64[T, C]."""
    bonus: dict[Prefix, float] = {}

    def rate(prefix: Prefix) -> float:
        if score is not None and prefix not in bonus:
            bonus[prefix] = float(score(prefix))
        return bonus.get(prefix, 0.0)

    beam = _Beam([()], np.zeros(1), np.full(1, -np.inf))
    for frame in frames:
        followed = np.arange(len(frame)) if classes is None else best_of(frame, classes)
        beam = _advance(beam, frame, blank, followed[followed != blank], width=width, rate=rate if score else None)
    totals = np.logaddexp(beam.blank, beam.label)
    return [Hypothesis(list(p), float(total) + rate(p)) for p, total in zip(beam.prefixes, totals, strict=True)]


def _advance(
    beam: _Beam, frame: LogProbabilities, blank: int, followed: npt.NDArray[np.intp], *, width: int, rate: Score | None
) -> _Beam:
    """The beam one frame later.  The candidates are the W prefixes as they are, and each with one of K labels more."""
    prefixes, total = beam.prefixes, np.logaddexp(beam.blank, beam.label)
    lasts = np.array([prefix[-1] if prefix else blank for prefix in prefixes], np.intp)
    repeats = beam.label + frame[lasts]
    # Between two equal labels there is a blank: without one, the second only repeats the first.
    longer = np.where(lasts[:, None] == followed, beam.blank[:, None], total[:, None]) + frame[followed]
    _merge(prefixes, followed, repeats, longer)
    blanks = np.concatenate([total + frame[blank], np.full(longer.size, -np.inf)])
    labels = np.concatenate([repeats, longer.ravel()])

    def prefix_of(candidate: int) -> Prefix:
        if candidate < len(prefixes):
            return prefixes[candidate]
        row, column = divmod(candidate - len(prefixes), len(followed))
        return (*prefixes[row], int(followed[column]))

    ranked = np.logaddexp(blanks, labels)
    if rate is not None:
        ranked += [rate(prefix_of(i)) if value > -np.inf else 0.0 for i, value in enumerate(ranked)]
    kept = best_of(ranked, width)
    return _Beam([prefix_of(int(i)) for i in kept], blanks[kept], labels[kept])


def _merge(
    prefixes: list[Prefix], followed: npt.NDArray[np.intp], repeats: LogProbabilities, longer: LogProbabilities
) -> None:
    """Moves paths by which one prefix of the beam becomes another one to that other one, in place."""
    row = {prefix: i for i, prefix in enumerate(prefixes)}
    column = {int(label): i for i, label in enumerate(followed)}
    for i, prefix in enumerate(prefixes):
        if prefix and prefix[:-1] in row and prefix[-1] in column:
            at = row[prefix[:-1]], column[prefix[-1]]
            repeats[i] = np.logaddexp(repeats[i], longer[at])
            longer[at] = -np.inf


def log_likelihood(
    frames: LogProbabilities, labels: npt.NDArray[np.integer], lengths: Lengths | None = None, blank: int = 0
) -> LogProbabilities:
    """Log p(labels) of each example, f64[N], summed over all paths; -infinity where labels do not fit into the frames.

    Let z be the labels with a blank around each of them, and α_t(s) the probability of all paths of t frames that have
    come to z_s (Graves et al., section 4.1)::

        α_t(s) = p_t(z_s)·(α_{t-1}(s) + α_{t-1}(s-1) + [z_s is neither blank nor z_{s-2}]·α_{t-1}(s-2))

    Args:
        frames: f64[N, T, C], log p_t.
        labels: i64[N, U], each padded at its end with negative numbers.
        lengths: see :func:`greedy`.
        blank: the class that stands for no label.

    Raises:
        DataError: frames, lengths and blank do not fit together.
    """
    counts, rows = _frame_counts(frames, lengths, blank), np.arange(len(frames))[:, None]
    between = np.full((len(labels), 2 * labels.shape[1] + 1), blank)
    between[:, 1::2] = np.where(labels < 0, blank, labels)
    leaps = np.zeros(between.shape, bool)
    leaps[:, 3::2] = between[:, 3::2] != between[:, 1:-2:2]
    alpha = np.full((len(between), between.shape[1] + 2), -np.inf)  # two states in front that nothing comes from
    alpha[:, 2] = 0.0
    for t in range(frames.shape[1]):
        come = np.logaddexp(alpha[:, 2:], alpha[:, 1:-1])
        come = np.where(leaps, np.logaddexp(come, alpha[:, :-2]), come) + frames[rows, t, between]
        alpha[:, 2:] = np.where(t < counts[:, None], come, alpha[:, 2:])
    last = 2 * (labels >= 0).sum(axis=1, keepdims=True) + 2
    found: LogProbabilities = np.logaddexp(alpha[rows, last], alpha[rows, last - 1])[:, 0]
    return found


def _frame_counts(logits: Scores, lengths: Lengths | None, blank: int) -> npt.NDArray[np.integer]:
    """How many frames of each example count, i64[N]."""
    if logits.ndim != 3 or not logits.shape[2]:
        raise DataError(
            f"the scores have the shape {list(logits.shape)}, not [N, T, C]",
            where="what the model gives",
            fix="move their axes: examples, frames, classes",
        )
    examples, frames, classes = logits.shape
    if not 0 <= blank < classes:
        raise DataError(
            f"the blank is class {blank}, and there are {classes} classes", fix=f"give a class in [0, {classes})"
        )
    counts = np.full(examples, frames) if lengths is None else np.asarray(lengths)
    if counts.shape != (examples,):
        raise DataError(
            f"the lengths have the shape {list(counts.shape)}, not [{examples}]", fix="give one length for each example"
        )
    clipped: npt.NDArray[np.integer] = np.clip(counts, 0, frames)
    return clipped
