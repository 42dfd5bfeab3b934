"""What evaluation reports of a model's answers::

    loss          the loss over all of the data
    top-1, top-5  the share of labels among the 1 or 5 highest scores
    perplexity    exp(Σ -log p(label) / number of labels), p = softmax(logits)
    cer, wer      edits of characters or words from what the best path says to the label, over the labels' length
    mean-error    mean |value - target|

Each metric is a function of one batch that gives (sum, weight), so that a data set of any length and batches of any
size add up exactly; what is reported is Σ sums / Σ weights, or a function of it.  Labels that are ``ignore_index`` do
not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dsd_ort.decode import ctc, scores
from dsd_ort.decode.likelihood import log_probabilities
from dsd_ort.errors import RecipeError
from dsd_ort.recipe import DEFAULT_METRICS, Loss

Values = npt.NDArray[Any]

HIGHER_IS_BETTER = {
    "loss": False,
    "top-1": True,
    "top-5": True,
    "perplexity": False,
    "cer": False,
    "wer": False,
    "mean-error": False,
}


@dataclass(frozen=True)
class Answers:
    """One batch of N examples: what the model gave, and what is right."""

    output: Values
    """What the loss reads."""
    label: Values
    loss: Loss
    value: float = math.nan
    """The batch's loss."""
    lengths: Values | None = None
    """ctc: i64[N], how many frames of each example count."""
    alphabet: str | Sequence[str] = ()
    """ctc: the text of each class."""

    @cached_property
    def counting(self) -> npt.NDArray[np.bool_]:
        """Which labels count, of the label's shape."""
        ignored = -1 if self.loss.name == "ctc" and self.loss.ignore_index is None else self.loss.ignore_index
        counting: npt.NDArray[np.bool_] = np.ones(self.label.shape, bool) if ignored is None else self.label != ignored
        return counting

    @cached_property
    def counted(self) -> tuple[npt.NDArray[np.integer], Values]:
        """The labels that count i64[M], and the scores at their places f32[M, C]."""
        classes = self.loss.axis_of_classes(self.output.ndim)
        return self.label[self.counting], np.moveaxis(self.output, classes, -1)[self.counting]

    @cached_property
    def frames(self) -> Values:
        """ctc: the scores by example, frame and class."""
        classes, frames = self.loss.axis_of_classes(self.output.ndim), self.loss.time_axis
        turned: Values = self.output.transpose(3 - classes - frames, frames, classes)
        return turned

    @cached_property
    def said(self) -> list[list[int]]:
        """ctc: the labels of each example's best path."""
        return ctc.greedy(self.frames, self.lengths, self.loss.blank)

    @cached_property
    def right(self) -> list[list[int]]:
        """ctc: the labels of each example."""
        return [row[counts].tolist() for row, counts in zip(self.label, self.counting, strict=True)]


Pair = tuple[float, float]


def mean_loss(answers: Answers) -> Pair:
    """Weighted by what the loss is the mean over, so that batches give the loss of all data.

    That is labels that count, by their class weights, for cross-entropy; examples for ctc; and values for the others.
    Where the recipe has several losses, their sum is weighted as the first.
    """
    weight = weight_of(answers.loss, answers.label)
    return answers.value * weight if weight else 0.0, weight


def weight_of(loss: Loss, label: Values) -> float:
    """What *loss* is the mean over: how many labels, each by its class's weight, examples or values."""
    if loss.name == "ctc":
        return float(len(label))
    if loss.name != "cross-entropy":
        return float(label.size)
    labels = label if loss.ignore_index is None else label[label != loss.ignore_index]
    classes = loss.class_weights
    return float(labels.size if classes is None else np.asarray(classes, np.float64)[labels].sum())


def top(k: int) -> Callable[[Answers], Pair]:
    """Counts labels i64[N, …] among the *k* highest of C scores, f32[N, C, …] or with another class axis.

    A label that is scored no better than k others is not counted, whatever the order of equal scores: a constant output
    has top-1 of zero, not of chance, and so has one of NaN.
    """

    def count(answers: Answers) -> Pair:
        labels, logits = answers.counted
        own = np.take_along_axis(logits, labels[:, None], 1)
        rank = np.count_nonzero(logits >= own, axis=1)
        return float(np.count_nonzero((rank >= 1) & (rank <= k))), float(labels.size)

    return count


def surprise(answers: Answers) -> Pair:
    """Σ -log p(label), whose mean is the logarithm of the perplexity."""
    labels, logits = answers.counted
    return -float(log_probabilities(logits, labels).sum()), float(labels.size)


