"""An ONNX file that says which word follows, run by ONNX Runtime.

The model takes words i64[N, T] and, with axis 0 as the example, what sentences are about; it gives scores f32[N, T, V].
A file may have the batch in another axis, as words i64[T, N], where the names of its dimensions say so.
Where T is fixed in the file, the words are padded to it, and what is said about the padding is not read: that is right
for every model that looks only backwards, as recurrent ones and transformers under a causal mask do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from dsd_ort import runtime
from dsd_ort.decode import words as sentences
from dsd_ort.decode.likelihood import Hypothesis, Scores
from dsd_ort.decode.words import Inputs
from dsd_ort.errors import DataError, ModelError, nearest
from dsd_ort.fields import batch_axes


class Captioner:
    """A session on a model of words; :mod:`dsd_ort.decode.words` has what its searches do.

    Args:
        model: an ONNX file, or the model.
        words: the name of the input that takes the words.
        output: the name of the output that has the scores; may be left out where the model has only one.
        threads: of ONNX Runtime; 0 means one a core.

    Raises:
        ModelError: the model has no such input or output, or does not run.
    """

    def __init__(
        self,
        model: str | Path | onnx.ModelProto,
        *,
        words: str = "words",
        output: str | None = None,
        threads: int = 0,
    ) -> None:
        self.where = "the model" if isinstance(model, onnx.ModelProto) else os.fspath(model)
        source = model if isinstance(model, onnx.ModelProto) else self.where
        self.session = runtime.session(source, runtime.session_options(threads), where=self.where)
        self.inputs = {value.name: value for value in self.session.get_inputs()}
        outputs = [value.name for value in self.session.get_outputs()]
        self.words = self._one_of(self.inputs, words, "input", "words")
        if output is None and len(outputs) > 1:
            raise ModelError(
                f"the model has {len(outputs)} outputs: {', '.join(outputs)}",
                where=self.where,
                fix='name the one that has the scores, as output="…"',
            )
        self.output = self._one_of(outputs, output or outputs[0], "output", "output")
        shapes = {value.name: tuple(value.shape) for value in (*self.session.get_inputs(), *self.session.get_outputs())}
        found = batch_axes({name: shapes[name] for name in self.inputs}, [shapes[self.output]])
        self.axes = dict(found.axes) if found.certain else {}
        """Input or output → the axis of the batch, where that is not the first."""
        if self.axes and found.name in shapes[self.output]:
            self.axes[self.output] = shapes[self.output].index(found.name)

    def _one_of(self, names: Iterable[str], name: str, kind: str, argument: str) -> str:
        if name not in names:
            fix = nearest(name, names) or f"give {argument}=, one of {', '.join(names)}"
            raise ModelError(f"the model has no {kind} {name!r}", where=self.where, fix=fix)
        return name

    def __call__(self, words: npt.NDArray[np.int64], inputs: Inputs) -> Scores:
        """The scores f32[M, T, V] for words i64[M, T] of M examples.

        Raises:
            DataError: an input is missing, is none of the model's, or does not fit; or the sentence gets too long.
        """
        others = [name for name in self.inputs if name != self.words]
        beside = f"give {' and '.join(others) or 'nothing'} beside {self.words}"
        for name in [*inputs, *others]:
            if name not in others:
                what, fix = f"the model has no input {name!r} beside its words", nearest(name, others) or beside
                raise DataError(what, where=self.where, fix=fix)
            if name not in inputs:
                raise DataError(f"the model's input {name!r} is not given", where=self.where, fix=beside)
        binding = self.session.io_binding()
        for name, array in {**inputs, self.words: self._padded(words)}.items():
            placed = np.moveaxis(self._as_declared(name, array), 0, self.axes.get(name, 0)) if array.ndim else array
            binding.bind_cpu_input(name, np.ascontiguousarray(placed))
        binding.bind_output(self.output, "cpu")
        runtime.run(self.session, binding, where=self.where)
        scores: Scores = binding.copy_outputs_to_cpu()[0]
        scores = np.moveaxis(scores, self.axes.get(self.output, 0), 0) if scores.ndim else scores
        return scores[:, : words.shape[1]] if scores.ndim > 1 else scores

    def greedy(self, inputs: Inputs, *, start: int, end: int, limit: int, never: Sequence[int] = ()) -> list[list[int]]:
        """The most probable next word each time; see :func:`dsd_ort.decode.words.greedy`."""
        return sentences.greedy(self, inputs, start=start, end=end, limit=limit, never=never)

    def beam(
        self,
        inputs: Inputs,
        *,
        start: int,
        end: int,
        limit: int,
        width: int = 5,
        alpha: float = 0.0,
        never: Sequence[int] = (),
    ) -> list[list[Hypothesis]]:
        """The best sentences, the best first; see :func:`dsd_ort.decode.words.beam`."""
        return sentences.beam(self, inputs, start=start, end=end, limit=limit, width=width, alpha=alpha, never=never)

    def _padded(self, words: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        shape = self.inputs[self.words].shape
        steps = shape[1 - self.axes.get(self.words, 0)] if len(shape) == 2 else None
        room = steps if isinstance(steps, int) else words.shape[1]
        if words.shape[1] > room:
            raise DataError(
                f"the model takes {room} words, and {words.shape[1]} are said",
                where=f"{self.where}, input {self.words!r}",
                fix=f"give limit={room - 1} or less, or export the model with a symbolic length",
            )
        return np.pad(words, ((0, 0), (0, room - words.shape[1])))

    def _as_declared(self, name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """*array* in the type of the model's input, where only its precision differs."""
        declared = self.inputs[name].type.removeprefix("tensor(").removesuffix(")")
        dtype = np.dtype({"float": "float32", "double": "float64"}.get(declared, declared))
        if not np.can_cast(array.dtype, dtype, "same_kind"):
            raise DataError(
                f"the input {name!r} holds {array.dtype}, and the model takes {dtype}",
                where=self.where,
                fix=f"give it as .astype({dtype.name!r}), as the model was trained",
            )
        return array.astype(dtype, copy=False)
