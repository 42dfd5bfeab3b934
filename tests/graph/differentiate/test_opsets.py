"""Graphs of opset 13 to 21 as they are, without legalize: what is not refused is right."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from dsd_ort.graph.differentiate.table import RULES
from tests.graph.gradient import Exact, disagreement, loss_weights, model, random_inputs, step
from tests.graph.legalize.cases import CASES, Case

TOLERANCE = 5e-7
REFUSED = re.compile(
    r"""SAME_|mode = "(reflect|edge|wrap)|reduction = "(mul|min|max)|storage_order"""
    r"""|Clip \(x, (low|, high)|Pad \(x, p, v|Loss \(x, t, w\)|^l, |^a, m, v = """
)
"""Forms that have no gradient of their own, or of this input or output; test_reverse.py has what is said of them."""
UNRUNNABLE = re.compile(r"noop_with_empty_axes = 1> \(x\)")
"""By ONNX Runtime 1.19."""


def is_fed(case: Case) -> bool:
    operators = {".".join(filter(None, (node.domain, node.op_type))) for node in case.proto.graph.node}
    left_out = REFUSED.search(str(case)) or UNRUNNABLE.search(str(case))
    return 13 <= case.opset <= 21 and operators <= RULES.keys() and not left_out


FED = [c for case in CASES for c in case.everywhere() if is_fed(c)]


def test_each_opset_has_its_cases() -> None:
    assert {case.opset for case in FED} >= {13, 17, 18, 21} and len(FED) > 800


def param(case: Case) -> Any:
    """Automatic padding has no other form of its gradient than the training build's kernel: legalize adds it up."""
    marks = [pytest.mark.training_build] * ("auto_pad" in str(case))
    return pytest.param(case, marks=marks, id=str(case))


@pytest.mark.parametrize("case", [param(case) for case in FED[::3]])
def test_the_gradient_is_right_without_legalize(case: Case) -> None:
    inputs = random_inputs(case.proto, case.given)
    trained = [name for name, value in inputs.items() if value.dtype == np.float32 and name not in case.untrained]
    exact = Exact(model(case.reference, max(case.opset, 18)) if case.reference else case.proto)
    weights = loss_weights(exact(inputs))
    done = step(ir.from_proto(case.proto), trained, inputs, weights)
    assert max(disagreement(exact, inputs, weights, done.gradients).values()) <= (case.tolerance or TOLERANCE)
