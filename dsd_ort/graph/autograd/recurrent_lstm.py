"""The recurrence of an LSTM; :mod:`~dsd_ort.graph.autograd.recurrent` has the notation."""

from __future__ import annotations

from typing import NamedTuple

from dsd_ort.graph.autograd.recurrent import Activation, Recurrence, named, product_of_steps
from dsd_ort.rewrite.autograd import Operator, operator


class Cell(NamedTuple):
    """One direction of an LSTM.

    Gates, in ONNX's order i, o, f, q (its c), with peepholes p (zero where there are none)::

        i = σ(g_i + h′·R_iᵀ + p_i ⊙ c′)     f = σ(g_f + h′·R_fᵀ + p_f ⊙ c′), or 1 - i where they are coupled
        q = φ(g_q + h′·R_qᵀ)                c = f ⊙ c′ + i ⊙ q
        o = σ(g_o + h′·R_oᵀ + p_o ⊙ c)      h = o ⊙ ψ(c)

    Backward, with dh and dc from the step behind and dy from outside, let e = dh + dy; then::

        dx_o = e ⊙ ψ(c) ⊙ σ′(x_o)           d = dc + e ⊙ o ⊙ ψ′(c) + dx_o ⊙ p_o, all that arrives at c
        dx_i = d ⊙ q ⊙ σ′(x_i)              dx_f = d ⊙ c′ ⊙ σ′(x_f)
        dx_q = d ⊙ i ⊙ φ′(x_q)              (coupled: dx_i = d ⊙ (q - c′) ⊙ σ′(x_i), dx_f = 0)
        dh′ = dx·R                          dc′ = d ⊙ f + dx_i ⊙ p_i + dx_f ⊙ p_f
    """

    recurrence: Recurrence
    sigma: Activation
    phi: Activation
    psi: Activation
    peepholes: bool = False
    coupled: bool = False
    """The forget gate is 1 - i."""

    def operator(self) -> Operator:
        """(g, r, h0, c0: f32[N, H], p: f32[3H], m) → y, l, e (c as h in l), a: f32[T, N, 4H], b, s (c′ as h′ in b)."""
        return operator("LSTM", forward=self._forward(), backward=self._backward())

    def _forward(self) -> str:
        layer, seen = self.recurrence, self.peepholes
        arguments = named("g", "r", "h0", "c0", p=seen, m=layer.lengths)
        plain = not seen and layer.clip is None and not self.coupled
        x, x_i, x_o, x_f, x_q = ("at", "a_i", "a_o", "a_f", "a_q") if plain else ("x", "x_i", "x_o", "x_f", "x_q")
        body = f"""{named("h", "c", "gt", mt=layer.lengths)} => (h1, c1, yt, at, bt, st) {{
            {layer.from_step_before("gt", x)}
            {x_i}, {x_o}, {x_f}, {x_q} = Split <axis = 1, num_outputs = 4> ({x})
            {"" if plain else self._argument("i", "c")} {self.sigma.value("a_i", "i")}
            {"" if plain else self._argument("f", "c")} {self._forget}
            {"" if plain else layer.clipped("x_q", "a_q")} {self.phi.value("a_q", "q")}
            {_NEW_CELL}
            {"" if plain else self._argument("o", "v")} {self.sigma.value("a_o", "o")}
            {self.psi.value("v", "w")} n = Mul (o, w)
            {layer.chosen("n", "h", "h1")} {layer.chosen("v", "c", "c1")}
            {layer.chosen("n", "zero", "yt")} bt = Identity (h) st = Identity (c)
            {"" if plain else "at = Concat <axis = 1> (a_i, a_o, a_f, a_q)"}
        }}"""
        return f"""{arguments} => (y, l, e, a, b, s) {{
            {layer.constants} {_PEEPHOLES if seen else ""}
            {layer.scan(("end", "end_c", "y", "a", "b", "s"), ("h0", "c0"), ("g", *layer.mask), body)}
            {layer.last("end", "l")} {layer.last("end_c", "e")}
        }}"""

    @property
    def _forget(self) -> str:
        return "f = Sub (one, i)" if self.coupled else self.sigma.value("a_f", "f")

    def _argument(self, gate: str, cell: str) -> str:
        """Text: a_*gate* from x_*gate*, with what the gate sees of the *cell*."""
        if not self.peepholes:
            return self.recurrence.clipped(f"x_{gate}", f"a_{gate}")
        seen = f"w_{gate} = Mul ({cell}, p_{gate}) u_{gate} = Add (x_{gate}, w_{gate})"
        return f"{seen} {self.recurrence.clipped(f'u_{gate}', f'a_{gate}')}"

    def _backward(self) -> str:
        layer, seen = self.recurrence, self.peepholes
        arguments = named(*layer.arrived, "a", "b", "s", "r", "h0", "c0", p=seen, m=layer.lengths)
        input_gate = "apart = Sub (q, c) i_w = Mul (d, apart)" if self.coupled else "i_w = Mul (d, q)"
        forget_gate = (
            "x_f = Mul (x_i, zero)"
            if self.coupled
            else f"{layer.slope(self.sigma, 'a_f', 'f')} f_w = Mul (d, c) x_f = Mul (f_w, f_d)"
        )
        through = "c_i = Mul (x_i, p_i) c_f = Mul (x_f, p_f) c_s = Add (c_i, c_f) kept = Add (c_k, c_s)"
        body = f"""{named("dh", "dc", "dyt", "at", "c", mt=layer.lengths)} => {named("dh1", "dc1", "dxt", zt=seen)} {{
            a_i, a_o, a_f, a_q = Split <axis = 1, num_outputs = 4> (at)
            {self.sigma.value("a_i", "i")} {layer.slope(self.sigma, "a_i", "i")}
            {self.sigma.value("a_o", "o")} {layer.slope(self.sigma, "a_o", "o")}
            {self.phi.value("a_q", "q")} {layer.slope(self.phi, "a_q", "q")}
            {self._forget} {_NEW_CELL} {self.psi.value("v", "w")} {self.psi.slope("v", "w", "w_d")}
            {layer.chosen("dyt", "zero", "new")} e = Add (new, dh)
            o_w = Mul (e, w) x_o = Mul (o_w, o_d)
            w_w = Mul (e, o) c_w = Mul (w_w, w_d) c_d = Add (dc, c_w)
            {"c_o = Mul (x_o, p_o) d = Add (c_d, c_o)" if seen else "d = Identity (c_d)"}
            {input_gate} x_i = Mul (i_w, i_d) {forget_gate}
            q_w = Mul (d, i) x_q = Mul (q_w, q_d)
            c_k = Mul (d, f) {through if seen else "kept = Identity (c_k)"}
            {layer.dx} = Concat <axis = 1> (x_i, x_o, x_f, x_q) {layer.to_step_before("e")}
            {layer.chosen("kept", "dc", "dc1")} {"zt = Identity (v)" if seen else ""}
        }}"""
        results = ["dh0", "dc0", "dg", *(["z"] if seen else [])]
        return f"""{arguments} => {named("dg", "dr", "dh0", "dc0", dp=seen)} {{
            {layer.constants} {_PEEPHOLES if seen else ""} {layer.gradients(y="b", l="h0", e="c0")}
            {layer.last("dl", "dh_last")} {layer.last("de", "dc_last")} {layer.turned}
            {layer.scan(results, ("dh_last", "dc_last"), ("dy", "a", "s", *layer.mask), body, backward=True)}
            {product_of_steps("dg", "b", "dr")}
            {_PEEPHOLE_GRADIENTS if seen else ""}
        }}"""


_PEEPHOLES = "p_i, p_o, p_f = Split <axis = 0, num_outputs = 3> (p)"

_NEW_CELL = "old = Mul (f, c) written = Mul (i, q) v = Add (old, written)"
"""Text: c, called v, from c′, called c."""

_PEEPHOLE_GRADIENTS = """
            dx_i, dx_o, dx_f, dx_q = Split <axis = 2, num_outputs = 4> (dg)
            by_i = Mul (dx_i, s) by_o = Mul (dx_o, z) by_f = Mul (dx_f, s)
            by = Concat <axis = 2> (by_i, by_o, by_f)
            steps = Constant <value_ints = [0, 1]> () dp = ReduceSum <keepdims = 0> (by, steps)"""
"""Text: dp_i = Σ dx_i ⊙ c′, dp_o = Σ dx_o ⊙ c, dp_f = Σ dx_f ⊙ c′ over all steps and sequences."""
