"""What ``dsd-ort inspect`` prints: a table and lines for people, plain data for ``--json``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from dsd_ort.cli.columns import show
from dsd_ort.cli.say import say, say_error
from dsd_ort.cli.tables import show_notes
from dsd_ort.errors import merged
from dsd_ort.recipe import Optimizer

if TYPE_CHECKING:
    from dsd_ort.graph.inspection import Inspection, Tensor, TrainingGraph


def inspection_data(found: Inspection) -> dict[str, Any]:
    """All that is known; ``tensors`` are parameters, then statistics."""
    total = sum(p.size for p in found.parameters)
    return {
        "model": str(found.path),
        "trainable": found.trainable,
        "parameters": total,
        "prunable": sum(p.size for p in found.parameters if p.name in found.pruned),
        "ir_version": found.ir_version,
        "opsets": dict(found.opsets),
        "producer": found.producer,
        "inputs": [_tensor_data(tensor) for tensor in found.inputs],
        "outputs": [_tensor_data(tensor) for tensor in found.outputs],
        "constants": [
            {"name": tensor.name, "type": tensor.dtype, "shape": list(tensor.shape), "why": tensor.why}
            for tensor in found.constants
        ],
        "loss": None if found.loss is None else {"name": found.loss.name, "output": found.loss.output},
        "rewrites": [{"node": note.node, "what": note.words} for note in found.rewrites],
        "notes": [msgspec.to_builtins(note) for note in found.notes if note.kind != "rewrite"],
        "refusals": [{"what": error.what, "where": error.where, "fix": error.fix} for error in found.refusals],
        "training_graph": None if found.training_graph is None else _training_graph_data(found.training_graph),
        "tensors": [
            {
                "name": p.name,
                "shape": list(p.shape),
                "type": p.dtype,
                "role": p.role,
                "layer": p.layer,
                "storage": p.storage,
                "share": p.size / total if p.role != "statistic" else 0.0,
                "prunable": p.name in found.pruned,
                "zeros": _zeros(found, p.name),
                "aliases": list(p.aliases),
            }
            for p in (*found.parameters, *found.statistics)
        ],
    }


def _zeros(found: Inspection, name: str) -> int | None:
    """How many numbers of a weight are zero; None where nobody has read them, as training is refused."""
    known = found.source is not None and found.trainable and found.training_graph is None
    return int(found.source.numbers[name].zeros) if known and found.source is not None else None


def _training_graph_data(graph: TrainingGraph) -> dict[str, Any]:
    return {
        "labels": list(graph.labels),
        "gradients": sorted(graph.gradients),
        "optimizer": None if graph.optimizer is None else msgspec.to_builtins(graph.optimizer),
    }


def _tensor_data(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "type": tensor.dtype, "shape": None if tensor.shape is None else list(tensor.shape)}


def show_inspection(found: Inspection, *, verbose: bool = False) -> None:
    """The parameters by layer, the signature, and what training makes of it; *verbose* names every node."""
    data = inspection_data(found)
    if data["tensors"]:
        _show_parameters(found, data)
    versions = ", ".join(f"{domain or 'opset'} {version}" for domain, version in data["opsets"].items())
    by = f", made by {found.producer}" if found.producer else ""
    say(f"{found.path.name}: {versions}, IR version {found.ir_version}{by}")
    for kind, tensors in (("input", found.inputs), ("output", found.outputs)):
        for tensor in tensors:
            read = ""
            if kind == "output" and found.training_graph is not None:
                read = "   ← its own loss reads it"
            elif kind == "output" and found.loss is not None and tensor.name == found.loss.output:
                read = f"   ← a loss reads it; {found.loss.name} fits" + _how_to_choose(found)
            say(f"  {kind} {tensor.name!r}: {tensor.dtype} {_sizes(tensor.shape)}{read}")
    if found.training_graph is not None:
        _show_training_graph(found, found.training_graph)
    _show_constants(found, verbose)
    if found.trainable:
        if not found.notes:
            say("  for training, nothing is rewritten")
        show_notes(found.notes, verbose=verbose)
        say(f"next: dsd-ort check {found.path}   proves that it trains")
    else:
        _show_refusals(found)
        if found.notes:
            say("what else training rewrites in it:")
            show_notes(found.notes, verbose=verbose)


def _show_constants(found: Inspection, verbose: bool) -> None:
    """What is stored where no gradient arrives, so that a weight among it does not go unnoticed; *verbose* names also
    the constants that notes only count.
    """
    unreached = [tensor for tensor in found.constants if not tensor.reached]
    shown = sorted(found.constants if verbose else unreached, key=lambda tensor: -math.prod(tensor.shape))
    if unreached:
        numbers = sum(math.prod(tensor.shape) for tensor in unreached)
        count = f"{len(unreached)} {'tensor' if len(unreached) == 1 else 'tensors'}, {numbers:,} numbers"
        say(f"  stored where no gradient arrives, and not trained: {count}")
    for tensor in shown if verbose else shown[:3]:
        why = f": {tensor.why}" if verbose else ""
        say(f"    {tensor.name!r}: {tensor.dtype} {_sizes(tensor.shape)}{why}")
    if not verbose and len(shown) > 3:
        say("    … (-v names all)")


def _show_training_graph(found: Inspection, graph: TrainingGraph) -> None:
    """What it brings of its own: loss, optimizer, gradients."""
    without = [p.name for p in found.parameters if p.name not in graph.gradients]
    rest = f"; none for {', '.join(without)}" if without else ""
    say("  it is a training graph of ONNX Runtime's own exporter, which is taken as it stands:")
    say(f"    loss: its own, with {', '.join(map(repr, graph.labels)) or 'no label'}")
    say(f"    gradients: for {len(graph.gradients)} of {len(found.parameters)} parameters{rest}")
    say(f"    optimizer: {_optimizer(graph)}")


def _optimizer(graph: TrainingGraph) -> str:
    if graph.optimizer is None:
        return "none; a recipe says which"
    settings = msgspec.to_builtins(graph.optimizer)
    name = settings.pop("name")
    default = msgspec.to_builtins(Optimizer(name=name))
    return ", ".join([name, *(f"{k} {v}" for k, v in settings.items() if v != default[k])])


def _show_parameters(found: Inspection, data: dict[str, Any]) -> None:
    rows, layer = [], ""
    for tensor in data["tensors"]:
        rows.append(
            [
                tensor["layer"] if tensor["layer"] != layer else "",
                tensor["name"],
                tensor["role"],
                "×".join(map(str, tensor["shape"])) or "scalar",
                tensor["type"] if tensor["type"] != "float" else "",
                "" if tensor["role"] == "statistic" else f"{100 * tensor['share']:.1f} %",
                "yes" if tensor["prunable"] else "",
                f"{100 * tensor['zeros'] / math.prod(tensor['shape']):.1f} %" if tensor["zeros"] else "",
            ]
        )
        layer = tensor["layer"]
    columns = {
        "layer": "left",
        "parameter": "left",
        "role": "left",
        "shape": "left",
        "type": "left",
        "share": "right",
        "pruned": "left",
        "zeros": "right",
    }
    if not any(tensor["zeros"] and tensor["prunable"] for tensor in data["tensors"]):
        del columns["zeros"]
        rows = [row[:-1] for row in rows]
    if all(not row[4] for row in rows):
        del columns["type"]
        rows = [row[:4] + row[5:] for row in rows]
    show(f"{found.path.name}: {data['parameters']:,} parameters", columns, rows)
    say(f"{data['prunable']:,} of the {data['parameters']:,} are in tensors that a sparse phase prunes")


def _how_to_choose(found: Inspection) -> str:
    return " (choose another with --output)" if len(found.outputs) > 1 else ""


def _sizes(shape: tuple[int | str | None, ...] | None) -> str:
    if shape is None:
        return "of unknown rank"
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def _show_refusals(found: Inspection) -> None:
    errors = merged(found.refusals)
    reasons = f"{len(errors)} {'reason' if len(errors) == 1 else 'reasons'}"
    say(f"{found.path.name} cannot be trained as it is, for {reasons}:")
    for error in errors:
        say_error(error, indent="  ")
