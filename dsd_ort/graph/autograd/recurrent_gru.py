"""The recurrence of a GRU; :mod:`~dsd_ort.graph.autograd.recurrent` has the notation."""

from __future__ import annotations

from typing import NamedTuple

from dsd_ort.graph.autograd.recurrent import Activation, Recurrence, named, product_of_steps
from dsd_ort.rewrite.autograd import Operator, operator

_THREE = "<axis = 1, num_outputs = 3>"


class LinearBeforeReset(NamedTuple):
    """One direction of a GRU whose reset gate comes after the product, as in PyTorch and cuDNN.

    Gates, in ONNX's order z, r, n (its h), with recurrent biases rb::

        z = σ(g_z + h′·R_zᵀ + rb_z)         q = h′·R_nᵀ + rb_n
        r = σ(g_r + h′·R_rᵀ + rb_r)         n = φ(g_n + r ⊙ q)
        h = (1 - z) ⊙ n + z ⊙ h′

    Backward, with dh from the step behind and dy from outside, e = dh + dy; then::

        dx_z = e ⊙ (h′ - n) ⊙ σ′(x_z)       dx_n = e ⊙ (1 - z) ⊙ φ′(x_n)
        dx_r = dx_n ⊙ q ⊙ σ′(x_r)           dq = dx_n ⊙ r
        dh′ = [dx_z | dx_r | dq]·R + e ⊙ z
    """

    recurrence: Recurrence
    sigma: Activation
    phi: Activation

    def operator(self) -> Operator:
        """(g, r, rb: f32[3H], h0, m) → y, l, a: f32[T, N, 3H], b, q: f32[T, N, H]."""
        return operator("GRU", forward=self._forward(), backward=self._backward())

    def _forward(self) -> str:
        layer = self.recurrence
        body = f"""{named("h", "gt", mt=layer.lengths)} => (h1, yt, at, bt, qt) {{
            {layer.from_step_before("rb", "s")}
            s_z, s_r, qt = Split {_THREE} (s) g_z, g_r, g_n = Split {_THREE} (gt)
            x_z = Add (g_z, s_z) {layer.clipped("x_z", "a_z")} {self.sigma.value("a_z", "z")}
            x_r = Add (g_r, s_r) {layer.clipped("x_r", "a_r")} {self.sigma.value("a_r", "o")}
            u = Mul (o, qt) x_n = Add (g_n, u) {layer.clipped("x_n", "a_n")} {self.phi.value("a_n", "n")}
            at = Concat <axis = 1> (a_z, a_r, a_n)
            {_MIXED} {layer.chosen("v", "h", "h1")} {layer.chosen("v", "zero", "yt")} bt = Identity (h)
        }}"""
        return f"""{named("g", "r", "rb", "h0", m=layer.lengths)} => (y, l, a, b, q) {{
            {layer.constants} {layer.scan(("end", "y", "a", "b", "q"), ("h0",), ("g", *layer.mask), body)}
            {layer.last("end", "l")}
        }}"""

    def _backward(self) -> str:
        layer = self.recurrence
        body = f"""{named("dh", "dyt", "at", "h", "qt", mt=layer.lengths)} => (dh1, dxt, dnt) {{
            {_gradients(layer, self.sigma, self.phi)}
            by_q = Mul (x_n, qt) x_r = Mul (by_q, o_d) x_q = Mul (x_n, o)
            {layer.dx} = Concat <axis = 1> (x_z, x_r, x_q) {layer.to_step_before("e", "kept")}
            {layer.chosen("x_n", "zero", "dnt")}
        }}"""
        return f"""{named(*layer.arrived, "a", "b", "q", "r", "h0", m=layer.lengths)} => (dg, dr, drb, dh0) {{
            {layer.constants} {layer.gradients(y="b", l="h0")} {layer.last("dl", "dh_last")} {layer.turned}
            {layer.scan(("dh0", "dx", "dn"), ("dh_last",), ("dy", "a", "b", "q", *layer.mask), body, backward=True)}
            dx_z, dx_r, dq = Split <axis = 2, num_outputs = 3> (dx) dg = Concat <axis = 2> (dx_z, dx_r, dn)
            steps = Constant <value_ints = [0, 1]> () drb = ReduceSum <keepdims = 0> (dx, steps)
            {product_of_steps("dx", "b", "dr")}
        }}"""


