"""What an event of a journal is: its keys and their types, so that nobody who reads one meets something else."""

from __future__ import annotations

from typing import Any

import msgspec

_NUMBER = int | float
_METRICS = dict[str, float]
_KEYS: dict[str, Any] = {
    "event": str,
    "step": int,
    "time": float,
    "phase": int,
    "phases": int,
    "kind": str,
    "sparsity": float | None,
    "sparsity_from": float,
    "epochs": _NUMBER | None,
    "steps": int | None,
    "examples": int | None,
    "data": str,
    "eval_data": str | None,
    "device": str,
    "precision": str,
    "threads": int,
    "versions": dict[str, str],
    "left": str,
    "list": str,
    "suspects": int,
    "name": str,
    "metrics": _METRICS,
    "epoch": int,
    "loss": float,
    "learning_rate": float,
    "examples_per_second": float,
    "waiting": float,
    "done": int,
    "of": int,
    "train_loss": float,
    "best": bool,
    "silent": list[str],
    "reason": str,
    "density": float,
    "densities": dict[str, float],
    "seconds": float,
    "overflows": int,
    "skipped": int,
    "keep": int,
}
"""Every key that an event may have; one key means the same in all of them."""
_NEEDED = {
    "data": ("examples",),
    "measured": ("name", "metrics"),
    "phase": ("phase", "kind"),
    "masks": ("phase", "sparsity"),
    "suspects": ("phase", "suspects", "left"),
    "progress": ("phase", "loss", "time"),
    "epoch": ("phase", "epoch", "train_loss", "metrics", "best"),
    "phase-end": ("phase", "kind", "metrics", "density", "seconds"),
    "resume": ("keep",),
    "end": (),
}
"""Event → what it always has, beside ``event`` and ``step``."""


def is_event(value: object) -> bool:
    """Whether *value* is an event, with keys and types that one has."""
    if not isinstance(value, dict) or not isinstance(value.get("event"), str) or value["event"] not in _NEEDED:
        return False
    if set(value) - set(_KEYS) or {"step", *_NEEDED[value["event"]]} - set(value):
        return False
    try:
        for key, found in value.items():
            msgspec.convert(found, _KEYS[key])
    except msgspec.ValidationError:
        return False
    return all((value.get(key) or 0) >= 0 for key in ("step", "phase", "keep", "epoch", "examples", "done"))
