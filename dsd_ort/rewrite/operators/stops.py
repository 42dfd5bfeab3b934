"""Why no gradient passes an operator: no derivative in any framework, or none that a graph of ONNX's can express."""

from __future__ import annotations

from collections.abc import Iterable

from dsd_ort.rewrite.operators.facts import Stop

_WITHOUT = (
    "train what stands in front of it: name another output with --output; or freeze the parameters in front of it"
)

POSITIONS = Stop("yields positions, which have no derivative", _WITHOUT)
LOGIC = Stop("yields true or false, which has no derivative", _WITHOUT)
BITS = Stop("computes with bits, which have no derivative", _WITHOUT)
SIZES = Stop("yields a number of entries, which has no derivative", _WITHOUT)
MADE = Stop("makes values that depend on nothing that is trained", _WITHOUT)
DRAWN = Stop("draws random numbers, which depend on nothing that is trained", _WITHOUT)
CHOSEN = Stop("draws at random, which has no derivative", _WITHOUT)
TEXT = Stop("reads text, which has no derivative", _WITHOUT)
BYTES = Stop("reads an encoded image, which has no derivative", _WITHOUT)

CONDITION = Stop(
    "runs a subgraph by a condition that is only known with the data, which ONNX Runtime's builder cannot pass",
    "use dsd-ort's own builder; or, if the condition depends on an input that is no data, or on a length, fix it in "
    'the recipe, as [input.NAME] value = 16000, or shape = ["batch", 512]',
)
BODY = Stop(
    "runs a subgraph, which ONNX Runtime's builder cannot differentiate (it would end the process)",
    "use dsd-ort's own builder",
)
LOOP = Stop(
    "repeats a subgraph, through which a gradient passes only where it can be rewritten as a Scan",
    "give it a number of steps that does not depend on data, and no other condition; or export the model by tracing",
)
MAP = Stop(
    "maps a subgraph over a sequence, through which no gradient passes",
    "export the model by tracing, so that it computes with tensors, not sequences",
)
SEQUENCES = Stop(
    "handles a sequence of tensors that is known at run time only, through which no gradient passes",
    "export the model so that it splits and concatenates tensors, not sequences",
)
OPTIONALS = Stop(
    "handles optional values, through which no gradient passes", "export the model without optional values"
)
QUANTISED = Stop(
    "computes with quantised numbers, through which no gradient passes",
    "make floats of it, which train: dsd-ort dequantize MODEL -o float.onnx; or train the model that it was made of",
)
CLASSICAL_DOMAIN = "ai.onnx.ml"
_CLASSICAL = {
    "TreeEnsemble": "a tree ensemble",
    "SVM": "a support vector machine",
    "Linear": "a linear model whose weights are attributes, not tensors",
}


def classical(operators: Iterable[str]) -> Stop:
    """Why no gradient passes models made of *operators* of ``ai.onnx.ml``: what such a model is."""
    names = dict.fromkeys(operators)
    known = [(name, what) for begin, what in _CLASSICAL.items() for name in names if name.startswith(begin)]
    name, what = known[0] if known else (next(iter(names)), "a classical model")
    return Stop(
        f"is {what} ({name}), through which no gradient passes",
        "train it with the library that made it, or write it with MatMul, Add and activations and give that file",
    )


WITHOUT_DERIVATIVE = (POSITIONS, LOGIC, BITS, SIZES, MADE, DRAWN, CHOSEN, TEXT, BYTES)
"""In no framework; the others stop a gradient here."""
