"""Dense-Sparse-Dense training of exported ONNX models at graph level (Han et al., ICLR 2017)."""

from typing import TYPE_CHECKING, Any

from dsd_ort.errors import DsdError
from dsd_ort.recipe import Recipe

if TYPE_CHECKING:
    from dsd_ort.api import (
        Comparison,
        Diagnosis,
        check,
        compare,
        default_recipe,
        doctor,
        evaluate,
        export,
        inspect,
        phases,
        prepare,
        train,
        verify,
    )

__version__ = "0.1.0"

__all__ = [
    "Comparison",
    "Diagnosis",
    "DsdError",
    "Recipe",
    "check",
    "compare",
    "default_recipe",
    "doctor",
    "evaluate",
    "export",
    "inspect",
    "phases",
    "prepare",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    """The verbs are imported when one is used first: they need ONNX and ONNX Runtime, which take a second to load."""
    if name in __all__:
        from dsd_ort import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
