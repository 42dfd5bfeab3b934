"""A prepared graph as a session on one device gets it.

In order: on CUDA the sizes of one batch (:mod:`~.specialize`); the forms that the device has and computes
fastest (:mod:`~.lower`); and where ONNX Runtime cannot train, standard operators in the place of training
operators (:mod:`~.portable`), which bring arithmetic on shapes of their own, so sizes are put in again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from dsd_ort import runtime
from dsd_ort.device import portable
from dsd_ort.device.lower import lower
from dsd_ort.device.specialize import specialize


def for_session(
    model: ir.Model,
    device: str = "cpu",
    shapes: Mapping[str, Sequence[int]] | None = None,
    *,
    deterministic: bool = False,
) -> tuple[str, ...]:
    """Gives *model* that form, in place; one line for each form that the device asked for.

    Args:
        model: a prepared graph; a step graph without mask nodes on weights (:func:`dsd_ort.graph.masks.strip_weights`).
        device: ``"cpu"`` or ``"cuda"``.
        shapes: of the batch's arrays; only CUDA asks for them.
        deterministic: forms that repeat to the bit, where there are; ``determinism`` names the rest.

    Raises:
        DataError: the shapes contradict the graph's inputs or each other.
        UnsupportedError: an operator that this ONNX Runtime does not have.
    """
    fixed = device == "cuda"
    if fixed:
        specialize(model, shapes or {})
    notes = lower(model, device, deterministic=deterministic)
    if not runtime.trains():
        portable.expand(model, device, deterministic=deterministic)
    if fixed:
        specialize(model, {})
    if fixed and not runtime.trains():  # sizes of what has just come decide on some forms
        notes += lower(model, device, deterministic=deterministic)
        specialize(model, {})
    return notes
