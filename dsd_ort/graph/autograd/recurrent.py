"""The recurrences of LSTM, GRU and RNN, one direction of one layer each, as operators with a backward of their own.

Sizes: T steps, N sequences, H units, K gates.  An operator takes what the inputs give to the gates, X·Wᵀ + biases =
``g: f32[T, N, KH]``, which is one product outside, and does what is left: forward one Scan over time, which keeps the
arguments ``a`` of the gates' activations; backward one Scan over time, the other way round, which computes the gates
again from them and yields dx, the gradient of those arguments.  The way to the step before is dx·R; behind the Scan
dR = Σ dxᵀ·h′ is one product over all steps.  Memory is linear in T.

Inputs that all have: ``r: f32[KH, H]`` the recurrent weights, ``h0: f32[N, H]`` the first state, and, where sequences
have lengths, ``m: bool[T, N, 1]``, false where a sequence is over: there the state stays what it was, and y is 0.
Outputs that all have: ``y: f32[T, N, H]`` the state after each step, ``l: f32[N, H]`` the last state, 0 of a sequence
without a step; and for the backward ``a`` and ``b: f32[T, N, H]``, the state before each step.  In formulas h′ is that
state, σ′ a derivative, ⊙ the product of entries, and dv the gradient of the loss by v.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Activation(NamedTuple):
    """One of the functions that ONNX names for recurrent layers."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0

    def value(self, x: str, y: str) -> str:
        """Text that computes *y* from *x*."""
        return ACTIVATIONS[self.name].value.format(x=x, y=y, alpha=self.alpha, beta=self.beta)

    def slope(self, x: str, y: str, d: str) -> str:
        """Text that computes the derivative *d* at *x*, where the function has the value *y*."""
        product = self.alpha * self.beta
        return ACTIVATIONS[self.name].slope.format(x=x, y=y, d=d, alpha=self.alpha, beta=self.beta, product=product)


class Form(NamedTuple):
    """An activation y of x and its derivative d, in ONNX text."""

    value: str
    slope: str
    parameters: str = ""
    """Which of alpha and beta it has."""


_STEP = "{d}_p = Greater ({x}, {d}_a) {d} = Cast <to = 1> ({d}_p)"

ACTIVATIONS = {
    "Affine": Form(
        "{y}_a = Constant <value_float = {alpha}> () {y}_b = Constant <value_float = {beta}> () "
        "{y}_p = Mul ({x}, {y}_a) {y} = Add ({y}_p, {y}_b)",
        "{d}_a = Constant <value_float = {alpha}> () {d}_s = Shape ({x}) {d} = Expand ({d}_a, {d}_s)",
        "alpha beta",
    ),
    "Elu": Form(
        "{y} = Elu <alpha = {alpha}> ({x})",
        "{d}_a = Constant <value_float = {alpha}> () {d}_n = Add ({y}, {d}_a) {d}_p = Greater ({x}, zero) "
        "{d} = Where ({d}_p, one, {d}_n)",
        "alpha",
    ),
    "HardSigmoid": Form(
        "{y} = HardSigmoid <alpha = {alpha}, beta = {beta}> ({x})",
        "{d}_a = Constant <value_float = {alpha}> () {d}_l = Greater ({y}, zero) {d}_u = Less ({y}, one) "
        "{d}_i = And ({d}_l, {d}_u) {d} = Where ({d}_i, {d}_a, zero)",
        "alpha beta",
    ),
    "LeakyRelu": Form(
        "{y} = LeakyRelu <alpha = {alpha}> ({x})",
        "{d}_a = Constant <value_float = {alpha}> () {d}_p = Greater ({x}, zero) {d} = Where ({d}_p, one, {d}_a)",
        "alpha",
    ),
    "Relu": Form("{y} = Relu ({x})", "{d}_p = Greater ({x}, zero) {d} = Cast <to = 1> ({d}_p)"),
    "ScaledTanh": Form(
        "{y}_a = Constant <value_float = {alpha}> () {y}_b = Constant <value_float = {beta}> () "
        "{y}_p = Mul ({x}, {y}_b) {y}_t = Tanh ({y}_p) {y} = Mul ({y}_t, {y}_a)",
        "{d}_a = Constant <value_float = {product}> () {d}_b = Constant <value_float = {beta}> () "
        "{d}_p = Mul ({x}, {d}_b) {d}_t = Tanh ({d}_p) {d}_q = Mul ({d}_t, {d}_t) {d}_r = Sub (one, {d}_q) "
        "{d} = Mul ({d}_r, {d}_a)",
        "alpha beta",
    ),
    "Sigmoid": Form("{y} = Sigmoid ({x})", "{d}_r = Sub (one, {y}) {d} = Mul ({y}, {d}_r)"),
    "Softplus": Form("{y} = Softplus ({x})", "{d} = Sigmoid ({x})"),
    "Softsign": Form(
        "{y} = Softsign ({x})",
        "{d}_m = Abs ({x}) {d}_s = Add (one, {d}_m) {d}_q = Mul ({d}_s, {d}_s) {d} = Reciprocal ({d}_q)",
    ),
    "Tanh": Form("{y} = Tanh ({x})", "{d}_q = Mul ({y}, {y}) {d} = Sub (one, {d}_q)"),
    "ThresholdedRelu": Form(
        "{y} = ThresholdedRelu <alpha = {alpha}> ({x})",
        "{d}_a = Constant <value_float = {alpha}> () {d}_p = Greater ({x}, {d}_a) {d} = Cast <to = 1> ({d}_p)",
        "alpha",
    ),
}


