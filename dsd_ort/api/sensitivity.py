"""Which layers bear pruning, and which recipe follows from that: scan."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from glob import escape
from pathlib import Path
from typing import Any

import msgspec

from dsd_ort import runtime
from dsd_ort.api.evaluation import evaluator_of
from dsd_ort.data import open_data
from dsd_ort.errors import ModelError, RecipeError
from dsd_ort.graph import chosen_parameters, patterns
from dsd_ort.graph.manifest import Slice
from dsd_ort.graph.program import open_program
from dsd_ort.model import source as source_files
from dsd_ort.model.parameters import Parameter
from dsd_ort.recipe import LossName, Recipe
from dsd_ort.run.allocation import Curve, allocate
from dsd_ort.run.calibration import sample
from dsd_ort.run.execution import Execution
from dsd_ort.run.sensitivity import Scanner

SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
EXAMPLES = 1000


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """What pruning one weight alone does."""

    name: str
    layer: str
    role: str
    shape: tuple[int, ...]
    weights: int
    zeros: int
    """Of these, before anything was pruned."""
    pruned: tuple[int, ...]
    """How many are zero, by sparsity."""
    metrics: tuple[dict[str, float], ...]
    """By sparsity; without those that are not finite."""


class Together(msgspec.Struct, frozen=True, kw_only=True):
    """All layers pruned, so that a total is reached; nothing is retrained."""

    total: float
    """The share of all weights that may be pruned."""
    layers: dict[str, float]
    """Sparsity by weight, by equal marginal loss."""
    metrics: dict[str, float]
    """What the network then measures."""
    uniform: dict[str, float]
    """What it measures where every layer has the total."""


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """What :func:`scan` found."""

    version: int = 1
    model: str
    monitor: str
    """The metric that people look at."""
    pattern: str
    criterion: str
    examples: int
    """What was measured on."""
    seconds: float
    came: dict[str, float]
    """What the model measures as it came."""
    sparsities: tuple[float, ...]
    layers: tuple[Layer, ...]
    total: Together | None = None
    recipe: dict[str, Any]
    """The recipe, with ``prune.layers`` where a total was wanted."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def scan(
    model: str | Path,
    data: Any,
    recipe: Recipe | None = None,
    *,
    loss: LossName | None = None,
    output: str | None = None,
    phase: int | None = None,
    best: bool = False,
    sparsities: Sequence[float] | None = None,
    total: float | None = None,
    examples: int = EXAMPLES,
    device: str = "auto",
    threads: int = 0,
    listener: Callable[[str], None] = lambda text: None,
) -> Scan:
    """How much each layer bears: what the model measures when it alone is pruned, without retraining.

    Args:
        model: an ONNX file or a run folder.
        data: see :func:`train`; what is measured on, and what calibrates the criterion wanda.
        recipe: as for :func:`evaluate`; its ``prune`` says which weights, by which criterion, in which pattern.
        loss: as for :func:`evaluate`.
        output: as for :func:`evaluate`.
        phase: as for :func:`evaluate`.
        best: as for :func:`evaluate`.
        sparsities: by default 10 to 99 %; of N:M, the shares of M.
        total: the share of all weights that is to be pruned: the recipe that is found has the sparsities by layer that
            cost the least loss, see :mod:`dsd_ort.run.allocation`.
        examples: of *data* are taken, the same share of each class; 0 is all.
        device: see :func:`train`.
        threads: of ONNX Runtime; 0 means one a core.
        listener: is told what people should know, how long it will take, and each layer.

    Raises:
        RecipeError: no weight may be pruned, or not in this pattern; a sparsity or total that is none.
        ModelError, RunError, DataError: see :func:`evaluate`.
    """
    runtime.require_runtime()
    execution, began = Execution(runtime.choose_device(device), threads), time.perf_counter()
    evaluator = evaluator_of(
        model, recipe, loss=loss, output=output, phase=phase, best=best, execution=execution, listener=listener
    )
    recipe = evaluator.recipe
    wanted = _sparsities(recipe, sparsities, total)
    if "loss" not in evaluator.metrics:
        evaluator.metrics = ["loss", *evaluator.metrics]
    pieces = _pieces(model, recipe)
    opened = open_data(data, evaluator.fields, recipe.data)
    for text in opened.notes:
        listener(f"data: {text}")
    looked_at = sample(opened, examples, recipe.batch_size, recipe.seed) if examples else opened
    scanner = Scanner(evaluator, pieces, looked_at)
    came = scanner.came()
    if "loss" not in came:
        raise ModelError(
            "the model's loss is not finite as it came, so there is nothing to compare with",
            where=str(model),
            fix="look whether data and model fit, with dsd-ort evaluate",
        )
    once = time.perf_counter()
    scanner.came()
    seconds = (time.perf_counter() - once) * len(pieces) * len(wanted)
    count = "all" if looked_at.examples is None else f"{looked_at.examples:,}"
    listener(f"{len(pieces)} layers at {len(wanted)} sparsities on {count} examples: about {seconds:.0f} s")
    layers = []
    for piece in pieces:
        layers.append(_layer(scanner, piece, wanted))
        listener(f"scanned {piece.name}")
    together = None if total is None else _together(scanner, came, layers, wanted, total)
    return Scan(
        model=str(model),
        monitor=_monitor(recipe, came),
        pattern=recipe.prune.pattern,
        criterion=recipe.prune.criterion,
        examples=looked_at.examples or 0,
        seconds=round(time.perf_counter() - began, 3),
        came=came,
        sparsities=wanted,
        layers=tuple(layers),
        total=together,
        recipe=(recipe if together is None else _recipe(recipe, together)).to_dict(),
    )


