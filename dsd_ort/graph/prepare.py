"""Model file → Program: the graph half of the project, read from top to bottom.

source → legalize → loss → differentiate → masks → update, and the layout of the flat buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import onnx_ir as ir

from dsd_ort import runtime
from dsd_ort.errors import RecipeError, UnsupportedError
from dsd_ort.fields import Field
from dsd_ort.graph import loss as losses
from dsd_ort.graph import masks, select
from dsd_ort.graph import source as source_files
from dsd_ort.graph.differentiate import differentiate
from dsd_ort.graph.legalize import legalize, to_supported
from dsd_ort.graph.parameters import Parameter
from dsd_ort.graph.program import Manifest, Program, Slice, refuse_existing, write_program
from dsd_ort.graph.source import Source
from dsd_ort.graph.update import update_graph
from dsd_ort.recipe import Group, Recipe

ALIGNMENT = 16
"""Elements: a slice begins on a cache line of 64 bytes."""


def prepare(model: str | Path, run: str | Path, recipe: Recipe) -> Program:
    """Prepares the ONNX file *model* for training with *recipe* and writes the new run folder *run*.

    Raises:
        ModelError: the file cannot be read.
        UnsupportedError: an operator between the parameters and the loss cannot be trained.
        RecipeError: the recipe does not fit the model.
        RunError: the folder exists.
        InstallationError: this environment's ONNX Runtime cannot differentiate.
    """
    runtime.require_training_build()
    refuse_existing(Path(run))
    source = source_files.load(model)
    manifest, graphs = build(source, recipe)
    return write_program(Path(run), source, manifest, graphs)


def build(source: Source, recipe: Recipe) -> tuple[Manifest, dict[str, onnx.ModelProto]]:
    """The manifest and the four graphs, in memory; raises what :func:`prepare` does."""
    training = source_files.training_copy(source)
    inputs = data_inputs(training, source)
    wanted = [losses.output_of(training, loss) for loss in recipe.losses]
    trained = _trained(source, training, wanted, recipe)
    prunable = _prunable(trained, recipe)

    legal = legalize(training, {p.name for p in trained}, outputs=wanted, batch_norm=recipe.batch_norm)
    attached = losses.attach(legal.model, recipe.losses, legal.logits)
    _keep_outputs(legal.model, {attached.loss, *legal.statistics.values()})
    step = differentiate(legal.model, [p.name for p in trained], loss=attached.loss)
    sparse = step.model.clone()
    masks.insert(sparse, {p.name: step.gradients[p.name] for p in trained if p.name in prunable})
    shipped = evaluation(source, recipe)

    manifest = Manifest(
        model=source.path.name,
        source_digest=source.digest,
        recipe=recipe.to_dict(),
        inputs=inputs,
        labels=attached.labels,
        outputs=shipped.outputs,
        step_loss=attached.loss,
        loss=shipped.loss,
        parameters=_lay_out_parameters(source.parameters, step.gradients, prunable, recipe),
        statistics=_lay_out(source.statistics, lambda s: {"successor": legal.statistics.get(s.name, "")}),
        notes=list(legal.notes),
        graph_digests={},
    )
    graphs = {
        "step": ir.to_proto(step.model),
        "sparse": ir.to_proto(sparse),
        "update": update_graph(recipe.optimizer),
        "evaluate": shipped.graph,
    }
    return manifest, graphs


def _keep_outputs(model: ir.Model, names: set[str]) -> None:
    """Removes other outputs, and what only they need: the loss reads the logits, so a final Softmax goes."""
    model.graph.outputs[:] = [value for value in model.graph.outputs if value.name in names]
    for node in reversed(model.graph):  # onnx_ir's own pass also drops outputs that gradients read
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            model.graph.remove(node, safe=True)


class Evaluation(NamedTuple):
    """The shipping graph with its weights as inputs and the loss behind it."""

    graph: onnx.ModelProto
    inputs: list[Field]
    labels: list[Field]
    outputs: dict[str, str]
    """Output that a loss reads → that loss's label."""
    loss: str


def evaluation(source: Source, recipe: Recipe) -> Evaluation:
    """What measures *source*'s weights: its own nodes, lowered only where this ONNX Runtime is too old for them.

    Raises:
        RecipeError: the recipe's losses do not fit the model.
    """
    model = to_supported(source_files.training_copy(source))
    outputs = {losses.output_of(model, loss): loss.label for loss in recipe.losses}
    inputs = data_inputs(model, source)
    attached = losses.attach(model, recipe.losses)
    return Evaluation(ir.to_proto(model), inputs, attached.labels, outputs, attached.loss)


def data_inputs(model: ir.Model, source: Source) -> list[Field]:
    """The inputs of a training copy that data must feed: all but parameters and statistics.

    Raises:
        UnsupportedError: an input that is no tensor.
    """
    own = {p.name for p in (*source.parameters, *source.statistics)}
    return [_field(value) for value in model.graph.inputs if value.name not in own]


