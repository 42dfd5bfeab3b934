"""Operators with a backward of their own.

An operator is two ONNX functions, forward and backward, that know each other by the names of their arguments: in the
backward function ``x`` and ``y`` are the forward's own inputs and outputs, and ``dx``, ``dy`` their gradients::

    operator(
        "Atan",
        forward="(x) => (y) { y = Atan (x) }",
        backward="(dy, x) => (dx) { one = Constant <value_float = 1.0> () s = Mul (x, x) t = Add (s, one) "
        "dx = Div (dy, t) }",
    )

A rule of :mod:`dsd_ort.graph.legalize` puts one into the graph by ``site.call(operator, *inputs)``;
:mod:`dsd_ort.graph.differentiate` calls the backward function, and inlines both, so that a prepared graph has neither
functions nor a domain of ours.

The registry of ONNX Runtime's builder is process-wide, keeps what came first, and does not hand over a node's
attributes.  So an operator has no attributes: its functions hold them as constants, and its name ends in a digest of
both functions.

A gradient arrives at every output that ``dy`` of is an argument of the backward function: such an output must be on
the gradient path.  Outputs that exist only for the backward to read have no ``d…`` there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import onnx
import onnx.parser
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

DOMAIN = "dsd_ort"
OPSET = 18
"""Of the functions: that of :mod:`dsd_ort.graph.legalize`."""
_GRADIENT = "_grad"


class Operator(NamedTuple):
    """A forward and a backward function; inputs and outputs of the latter are named after those of the former."""

    forward: onnx.FunctionProto
    backward: onnx.FunctionProto

    @property
    def name(self) -> str:
        return self.forward.name

    @property
    def differentiable(self) -> frozenset[int]:
        """The inputs that get a gradient."""
        return frozenset(i for i, x in enumerate(self.forward.input) if f"d{x}" in self.backward.output)

    @property
    def outputs_with_gradient(self) -> frozenset[int]:
        """The outputs whose gradient the backward function reads."""
        return frozenset(i for i, y in enumerate(self.forward.output) if f"d{y}" in self.backward.input)


def operator(kind: str, *, forward: str, backward: str, opset: int = OPSET) -> Operator:
    """The operator whose functions are *forward* and *backward*, in ONNX text of *opset*: ``(x) => (y) { … }``.

    Raises:
        ValueError: an argument of the backward function is neither one of the forward's nor the gradient of one.
    """
    name = f"{kind}_{hashlib.sha256(f'{forward}{backward}{opset}'.encode()).hexdigest()[:12]}"
    made = Operator(_function(name, forward, opset), _function(f"{name}{_GRADIENT}", backward, opset))
    definition(made)
    return made


def _function(name: str, text: str, opset: int) -> onnx.FunctionProto:
    imports = f'opset_import: ["" : {opset}, "com.microsoft" : 1, "{DOMAIN}" : 1]'
    function = onnx.parser.parse_function(f'<domain: "{DOMAIN}", {imports}> {name} {text}')
    for i, node in enumerate(function.node):
        node.name = node.name or f"{node.op_type}_{i}"
    return function


def definition(made: Operator) -> tuple[list[str], list[str]]:
    """What the backward function reads and gives, as ONNX Runtime spells it: ``GO(0)``, ``I(1)``, ``GI(1)``."""
    spelled = {x: f"I({i})" for i, x in enumerate(made.forward.input)}
    spelled |= {y: f"O({i})" for i, y in enumerate(made.forward.output)}
    spelled |= {f"d{y}": f"GO({i})" for i, y in enumerate(made.forward.output)}
    gradients = {f"d{x}": f"GI({i})" for i, x in enumerate(made.forward.input)}
    unknown = (set(made.backward.input) - set(spelled)) | (set(made.backward.output) - set(gradients))
    if unknown:
        raise ValueError(f"{made.backward.name} has arguments of unknown meaning: {', '.join(sorted(unknown))}")
    return [spelled[name] for name in made.backward.input], [gradients[name] for name in made.backward.output]


def add(model: ir.Model, operators: Mapping[str, Operator]) -> None:
    """Puts the functions of *operators* into *model*."""
    for made in operators.values():
        for proto in made:
            function = ir.serde.deserialize_function(proto)
            model.functions[function.identifier()] = function
    if operators:
        model.opset_imports[DOMAIN] = 1


def of_model(model: ir.Model) -> dict[str, Operator]:
    """The operators whose functions :func:`add` put into *model*, by the keys of their nodes."""
    functions = [function for identifier, function in model.functions.items() if identifier[0] == DOMAIN]
    protos = {function.name: ir.serde.serialize_function(function) for function in functions}
    pairs = ((name.removesuffix(_GRADIENT), name) for name in protos if name.endswith(_GRADIENT))
    return {f"{DOMAIN}.{forward}": Operator(protos[forward], protos[backward]) for forward, backward in pairs}


def inline(model: ir.Model) -> None:
    """Puts the forward functions that :func:`add` put into *model* in the place of their calls, and drops them."""
    InlinePass(lambda function: function.domain == DOMAIN)(model)
    for key in [key for key in model.functions if key[0] == DOMAIN]:
        del model.functions[key]
    model.opset_imports.pop(DOMAIN, None)
