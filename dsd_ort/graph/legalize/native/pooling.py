"""Max pooling: the builder's MaxPoolGrad reads all sizes but the batch's from the static shape."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dsd_ort.rewrite.site import Site


def max_pool(site: Site) -> Sequence[ir.Value] | None:
    """MaxPool; where the image size is known at run time only, a GatherElements at MaxPool's indices"""
    x = site.input(0)
    if all(isinstance(d, int) for d in site.shape(x)[1:]):
        return None
    _, indices = site.several("MaxPool", 2, x, **site.attributes())
    picked = site.GatherElements(site.Reshape(x, [-1]), site.Reshape(indices, [-1]), axis=0)
    return site.Reshape(picked, site.Shape(indices)), indices
