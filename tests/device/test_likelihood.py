"""Cross-entropy and its gradient in the CPU's form: the oracle is the formula in float64."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from dsd_ort.device.lower import lower
from tests.session import opened

HEADER = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>'
SHAPES = {"a label each": (6, 5), "a label a step": (3, 5, 4), "a label a pixel": (2, 4, 3, 2)}
CASES = {
    "mean": ("", False),
    "sum": ('<reduction="sum">', False),
    "none": ('<reduction="none">', False),
    "weights": ("", True),
    "some ignored": ("<ignore_index=2>", False),
    "some ignored, of no class": ("<ignore_index=-100>", True),
    "a sum of some": ('<reduction="sum", ignore_index=1>', True),
}


def of(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]" if shape else ""


def expected(
    x: np.ndarray, label: np.ndarray, w: np.ndarray, attributes: str, dy: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Loss and dX; *w* is of each label."""
    scores = np.moveaxis(x.astype(np.float64), 1, -1)
    log_p = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    hit = np.eye(x.shape[1])[np.maximum(label, 0)]
    loss = -(hit * log_p).sum(-1) * w
    total = 1.0 if "none" in attributes or "sum" in attributes else max(w.sum(), 1e-300)
    whole = loss if "none" in attributes else loss.sum() / total
    gradient = (np.exp(log_p) - hit) * (w * dy / total)[..., None]
    return whole, np.moveaxis(gradient, -1, 1)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("attributes", "weighted"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("whole", ["int64", "int32"])
def test_it_is_the_formula(shape: tuple[int, ...], attributes: str, weighted: bool, whole: str) -> None:
    rng, labels = np.random.default_rng(0), (shape[0], *shape[2:])
    out = of(labels) if "none" in attributes else ""
    more = f", float[{shape[1]}] w" if weighted else ""
    w = ", w" if weighted else ""
    model = ir.from_proto(
        onnx.parser.parse_model(f"""{HEADER}
        agraph (float{of(shape)} x, {whole}{of(labels)} label, float{out} dy{more})
            => (float{out} loss, float{of(shape)} dx)
        {{ loss, log_p = SoftmaxCrossEntropyLoss {attributes} (x, label{w})
           dx = com.microsoft.SoftmaxCrossEntropyLossGrad {attributes} (dy, log_p, label{w}) }}""")
    )
    for value in model.graph.node(0).outputs:
        value.type = ir.TensorType(ir.DataType.FLOAT)
    model.graph.node(0).outputs[1].shape = ir.Shape(shape)
    notes = lower(model)
    assert [note.partition(" ")[0] for note in notes] == ["SoftmaxCrossEntropyLoss", "SoftmaxCrossEntropyLossGrad"]
    x, dy = (rng.standard_normal(size).astype(np.float32) for size in (shape, labels if out else ()))
    label = rng.integers(0, shape[1], labels).astype(whole)
    ignored = int(attributes.partition("ignore_index=")[2].rstrip(">") or -1)
    label.flat[::3] = ignored if ignored < -1 else label.flat[::3]
    by_class = rng.uniform(0.5, 2, shape[1]).astype(np.float32)
    weight = (by_class[np.maximum(label, 0)] if weighted else np.ones(labels)) * (label != ignored)
    session = opened(model)
    feeds = {"x": x, "label": label, "dy": np.asarray(dy)} | ({"w": by_class} if weighted else {})
    for got, right in zip(session.run(None, feeds), expected(x, label, weight, attributes, dy), strict=True):
        np.testing.assert_allclose(got, right, rtol=2e-5, atol=1e-6)


def test_where_no_label_counts_loss_and_gradient_are_zero() -> None:
    model = ir.from_proto(
        onnx.parser.parse_model(f"""{HEADER}
        agraph (float[2, 3] x, int64[2] label) => (float loss, float[2, 3] log_p)
        {{ loss, log_p = SoftmaxCrossEntropyLoss <ignore_index=0> (x, label) }}""")
    )
    assert lower(model)
    x = np.array([[-np.inf, 1, 2], [0, 0, 0]], np.float32)  # of class 0, which stands in for the ignored, p = 0
    loss, _ = opened(model).run(None, {"x": x, "label": np.zeros(2, np.int64)})
    assert loss == 0
