from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsd_ort.graph import masks
from dsd_ort.graph.differentiate import StepGraph, differentiate
from tests.session import opened

MLP = """
<ir_version: 8, opset_import: ["" : 17]>
mlp (float[N, 4] x, float[4, 3] w1, float[3] b1, float[3, 2] w2) => (float loss) {
    h1 = MatMul (x, w1)
    h2 = Add (h1, b1)
    h3 = Relu (h2)
    y = MatMul (h3, w2)
    loss = ReduceMean <keepdims = 0> (y)
}
"""


def step_graph(text: str, trainable: list[str]) -> StepGraph:
    return differentiate(ir.from_proto(onnx.parser.parse_model(text)), trainable)


def content(model: ir.Model) -> bytes:
    return ir.to_proto(model).SerializeToString(deterministic=True)


def run(model: ir.Model, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = opened(model)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


@st.composite
def networks(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Perceptrons of any depth, some weights used twice, some layers with biases."""
    depth, width = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    inputs, nodes, parameters, value = [f"float[N, {width}] x"], [], [], "x"
    for layer in range(depth):
        shared = bool(parameters) and draw(st.booleans())
        weight = draw(st.sampled_from(parameters)) if shared else f"w{layer}"
        if not shared:
            inputs.append(f"float[{width}, {width}] {weight}")
            parameters.append(weight)
        nodes.append(f"m{layer} = MatMul ({value}, {weight})")
        value = f"m{layer}"
        if draw(st.booleans()):
            nodes.append(f"r{layer} = Tanh ({value})")
            value = f"r{layer}"
    nodes.append(f"loss = ReduceMean <keepdims = 0> ({value})")
    header = '<ir_version: 8, opset_import: ["" : 17]>'
    return f"{header} g ({', '.join(inputs)}) => (float loss) {{ {' '.join(nodes)} }}", parameters


@settings(max_examples=60, deadline=None)
@given(networks(), st.data(), st.booleans())
def test_law_2_strip_undoes_insert_to_the_byte(
    network: tuple[str, list[str]], data: st.DataObject, weights_first: bool
) -> None:
    text, parameters = network
    step = step_graph(text, parameters)
    # Through the wire once, as a file that somebody else exported would come.
    model = ir.from_proto(onnx.load_from_string(content(step.model)))
    before = content(model)
    chosen = data.draw(st.lists(st.sampled_from(parameters), unique=True))
    masks.insert(model, {name: step.gradients[name] for name in chosen})
    if weights_first:
        masks.strip_weights(model)
    assert masks.masked_parameters(model) == chosen
    assert (content(model) != before) == bool(chosen)
    masks.strip(model)
    assert content(model) == before


@pytest.mark.parametrize("weights_stripped", [True, False])
def test_the_gradient_is_masked_and_zero_weights_stay_out_of_the_forward(weights_stripped: bool) -> None:
    step = step_graph(MLP, ["w1", "b1", "w2"])
    dense = step.model.clone()
    masks.insert(step.model, {"w1": step.gradients["w1"]})
    if weights_stripped:
        masks.strip_weights(step.model)
    rng = np.random.default_rng(0)
    feeds = {n: rng.standard_normal(s).astype(np.float32) for n, s in (("x", (5, 4)), ("w1", (4, 3)), ("b1", 3))}
    feeds["w2"] = rng.standard_normal((3, 2)).astype(np.float32)
    mask = (rng.random((4, 3)) < 0.5).astype(np.float32)
    pruned = feeds | {"w1": feeds["w1"] * mask}
    expected = run(dense, pruned)
    found = run(step.model, (pruned if weights_stripped else feeds) | {masks.mask_name("w1"): mask})
    assert expected.keys() == found.keys()
    np.testing.assert_array_equal(found["w1_grad"], expected["w1_grad"] * mask)
    for name in ("loss", "b1_grad", "w2_grad"):
        np.testing.assert_array_equal(found[name], expected[name])


def test_the_masked_graph_is_what_the_picture_shows() -> None:
    step = step_graph(MLP, ["w2"])
    masks.insert(step.model, {"w2": "w2_grad"})
    added = [node for node in step.model.graph if (node.name or "").startswith(masks.DOMAIN_PREFIX)]
    assert [([v.name for v in n.inputs if v], n.outputs[0].name) for n in added] == [
        (["w2", "dsd_ort.mask/w2"], "dsd_ort.mask/w2/masked"),
        (["dsd_ort.mask/w2_grad/unmasked", "dsd_ort.mask/w2"], "w2_grad"),
    ]
    assert all(node.op_type == "Mul" for node in added)
    readers = {node.op_type for node in step.model.graph for value in node.inputs if value is added[0].inputs[0]}
    assert readers == {"Mul"}, "nobody but the mask reads the weight itself"
    assert step.model.graph.outputs[-1].name == "w2_grad"


def test_a_graph_that_accumulates_its_gradients_inside_is_masked_in_front_of_it() -> None:
    """As in training graphs that others export: the gradient is no output but feeds a node."""
    text = MLP.replace("=> (float loss)", "=> (float loss, float[4, 3] total)")
    text = text.replace("loss =", "total = Add (w1, g)\n    loss =")
    text = text.replace("float[3, 2] w2", "float[3, 2] w2, float[4, 3] d")
    text = text.replace("total =", "g = Neg (d)\n    total =")
    model = ir.from_proto(onnx.parser.parse_model(text))
    before = content(model)
    masks.insert(model, {"w1": "g"})
    (total,) = [n for n in model.graph if n.outputs[0].name == "total"]
    assert total.inputs[1] is not None and total.inputs[1].producer().op_type == "Mul"  # type: ignore[union-attr]
    masks.strip(model)
    assert content(model) == before
