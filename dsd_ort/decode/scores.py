"""How far what a model says is from what it should say.

Character and word error rates (:func:`cer`, :func:`wer`) are Levenshtein distances over the corpus::

    (substitutions + deletions + insertions) / length of the references

so long references count more than short ones, and a rate may exceed 1.  Where a reference is empty, all that is said
for it is insertions.  Words are what stands between spaces; characters are Python's, and a space is one.

BLEU-n (:func:`bleu`; Papineni et al., ACL 2002), with c the words said, and r those of the references, for each
sentence of the one that is nearest in length (of two, the shorter)::

    BLEU-n = min(1, exp(1 - r/c)) · (p_1 · … · p_n)^(1/n),   p_k: share of k-grams said that are in a reference

each k-gram at most as often as in the reference that has it most often.  Over the corpus, not smoothed, in percent:
as multi-bleu.perl counts, and the literature on captions reports.

The distances over a corpus are jiwer's and the BLEU is sacrebleu's, the packages of the extra ``text``;
:func:`distance` is that of one pair, without them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from itertools import zip_longest
from types import ModuleType
from typing import NamedTuple

import numpy as np

from dsd_ort.errors import DataError, InstallationError


class Edits(NamedTuple):
    """Edits from hypotheses to references, and the length of the references; both add up over a corpus."""

    edits: int
    length: int

    @property
    def rate(self) -> float:
        """Infinite where something is said and nothing should be."""
        if self.length:
            return self.edits / self.length
        return float("inf") if self.edits else 0.0


def cer(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """The character error rate of a corpus.

    Raises:
        DataError: there are not as many hypotheses as references.
        InstallationError: jiwer is not installed.
    """
    return character_edits(hypotheses, references).rate


def wer(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """The word error rate of a corpus; raises what :func:`cer` does."""
    return word_edits(hypotheses, references).rate


def character_edits(hypotheses: Sequence[str], references: Sequence[str]) -> Edits:
    """Numerator and denominator of :func:`cer`."""
    return _edits(hypotheses, references, list)


def word_edits(hypotheses: Sequence[str], references: Sequence[str]) -> Edits:
    """Numerator and denominator of :func:`wer`."""
    return _edits(hypotheses, references, lambda text: [word for word in text.split(" ") if word])


def distance(said: Sequence[int], right: Sequence[int]) -> int:
    """The Levenshtein distance of two sequences of labels; row *i* of the table is that of the first *i* labels said::

    d[i, j] = min(d[i-1, j] + 1, d[i-1, j-1] + (said[i] ≠ right[j]), d[i, j-1] + 1)
    """
    ramp, labels = np.arange(len(right) + 1), np.asarray(right)
    row = ramp
    for label in said:
        above = np.concatenate([row[:1] + 1, np.minimum(row[1:] + 1, row[:-1] + (labels != label))])
        row = np.minimum.accumulate(above - ramp) + ramp  # the third term, along the row
    return int(row[-1])


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict[int, float]:
    """BLEU-1 to BLEU-4 of a corpus, in percent; words are what stands between spaces.

    Args:
        hypotheses: one sentence an example.
        references: the right sentences of each example, one or more, not the same number for all.

    Raises:
        DataError: there are no examples, not as many hypotheses as references, or an example without a reference.
        InstallationError: sacrebleu is not installed.
    """
    _refuse_unpaired(hypotheses, references)
    empty = [i for i, right in enumerate(references) if not right]
    if empty or not references:
        what = f"example {empty[0]} has no reference" if empty else "there are no sentences to rate"
        raise DataError(
            what, where="BLEU", fix="give one right sentence or more for each example, and one example or more"
        )
    sacrebleu = require("sacrebleu")
    streams = list(zip_longest(*references))  # None where an example has fewer references than another
    found = {}
    for n in range(1, 5):
        # force: sentences that end in a separate full stop are as they should be here.
        metric = sacrebleu.BLEU(tokenize="none", smooth_method="none", max_ngram_order=n, force=True)
        found[n] = float(metric.corpus_score(list(hypotheses), streams).score)
    return found


def require(package: str) -> ModuleType:
    """An optional package of the extra ``text``.

    Raises:
        InstallationError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InstallationError(
            f"{package} is not installed, which rates text",
            where="this Python environment",
            fix='pip install "dsd-ort[text]"',
        ) from error


def _edits(hypotheses: Sequence[str], references: Sequence[str], split: Callable[[str], list[str]]) -> Edits:
    jiwer = require("jiwer")
    _refuse_unpaired(hypotheses, references)
    said, right = [split(text) for text in hypotheses], [split(text) for text in references]
    # jiwer 3 refuses empty references, and what to do about them is no question.
    paired = [(s, r) for s, r in zip(said, right, strict=True) if r]
    count = sum(len(s) for s, r in zip(said, right, strict=True) if not r)
    if paired:
        found = jiwer.process_words([r for _, r in paired], [s for s, _ in paired], _as_they_are, _as_they_are)
        count += found.substitutions + found.deletions + found.insertions
    return Edits(count, sum(map(len, right)))


def _as_they_are(sentences: list[list[str]]) -> list[list[str]]:
    """In place of jiwer's transforms, which cut spaces off."""
    return sentences


def _refuse_unpaired(hypotheses: Sequence[str], references: Sequence[object]) -> None:
    if len(hypotheses) != len(references):
        raise DataError(
            f"there are {len(hypotheses)} hypotheses and {len(references)} references",
            fix="give one hypothesis and its reference for each example",
        )
