"""What is done with a model's file alone: inspect, check, verify."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from dsd_ort import runtime
from dsd_ort.api.recipes import refuse_beside_recipe, unfitted
from dsd_ort.errors import DataError
from dsd_ort.graph import inspection
from dsd_ort.graph.inspection import Inspection
from dsd_ort.proof import Report, Request, child
from dsd_ort.recipe import BuilderName, LossName, Recipe
from dsd_ort.ship import verify as verify_files
from dsd_ort.ship.verify import Verdict


def inspect(
    model: str | Path,
    *,
    loss: LossName | None = None,
    output: str | None = None,
    builder: BuilderName | None = None,
) -> Inspection:
    """What an ONNX file holds and what training makes of it: parameters, rewrites, and what prevents training.

    Needs no data, writes nothing, and keeps no weights in memory.

    Args:
        model: an ONNX file, or a training graph of ONNX Runtime's (its folder, or its training_model.onnx); one that
            cannot be trained is inspected too, and its ``refusals`` say why.
        loss: the kind of loss; by default what fits the output.
        output: the output that the loss reads; by default the one that most weights lead to.
        builder: what differentiates the model, as the recipe's ``builder``.

    Raises:
        ModelError: the file cannot be read.
        RecipeError: the model has no such output.
        InstallationError: this environment's ONNX Runtime is none that can train, or has no such builder.
    """
    runtime.require_runtime()
    recipe = unfitted()
    if builder:
        recipe = msgspec.structs.replace(recipe, builder=builder)
    return inspection.inspect(model, recipe, loss=loss, output=output)


def check(
    model: str | Path,
    recipe: Recipe | None = None,
    *,
    loss: LossName | None = None,
    output: str | None = None,
    builder: BuilderName | None = None,
    data: Any = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seconds: float = 60.0,
    thorough: bool = False,
    threads: int = 0,
    isolate: bool = True,
    listener: Callable[[str], None] = lambda text: None,
) -> Report:
    """Proves that a model trains: each gradient against finite differences of its loss in plain inference.

    A sparse step and the exported file are checked too.  Nothing is written but temporary files.

    Args:
        model: an ONNX file, or a training graph of ONNX Runtime's, which is checked with its own loss.
        recipe: by default the default recipe, with a loss that fits the output.
        loss: without a recipe, the kind of loss.
        output: without a recipe, the output that the loss reads; by default the one that most weights lead to.
        builder: what differentiates the model, in the place of the recipe's ``builder``.
        data: see :func:`train`; by default input is made up from the model's signature.
        shapes: input → shape, for input that is made up.
        seconds: about what the check may take: more tensors are then checked together, and what is left is not checked.
        thorough: every tensor for itself, however long it takes.
        threads: of ONNX Runtime; 0 means one a core.
        isolate: in a process of its own, as native code may end it; *data* is then a path or ``"module:function"``.
        listener: is told what is being done.

    Returns:
        The report; ``.ok`` is the answer.

    Raises:
        ModelError, UnsupportedError, RecipeError: the model cannot be trained so; ``.causes`` has all reasons.
        DataError: no made-up input runs, or the data does not fit.
        NativeError: ONNX Runtime ended the process.
        InstallationError: this environment's ONNX Runtime is none that can train.
    """
    runtime.require_runtime()
    refuse_beside_recipe(recipe, loss, output)
    by_name = data is None or isinstance(data, (str, Path))
    if isolate and not by_name:
        raise DataError(
            "Python objects cannot be handed to the process that the check runs in",
            fix='give a path or "module:function", or isolate=False',
        )
    chosen = recipe or unfitted(model)
    request = Request(
        model=str(model),
        recipe=(msgspec.structs.replace(chosen, builder=builder) if builder else chosen).to_dict(),
        fit=recipe is None,
        loss=loss,
        output=output,
        data=str(data) if data is not None and by_name else None,
        shapes={name: tuple(shape) for name, shape in (shapes or {}).items()},
        seconds=seconds,
        thorough=thorough,
        threads=threads,
    )
    if isolate:
        return child.run(request, listener)
    from dsd_ort.proof import prove

    return prove.run(request, listener, None if by_name else data)


def verify(model: str | Path, final: str | Path) -> Verdict:
    """Whether *final* is *model* with nothing changed but its weights; ``.same`` is the answer.

    Raises:
        ModelError: one of the files cannot be read.
    """
    return verify_files.verify(Path(model), Path(final))
