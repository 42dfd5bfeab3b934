"""Normalisation whose gradient reads what a node may leave out."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dsd_ort.rewrite.site import Site


def layer_norm(site: Site) -> Sequence[ir.Value] | None:
    """LayerNormalization with a bias and with names for all three outputs, which its gradient reads"""
    scale, bias = site.input(1), site.optional(2)
    if bias is not None and len(site.node.outputs) == 3:
        return None
    if bias is None:
        bias = site.ConstantOfShape(site.Shape(scale))
    return site.several("LayerNormalization", 3, site.input(0), scale, bias, **site.attributes())