def character_errors(answers: Answers) -> Pair:
    """Edits and characters.  Without an alphabet, each class is a character."""
    return scores.character_edits(*_said_and_right(answers))


def word_errors(answers: Answers) -> Pair:
    """Edits and words, which stand between the alphabet's spaces."""
    if not answers.alphabet:
        raise RecipeError(
            "the metric 'wer' needs data.alphabet, to know words",
            where="recipe",
            fix='give the text of each class, as alphabet = "_ abc…"',
        )
    return scores.word_edits(*_said_and_right(answers))


def mean_error(answers: Answers) -> Pair:
    """Σ |value − target| and the number of values."""
    return float(np.abs(answers.output.astype(np.float64) - answers.label).sum()), float(answers.output.size)


METRICS: dict[str, Callable[[Answers], Pair]] = {
    "loss": mean_loss,
    "top-1": top(1),
    "top-5": top(5),
    "perplexity": surprise,
    "cer": character_errors,
    "wer": word_errors,
    "mean-error": mean_error,
}
FINISH: dict[str, Callable[[float], float]] = {"perplexity": lambda mean: math.inf if mean > 709 else math.exp(mean)}
"""What becomes of the mean of metrics that are not means."""
PACKAGES = {"cer": "jiwer", "wer": "jiwer"}
"""What metrics need beside this package's own dependencies."""


def _said_and_right(answers: Answers) -> tuple[list[str], list[str]]:
    """ctc: the text of the best path and of the label, for each example."""
    alphabet = answers.alphabet
    if alphabet and len(alphabet) < answers.frames.shape[2]:
        raise RecipeError(
            f"data.alphabet has {len(alphabet)} classes, and the model {answers.frames.shape[2]}",
            where="recipe, data.alphabet",
            fix="give the text of every class, from class 0 on; that of the blank is never read",
        )
    # Without an alphabet, the two planes for private use have a character for each of 131,072 classes.
    text = alphabet.__getitem__ if alphabet else lambda label: chr(0xF0000 + label)

    def texts(side: list[list[int]]) -> list[str]:
        return ["".join(map(text, labels)) for labels in side]

    return texts(answers.said), texts(answers.right)


def default_metrics(losses: Sequence[Loss]) -> list[str]:
    """All that mean something for the first loss, whatever the model."""
    return list(DEFAULT_METRICS[losses[0].name])


def require_packages(names: Sequence[str]) -> None:
    """Refuses metrics whose packages are missing, before anything is trained.

    Raises:
        InstallationError: one is not installed.
    """
    for package in dict.fromkeys(PACKAGES[name] for name in names if name in PACKAGES):
        scores.require(package)


def better(name: str, new: float, old: float | None) -> bool:
    """Whether *new* improves on *old* (None: nothing yet, as good as NaN)."""
    if old is None or math.isnan(old):
        return True
    return new > old if HIGHER_IS_BETTER[name] else new < old


class Meter:
    """Adds batches up; the first loss of the recipe is the one that the metrics are of.

    Args:
        names: of metrics.
        loss: the recipe's first.
        alphabet: the recipe's, the text of each class.
    """

    def __init__(self, names: Sequence[str], loss: Loss, alphabet: str | Sequence[str] = ()) -> None:
        self.names, self.loss, self.alphabet = list(names), loss, alphabet
        self.sums = dict.fromkeys(self.names, 0.0)
        self.weights = dict.fromkeys(self.names, 0.0)

    def add(self, output: Values, label: Values, loss: float, lengths: Values | None = None) -> None:
        """One batch: what the loss reads, its label, its value, and for ctc how many frames of each example count."""
        self.take(self.of(Answers(output, label, self.loss, loss, lengths, self.alphabet)))

    def of(self, answers: Answers) -> list[Pair]:
        """Sum and weight of each metric, for one batch."""
        return [METRICS[name](answers) for name in self.names]

    def take(self, found: Sequence[Pair]) -> None:
        """Adds what :meth:`of` gave."""
        for name, (value, weight) in zip(self.names, found, strict=True):
            self.sums[name] += value
            self.weights[name] += weight

    def result(self) -> dict[str, float]:
        """The metrics of all batches; those of which nothing counted are left out."""
        means = {name: self.sums[name] / self.weights[name] for name in self.names if self.weights[name]}
        return {name: FINISH[name](mean) if name in FINISH else mean for name, mean in means.items()}
