"""LSTM, GRU and RNN in the precision of their inputs, as ONNX writes them, step by step.

ONNX's reference evaluator has no lengths, no activations but the default ones, no clip and no coupled gates, and takes
float32 only for some kinds.  What ONNX leaves open is as ONNX Runtime has it: sequences of length 0 end in zeros, and
clip is for the arguments of gates only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx.reference.op_run import OpRun

Array = npt.NDArray[Any]
Function = Callable[[Array], Array]

FUNCTIONS: dict[str, Callable[[Array, float, float], Any]] = {
    "Affine": lambda x, a, b: a * x + b,
    "Elu": lambda x, a, b: np.where(x >= 0, x, a * np.expm1(np.minimum(x, 0))),
    "HardSigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "LeakyRelu": lambda x, a, b: np.where(x >= 0, x, a * x),
    "Relu": lambda x, a, b: np.maximum(x, 0),
    "ScaledTanh": lambda x, a, b: a * np.tanh(b * x),
    "Sigmoid": lambda x, a, b: 1 / (1 + np.exp(-x)),
    "Softplus": lambda x, a, b: np.log1p(np.exp(x)),
    "Softsign": lambda x, a, b: x / (1 + np.where(x >= 0, x, -x)),
    "Tanh": lambda x, a, b: np.tanh(x),
    "ThresholdedRelu": lambda x, a, b: np.where(x >= a, x, 0),
}
ALPHA = {"Affine": 1.0, "Elu": 1.0, "HardSigmoid": 0.2, "LeakyRelu": 0.01, "ScaledTanh": 1.0, "ThresholdedRelu": 1.0}
BETA = {"Affine": 0.0, "HardSigmoid": 0.5, "ScaledTanh": 1.0}


class Recurrent(OpRun):
    """What the three have in common; a kind has its default activations, its number of states, and a step."""

    op_domain = ""
    defaults: tuple[str, ...]
    states: int

    def step(self, functions: Sequence[Function], a: dict[str, Any], x: Array, *states: Array) -> tuple[Array, ...]:
        """The states after one step, h first: x ``[n, inputs]`` and states ``[n, H]`` are those of n sequences.

        *a* has W, R, B, P of one direction, and attributes.
        """
        raise NotImplementedError  # GRU, LSTM and RNN each have theirs

    def _run(self, X: Array, W: Array, R: Array, *others: Any, **attributes: Any) -> tuple[Array, ...]:  # noqa: N803
        B, lengths, *initial, P = [*others, *[None] * 5][:5]  # noqa: N806 - ONNX's names
        if attributes.get("layout"):
            X, initial = X.swapaxes(0, 1), [s if s is None else s.swapaxes(0, 1) for s in initial]  # noqa: N806
        steps, batch, directions, hidden = len(X), X.shape[1], len(W), R.shape[2]
        lengths = np.full(batch, steps) if lengths is None else np.asarray(lengths, np.int64)
        y = np.zeros((steps, directions, batch, hidden), X.dtype)
        last = np.zeros((self.states, directions, batch, hidden), X.dtype)
        functions = list(self._functions(directions, attributes))
        for d in range(directions):
            names = {"W": W, "R": R, "B": B, "P": P}
            a = attributes | {k: None if v is None else v[d] for k, v in names.items()} | {"H": hidden}
            own = functions[d * len(self.defaults) : (d + 1) * len(self.defaults)]
            for i, state in enumerate(initial[: self.states]):
                last[i, d] = 0 if state is None else state[d]
            for t in range(lengths.max(initial=0)):
                rows = np.flatnonzero(lengths > t)  # the sequences that go on
                times = lengths[rows] - 1 - t if attributes["direction"] == "reverse" or d == 1 else t
                states = self.step(own, a, X[times, rows], *last[:, d, rows])
                last[:, d, rows] = states
                y[times, d, rows] = states[0]
        last[:, :, lengths == 0] = 0
        if attributes.get("layout"):
            y, last = y.transpose(2, 0, 1, 3), last.transpose(0, 2, 1, 3)
        return (y, *last)[: len(self.onnx_node.output)]

    def _functions(self, directions: int, attributes: dict[str, Any]) -> Iterator[Function]:
        alphas = list(attributes.get("activation_alpha") or [])
        betas = list(attributes.get("activation_beta") or [])
        clip = attributes.get("clip") or np.inf
        known = {name.lower(): name for name in FUNCTIONS}  # ONNX Runtime takes the names in any case of letters
        for i, given in enumerate(attributes.get("activations") or self.defaults * directions):
            name = known[given.lower()]
            alpha = (alphas.pop(0) if alphas else ALPHA[name]) if name in ALPHA else 0.0
            beta = (betas.pop(0) if betas else BETA[name]) if name in BETA else 0.0
            bound = np.inf if i % len(self.defaults) == 2 else clip  # the third is h of an LSTM
            yield lambda x, f=FUNCTIONS[name], a=alpha, b=beta, c=bound: f(np.clip(x, -c, c), a, b)  # type: ignore[misc]


class LSTM(Recurrent):
    defaults, states = ("Sigmoid", "Tanh", "Tanh"), 2

    def step(self, functions: Sequence[Function], a: dict[str, Any], x: Array, *states: Array) -> tuple[Array, ...]:
        f, g, output = functions
        h, c = states
        wb, rb = (0, 0) if a["B"] is None else np.split(a["B"], 2)
        xi, xo, xf, xc = np.split(x @ a["W"].T + h @ a["R"].T + wb + rb, 4, axis=1)
        pi, po, pf = (0, 0, 0) if a["P"] is None else np.split(a["P"], 3)
        i = f(xi + pi * c)
        forget = 1 - i if a.get("input_forget") else f(xf + pf * c)
        new = forget * c + i * g(xc)
        return f(xo + po * new) * output(new), new


class GRU(Recurrent):
    defaults, states = ("Sigmoid", "Tanh"), 1

    def step(self, functions: Sequence[Function], a: dict[str, Any], x: Array, *states: Array) -> tuple[Array, ...]:
        f, g = functions
        (h,) = states
        wz, wr, wh = np.split(x @ a["W"].T, 3, axis=1)
        rz, rr, rh = np.split(a["R"], 3)
        bz, br, bh, cz, cr, ch = np.zeros((6, a["H"])) if a["B"] is None else np.split(a["B"], 6)
        z, r = f(wz + h @ rz.T + bz + cz), f(wr + h @ rr.T + br + cr)
        inner = r * (h @ rh.T + ch) if a.get("linear_before_reset") else (r * h) @ rh.T + ch
        return ((1 - z) * g(wh + inner + bh) + z * h,)


class RNN(Recurrent):
    defaults, states = ("Tanh",), 1

    def step(self, functions: Sequence[Function], a: dict[str, Any], x: Array, *states: Array) -> tuple[Array, ...]:
        (h,) = states
        wb, rb = (0, 0) if a["B"] is None else np.split(a["B"], 2)
        return (functions[0](x @ a["W"].T + h @ a["R"].T + wb + rb),)