class ResetBeforeLinear(NamedTuple):
    """One direction of a GRU as ONNX has it where linear_before_reset is 0.

    Gates, in ONNX's order z, r, n (its h)::

        z = σ(g_z + h′·R_zᵀ)                r = σ(g_r + h′·R_rᵀ)
        n = φ(g_n + (r ⊙ h′)·R_nᵀ)          h = (1 - z) ⊙ n + z ⊙ h′

    Backward, with dh from the step behind and dy from outside, e = dh + dy; then::

        dx_z = e ⊙ (h′ - n) ⊙ σ′(x_z)       dx_n = e ⊙ (1 - z) ⊙ φ′(x_n)
        d = dx_n·R_n                        dx_r = d ⊙ h′ ⊙ σ′(x_r)
        dh′ = [dx_z | dx_r]·[R_z; R_r] + d ⊙ r + e ⊙ z
    """

    recurrence: Recurrence
    sigma: Activation
    phi: Activation

    def operator(self) -> Operator:
        """(g, r, h0, m) → y, l, a: f32[T, N, 3H], b."""
        return operator("GRU", forward=self._forward(), backward=self._backward())

    def _forward(self) -> str:
        layer = self.recurrence
        body = f"""{named("h", "gt", mt=layer.lengths)} => (h1, yt, at, bt) {{
            g_z, g_r, g_n = Split {_THREE} (gt)
            x_z = Gemm <transB = 1> (h, r_z, g_z) {layer.clipped("x_z", "a_z")} {self.sigma.value("a_z", "z")}
            x_r = Gemm <transB = 1> (h, r_r, g_r) {layer.clipped("x_r", "a_r")} {self.sigma.value("a_r", "o")}
            u = Mul (o, h)
            x_n = Gemm <transB = 1> (u, r_n, g_n) {layer.clipped("x_n", "a_n")} {self.phi.value("a_n", "n")}
            at = Concat <axis = 1> (a_z, a_r, a_n)
            {_MIXED} {layer.chosen("v", "h", "h1")} {layer.chosen("v", "zero", "yt")} bt = Identity (h)
        }}"""
        return f"""{named("g", "r", "h0", m=layer.lengths)} => (y, l, a, b) {{
            {layer.constants} {_ROWS} {layer.scan(("end", "y", "a", "b"), ("h0",), ("g", *layer.mask), body)}
            {layer.last("end", "l")}
        }}"""

    def _backward(self) -> str:
        layer = self.recurrence
        body = f"""{named("dh", "dyt", "at", "h", mt=layer.lengths)} => (dh1, dxt, ut) {{
            {_gradients(layer, self.sigma, self.phi)}
            d = MatMul (x_n, r_n) by_h = Mul (d, h) x_r = Mul (by_h, o_d)
            by_o = Mul (d, o) both = Add (kept, by_o)
            back_z = Gemm (x_z, r_z, both) back = Gemm (x_r, r_r, back_z) {layer.chosen("back", "e", "dh1")}
            {layer.dx} = Concat <axis = 1> (x_z, x_r, x_n) {"dxt = Where (mt, x, zero)" if layer.lengths else ""}
            ut = Mul (o, h)
        }}"""
        return f"""{named(*layer.arrived, "a", "b", "r", "h0", m=layer.lengths)} => (dg, dr, dh0) {{
            {layer.constants} {_ROWS} {layer.gradients(y="b", l="h0")} {layer.last("dl", "dh_last")}
            {layer.scan(("dh0", "dg", "u"), ("dh_last",), ("dy", "a", "b", *layer.mask), body, backward=True)}
            dx_z, dx_r, dx_n = Split <axis = 2, num_outputs = 3> (dg) dx_zr = Concat <axis = 2> (dx_z, dx_r)
            {product_of_steps("dx_zr", "b", "dr_zr")} {product_of_steps("dx_n", "u", "dr_n")}
            dr = Concat <axis = 0> (dr_zr, dr_n)
        }}"""


_ROWS = "r_z, r_r, r_n = Split <axis = 0, num_outputs = 3> (r)"

_MIXED = "left = Sub (one, z) new = Mul (left, n) old = Mul (z, h) v = Add (new, old)"
"""Text: h, called v, from h′, called h, and the gates."""


def _gradients(layer: Recurrence, sigma: Activation, phi: Activation) -> str:
    """Text that both backward bodies begin with: e, z, r (o) and n with derivatives, dx_z, dx_n and e ⊙ z."""
    return f"""
            a_z, a_r, a_n = Split {_THREE} (at)
            {sigma.value("a_z", "z")} {layer.slope(sigma, "a_z", "z")}
            {sigma.value("a_r", "o")} {layer.slope(sigma, "a_r", "o")}
            {phi.value("a_n", "n")} {layer.slope(phi, "a_n", "n")}
            {layer.chosen("dyt", "zero", "new")} e = Add (new, dh)
            apart = Sub (h, n) by_z = Mul (e, apart) x_z = Mul (by_z, z_d)
            left = Sub (one, z) by_n = Mul (e, left) x_n = Mul (by_n, n_d)
            kept = Mul (e, z)"""
