"""What is computed again: the same outputs to the bit, and fewer bytes that wait for the backward pass."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isqrt, prod
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnx_ir as ir
import pytest

import dsd_ort
from dsd_ort import runtime
from dsd_ort.graph import recompute as module
from dsd_ort.graph.differentiate import StepGraph, differentiate, seed
from dsd_ort.graph.recompute import recompute
from dsd_ort.recipe.names import RecomputeName
from dsd_ort.rewrite.flow import behind
from dsd_ort.rewrite.parts import bodies, reads
from tests.graph.differentiate.control import CONTROL
from tests.graph.gradient import model, random_inputs
from tests.session import opened, runnable
from tests.stock import siblings

CHANGES: tuple[RecomputeName, ...] = ("cheap", "blocks")
LAYERS, LAYER = 25, 64 * 2 * 4
"""A deep network's, and the bytes of what each gives."""


def deep(layer: str, given: str = "") -> str:
    """*layer*, from h to k with the weight w, time after time."""
    layers = "".join(layer.replace("#", str(i)).replace("k", f"h{i + 1}") for i in range(LAYERS))
    return f"""(float[64, 2] x, float[2, 2] w) => (float L) {given} {{
        h0 = Sin (x) {layers} L = ReduceSum <keepdims = 0> (h{LAYERS}) }}"""


DEEP, TWICE = deep(" m# = MatMul (h#, w) k = Tanh (m#)"), deep(" m# = MatMul (h#, w) t# = Tanh (m#) k = Exp (t#)")
CHAIN = """(float[4, 8] x, float[8, 8] w) => (float L) {
    a = MatMul (x, w) b = Tanh (a) c = Exp (b) d = Neg (c) y = MatMul (d, w) z = Sin (y)
    L = ReduceSum <keepdims = 0> (z)
}"""
GRAPHS = {
    "a chain": CHAIN,
    "a deep network": DEEP,
    "a deep network of two functions a layer": TWICE,
    "values that several nodes read": """(float[4, 8] x, float[8, 8] w) => (float L) {
        a = MatMul (x, w) b = Tanh (a) c = Exp (b) d = Mul (b, c) e = Add (d, c) f = MatMul (e, w) g = Mul (f, e)
        h = Tanh (g) i = Mul (h, d) L = ReduceSum <keepdims = 0> (i)
    }""",
    "another type, another order, a part": """(float[4, 8] x, float[8, 8] w) => (float L) {
        p = MatMul (x, w) a = Sin (p) b = Transpose (a) c = Cast <to = 11> (b) d = Exp (c) e = Cast <to = 1> (d)
        f, g = Split <axis = 0, num_outputs = 2> (e) h = MatMul (f, g2) i = Tanh (h) L = ReduceSum <keepdims = 0> (i)
    }""".replace("MatMul (f, g2)", "Mul (f, g)"),
    "gelu, as exporters write it": """(float[4, 8] x, float[8, 8] w, float[8] b) => (float L)
        <float r = {1.4142135}, float one = {1}, float half = {0.5}> {
        m = MatMul (x, w) a = Add (m, b) d = Div (a, r) e = Erf (d) f = Add (e, one) g = Mul (a, f) h = Mul (g, half)
        y = MatMul (h, w) z = Tanh (y) L = ReduceSum <keepdims = 0> (z)
    }""",
    "dropout": deep(" m# = MatMul (h#, w) t# = Tanh (m#) k = Dropout (t#, r, t)", "<float r = {0.3}, bool t = {1}>"),
    "batch norm": """(float[4, 3, 6, 6] x, float[3, 3, 3, 3] w, float[3] g, float[3] b, float[3] m, float[3] v)
        => (float L, float[3] rm, float[3] rv) {
        c = Conv <pads = [1, 1, 1, 1]> (x, w) n, rm, rv, sm, si = com.microsoft.BatchNormInternal (c, g, b, m, v)
        r = Relu (n) d = Conv (r, w) p = MaxPool <kernel_shape = [2, 2]> (d) q = Tanh (p) e = Mul (q, q)
        L = ReduceSum <keepdims = 0> (e)
    }""",
    "layer norm": """(float[4, 8] x, float[8, 8] w, float[8] g, float[8] b) => (float L) {
        a = MatMul (x, w) n = LayerNormalization (a, g, b) c = MatMul (n, w) d = Tanh (c)
        L = ReduceSum <keepdims = 0> (d)
    }""",
}


