"""ONNX Runtime's own builder: what it is asked for, and what it answers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.differentiate import differentiate
from tests.graph.gradient import model, quiet

pytestmark = pytest.mark.training_build

QUADRATIC = "(float[3] w, float[3] x) => (float loss) { w_grad = Mul (w, x) loss = ReduceSum <keepdims = 0> (w_grad) }"


def test_a_value_that_is_called_like_a_gradient_makes_way() -> None:
    step = differentiate(ir.from_proto(model(QUADRATIC)), ["w"], builder="ort")
    assert [o.name for o in step.model.graph.outputs] == ["loss", "w_grad"]
    session = onnxruntime.InferenceSession(
        ir.to_proto(step.model).SerializeToString(), quiet(), providers=["CPUExecutionProvider"]
    )
    x = np.array([1, 2, 3], np.float32)
    loss, gradient = session.run(None, {"w": x, "x": x})
    assert loss == 14
    np.testing.assert_array_equal(gradient, x)


def test_an_input_that_is_called_like_a_gradient_is_refused() -> None:
    text = QUADRATIC.replace("w_grad", "y").replace("float[3] x", "float[3] w_grad").replace("(w, x)", "(w, w_grad)")
    with pytest.raises(UnsupportedError, match="'w_grad' is needed for a gradient"):
        differentiate(ir.from_proto(model(text)), ["w"], builder="ort")


def test_what_the_builder_refuses_is_one_clear_message() -> None:
    text = QUADRATIC.replace("Mul (w, x)", "Det (w)").replace("float[3] w", "float[3, 3] w")
    with pytest.raises(UnsupportedError, match="cannot differentiate the model") as caught:
        differentiate(ir.from_proto(model(text)), ["w"], builder="ort")
    assert "Det" in str(caught.value)
    assert "onnxruntime_src" not in str(caught.value)
