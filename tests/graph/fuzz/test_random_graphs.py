"""Random graphs: the gradient is right, or the graph refused; never wrong, and never the end of the process."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx.printer
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.graph.fuzz.graphs import graphs
from tests.graph.fuzz.judge import CONSTANT, KINK, REFUSED, RIGHT, UNLIKE, Judge

FINE = {RIGHT, REFUSED, KINK, CONSTANT, UNLIKE}


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    made = Judge()
    yield made
    made.close()


@settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(graph=graphs())
def test_the_gradient_is_right_or_the_graph_refused(
    judge: Judge, graph: tuple[onnx.ModelProto, dict[str, np.ndarray]]
) -> None:
    model, inputs = graph
    kind, remark = judge(model.SerializeToString(), inputs)
    assert kind in FINE, f"{kind}: {remark}\n{onnx.printer.to_text(model)}"
