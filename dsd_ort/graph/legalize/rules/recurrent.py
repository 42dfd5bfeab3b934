"""Recurrent layers: what a layer's inputs give to its gates, a product over all steps; then the recurrence, an operator
with a backward of its own (:mod:`dsd_ort.graph.autograd.recurrent`), once for each direction.

Where ONNX leaves something open, or ONNX Runtime does not do what ONNX says, a layer means what ONNX Runtime computes,
which runs it in the end: clip is for the arguments of gates, not for the cell that goes into h; behind the end of a
sequence Y is 0, and a sequence without any step ends in states of 0.  Where the two disagree on a parameter of an
activation that is not given, the layer is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dsd_ort.graph.autograd import recurrent_gru, recurrent_lstm, recurrent_rnn
from dsd_ort.graph.autograd.recurrent import ACTIVATIONS, Activation, Recurrence
from dsd_ort.rewrite.operators import facts
from dsd_ort.rewrite.site import Site

LARGE = 1 << 19
"""Entries of R from which a step multiplies with R on the left.  Measured on the CPU: with 8 to 64 sequences up to 1.6
times as fast, and slower with smaller weights, or with one sequence."""

_DEFAULTS = {"Elu": (1.0, 0.0), "HardSigmoid": (0.2, 0.5), "LeakyRelu": (0.01, 0.0)}
"""Alpha and beta that ONNX and ONNX Runtime agree on, where they are not given."""


def lstm(site: Site) -> Sequence[ir.Value]:
    """LSTM as a scan over time with a backward of its own, once for each direction

    With G = X·Wᵀ + Wb + Rb outside; the algebra is :class:`~dsd_ort.graph.autograd.recurrent_lstm.Cell`'s.
    """
    layer = _Layer(site, "Sigmoid", "Tanh", "Tanh")
    peepholes, coupled = site.optional(7) is not None, site.node.attributes.get_int("input_forget", 0) != 0
    made = []
    inputs = zip(*map(layer.directions, map(site.optional, (1, 2, 3, 7))), layer.first(5), layer.first(6), strict=True)
    for i, (w, r, b, p, h0, c0) in enumerate(inputs):
        sigma, phi, psi = layer.activations[i]
        cell = recurrent_lstm.Cell(layer.recurrence(i), sigma, phi, psi, peepholes, coupled)
        g = layer.to_gates(w, layer.summed(b))
        made.append(site.call(cell.operator(), *_present(g, r, h0, c0, p, layer.mask)))
    return layer.outputs(made)


def gru(site: Site) -> Sequence[ir.Value]:
    """GRU as a scan over time with a backward of its own, once for each direction

    With G = X·Wᵀ + Wb + Rb outside, but for Rb where the reset gate is linear: there it belongs to the recurrence.
    The algebra is that of :mod:`dsd_ort.graph.autograd.recurrent_gru`.
    """
    layer = _Layer(site, "Sigmoid", "Tanh")
    linear = site.node.attributes.get_int("linear_before_reset", 0) != 0
    made = []
    inputs = zip(*map(layer.directions, map(site.optional, (1, 2, 3))), layer.first(5), strict=True)
    for i, (w, r, b, h0) in enumerate(inputs):
        cell: recurrent_gru.LinearBeforeReset | recurrent_gru.ResetBeforeLinear
        if linear:
            zeros = np.zeros(3 * layer.hidden, np.float32)
            of_w, of_r = (None, zeros) if b is None else site.several("Split", 2, b, axis=0, num_outputs=2)
            cell = recurrent_gru.LinearBeforeReset(layer.recurrence(i), *layer.activations[i])
            inner = _present(layer.to_gates(w, of_w), r, of_r, h0, layer.mask)
        else:
            cell = recurrent_gru.ResetBeforeLinear(layer.recurrence(i), *layer.activations[i])
            inner = _present(layer.to_gates(w, layer.summed(b)), r, h0, layer.mask)
        made.append(site.call(cell.operator(), *inner))
    return layer.outputs(made)


def rnn(site: Site) -> Sequence[ir.Value]:
    """RNN as a scan over time with a backward of its own, once for each direction

    With G = X·Wᵀ + Wb + Rb outside; the algebra is :class:`~dsd_ort.graph.autograd.recurrent_rnn.Cell`'s.
    """
    layer = _Layer(site, "Tanh")
    made = []
    inputs = zip(*map(layer.directions, map(site.optional, (1, 2, 3))), layer.first(5), strict=True)
    for i, (w, r, b, h0) in enumerate(inputs):
        cell = recurrent_rnn.Cell(layer.recurrence(i), *layer.activations[i])
        g = layer.to_gates(w, layer.summed(b))
        made.append(site.call(cell.operator(), *_present(g, r, h0, layer.mask)))
    return layer.outputs(made)


def _present(*values: Any) -> list[Any]:
    return [value for value in values if value is not None]


class _Layer:
    """The node of *site* with what all kinds of layer have: inputs by direction, time first, and its attributes."""

    def __init__(self, site: Site, *functions: str) -> None:
        self.site = site
        attributes = site.node.attributes
        direction = attributes.get_string("direction", "forward")
        self.reverse = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
        self.batch_first = attributes.get_int("layout", 0) == 1
        self.hidden = attributes.get_int("hidden_size", 0) or site.size(site.input(2), -1)
        self.large = facts(site.node).gates * self.hidden**2 >= LARGE
        clip = attributes.get_float("clip", 0.0)
        self.clip = clip if 0 < clip < math.inf else None
        self.activations = self._activations(functions)
        x = site.input(0)
        self.x = site.Transpose(x, perm=[1, 0, 2]) if self.batch_first else x
        self.rows = site.Flatten(self.x, axis=2)
        self.mask = self._mask()

    def recurrence(self, direction: int) -> Recurrence:
        carried = map(self.site.path.carries, self.site.node.outputs)
        arriving = tuple(name for name, carries in zip("yle", carried, strict=False) if carries)
        return Recurrence(self.reverse[direction], self.clip, self.mask is not None, arriving, self.large)

    def _activations(self, functions: tuple[str, ...]) -> list[list[Activation]]:
        """Those of each direction."""
        attributes, site = self.site.node.attributes, self.site
        names = list(attributes.get_strings("activations", functions * len(self.reverse)))
        fold = str if site.node.op_type == "RNN" else str.lower  # ONNX Runtime takes the latter in any case of letters.
        known = {fold(name): name for name in ACTIVATIONS}
        count = len(functions)
        names = names[: count * len(self.reverse)]  # RNN names one for each direction, whatever directions there are.
        unknown = [name for name in names if fold(name) not in known]
        if unknown or len(names) < count * len(self.reverse):
            what = f"the activation {unknown[0]!r}, which ONNX does not know" if unknown else "too few activations"
            raise site.refusal(f"has {what}", f"use {', '.join(ACTIVATIONS)}")
        names = [known[fold(name)] for name in names]
        alphas, betas = (self._parameters(names, which, index) for index, which in enumerate(("alpha", "beta")))
        made = [Activation(*values) for values in zip(names, alphas, betas, strict=True)]
        return [made[i : i + count] for i in range(0, len(made), count)]

    def _parameters(self, names: Sequence[str], which: str, index: int) -> list[float]:
        """A value for each activation: those that have this parameter take the given values in order."""
        given = [float(v) for v in self.site.node.attributes.get_floats(f"activation_{which}", [])]
        values, left = [], list(given)
        for i, name in enumerate(names):
            needed = which in ACTIVATIONS[name].parameters
            default = _DEFAULTS[name][index] if name in _DEFAULTS else None
            value = (left.pop(0) if left else default) if needed else 0.0
            # ONNX Runtime's RNN counts directions, not the activations that have one, and its defaults are 0.
            other = (given[i] if i < len(given) else 0.0) if self.site.node.op_type == "RNN" else value
            if value is None or (needed and value != other):
                raise self.site.refusal(
                    f"has no {which} for its activation {name}, where ONNX and ONNX Runtime do not take the same",
                    f"give activation_{which} in the model, a value for each activation",
                )
            values.append(value)
        return values

    def _mask(self) -> ir.Value | None:
        """Whether a step is one of the sequence, bool[T, N, 1]."""
        site, lengths = self.site, self.site.optional(4)
        if lengths is None:
            return None
        steps = site.Range(0, site.Squeeze(site.Shape(self.x, start=0, end=1), [0]), 1)
        inside = site.Less(site.Unsqueeze(steps, [1]), site.Cast(lengths, to=ir.DataType.INT64))
        return site.Unsqueeze(inside, [2])

    def directions(self, value: ir.Value | None, axis: int = 0) -> Sequence[ir.Value | None]:
        """The parts of an input that belong to each direction, without that axis."""
        if value is None:
            return [None] * len(self.reverse)
        parts = [value] if len(self.reverse) == 1 else self.site.several("Split", 2, value, axis=axis, num_outputs=2)
        return [self.site.Squeeze(part, [axis]) for part in parts]

    def first(self, index: int) -> Sequence[ir.Value]:
        """The states [N, H] of input *index* that the directions begin with; zeros where there is none."""
        given = self.site.optional(index)
        if given is not None:
            return self.directions(given, 1 if self.batch_first else 0)  # type: ignore[return-value]
        batch = self.site.Shape(self.x, start=1, end=2)
        shape = self.site.Concat(batch, [self.hidden], axis=0)
        zeros = ir.tensor(np.zeros(1, np.float32))
        return [self.site.ConstantOfShape(shape, value=zeros) for _ in self.reverse]

    def to_gates(self, w: ir.Value, bias: ir.Value | None) -> ir.Value:
        """X·Wᵀ + bias, [T, N, KH]."""
        site = self.site
        product = site.Gemm(self.rows, w, *([bias] if bias else []), transB=1)
        return site.Reshape(product, site.Concat(site.Shape(self.x, start=0, end=2), [-1], axis=0))

    def outputs(self, made: Sequence[Sequence[ir.Value]]) -> list[ir.Value]:
        """What replaces Y, Y_h and Y_c, from the outputs of each direction's operator."""
        site, results = self.site, []
        for i, old in enumerate(site.node.outputs):
            if not old.name:  # an absent output; what replaces it takes its name
                old.name = f"{site.node.name}/{i}"
            axis = 0 if i else 1  # of the directions
            parts = [site.Unsqueeze(outputs[i], [axis]) for outputs in made]
            y = parts[0] if len(parts) == 1 else site.Concat(*parts, axis=axis)
            results.append(site.Transpose(y, perm=[1, 0, 2] if i else [2, 0, 1, 3]) if self.batch_first else y)
        return results

    def summed(self, bias: ir.Value | None) -> ir.Value | None:
        """Wb + Rb from [Wb | Rb]."""
        if bias is None:
            return None
        return self.site.ReduceSum(self.site.Reshape(bias, [2, -1]), [0], keepdims=0)
