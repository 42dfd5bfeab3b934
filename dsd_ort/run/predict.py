"""What a model says of each example, without labels: its outputs, and what they mean by the loss that it is used with.

::

    cross-entropy      believed: the class with the highest score, one a label      probability: softmax there
    bce-with-logits    believed: 1 where the score is above 0                       probability: of that
    ctc                believed: the text of the best path
    losses on values   the outputs are the values
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from copy import copy
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from dsd_ort.data import Dataset, counted, prefetch
from dsd_ort.recipe import Loss, LossName
from dsd_ort.run.evaluate import LOGITS, Evaluator, shown_value
from dsd_ort.run.metrics import Answers
from dsd_ort.run.scoring import log_softmax, texts

Values = npt.NDArray[Any]


class Predicted(NamedTuple):
    """One entry an example, in the order of the data."""

    outputs: dict[str, Values]
    """Output of the model → ``[N, …]``; where examples differ in length, behind the shorter ones NaN or 0."""
    believed: Values | None = None
    """Classes i64, ``[N]`` or ``[N, …]``; yes or no as 1 and 0; texts.  None of losses on values."""
    probability: Values | None = None
    """What the model gives ``believed``, f64 of its shape; None of texts."""
    names: Sequence[str] | None = None
    """Of the files that examples come from."""


class _Said(NamedTuple):
    believed: Values | None = None
    probability: Values | None = None


def predict(evaluator: Evaluator, data: Dataset) -> Predicted:
    """What the model of *evaluator* says of all of *data*, which need have no labels.

    Raises:
        DataError: see :meth:`Evaluator.batches`, and what gathering an example raises.
    """
    says, loss = SAYS.get(evaluator.recipe.losses[0].name), evaluator.recipe.losses[0]
    parts = [
        ({name: value for name, value in found.items() if name != LOGITS}, says(answers) if says else _Said())
        for found, answers in _answers(evaluator, loss, data)
    ]
    outputs = {name: _joined([part[name] for part, _ in parts]) for name in parts[0][0]}
    columns: list[list[Values]] = [[value for _, said in parts if (value := said[i]) is not None] for i in range(2)]
    believed, probability = (_joined(column) if column else None for column in columns)
    return Predicted(outputs, believed, probability, None if data.examples is None else counted(data).names)


def _answers(evaluator: Evaluator, loss: Loss, data: Dataset) -> Iterator[tuple[dict[str, Values], Answers]]:
    other, lengths = copy(evaluator), evaluator.lengths
    other.graph = other.sessions(lambda: _answering(evaluator))
    names = [str(value.name) for value in _answering(evaluator).graph.outputs]
    with closing(prefetch(evaluator.memory.send(batch) for batch in evaluator.batches(data))) as stream:
        for sent in stream:
            found = other.fetch(sent, names)
            of = {**sent.arrays, **found}
            label = np.zeros((len(found[LOGITS]), 0))
            counts = of[lengths] if lengths else None
            answers = Answers(found[LOGITS], label, loss, lengths=counts, alphabet=evaluator.recipe.data.alphabet)
            yield found, answers


def _answering(evaluator: Evaluator) -> ir.Model:
    """The evaluate graph without loss and labels; with the value that the loss reads, in float32, as an output."""
    model = evaluator.graph.load()
    labels = {field.name for field in evaluator.fields if field.label}
    shown = shown_value(model, evaluator.recipe.losses[0], evaluator.output)
    model.graph.outputs[:] = [*(value for value in model.graph.outputs if value.name != evaluator.loss), shown]
    RemoveUnusedNodesPass()(model)
    model.graph.inputs[:] = [value for value in model.graph.inputs if value.name not in labels]
    return model


def _classes(answers: Answers) -> _Said:
    scores = np.moveaxis(answers.output, answers.loss.axis_of_classes(answers.output.ndim), -1)
    logp = log_softmax(scores)
    return _Said(logp.argmax(-1), np.exp(logp.max(-1)))


def _yes_or_no(answers: Answers) -> _Said:
    x = answers.output.astype(np.float64)
    x = x[:, 0] if x.ndim == 2 and x.shape[1] == 1 else x
    return _Said((x > 0).astype(np.int64), 1 / (1 + np.exp(-np.abs(x))))


def _text(answers: Answers) -> _Said:
    return _Said(texts(answers.said, answers.alphabet))


SAYS: dict[LossName, Callable[[Answers], _Said]] = {
    "cross-entropy": _classes,
    "bce-with-logits": _yes_or_no,
    "ctc": _text,
}


def _joined(parts: Sequence[Values]) -> Values:
    """One behind the other; axes that differ in length are filled up."""
    rank = max(part.ndim for part in parts)
    sizes = [max(part.shape[axis] for part in parts) for axis in range(1, rank)]
    fill = np.nan if parts[0].dtype.kind == "f" else 0
    if parts[0].dtype.kind in "US":
        return np.concatenate(parts)
    widths = [[(0, 0), *((0, size - n) for size, n in zip(sizes, part.shape[1:], strict=True))] for part in parts]
    return np.concatenate([np.pad(p, w, constant_values=fill) for p, w in zip(parts, widths, strict=True)])
