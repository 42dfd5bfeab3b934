"""torchvision's networks, for the corpus of models and for tests."""

from __future__ import annotations

import sys
from typing import Any

import torch


def torchvision_models() -> Any:
    """torchvision.models, also where torchvision's wheel is for another build of PyTorch than the one that is here.

    Its native operators are then missing; importing it needs two of them declared, and no network here calls them.
    """
    try:
        import torchvision.models
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for module in [m for m in sys.modules if m.startswith("torchvision")]:
            del sys.modules[module]
        import torchvision.models
    return torchvision.models
