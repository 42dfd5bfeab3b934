"""What a model makes of each single example: its loss, the label that it believes, and how firmly.

Losses are those of :mod:`dsd_ort.graph.loss.formulas`, for one example instead of a batch, in float64 from the float32
values that the loss reads::

    Σ weight·loss / Σ weight over all examples is the loss that evaluation reports

so ``weight`` is the number of labels that count, by their class weights, for cross-entropy; of values for losses on
values; and 1 for ctc.  (A label of weight 0 does not count here; with label smoothing, it does a little there.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dsd_ort.data import Dataset
from dsd_ort.decode import ctc
from dsd_ort.decode.scores import distance
from dsd_ort.recipe import Loss, LossName
from dsd_ort.run.evaluate import Evaluator
from dsd_ort.run.metrics import Answers

Values = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


class Scored(NamedTuple):
    """One entry an example, in the order of the data; of the recipe's first loss, without its own weight."""

    loss: Floats
    """0 where no label counts, and where the recipe says so of a label that does not fit (``zero_infinity``)."""
    weight: Floats
    agreed: Floats | None = None
    """The share of the labels that count which the model believes: 0 or 1 where there is one.

    Of ctc, 1 - edits / length from the label to the best path, and never below 0.  NaN where none counts; None for
    losses on values.
    """
    given: Values | None = None
    """The label: a class, yes or no as 1 and 0, or a text.  None where an example has several, or values."""
    believed: Values | None = None
    """The label that the model finds most probable; of ctc, that of the best path."""
    probability: Floats | None = None
    """What the model gives ``believed``; of ctc, the best path's."""


def score(evaluator: Evaluator, data: Dataset) -> Scored:
    """Scores every example of *data* by the weights of *evaluator*, batch by batch.

    Raises:
        DataError: see :meth:`Evaluator.batches`, and what gathering an example raises.
    """
    of_batch = SCORES[evaluator.recipe.losses[0].name]
    with closing(evaluator.of_logits().answers(data)) as stream:
        columns = zip(*(of_batch(answers) for answers in stream), strict=True)
        return Scored._make(None if parts[0] is None else np.concatenate(parts) for parts in columns)


def _cross_entropy(answers: Answers) -> Scored:
    loss, examples = answers.loss, len(answers.label)
    scores = np.moveaxis(answers.output, loss.axis_of_classes(answers.output.ndim), -1)
    logp = log_softmax(scores.reshape(examples, -1, scores.shape[-1]))
    counting = answers.counting.reshape(examples, -1)
    label = np.where(counting, answers.label.reshape(examples, -1), 0)
    weights = np.ones(logp.shape[-1]) if loss.class_weights is None else np.asarray(loss.class_weights, np.float64)
    own = np.where(counting, weights[label], 0.0)
    terms = -weights[label] * np.take_along_axis(logp, label[..., None], -1)[..., 0]
    if smoothing := loss.label_smoothing:
        terms = (1 - smoothing) * terms - smoothing * (logp * weights).mean(-1)
    weight, believed = own.sum(1), logp.argmax(-1)
    values = np.where(counting, terms, 0.0).sum(1) / np.where(weight, weight, np.inf)
    agreed = _share(believed == label, counting)
    if answers.label.ndim > 1:
        return Scored(values, weight, agreed)
    return Scored(values, weight, agreed, answers.label, believed[:, 0], np.exp(logp.max(-1))[:, 0])


def _yes_or_no(answers: Answers) -> Scored:
    x, t = _rows(answers)
    values = (np.logaddexp(0, x) - x * t).mean(1)
    yes = x > 0
    agreed = _share(yes == (t > 0.5), np.ones(x.shape, bool))
    if x.shape[1] > 1:
        return Scored(values, _sizes(x), agreed)
    return Scored(values, _sizes(x), agreed, t[:, 0], yes[:, 0].astype(np.float64), 1 / (1 + np.exp(-np.abs(x[:, 0]))))


def _of_values(term: Callable[[Floats, Loss], Floats]) -> Callable[[Answers], Scored]:
    """The mean of *term* over the differences of an example."""

    def score(answers: Answers) -> Scored:
        x, t = _rows(answers)
        return Scored(term(x - t, answers.loss).mean(1), _sizes(x))

    return score


def _huber(d: Floats, loss: Loss) -> Floats:
    clipped = np.clip(d, -loss.delta, loss.delta)
    return clipped * (d - clipped / 2)


def _ctc(answers: Answers) -> Scored:
    loss, frames = answers.loss, log_softmax(answers.frames)
    label = np.where(answers.counting, answers.label, -1)
    values = -ctc.log_likelihood(frames, label, answers.lengths, loss.blank)
    if loss.zero_infinity:
        values = np.where(np.isinf(values), 0.0, values)
    values /= np.maximum(1, (label >= 0).sum(1))
    pairs = list(zip(answers.said, answers.right, strict=True))
    agreed = np.array([max(0.0, 1 - distance(said, right) / max(1, len(right))) for said, right in pairs])
    read = np.arange(frames.shape[1]) < (frames.shape[1] if answers.lengths is None else answers.lengths[:, None])
    path = np.exp(np.where(read, frames.max(-1), 0.0).sum(1))
    given, believed = (texts(labels, answers.alphabet) for labels in (answers.right, answers.said))
    return Scored(values, np.ones(len(values)), agreed, given, believed, path)


SCORES: dict[LossName, Callable[[Answers], Scored]] = {
    "cross-entropy": _cross_entropy,
    "ctc": _ctc,
    "bce-with-logits": _yes_or_no,
    "mse": _of_values(lambda d, loss: d**2),
    "l1": _of_values(lambda d, loss: np.abs(d)),
    "huber": _of_values(_huber),
}


def _rows(answers: Answers) -> tuple[Floats, Floats]:
    """What the loss reads and the target, a row an example."""
    x, t = (array.astype(np.float64).reshape(len(array), -1) for array in (answers.output, answers.label))
    return x, t


def _sizes(x: Floats) -> Floats:
    return np.full(len(x), float(x.shape[1]))


def _share(right: npt.NDArray[np.bool_], counting: npt.NDArray[np.bool_]) -> Floats:
    """Of those that count, the share that is right; NaN where none counts."""
    number = counting.sum(1)
    share: Floats = (right & counting).sum(1) / np.where(number, number, np.nan)
    return share


def texts(labels: list[list[int]], alphabet: str | Sequence[str]) -> Values:
    """What they say by the alphabet; without one, the classes as numbers."""
    found = ["".join(alphabet[c] for c in row) if alphabet else " ".join(map(str, row)) for row in labels]
    return np.array(found, np.str_)


def log_softmax(scores: Values) -> Floats:
    """Over the last axis.  NaN where the scores have no meaning: NaN or +infinity among them."""
    wide = scores.astype(np.float64)
    with np.errstate(invalid="ignore"):
        wide -= wide.max(-1, keepdims=True)
        logp: Floats = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    return logp
