"""Max pooling: the builder's MaxPoolGrad reads all sizes but the batch's from the static shape."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dsd_ort.graph.legalize.rules.pooling import along_columns, checked_pads
from dsd_ort.rewrite.site import Site


def max_pool(site: Site) -> ir.Value | Sequence[ir.Value] | None:
    """MaxPool; where the image size is known at run time only, a GatherElements at MaxPool's indices"""
    checked_pads(site)
    x = site.input(0)
    fixed = all(isinstance(d, int) for d in site.shape(x)[1:])
    column_major = site.node.attributes.get_int("storage_order", 0) == 1
    if fixed and not column_major:
        return None
    y, indices = site.several("MaxPool", 2, x, **site.attributes("storage_order"))
    if not fixed:
        picked = site.GatherElements(site.Reshape(x, [-1]), site.Reshape(indices, [-1]), axis=0)
        y = site.Reshape(picked, site.Shape(indices))
    return y, (along_columns(site) if column_major else None) or indices