def _field(value: ir.Value) -> Field:
    if value.dtype is None or value.shape is None:
        raise UnsupportedError(
            f"the input {value.name!r} is no tensor of a known rank",
            fix="export the model with inputs that are tensors with types and shapes",
        )
    shape = tuple(d if isinstance(d, int) else d.value for d in value.shape)
    return Field(str(value.name), value.dtype.numpy().name, shape)


def _trained(source: Source, model: ir.Model, outputs: Sequence[str], recipe: Recipe) -> list[Parameter]:
    """The parameters that the loss depends on and that the recipe does not freeze."""
    frozen = select.select(recipe.freeze, source.parameters, key="freeze")
    needed = _ancestors(model.graph, outputs)
    trained = [p for p in source.parameters if p.name in needed and p.name not in frozen]
    if not trained:
        raise UnsupportedError(
            "there is nothing to train: no output that a loss reads depends on a parameter that is not frozen",
            where=f"{source.path}, output {', '.join(outputs)}",
            fix="name another output with --output, or freeze less; dsd-ort inspect lists the parameters",
        )
    return trained


def _ancestors(graph: ir.Graph, outputs: Iterable[str]) -> set[str | None]:
    """The names of the graph's inputs that *outputs* are computed from."""
    wanted = set(outputs)
    stack = [value for value in graph.outputs if value.name in wanted]
    seen: set[ir.Value] = set()
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        if (node := value.producer()) is not None:
            stack.extend(v for v in node.inputs if v is not None)
            # What a subgraph reads from outside counts as read by its node.
            inner = (n for a in node.attributes.values() for g in _graphs(a) for n in g.all_nodes())
            stack.extend(v for n in inner for v in n.inputs if v is not None)
    return {value.name for value in seen if value.producer() is None}


def _graphs(attribute: ir.Attr) -> list[ir.Graph]:
    if attribute.type == ir.AttributeType.GRAPH:
        return [attribute.as_graph()]
    return list(attribute.as_graphs()) if attribute.type == ir.AttributeType.GRAPHS else []


def _prunable(trained: Sequence[Parameter], recipe: Recipe) -> set[str]:
    """The names of the parameters that a sparse phase prunes: by role, then as the recipe includes and excludes."""
    rules = recipe.prune
    chosen = {p.name for p in trained if p.prunable}
    chosen -= select.select(rules.exclude, trained, key="prune.exclude")
    chosen |= select.select(rules.include, trained, key="prune.include")
    select.select(rules.layers, trained, key="prune.layers")
    if not chosen and any(phase.kind == "sparse" for phase in recipe.phase):
        raise RecipeError(
            "the recipe has a sparse phase, but no parameter may be pruned",
            where="recipe, prune",
            fix="exclude less, or name parameters in prune.include; dsd-ort inspect lists them",
        )
    return chosen


def _lay_out_parameters(
    parameters: Sequence[Parameter], gradients: dict[str, str], prunable: set[str], recipe: Recipe
) -> list[Slice]:
    """Slices in the order prunable, other trained, frozen; within these by group, then as in the graph."""
    groups = recipe.optimizer.groups
    for group in groups:
        select.select(group.match, parameters, key="optimizer.groups")
    settings = [*groups, Group(match=())]

    def group_of(parameter: Parameter) -> int:
        hits = (i for i, g in enumerate(groups) if any(select.matches(s, parameter) for s in g.match))
        return next(hits, len(groups))

    def rank(parameter: Parameter) -> tuple[bool, bool, int]:
        return parameter.name not in gradients, parameter.name not in prunable, group_of(parameter)

    def describe(parameter: Parameter) -> dict[str, Any]:
        group = settings[group_of(parameter)]
        return {
            "prunable": parameter.name in prunable,
            "trained": parameter.name in gradients,
            "weight_decay": recipe.optimizer.weight_decay if group.weight_decay is None else group.weight_decay,
            "learning_rate_factor": group.learning_rate_factor,
            "successor": gradients.get(parameter.name, ""),
        }

    return _lay_out(sorted(parameters, key=rank), describe)


def _lay_out(parameters: Iterable[Parameter], describe: Callable[[Parameter], dict[str, Any]]) -> list[Slice]:
    """Slices one behind the other, each on a cache line; *describe* gives what else is known of them."""
    slices, offset = [], 0
    for parameter in parameters:
        where: dict[str, Any] = {
            "name": parameter.name,
            "shape": parameter.shape,
            "offset": offset,
            "size": parameter.size,
        }
        slices.append(Slice(**where, role=parameter.role, layer=parameter.layer, **describe(parameter)))
        offset += -(-parameter.size // ALIGNMENT) * ALIGNMENT
    return slices