class Recurrence(NamedTuple):
    """What the kinds of recurrence have in common."""

    reverse: bool = False
    """From the last step to the first."""
    clip: float | None = None
    """The arguments of gates are clipped to [-clip, clip]."""
    lengths: bool = False
    """Sequences have lengths: there is an argument m."""
    arriving: tuple[str, ...] = ("y",)
    """The outputs that a gradient arrives at."""
    large: bool = False
    """R is so large that a product with it is faster with R on the left, (R·hᵀ)ᵀ: ONNX Runtime copies the right factor
    of each product into an order of its own, and does so anew at each step."""

    @property
    def mask(self) -> list[str]:
        """The argument m, if it is there."""
        return ["m"] if self.lengths else []

    @property
    def arrived(self) -> list[str]:
        """The arguments that are gradients of outputs."""
        return [f"d{name}" for name in self.arriving]

    @property
    def constants(self) -> str:
        """Text that both functions begin with."""
        text = "one = Constant <value_float = 1.0> () zero = Constant <value_float = 0.0> ()"
        if self.clip is not None:
            text += f" low = Constant <value_float = {-self.clip}> () high = Constant <value_float = {self.clip}> ()"
        if self.lengths:
            text += " start = Constant <value_int = 0> () begun = Gather <axis = 0> (m, start)"
        return text

    def clipped(self, x: str, y: str) -> str:
        return f"{y} = Identity ({x})" if self.clip is None else f"{y} = Clip ({x}, low, high)"

    def slope(self, function: Activation, x: str, y: str) -> str:
        """Text that computes the derivative *y*_d of the gate *y* at its argument *x*, as it was kept."""
        if self.clip is None:
            return function.slope(x, y, f"{y}_d")
        inside = f"{y}_m = Abs ({x}) {y}_i = Less ({y}_m, high)"
        return f"{function.slope(x, y, f'{y}_u')} {inside} {y}_d = Where ({y}_i, {y}_u, zero)"

    def chosen(self, value: str, otherwise: str, at: str) -> str:
        """Text of a Scan's body: *at* is *value*, or *otherwise* where the sequence is over."""
        return f"{at} = Where (mt, {value}, {otherwise})" if self.lengths else f"{at} = Identity ({value})"

    def last(self, state: str, at: str) -> str:
        """Text: *at* is the last *state*, or 0 of sequences without a step."""
        return f"{at} = Where (begun, {state}, zero)" if self.lengths else f"{at} = Identity ({state})"

    def gradients(self, **likes: str) -> str:
        """Text: the gradients of outputs that none arrives at are 0; each output comes with a value of its shape."""
        return " ".join(zeros_like(x, f"d{y}") for y, x in likes.items() if y not in self.arriving)

    @property
    def dx(self) -> str:
        """What a backward Scan's body calls dx, before :meth:`to_step_before`."""
        return "x" if self.lengths else "dxt"

    def from_step_before(self, rest: str, at: str) -> str:
        """Text of a Scan's body: *at* is h·Rᵀ + *rest*."""
        if not self.large:
            return f"{at} = Gemm <transB = 1> (h, r, {rest})"
        return f"{_product('r', 'h', 'r_h')} {at} = Add (r_h, {rest})"

    def to_step_before(self, e: str, kept: str | None = None) -> str:
        """Text of a backward Scan's body: dxt, and dh1 = dx·R + *kept*; where the sequence is over, 0 and *e*."""
        text = ""
        if self.lengths:
            text = f"dxt = Where (mt, x, zero) dh_k = Where (mt, {kept or 'zero'}, {e})"
            kept = "dh_k"
        if not self.large:
            return f"{text} dh1 = Gemm (dxt, r, {kept})" if kept else "dh1 = MatMul (dxt, r)"
        return f"{text} {_product('rt', 'dxt', 'r_dx')} dh1 = {f'Add (r_dx, {kept})' if kept else 'Identity (r_dx)'}"

    @property
    def turned(self) -> str:
        """Text that a backward function has in front of its Scan."""
        return "rt = Transpose <perm = [1, 0]> (r)" if self.large else ""

    def scan(
        self,
        results: Sequence[str],
        states: Sequence[str],
        inputs: Sequence[str],
        body: str,
        *,
        backward: bool = False,
    ) -> str:
        """Text of a Scan over time in the direction of the layer.

        Args:
            results: the states after the last step, then what the body gives at each step, stacked.
            states: the first states, f32[N, H].
            inputs: what is read step by step, [T, N, …].
            body: ``(state, …, input, …) => (state, …, result, …) { … }``; the type of ``mt`` is bool, others f32.
            backward: against the direction of the layer.
        """
        flag = int(self.reverse != backward)
        arguments, _, rest = body.partition("=>")
        returned, _, nodes = rest.partition("{")
        directions = f"scan_input_directions = [{', '.join([str(flag)] * len(inputs))}]"
        if len(results) > len(states):
            stacked = ", ".join([str(flag)] * (len(results) - len(states)))
            directions += f", scan_output_directions = [{stacked}]"
        return (
            f"{', '.join(results)} = Scan <num_scan_inputs = {len(inputs)}, {directions}, "
            f"body = step {_typed(arguments)} => {_typed(returned)} {{ {nodes}> ({', '.join([*states, *inputs])})"
        )


