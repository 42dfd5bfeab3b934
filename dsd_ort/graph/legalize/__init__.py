"""What has no gradient rule, or behaves otherwise in training, becomes what has one and behaves so.

Requires a training copy: a model whose parameters and running statistics are inputs.  Ensures opset 18, IR version 10,
training behaviour of batch norm and dropout, and that every operator between a trainable input and an output is one
whose gradient is right by the builder that will differentiate (:mod:`dsd_ort.graph.differentiate`); but for batch norm
and dropout the model computes what it computed before.  What cannot be had is refused here, by name: ONNX Runtime's
builder ends the process on some graphs and is silently wrong on others.

The steps: :mod:`opset` (one opset), :mod:`precision` (one floating-point type), :mod:`expand` (fused and quantised
operators), :mod:`written_out` (one operator that exporters write as several), :mod:`loops` (Loops that are Scans), the
rules of :mod:`table`, each a function of one node in the file of its family (:mod:`walk` goes from node to node, and
into bodies), and for ONNX Runtime's builder those of :mod:`native`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir
from onnx_ir.passes.common import RemoveInitializersFromInputsPass, RemoveUnusedNodesPass, ShapeInferencePass

from dsd_ort.errors import ModelError, UnsupportedError, nearest
from dsd_ort.graph.differentiate import REACHES
from dsd_ort.graph.differentiate.judge import refusals as of_path
from dsd_ort.graph.legalize import native, precision
from dsd_ort.graph.legalize.expand import expand, refuse_stored_forms, unpaired
from dsd_ort.graph.legalize.loops import to_scans
from dsd_ort.graph.legalize.native import bugs
from dsd_ort.graph.legalize.opset import to_opset, to_supported
from dsd_ort.graph.legalize.table import RULES
from dsd_ort.graph.legalize.walk import Walk
from dsd_ort.graph.legalize.written_out import as_one
from dsd_ort.graph.logits import Logits, peel
from dsd_ort.notes import Note
from dsd_ort.recipe.names import BuilderName
from dsd_ort.rewrite import autograd, names
from dsd_ort.rewrite.autograd import Operator
from dsd_ort.rewrite.names import place
from dsd_ort.rewrite.operators import facts
from dsd_ort.rewrite.path import Path

__all__ = ["Legalized", "legalize", "refuse_stored_forms", "to_supported"]


@dataclass(frozen=True)
class Legalized:
    """A model that can be differentiated; its outputs are the wanted ones, then the new running statistics."""

    model: ir.Model
    statistics: dict[str, str]
    """Running statistic, an input of the model → the output that holds its value after this step."""
    trained: tuple[str, ...]
    """The trainable inputs that a gradient reaches."""
    notes: tuple[Note, ...]
    """Which inputs no gradient reaches, in which types it computes, and what was rewritten, one a node."""
    logits: dict[str, Logits]
    """Wanted output → where a loss attaches: the value in front of a final Softmax or Sigmoid, or itself."""


def legalize(
    model: ir.Model,
    trainable: Iterable[str],
    *,
    outputs: Sequence[str],
    kept: Sequence[str] = (),
    batch_norm: Literal["train", "frozen"] = "train",
    frozen: Collection[str] = (),
    builder: BuilderName = "own",
) -> Legalized:
    """Rewrites *model*, in place, so that *builder* differentiates *outputs* rightly by the inputs *trainable*.

    Args:
        model: a training copy: parameters and running statistics are inputs of its graph.
        trainable: the inputs that get a gradient, where one reaches them: one at least.
        outputs: the outputs that losses read.
        kept: outputs that stay without a gradient; others, and what only they need, are removed.
        batch_norm: with statistics of the batch, or with the running statistics, as constants.
        frozen: running statistics that stay as they are, so that their batch norm is frozen whatever *batch_norm* says.
        builder: what will differentiate the model.

    Raises:
        ModelError: no such output.
        UnsupportedError: a node between a trainable input and an output has no right gradient, or stands in its way.
    """
    _refuse_unknown(outputs, model.graph)
    to_opset(model)
    graph = model.graph
    _keep_only(model, {*outputs, *kept})
    precise = precision.to_float32(model)
    refuse_stored_forms(graph)
    expanded = expand(model)
    put_as_one = as_one(model)
    trained = set(trainable)
    weights = [value for value in graph.inputs if value.name in trained]
    of_loops, loops = to_scans(model, weights) if builder == "own" else ([], {})
    refused = expanded.refused | loops
    path = Path(graph, weights, _called(graph, outputs))
    refusals = [refused[node] for node in path.nodes_within() if node in refused]
    refusals += unpaired(path, _called(graph, outputs), expanded.refused)
    path, weights, unreached = _reached(path, weights, _called(graph, outputs))
    refusals += [] if weights else unreached
    given = {place(node) for node in graph}
    walk = Walk(RULES, batch_norm, frozen)
    statistics = walk.through(path)
    refusals += walk.refusals
    notes = ([precise] if precise else []) + expanded.notes + put_as_one + of_loops + walk.notes
    operators = expanded.operators | walk.operators
    graph.outputs.extend(statistics.values())
    _settle(model, operators)
    if builder == "ort":
        walk = Walk(native.RULES)
        walk.through(Path(graph, weights, _called(graph, outputs)))
        refusals += walk.refusals
        notes += [note for note in walk.notes if note.node in given]
        operators |= walk.operators
        _settle(model, operators)
        bugs.slice_parts(Path(graph, weights, _called(graph, outputs)))
        bugs.settle_numbers(Path(graph, weights, _called(graph, outputs)))
        bugs.separate(Path(graph, weights, _called(graph, outputs)), set(weights))
        names.make_unique(model)
    path = Path(graph, weights, _called(graph, outputs))
    if not refusals:  # A rule may have shown that an output does not depend on one of its inputs.
        path, weights, late = _reached(path, weights, _called(graph, outputs))
        unreached += late
        refusals += [] if weights else unreached
    told = {error.where for error in refusals}
    refusals += [error for error in of_path(path, REACHES[builder], operators) if error.where not in told]
    _raise(refusals, notes)
    stay = [Note(kind="weights", words=f"{error.what}; it stays as it is") for error in unreached]
    return Legalized(
        model,
        {str(old.name): str(new.name) for old, new in statistics.items()},
        tuple(str(weight.name) for weight in weights),
        (*stay, *notes),
        {name: peel(model, name) for name in outputs},
    )


def _settle(model: ir.Model, operators: Mapping[str, Operator]) -> None:
    """Names, types, shapes and functions for what rules wrote."""
    autograd.add(model, operators)
    names.make_unique(model)
    ShapeInferencePass(check_type=False, strict_mode=False)(model)


def _refuse_unknown(outputs: Sequence[str], graph: ir.Graph) -> None:
    known = [str(value.name) for value in graph.outputs]
    for name in outputs:
        if name not in known:
            raise ModelError(
                f"the model has no output {name!r}", fix=nearest(name, known) or f"its outputs are {', '.join(known)}"
            )


def _called(graph: ir.Graph, outputs: Collection[str]) -> list[ir.Value]:
    """The outputs that are called so, in the graph's order."""
    return [value for value in graph.outputs if value.name in outputs]


