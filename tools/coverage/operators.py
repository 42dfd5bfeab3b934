"""The operators' part of the coverage: every case of tests/graph/legalize/cases, at every opset that has it.

A case is *right* if output and gradients are those of the original model by ONNX's reference evaluator in float64 and
central differences, within :data:`TOLERANCE`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx.defs
import onnx_ir as ir

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.legalize import legalize
from dsd_ort.graph.legalize.opset import NEWER
from dsd_ort.graph.legalize.table import MODES, RULES
from dsd_ort.rewrite.operators import OPERATORS, key
from tests.graph.gradient import Arrays, Exact, _with_loss, disagreement, loss_weights, model, random_inputs, step
from tests.graph.legalize.cases import CASES, Case
from tools.coverage.alone import Step
from tools.measuring.children import Died, each

TOLERANCE = 1e-4
"""Relative to the greatest entry of the output, or to the norm of the gradient."""
NATIVE = {name for name, known in OPERATORS.items() if known.native}
"""Operators whose gradient ONNX Runtime computes rightly."""
NEWEST = 21
"""The newest opset that ONNX Runtime 1.19 runs."""


class Row(NamedTuple):
    """A case at one opset: ``right``, ``refused``, ``wrong``, ``fails``, ``dies``, or not measured."""

    operator: str
    opset: int
    case: str
    id: str
    ours: str = ""
    """With dsd-ort, on the training build."""
    stock: str = ""
    """With dsd-ort, on an ONNX Runtime that cannot train."""
    bare: str = ""
    """By ONNX Runtime Training without dsd-ort."""


def measure(
    known: Iterable[Row], side: Literal["ours", "stock"], tell: Callable[[str], None] = lambda text: None
) -> list[Row]:
    """A row a case: as *side*, what dsd-ort makes of it here; the rest is what *known* rows say of the same case."""
    old = {row.id: row for row in known}
    rows = []
    for id_, case in cases().items():
        row = old.get(id_) or Row(tested(case), case.opset, str(case).rpartition(" / ")[0], id_)
        rows.append(row._replace(**{side: prepared(case)}))
        if len(rows) % 200 == 0:
            tell(f"{len(rows)} cases")
    return sorted(rows, key=lambda row: (row.operator.lower(), row.case, row.opset, row.id))


def with_alone(rows: Sequence[Row], tell: Callable[[str], None] = lambda text: None) -> list[Row]:
    """*rows* with what bare ONNX Runtime Training makes of their cases, where they do not say it yet."""
    known, verdicts = cases(), {row.id: row.bare for row in rows}
    new = [id_ for id_, verdict in verdicts.items() if not verdict]
    for i, (id_, verdict) in enumerate(zip(new, each(alone, [known[id_] for id_ in new], seconds=60), strict=True), 1):
        verdicts[id_] = "dies" if isinstance(verdict, Died) else verdict
        if i % 100 == 0:
            tell(f"{i} of {len(new)} cases tried with ONNX Runtime alone")
    return [row._replace(bare=verdicts[row.id]) for row in rows]


def cases() -> dict[str, Case]:
    """Identity → case, at every opset that has it."""
    return {identity(case): case for listed in CASES for case in listed.everywhere()}


def identity(case: Case) -> str:
    """Changes with everything that bare ONNX Runtime's answer depends on."""
    return hashlib.sha256(repr(case._replace(expected=None)).encode()).hexdigest()[:12]


def tested(case: Case) -> str:
    """The operator that the case is about: the first that is not right by itself, or the last."""
    operators = [key(node) for node in ir.from_proto(case.proto).graph]
    return next((name for name in operators if name in RULES or name not in {*NATIVE, "Shape"}), operators[-1])


def prepared(case: Case) -> str:
    """The case as dsd-ort prepares it."""

    def run(inputs: Arrays, trained: list[str], weights: Arrays) -> tuple[np.ndarray, Arrays]:
        legal = legalize(ir.from_proto(case.proto), trained, outputs=["y"], batch_norm="frozen").model
        done = step(legal, trained, inputs, weights)
        return done.outputs["y"], done.gradients

    return _verdict(case, run)


def alone(case: Case) -> str:
    """The case as it is, in ONNX Runtime's own gradient builder; this can end the process."""

    def run(inputs: Arrays, trained: list[str], weights: Arrays) -> tuple[np.ndarray, Arrays]:
        _, gradients, (y,) = Step(_with_loss(case.proto, weights), trained, "L")(inputs, "y")
        return y, gradients

    return _verdict(case, run)


def _verdict(case: Case, run: Callable[[Arrays, list[str], Arrays], tuple[np.ndarray, Arrays]]) -> str:
    inputs = random_inputs(case.proto, case.given)
    trained = [n for n, value in inputs.items() if value.dtype == np.float32 and n not in case.untrained]
    exact = Exact(model(case.reference, max(case.opset, 18)) if case.reference else case.proto)
    try:
        y = exact(inputs)["y"]
    except Exception:  # ONNX's reference evaluator has gaps
        return "undecided"
    weights = loss_weights({"y": y})
    try:
        found, gradients = run(inputs, trained, weights)
    except UnsupportedError:
        return "refused"
    except Exception:  # whatever the native code raises is a failure that it tells
        return "fails"
    if found.shape != y.shape or not np.abs(found - y).max(initial=0) <= TOLERANCE * np.abs(y).max(initial=0):
        return "wrong"
    if any(gradients[name].shape != inputs[name].shape for name in trained):
        return "wrong"
    worst = disagreement(exact, inputs, weights, gradients).values()
    return "right" if all(error <= TOLERANCE for error in worst) else "wrong"


def refused(rows: list[Row]) -> Iterator[tuple[str, str]]:
    """Standard operators on real numbers that no case, rule or table has: (name, why), in order."""
    known = {row.operator for row in rows} | {*RULES, *NATIVE, *NEWER, *MODES["train"], *MODES["frozen"]}
    for name in sorted({schema.name for schema in onnx.defs.get_all_schemas_with_history() if not schema.domain}):
        if name in known or not onnx.defs.has(name, max_inclusive_version=NEWEST):
            continue
        schema: Any = onnx.defs.get_schema(name, NEWEST)
        if schema.deprecated or not (_real(schema, schema.inputs) and _real(schema, schema.outputs)):
            continue
        stops = OPERATORS[name].stops if name in OPERATORS else None
        yield name, stops.why if stops else "has no gradient in ONNX Runtime, and dsd-ort has no rule for it"


def _real(schema: Any, values: Any) -> bool:
    """Whether one of *values* can be a float tensor."""
    constraints = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    return any("tensor(float)" in constraints.get(value.type_str, [value.type_str]) for value in values)
