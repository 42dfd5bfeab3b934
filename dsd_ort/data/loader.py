"""Data from Python: an object, or ``module:function`` with a module that can be imported from the current folder.

The function is one of two kinds:

- ``def load()`` returns a dict of arrays ``[N, …]``, a tuple of arrays with the labels last, or an object with
  ``__len__`` and ``__getitem__(i)``, which gives example *i* as a dict or tuple of arrays without the batch axis.
  Where examples differ along axes that the model leaves open, they are filled up at the end to the longest of their
  batch: inputs with 0, labels with ``loss.ignore_index``.  For ``data.bucket``, the object has an attribute
  ``lengths``, a number for each example; arrays have one of that name.
- ``def stream(epoch, seed)`` yields the batches of one epoch, each a dict or tuple of arrays with the batch as axis
  0; shuffling and the size of batches are its own business.  The same epoch and seed must give the same batches: a
  run that resumes in the middle of an epoch calls it again and passes over the batches that it has seen.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dsd_ort.data.source_forms import Arrays, Examples, Stream, calling
from dsd_ort.errors import DataError, nearest

_SPEC = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")
_KINDS = (
    "give a dict of arrays, a tuple of arrays, an object with __len__ and __getitem__, "
    "or a function with the parameters epoch and seed that yields batches"
)


def is_spec(text: str) -> bool:
    """Whether *text* reads ``module:function``."""
    return _SPEC.fullmatch(text) is not None


def open_spec(spec: str) -> Arrays | Examples | Stream:
    """What ``module:function`` gives.  The current folder goes to the front of ``sys.path`` and stays there.

    Raises:
        DataError: no such module or function, an error inside it, or a result of no known kind.
    """
    module_name, _, name = spec.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    with calling(spec, f"importing {module_name}"):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name and f"{module_name}.".startswith(f"{error.name}."):
                fix = f"run from the folder that holds {error.name}.py, or install it"
                raise DataError(f"there is no module {error.name!r}", where=spec, fix=fix) from error
            raise
    if not hasattr(module, name):
        functions = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        fix = nearest(name, functions) or "it has: " + (", ".join(functions) or "no function")
        raise DataError(f"{module_name} has no {name!r}", where=str(module.__file__), fix=fix)
    return from_python(getattr(module, name), spec)


def from_python(value: Any, where: str) -> Arrays | Examples | Stream:
    """A value of one of the kinds above, or a function that returns one.

    Raises:
        DataError: a value of another kind, or an error inside the function.
    """
    if callable(value) and (isinstance(value, type) or not _is_data(value)):
        parameters = _parameters(value)
        if {"epoch", "seed"} <= parameters.keys():
            return Stream(value, where)
        optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if needed := [n for n, p in parameters.items() if p.default is p.empty and p.kind not in optional]:
            what = f"the function takes {', '.join(needed)}"
            raise DataError(what, where=where, fix="let it take nothing and return arrays, or take epoch and seed")
        with calling(where, "the function"):
            value = value()
    if isinstance(value, Mapping):
        return Arrays({str(name): partial(np.asarray, array) for name, array in value.items()}, where)
    if isinstance(value, (tuple, np.ndarray)):
        arrays = value if isinstance(value, tuple) else (value,)
        return Arrays({f"#{i}": partial(np.asarray, array) for i, array in enumerate(arrays)}, where)
    if _is_data(value) and not isinstance(value, (str, bytes)):
        lengths = partial(getattr, value, "lengths") if hasattr(value, "lengths") else None
        return Examples(value, where, lengths=lengths)
    raise DataError(f"a value of type {type(value).__name__} is no data", where=where, fix=_KINDS)


def _is_data(value: Any) -> bool:
    return hasattr(value, "__len__") and hasattr(value, "__getitem__")


def _parameters(function: Any) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except ValueError:  # some built-in callables have no signature
        return {}
