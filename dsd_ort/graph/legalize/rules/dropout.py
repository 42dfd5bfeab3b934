"""Dropout: in training y = x · mask / (1 - ratio), where each entry of the mask is 1 with probability 1 - ratio.

Exporters leave Dropout in evaluation mode, where it is Identity (many drop it altogether: then there is nothing to make
active).  ONNX Runtime needs the mask's name for the gradient.  The node gets no seed of its own: it then draws from the
process-wide generator, which a run seeds before each step, so that a resumed run draws the same masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.site import Site


def activate(site: Site) -> ir.Value | Sequence[ir.Value]:
    """Active in training, with the file's ratio"""
    ratio = site.optional(1)
    known = constant_value(ratio) if ratio is not None else np.float32(0.5)
    if known is not None and known == 0 and not site.node.outputs[1:]:
        return site.Identity(site.input(0))
    return site.several("Dropout", 2, site.input(0), 0.5 if ratio is None else ratio, np.asarray(True))
