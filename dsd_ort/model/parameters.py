"""Parameters: the tensors that training changes.

A *parameter* is a floating-point tensor, of the main graph or of a branch of If in it, that a gradient of an output
arrives at, in the role of where it sits (:mod:`dsd_ort.model.roles`), unless it is recognisably a *constant*
(:mod:`dsd_ort.model.constants`).  Two tensors that are the same bytes (``Identity(initializer)``,
equal places in an external file) are tied: one parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from dsd_ort.errors import ModelError, UnsupportedError
from dsd_ort.file import contents
from dsd_ort.file.tensors import Filled, Place, identity
from dsd_ort.model.appearance import is_even
from dsd_ort.model.constants import Seen, constant
from dsd_ort.model.products import axes
from dsd_ort.model.roles import PRUNABLE_ROLES, Use, uses
from dsd_ort.rewrite.flattened import flatten

UNMERGED = "PyTorch: torch.onnx.export with optimize=False, or with keep_initializers_as_inputs=True if dynamo=False"
"""How a network that was never trained, in which many tensors are equal, is exported with all of them."""


@dataclass(frozen=True)
class Parameter:
    """A tensor that training changes."""

    name: str
    """The graph value that carries it: an initializer's name, or a Constant or ConstantOfShape node's output.

    In a subgraph with the way to it in front, where another graph has a value of this name:
    ``If_3.then_branch/weight``."""
    shape: tuple[int, ...]
    role: str
    layer: str
    """Operator and name of the first node that uses it, for people: ``Conv conv1``."""
    storage: str
    """``initializer``, ``constant`` or ``constant-of-shape``."""
    first_conv: bool = False
    """A kernel that a model input reaches through no other matrix product."""
    aliases: tuple[str, ...] = ()
    """Other values that are always equal to it."""
    dtype: str = "float"
    """Its type in the file, as ONNX calls it: ``float``, ``float16``, ``bfloat16`` or ``double``."""
    others: tuple[str, ...] = ()
    """The other nodes that use it, called as :attr:`layer` is."""
    axes: tuple[int, int] | None = None
    """Those of its shape that are the outputs and the inputs of the product that it is a factor of; None where that is
    not known, or two nodes do not agree."""

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def prunable(self) -> bool:
        return self.role in PRUNABLE_ROLES


@dataclass(frozen=True)
class Constant:
    """A tensor that training could change, and does not unless the recipe says so."""

    parameter: Parameter
    """What it would be."""
    why: str
    """What it is, in words for people."""


def inlined(model: ir.Model) -> ir.Model:
    """*model*, changed: without functions of its own."""
    try:
        InlinePass()(model)
    except (RuntimeError, ValueError) as error:
        raise UnsupportedError(
            f"the model's own functions cannot be put into its graph: {error}",
            where=", ".join(name for _, name, _ in model.functions),
            fix="export the model without functions",
        ) from error
    model.functions.clear()
    return model


def find(
    model: ir.Model, places: Mapping[str, Place], file: contents.File, *, judged: bool = True
) -> Iterator[Parameter | Constant]:
    """Parameters, statistics and constants, in the order in which the graph uses them.

    Args:
        model: the graph; it stays as it is.
        places: where tensors are stored.
        file: that they are stored in.
        judged: whether their numbers are looked at, to tell constants; otherwise there are none.

    Raises:
        UnsupportedError: a weight that shares bytes with another tensor; a statistic that is also
            something else; functions that cannot be inlined.
        ModelError: a weight without data for all of its elements.
    """
    graph = inlined(model.clone()).graph if model.functions else model.clone().graph
    flatten(graph)
    groups: dict[object, list[Use]] = {}
    for use in uses(graph, places, file.path):
        groups.setdefault(identity(places[use.name]), []).append(use)
    _refuse_overlaps(groups, file)
    kinds = [(group[0].role, places[group[0].name]) for group in groups.values()]
    norms_differ = cache(partial(_norms_differ, kinds, file.path))
    names: dict[object, list[str]] = {}
    for name, origin in {**{name: name for name in places}, **_identity_copies(graph, places)}.items():
        names.setdefault(identity(places[origin]), []).append(name)
    for key, every in groups.items():
        group = [use for use in every if use.role != "other"] or every
        first, place, roles = group[0], places[group[0].name], [use.role for use in group]
        _refuse_unusable(place, group, file.path)
        # A table that is looked up and also multiplied by (tied embeddings) is not pruned.
        role = next((role for role in roles if role not in PRUNABLE_ROLES), roles[0])
        found = Parameter(
            first.name,
            place.dims,
            role,
            first.layer,
            "constant-of-shape" if isinstance(place, Filled) else "initializer" if place.initializer else "constant",
            any(use.first_conv for use in group),
            tuple(name for name in names[key] if name != first.name),
            ir.DataType(place.dtype).name.lower(),
            tuple(dict.fromkeys(use.layer for use in group if use.layer != first.layer)),
            _axes(group, len(place.dims)) if role in PRUNABLE_ROLES else None,
        )
        seen = Seen(file.path, place, role, group, partial(_others_differ, kinds, norms_differ, place))
        why = constant(seen) if judged and role != "statistic" else None
        yield found if why is None else Constant(found, why)


def _axes(group: Sequence[Use], rank: int) -> tuple[int, int] | None:
    found = {axes(use.node, use.slot, rank) for use in group if use.role in PRUNABLE_ROLES}
    return found.pop() if len(found) == 1 else None


def _others_differ(kinds: Sequence[tuple[str, Place]], norms_differ: Callable[[], bool], place: Place) -> bool:
    """Whether norms of the file have many numbers, or its factors are initializers and *place* is a node's constant."""
    if isinstance(place, contents.Tensor) and not place.initializer:
        factors = [other for role, other in kinds if role in PRUNABLE_ROLES and isinstance(other, contents.Tensor)]
        if any(factor.initializer for factor in factors):
            return True
    return norms_differ()