def _monitor(recipe: Recipe, came: dict[str, float]) -> str:
    return "top-1" if recipe.monitor == "loss" and "top-1" in came else recipe.monitor


def _sparsities(recipe: Recipe, given: Sequence[float] | None, total: float | None) -> tuple[float, ...]:
    """Those that are tried, by rising sparsity."""
    pattern = patterns.pattern_of(recipe.prune)
    if total is not None and not 0 < total < 1:
        raise RecipeError(f"a total of {total:g} is outside (0, 1)", fix="give the share to prune, as 0.8")
    if pattern.sparsity is not None:
        if total is not None:
            fix = "leave the total out, or choose another pattern"
            raise RecipeError(f"the pattern {recipe.prune.pattern!r} says the share that is pruned", fix=fix)
        return tuple(k / pattern.second for k in range(1, pattern.second))
    found = tuple(sorted({float(s) for s in given})) if given else SPARSITIES
    for sparsity in found:
        if not 0 < sparsity < 1:
            raise RecipeError(f"a sparsity of {sparsity:g} is outside (0, 1)", fix="give shares to prune, as 0.5,0.9")
    return found


def _pieces(model: str | Path, recipe: Recipe) -> list[Slice]:
    """The weights that a sparse phase would prune.

    Raises:
        RecipeError: there are none, or one does not fit the pattern.
    """
    if Path(model).is_dir():
        program = open_program(model)
        source = program.source()
        names = {piece.name for piece in program.manifest.prunable if not piece.spared}
    else:
        source = source_files.load(model, recipe.parameters)
        names = chosen_parameters.pruned(source.parameters, recipe) - chosen_parameters.frozen(source, recipe)
    if not names:
        raise RecipeError(
            "no parameter of the model may be pruned",
            where=str(model),
            fix="exclude less, or name parameters in prune.include; dsd-ort inspect lists them",
        )
    patterns.refuse_misfits(source.parameters, names, recipe)
    return [_slice(p) for p in source.parameters if p.name in names]


def _slice(p: Parameter) -> Slice:
    axes = msgspec.UNSET if p.axes is None else p.axes
    return Slice(name=p.name, shape=p.shape, offset=0, size=p.size, role=p.role, layer=p.layer, axes=axes)


def _layer(scanner: Scanner, piece: Slice, sparsities: Sequence[float]) -> Layer:
    points = list(scanner.alone(piece.name, sparsities))
    return Layer(
        name=piece.name,
        layer=piece.layer,
        role=piece.role,
        shape=piece.shape,
        weights=piece.size,
        zeros=int((scanner.values[piece.name] == 0).sum()),
        pruned=tuple(point.zeros for point in points),
        metrics=tuple(point.metrics for point in points),
    )


def _together(
    scanner: Scanner, came: dict[str, float], layers: Sequence[Layer], sparsities: Sequence[float], total: float
) -> Together:
    def curve(layer: Layer) -> Curve:
        losses = (metrics.get("loss", math.inf) - came["loss"] for metrics in layer.metrics)
        return Curve(layer.weights, tuple(zip(sparsities, losses, strict=True)))

    shares = [round(share, 5) for share in allocate([curve(layer) for layer in layers], total)]
    found = dict(zip((layer.name for layer in layers), shares, strict=True))
    return Together(
        total=total,
        layers=found,
        metrics=scanner.together(found).metrics,
        uniform=scanner.together(dict.fromkeys(found, total)).metrics,
    )


def _recipe(recipe: Recipe, together: Together) -> Recipe:
    """*recipe* with these sparsities: of each weight, by its name, and of the phases the total."""
    layers = {escape(name): sparsity for name, sparsity in together.layers.items()}
    prune = msgspec.structs.replace(recipe.prune, layers=layers, alive=False, scope="layer")
    return msgspec.structs.replace(recipe, prune=prune).at_sparsity(together.total)
