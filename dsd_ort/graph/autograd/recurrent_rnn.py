"""The recurrence of a plain RNN; :mod:`~dsd_ort.graph.autograd.recurrent` has the notation."""

from __future__ import annotations

from typing import NamedTuple

from dsd_ort.graph.autograd.recurrent import Activation, Recurrence, named, product_of_steps
from dsd_ort.rewrite.autograd import Operator, operator


class Cell(NamedTuple):
    """One direction of an RNN: h = σ(g + h′·Rᵀ); backward, dx = (dh + dy) ⊙ σ′(x) and dh′ = dx·R."""

    recurrence: Recurrence
    sigma: Activation

    def operator(self) -> Operator:
        """(g, r, h0, m) → y, l, a: f32[T, N, H], b."""
        return operator("RNN", forward=self._forward(), backward=self._backward())

    def _forward(self) -> str:
        layer = self.recurrence
        body = f"""{named("h", "gt", mt=layer.lengths)} => (h1, yt, at, bt) {{
            {layer.from_step_before("gt", "x")} {layer.clipped("x", "at")} {self.sigma.value("at", "n")}
            {layer.chosen("n", "h", "h1")} {layer.chosen("n", "zero", "yt")} bt = Identity (h)
        }}"""
        return f"""{named("g", "r", "h0", m=layer.lengths)} => (y, l, a, b) {{
            {layer.constants} {layer.scan(("end", "y", "a", "b"), ("h0",), ("g", *layer.mask), body)}
            {layer.last("end", "l")}
        }}"""

    def _backward(self) -> str:
        layer = self.recurrence
        body = f"""{named("dh", "dyt", "at", mt=layer.lengths)} => (dh1, dxt) {{
            {self.sigma.value("at", "n")} {layer.slope(self.sigma, "at", "n")}
            {layer.chosen("dyt", "zero", "new")} e = Add (new, dh)
            {layer.dx} = Mul (e, n_d) {layer.to_step_before("e")}
        }}"""
        return f"""{named(*layer.arrived, "a", "b", "r", "h0", m=layer.lengths)} => (dg, dr, dh0) {{
            {layer.constants} {layer.gradients(y="b", l="h0")} {layer.last("dl", "dh_last")} {layer.turned}
            {layer.scan(("dh0", "dg"), ("dh_last",), ("dy", "a", *layer.mask), body, backward=True)}
            {product_of_steps("dg", "b", "dr")}
        }}"""