@pytest.fixture(autouse=True)
def small_values_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST", 1)


def step(text: str, how: RecomputeName, opset: int = 18) -> StepGraph:
    proto = model(text, opset)
    trainable = [value.name for value in proto.graph.input if value.name in "wgb"]
    made = differentiate(ir.from_proto(proto), trainable, loss="L")
    recompute(made.model, made.gradients.values(), "L", how)
    return made


def run(made: StepGraph) -> list[np.ndarray]:
    """All outputs, of two runs one behind the other."""
    feeds, session = random_inputs(ir.to_proto(made.model)), opened(made.model)
    given = {value.name: feeds[value.name] for value in session.get_inputs()}
    runtime.seed(7)
    return [output for _ in range(2) for output in session.run(None, given)]


def copies(made: StepGraph) -> list[ir.Node]:
    """The nodes that compute something again."""
    nodes = [node for node in made.model.graph if (node.name or "").startswith("again")]
    return [node for node in nodes if node.op_type not in ("Constant", "Max", "Mul", "Reshape", "Size")]


def alive(made: StepGraph) -> Iterator[int]:
    """The bytes of activations and their gradients behind each node, in the order of the file, in which they run.

    What Reshape gives is what it reads, and the Size of a value takes no time.
    """
    nodes = list(made.model.graph)
    own: dict[ir.Value | None, ir.Value | None] = {}
    for node in nodes:
        if node.op_type == "Reshape":
            own[node.outputs[0]] = own.get(node.inputs[0], node.inputs[0])
    until = {own.get(value, value): i for i, node in enumerate(nodes) for value in reads(node)}
    there: dict[ir.Value, int] = {}
    for i, node in enumerate(nodes):
        there |= {v: until[v] for v in node.outputs if v.shape is not None and len(v.shape) > 1 and v in until}
        yield sum(prod(value.shape.numpy()) * 4 for value in there if value.shape is not None)
        there = {value: last for value, last in there.items() if last > i}


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("name", GRAPHS)
def test_all_outputs_are_the_same_to_the_bit(name: str, how: RecomputeName) -> None:
    made = step(GRAPHS[name], how)
    for got, expected in zip(run(made), run(step(GRAPHS[name], "none")), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_each_of_the_graphs_computes_something_again() -> None:
    for name, text in GRAPHS.items():
        assert any(copies(step(text, how)) for how in CHANGES), name


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("name", siblings.SIBLINGS)
def test_gradients_of_the_networks_are_the_same_to_the_bit(name: str, how: RecomputeName, tmp_path: Path) -> None:
    siblings.write(name, tmp_path / "model.onnx")
    batch = {key: array[: siblings.BATCH] for key, array in siblings.data(name).items()}
    nodes = []
    for setting in ("none", how):
        recipe = msgspec.structs.replace(siblings.recipe(name), recompute=setting)
        dsd_ort.prepare(tmp_path / "model.onnx", tmp_path / setting, recipe)
        nodes.append(len(onnx.load(tmp_path / setting / "graphs" / "step.onnx").graph.node))
    assert nodes[0] < nodes[1] or (name, how) == ("lenet", "cheap"), "all of whose layers are products and pools"
    for sparse in (False, True):
        kept, again = (siblings.one_step(tmp_path / run, batch, sparse=sparse) for run in ("none", how))
        assert kept.loss == again.loss
        for parameter, gradient in kept.gradients.items():
            np.testing.assert_array_equal(again.gradients[parameter], gradient)


def test_none_leaves_the_graph_as_it_is() -> None:
    made, same = differentiate(ir.from_proto(model(CHAIN)), ["w"], loss="L"), step(CHAIN, "none")
    assert ir.to_proto(same.model) == ir.to_proto(made.model)


def test_what_is_cheap_is_computed_again_from_what_is_kept() -> None:
    """Kept are b, as its input waits for nothing, and y; the way back reads c and d too."""
    assert [node.op_type for node in copies(step(CHAIN, "cheap"))] == ["Exp", "Neg"]


@pytest.mark.parametrize("how", CHANGES)
def test_no_copy_is_computed_before_the_way_back_comes_to_it(how: RecomputeName) -> None:
    for text in GRAPHS.values():
        made = step(text, how)
        nodes, start = list(made.model.graph), seed(made.model.graph, "L")
        arrived = behind(nodes, {node for node in nodes if start in node.inputs})
        large = [
            value for node in copies(made) for value in node.outputs if value.shape is None or len(value.shape) > 1
        ]
        assert arrived.issuperset(large)


@pytest.mark.parametrize("how", CHANGES)
def test_onnx_runtime_does_not_merge_copies_with_what_they_copy(how: RecomputeName, tmp_path: Path) -> None:
    made, file = step(DEEP, how), str(tmp_path / "optimized.onnx")
    options = runtime.session_options(1)
    options.optimized_model_filepath = file
    runtime.session(runnable(made.model), options)
    products = [node for node in onnx.load(file).graph.node if node.op_type == "MatMul"]
    assert len(products) == sum(node.op_type == "MatMul" for node in made.model.graph) >= LAYERS


def test_blocks_keep_about_two_square_roots_of_the_layers() -> None:
    kept, again = (max(alive(step(DEEP, how))) for how in ("none", "blocks"))
    assert kept >= LAYERS * LAYER
    assert again <= (2 * isqrt(LAYERS) + 4) * LAYER, "and the gradients on their way"


def test_blocks_compute_nearly_each_layer_once_more() -> None:
    products = [node for node in copies(step(DEEP, "blocks")) if node.op_type == "MatMul"]
    assert LAYERS - 2 * isqrt(LAYERS) <= len(products) < LAYERS


def test_cheap_keeps_one_of_two_values_where_the_other_follows() -> None:
    kept, again = (max(alive(step(TWICE, how))) for how in ("none", "cheap"))
    assert kept >= 2 * LAYERS * LAYER
    assert again <= (LAYERS + 4) * LAYER


@pytest.mark.parametrize("how", CHANGES)
def test_dropout_is_drawn_once(how: RecomputeName) -> None:
    made = step(GRAPHS["dropout"], how)
    assert sum(node.op_type == "Dropout" for node in made.model.graph) == LAYERS
    assert any(node.op_type == "DropoutGrad" for node in copies(made))


@pytest.mark.parametrize("how", CHANGES)
def test_statistics_are_those_of_the_first_pass(how: RecomputeName) -> None:
    graph = step(GRAPHS["batch norm"], how).model.graph
    first = next(node for node in graph if node.op_type == "BatchNormInternal")
    assert [value.name for value in graph.outputs[:3]] == ["L", "rm", "rv"]
    assert all(value.producer() is first for value in graph.outputs[1:3])


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("name", ["branches", "a recurrent layer"])
def test_nodes_with_bodies_are_left_alone(name: str, how: RecomputeName) -> None:
    whole = re.sub(r"float\[[^]]*\] y\)", "float L)", CONTROL[name], count=1).rstrip().removesuffix("}")
    tail = " ".join(f"y{i + 1} = Tanh ({f'y{i}' if i else 'y'})" for i in range(9))
    whole += f"{tail} L = ReduceSum <keepdims = 0> (y9) }}"
    kept, again = (step(whole, setting) for setting in ("none", how))
    assert copies(again) and not any(bodies(node) for node in copies(again))
    for got, expected in zip(run(again), run(kept), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_small_values_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for how in CHANGES:
        assert ir.to_proto(step(CHAIN, how).model) == ir.to_proto(step(CHAIN, "none").model)
