"""Arithmetic without a gradient of its own."""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.graph.legalize.rules.broadcast import covers
from dsd_ort.rewrite.autograd import operator
from dsd_ort.rewrite.site import Site

_REMAINDER = operator(
    "Mod",
    forward="(x, y) => (r) { r = Mod <fmod = 1> (x, y) }",
    backward="""(dr, x, y, r) => (dx, dy) {
        dx = Identity (dr)
        multiple = Sub (x, r)
        exact = Div (multiple, y)
        quotient = Round (exact)
        lost = Mul (dr, quotient)
        dy = Neg (lost)
    }""",
)
"""x mod y = x - q·y with a whole number q, whose derivative is 0 almost everywhere."""


def remainder(site: Site) -> ir.Value:
    """Mod with the derivatives 1 and minus the quotient"""
    if not site.node.attributes.get_int("fmod", 0):
        raise site.refusal("of floating-point numbers with fmod = 0 is not in ONNX Runtime", "use fmod = 1")
    x, y = site.input(0), site.input(1)
    wide = [a if covers(a, b) else site.Expand(a, site.Shape(b)) for a, b in ((x, y), (y, x))]
    return site.call(_REMAINDER, *wide)[0]
