"""SymPy, loaded when onnx_ir computes with it.

onnx_ir imports it for sums and products of symbolic sizes, which nothing here forms, and it takes longer to load than
all else that an inspection imports: a quarter of a second.  So onnx_ir is given a stand-in that fetches what is asked
of it, and the module of onnx_ir that asks at once is loaded late.  Nobody else sees the stand-in: who imports SymPy
gets SymPy.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Any

PACKAGE, ASKS_AT_ONCE = "onnx_ir", "onnx_ir._symbolic_shapes"


class _StandIn(ModuleType):
    """Of a module that is imported when something of it is used first."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)


class _WithStandIn(Loader):
    """Loads as *loader* does, and what is loaded finds a stand-in for SymPy, if that is not loaded already."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        stands_in = sys.modules.setdefault("sympy", _StandIn("sympy"))
        try:
            self.loader.exec_module(module)
        finally:
            if isinstance(stands_in, _StandIn):
                del sys.modules["sympy"]


class _Finder(MetaPathFinder):
    """Finds onnx_ir as others do."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in (PACKAGE, ASKS_AT_ONCE):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _WithStandIn(spec.loader) if fullname == PACKAGE else LazyLoader(spec.loader)
        return spec


def defer() -> None:
    """From now on; nothing if onnx_ir is loaded already, or this was called before."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