def _keep_only(model: ir.Model, outputs: Collection[str]) -> None:
    """Removes the other outputs, and what nothing reads."""
    model.graph.outputs[:] = _called(model.graph, outputs)
    RemoveInitializersFromInputsPass()(model)
    RemoveUnusedNodesPass()(model)


def _reached(
    path: Path, weights: Sequence[ir.Value], outputs: Sequence[ir.Value]
) -> tuple[Path, list[ir.Value], list[UnsupportedError]]:
    """The path of those *weights* that a gradient reaches, these, and why it does not reach the others."""
    reached = [weight for weight in weights if path.carries(weight)]
    unreached = [_unreachable(weight, path) for weight in weights if not path.carries(weight)]
    return (Path(path.graph, reached, outputs) if unreached else path), reached, unreached


def _unreachable(weight: ir.Value, path: Path) -> UnsupportedError:
    what, fix = f"no gradient reaches the parameter {weight.name!r}", f"freeze it: freeze = [{weight.name!r}]"
    end = path.end_of(weight)
    if end is None:
        return UnsupportedError(f"{what}: no output depends on it", fix=fix)
    stops = facts(end).stops
    why = stops.why if stops else "has a derivative of zero, or none"
    front = end.inputs[0].name if end.inputs and end.inputs[0] is not None else ""
    fix = f"name a value in front of {end.op_type} with --output, as {front}, or {fix}"
    return UnsupportedError(f"{what}: {place(end)} {why}", where=place(end), fix=fix)


def _raise(refusals: Sequence[UnsupportedError], notes: Sequence[Note]) -> None:
    """All refused nodes in one error, with what else there is to tell."""
    if not refusals:
        return
    first = refusals[0]
    places = dict.fromkeys(error.where for error in refusals if error.where)
    error = UnsupportedError(first.what, where="; also ".join(places) or None, fix=first.fix)
    error.causes, error.notes = tuple(refusals), tuple(notes)
    raise error