def _norms_differ(kinds: Sequence[tuple[str, Place]], path: Path) -> bool:
    """Whether a norm of the file has different numbers; which *kinds* there are: roles, and where they stand."""
    norms = [other for role, other in kinds if role == "norm" and other.size > 1 and not isinstance(other, Filled)]
    return any(not is_even(path, norm) for norm in norms)


def _identity_copies(graph: ir.Graph, places: Mapping[str, Place]) -> dict[str, str]:
    """Output of an Identity → the tensor that it copies, also through several of them."""
    copies: dict[str, str] = {}
    for node in graph:
        if node.op_type == "Identity" and not node.domain and node.inputs[0] is not None:
            origin = node.inputs[0].name or ""
            origin = copies.get(origin, origin)
            if origin in places and node.outputs[0].name:
                copies[node.outputs[0].name] = origin
    return copies


def _refuse_overlaps(parameters: Collection[object], file: contents.File) -> None:
    """Refuses a parameter whose bytes in an external file are also another tensor's."""
    stored = [(tensor.external, tensor) for tensor in file.tensors if tensor.external and tensor.size]
    furthest: tuple[contents.External, contents.Tensor] | None = None
    for external, tensor in sorted(stored, key=lambda pair: (pair[0].location, pair[0].offset)):
        if not furthest or furthest[0].location != external.location:
            furthest = external, tensor
            continue
        reach, other = furthest
        if external.offset < reach.end:
            tied = identity(tensor) == identity(other) and tensor.value and other.value
            if not tied and (identity(tensor) in parameters or identity(other) in parameters):
                raise UnsupportedError(
                    f"{other.place} and {tensor.place} share bytes of {external.location!r}, but are not one tensor",
                    where=str(file.path),
                    fix="export the model again, each tensor with data of its own",
                )
        if external.end > reach.end:
            furthest = external, tensor


def _refuse_unusable(place: Place, uses: list[Use], path: Path) -> None:
    name, where = uses[0].name, f"{path}: {uses[0].layer}"
    if len({(use.role, use.slot) for use in uses}) > 1 and any(use.role == "statistic" for use in uses):
        raise UnsupportedError(
            f"the running statistic {name!r} is also {uses[1].role} of {uses[1].layer}: one tensor cannot be both",
            where=where,
            fix=f"export the model again without merging equal tensors ({UNMERGED})",
        )
    if isinstance(place, contents.Tensor) and not place.external and sum(s.numbers for s in place.spans) != place.size:
        raise ModelError(
            f"the tensor {name!r} has data for {sum(s.numbers for s in place.spans)} elements, "
            f"but its shape {list(place.dims)} takes {place.size}",
            where=f"{path}: {place.place}",
            fix="copy or export the file again",
        )