def _product(r: str, x: str, at: str) -> str:
    return (
        f"{at}_x = Transpose <perm = [1, 0]> ({x}) {at}_y = MatMul ({r}, {at}_x) "
        f"{at} = Transpose <perm = [1, 0]> ({at}_y)"
    )


def _typed(names: str) -> str:
    listed = names.strip(" ()\n").split(",")
    return f"({', '.join(('bool' if n.strip() == 'mt' else 'float') + '[?, ?] ' + n.strip() for n in listed)})"


def product_of_steps(dx: str, h: str, at: str) -> str:
    """Text: Σ dxᵀ·h over all steps and sequences, [KH, H], of *dx* [T, N, KH] and *h* [T, N, H]."""
    return (
        f"{at}_x = Flatten <axis = 2> ({dx}) {at}_h = Flatten <axis = 2> ({h}) "
        f"{at} = Gemm <transA = 1> ({at}_x, {at}_h)"
    )


def zeros_like(x: str, at: str) -> str:
    return f"{at}_s = Shape ({x}) {at} = ConstantOfShape ({at}_s)"


def named(*names: str, **others: bool) -> str:
    """A list of arguments in ONNX text: *names*, and those of *others* that are there."""
    return f"({', '.join([*names, *(name for name, there in others.items() if there)])})"
