"""Small random graphs over the operator table, with random shapes and attributes, as a hypothesis strategy.

A graph grows node by node: a template draws which values an operator reads and its attributes, ONNX's reference
evaluator says what comes out, and a node that it refuses, or whose output is large, is not taken.  An axis is fixed or
symbolic by chance, so that one of length 1 may be known at run time only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import reject
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.graph.gradient import NEW_OPERATORS

Draw = Callable[..., Any]
OPSETS = (13, 17, 18, 21)
LARGEST = 30.0
"""Outputs beyond this are not taken: float32 would lose the digits that the comparison needs."""


@dataclass
class Graph:
    """A graph that grows; ``values`` holds what each float value is for the inputs drawn."""

    draw: Draw
    opset: int
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: dict[str, list[int | str]] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def input(self, shape: tuple[int, ...]) -> str:
        """A new trainable input of *shape*; each axis is fixed, or symbolic with a name of its own."""
        name = f"x{len(self.inputs)}"
        values = np.random.default_rng(len(self.inputs)).standard_normal(shape)
        self.inputs[name] = self.values[name] = values.astype(np.float32)
        symbolic = self.draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
        self.shapes[name] = [f"{name}_{i}" if s else n for i, (n, s) in enumerate(zip(shape, symbolic, strict=True))]
        return name

    def fixed(self, shape: tuple[int, ...]) -> str:
        """A new trainable input whose axes are all fixed, as weights are stored."""
        name = self.input(shape)
        self.shapes[name] = list(shape)
        return name

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def pick(self, accept: Callable[[np.ndarray], bool] = lambda a: True) -> str:
        """One of the values that *accept* takes, or a new input where none does."""
        names = [name for name, value in self.values.items() if accept(value)]
        if names:
            return str(self.draw(st.sampled_from(names)))
        for rank in (2, 3, 4, 1, 0):
            shape = tuple(self.draw(st.integers(1, 4)) for _ in range(rank))
            if accept(np.zeros(shape)):
                return self.input(shape)
        return reject()

    def add(self, op_type: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> list[str]:
        """A node, if the reference evaluator computes it and its floats are of moderate size."""
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        node = helper.make_node(op_type, inputs, names, name=f"{op_type}_{len(self.nodes)}", **attributes)
        for name, value in zip(names, self._evaluate(node), strict=True):
            if value.dtype.kind == "f":
                if not np.isfinite(value).all() or np.abs(value).max(initial=0) > LARGEST or not 0 < value.size < 400:
                    reject()
                self.values[name] = value
            else:
                self.constants.setdefault(name, value)  # read only as it is computed, never as a constant
        self.nodes.append(node)
        return names

    def _evaluate(self, node: onnx.NodeProto) -> list[np.ndarray]:
        known = {**self.constants, **self.values}
        feeds = {name: known[name] for name in node.input if name}
        feeds = {name: v.astype(np.float64) if v.dtype == np.float32 else v for name, v in feeds.items()}
        infos = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), None) for n, v in feeds.items()
        ]
        outs = [helper.make_empty_tensor_value_info(name) for name in node.output]
        graph = helper.make_graph([node], "g", infos, outs)
        opsets = [helper.make_opsetid("", self.opset)]
        try:
            evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets), new_ops=NEW_OPERATORS)
            return [np.asarray(value) for value in evaluator.run(None, feeds)]
        except Exception:  # whatever it raises: this node does not fit these values
            return reject()

    def model(self) -> onnx.ModelProto:
        """The graph with all float values that nothing reads as outputs."""
        read = {name for node in self.nodes for name in node.input}
        leaves = [name for node in self.nodes for name in node.output if name in self.values and name not in read]
        if not leaves:
            reject()
        infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in self.shapes.items() if n in read]
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in leaves[-2:]]
        produced = {name for node in self.nodes for name in node.output}
        stored = [numpy_helper.from_array(v, n) for n, v in self.constants.items() if n in read and n not in produced]
        graph = helper.make_graph(self.nodes, "random", infos, outputs, stored)
        imports = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8)


Template = Callable[[Draw, Graph], Any]


def axis_of(draw: Draw, value: np.ndarray) -> int:
    """A valid axis, counted from either end."""
    return int(draw(st.integers(-value.ndim, value.ndim - 1)))


def _ranked(*ranks: int) -> Callable[[np.ndarray], bool]:
    return lambda a: a.ndim in ranks


def _nonempty(a: np.ndarray) -> bool:
    return a.ndim > 0


def unary(op_type: str, **ranges: tuple[float, float]) -> Template:
    def build(draw: Draw, g: Graph) -> None:
        drawn = {name: draw(st.floats(low, high, width=32)) for name, (low, high) in ranges.items()}
        g.add(op_type, [g.pick()], **drawn)

    return build


def positive(op_type: str) -> Template:
    """Of operators that are defined for positive numbers: behind Abs and Add."""

    def build(draw: Draw, g: Graph) -> None:
        (a,) = g.add("Abs", [g.pick()])
        (b,) = g.add("Add", [a, g.constant(0.5, np.float32)])
        g.add(op_type, [b])

    return build


def binary(op_type: str) -> Template:
    def build(draw: Draw, g: Graph) -> None:
        a = g.pick()
        b = other(draw, g, g.values[a].shape)
        g.add(op_type, [a, b] if draw(st.booleans()) else [b, a])

    return build


def other(draw: Draw, g: Graph, shape: tuple[int, ...]) -> str:
    """An operand that broadcasts against *shape*: a known value, or a new input with some lengths 1 or axes missing."""
    if draw(st.booleans()):
        return g.pick()
    ones = draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    cut = draw(st.integers(0, len(shape)))
    return g.input(tuple(1 if one else n for one, n in zip(ones, shape, strict=True))[cut:])


def prelu(draw: Draw, g: Graph) -> None:
    x = g.pick()
    shape = g.values[x].shape
    ones = draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    slope = tuple(1 if one else n for one, n in zip(ones, shape, strict=True))
    g.add("PRelu", [x, g.input(slope[draw(st.integers(0, len(shape))) :])])


def variadic(op_type: str) -> Template:
    def build(draw: Draw, g: Graph) -> None:
        a = g.pick()
        others = [other(draw, g, g.values[a].shape) for _ in range(draw(st.integers(0, 2)))]
        g.add(op_type, [a, *others])

    return build


def reduction(op_type: str) -> Template:
    def build(draw: Draw, g: Graph) -> None:
        x = g.pick(_nonempty)
        rank = g.values[x].ndim
        axes = draw(st.lists(st.integers(0, rank - 1), unique=True, max_size=rank))
        axes = [a - rank if draw(st.booleans()) else a for a in axes]
        keepdims = draw(st.integers(0, 1))
        if op_type == "ReduceSum" or g.opset >= 18:
            noop = {"noop_with_empty_axes": 1} if not axes and draw(st.booleans()) else {}
            g.add(op_type, [x, *([g.constant(axes)] if axes else [])], keepdims=keepdims, **noop)
        else:
            g.add(op_type, [x], keepdims=keepdims, **({"axes": axes} if axes else {}))

    return build


def along(op_type: str) -> Template:
    def build(draw: Draw, g: Graph) -> None:
        x = g.pick(_nonempty)
        g.add(op_type, [x], axis=axis_of(draw, g.values[x]))

    return build


def _pick_kernel(draw: Draw, spatial: tuple[int, ...]) -> list[int]:
    return [int(draw(st.integers(1, min(3, n)))) for n in spatial]


def _images(g: Graph, draw: Draw) -> str:
    if draw(st.booleans()):
        return g.pick(lambda a: a.ndim in (3, 4) and min(a.shape) > 0)
    return g.input(tuple(draw(st.integers(1, 3)) for _ in range(2)) + tuple(draw(st.integers(2, 5)) for _ in range(2)))


def _window(draw: Draw, spatial: tuple[int, ...], *, dilations: bool = True) -> dict[str, Any]:
    rank = len(spatial)

    def some(low: int, high: int, count: int = rank) -> list[int]:
        return [int(draw(st.integers(low, high))) for _ in range(count)]

    kernel = _pick_kernel(draw, spatial)
    window: dict[str, Any] = {"kernel_shape": kernel, "strides": some(1, 3)}
    if dilations and draw(st.booleans()):
        window["dilations"] = some(1, 2)
    how = draw(st.sampled_from(["none", "pads", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if how == "pads":
        window["pads"] = [int(draw(st.integers(0, k - 1))) for k in kernel * 2]
    elif how != "none" and "dilations" not in window:
        window["auto_pad"] = how
    return window


def conv(draw: Draw, g: Graph) -> None:
    x = _images(g, draw)
    channels, spatial = g.values[x].shape[1], g.values[x].shape[2:]
    group = channels if draw(st.booleans()) else 1
    window = _window(draw, spatial)
    out = group * draw(st.integers(1, 2))
    w = g.fixed((out, channels // group, *window["kernel_shape"]))
    g.add("Conv", [x, w, *([g.fixed((out,))] if draw(st.booleans()) else [])], group=group, **window)


def conv_transpose(draw: Draw, g: Graph) -> None:
    x = _images(g, draw)
    window = _window(draw, g.values[x].shape[2:])
    if "auto_pad" in window:
        window.pop("auto_pad")
    w = g.fixed((g.values[x].shape[1], draw(st.integers(1, 2)), *window["kernel_shape"]))
    g.add("ConvTranspose", [x, w], **window)


def pool(op_type: str) -> Template:
    def build(draw: Draw, g: Graph) -> None:
        x = _images(g, draw)
        window = _window(draw, g.values[x].shape[2:], dilations=op_type == "MaxPool")
        if op_type == "AveragePool" and draw(st.booleans()):
            window["count_include_pad"] = 1
        if op_type == "LpPool":
            window["p"] = draw(st.integers(1, 3))
        g.add(op_type, [x], **window)

    return build


def matmul(draw: Draw, g: Graph) -> None:
    a = g.pick(_nonempty)
    shape = g.values[a].shape
    batch = shape[:-2] if draw(st.booleans()) else ()
    g.add("MatMul", [a, g.input((*batch, shape[-1], draw(st.integers(1, 3))))])


def gemm(draw: Draw, g: Graph) -> None:
    a = g.pick(_ranked(2))
    trans_a, trans_b = draw(st.integers(0, 1)), draw(st.integers(0, 1))
    m, k = g.values[a].shape[::-1] if trans_a else g.values[a].shape
    n = draw(st.integers(1, 3))
    c = draw(st.sampled_from([None, (n,), (1, n), (m, 1), (m, n), ()]))
    inputs = [a, g.input((n, k) if trans_b else (k, n)), *([] if c is None else [g.input(c)])]
    g.add("Gemm", inputs, transA=trans_a, transB=trans_b, alpha=draw(st.sampled_from([1.0, 0.5])))


def transpose(draw: Draw, g: Graph) -> None:
    x = g.pick()
    perm = draw(st.permutations(range(g.values[x].ndim)))
    g.add("Transpose", [x], **({"perm": list(perm)} if draw(st.booleans()) and perm else {}))


def reshape(draw: Draw, g: Graph) -> None:
    x = g.pick(lambda a: a.size > 0)
    size = g.values[x].size
    first = draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0]))
    shape = draw(st.sampled_from([[-1], [first, -1], [-1, first], [1, first, size // first]]))
    g.add("Reshape", [x, g.constant(shape)])


def squeeze(draw: Draw, g: Graph) -> None:
    x = g.pick(lambda a: 1 in a.shape)
    axes = [i for i, n in enumerate(g.values[x].shape) if n == 1]
    g.add("Squeeze", [x, g.constant(axes[:1])] if draw(st.booleans()) else [x])


def unsqueeze(draw: Draw, g: Graph) -> None:
    x = g.pick(_ranked(0, 1, 2, 3))
    g.add("Unsqueeze", [x, g.constant([draw(st.integers(-1, g.values[x].ndim))])])


def concat(draw: Draw, g: Graph) -> None:
    x = g.pick(_nonempty)
    axis = axis_of(draw, g.values[x])
    shape = list(g.values[x].shape)
    shape[axis] = draw(st.integers(1, 3))
    g.add("Concat", [x, g.input(tuple(shape)), *([x] if draw(st.booleans()) else [])], axis=axis)


def split(draw: Draw, g: Graph) -> None:
    x = g.pick(lambda a: a.ndim > 0 and max(a.shape) > 1)
    axis = int(np.argmax(g.values[x].shape))
    length = g.values[x].shape[axis]
    first = draw(st.integers(1, length - 1))
    g.add("Split", [x, g.constant([first, length - first])], 2, axis=axis)


def slice_(draw: Draw, g: Graph) -> None:
    x = g.pick(_nonempty)
    axis = axis_of(draw, g.values[x])
    length = g.values[x].shape[axis]
    step = draw(st.sampled_from([1, 2, -1, -2]))
    start, end = draw(st.integers(-length, length)), draw(st.integers(-length - 1, length + 1))
    names = [g.constant([value]) for value in (start, end, axis, step)]
    g.add("Slice", [x, *names])


def gather(draw: Draw, g: Graph) -> None:
    x = g.pick(_nonempty)
    axis = axis_of(draw, g.values[x])
    length = g.values[x].shape[axis]
    index = st.integers(-length, length - 1)
    indices = draw(st.one_of(index, st.lists(index, min_size=1, max_size=3)))
    g.add("Gather", [x, g.constant(indices)], axis=axis)


def gather_elements(draw: Draw, g: Graph) -> None:
    x = g.pick(_nonempty)
    axis = axis_of(draw, g.values[x])
    length = g.values[x].shape[axis]
    indices = np.random.default_rng(draw(st.integers(0, 99))).integers(-length, length, g.values[x].shape)
    g.add("GatherElements", [x, g.constant(indices)], axis=axis)


def scatter_elements(draw: Draw, g: Graph) -> None:
    x = g.pick(_nonempty)
    axis = axis_of(draw, g.values[x])
    shape, length = g.values[x].shape, g.values[x].shape[axis]
    order = np.random.default_rng(draw(st.integers(0, 99)))
    indices = np.argsort(order.random(shape), axis=axis)  # no entry twice: which of two wins is not defined
    count = draw(st.integers(1, length))
    indices = np.take(indices, range(count), axis=axis)
    reduction = {"reduction": "add"} if g.opset >= 16 and draw(st.booleans()) else {}
    g.add("ScatterElements", [x, g.constant(indices), g.input(indices.shape)], axis=axis, **reduction)


def expand(draw: Draw, g: Graph) -> None:
    x = g.pick()
    shape = [draw(st.integers(1, 3)) if n == 1 else n for n in g.values[x].shape]
    g.add("Expand", [x, g.constant([draw(st.integers(1, 2)), *shape][draw(st.integers(0, 1)) :])])


def tile(draw: Draw, g: Graph) -> None:
    x = g.pick(_nonempty)
    g.add("Tile", [x, g.constant([draw(st.integers(1, 2)) for _ in g.values[x].shape])])


def pad(draw: Draw, g: Graph) -> None:
    x = g.pick(lambda a: a.ndim > 0 and min(a.shape) > 1)
    mode = draw(st.sampled_from(["constant", "reflect", "edge"]))
    pads = [draw(st.integers(0, 1)) for _ in g.values[x].shape * 2]
    g.add("Pad", [x, g.constant(pads), *([g.constant(0.5, np.float32)] if mode == "constant" else [])], mode=mode)


def where(draw: Draw, g: Graph) -> None:
    a = g.pick()
    b = other(draw, g, g.values[a].shape)
    condition = np.random.default_rng(draw(st.integers(0, 99))).random(g.values[a].shape) < 0.5
    g.add("Where", [g.constant(condition, bool), a, b])


def clip(draw: Draw, g: Graph) -> None:
    low, high = g.constant(-0.6, np.float32), g.constant(0.7, np.float32)
    g.add("Clip", [g.pick(), *draw(st.sampled_from([[low, high], [low], ["", high], []]))])


def power(draw: Draw, g: Graph) -> None:
    g.add("Pow", [g.pick(), g.constant(draw(st.sampled_from([1.0, 2.0, 3.0])), np.float32)])


def top_k(draw: Draw, g: Graph) -> None:
    x = g.pick(_nonempty)
    axis = axis_of(draw, g.values[x])
    k = g.constant([draw(st.integers(1, g.values[x].shape[axis]))])
    g.add("TopK", [x, k], 2, axis=axis, largest=draw(st.integers(0, 1)))


def cum_sum(draw: Draw, g: Graph) -> None:
    x = g.pick(_nonempty)
    axis = g.constant(axis_of(draw, g.values[x]))
    g.add("CumSum", [x, axis], exclusive=draw(st.integers(0, 1)), reverse=draw(st.integers(0, 1)))


def trilu(draw: Draw, g: Graph) -> None:
    g.add("Trilu", [g.pick(_ranked(2, 3, 4)), g.constant(draw(st.integers(-1, 1)))], upper=draw(st.integers(0, 1)))


def layer_norm(draw: Draw, g: Graph) -> None:
    x = g.pick(lambda a: a.ndim > 1 and a.shape[-1] > 1)
    axis = draw(st.integers(-g.values[x].ndim + 1, -1))
    shape = g.values[x].shape[axis:]
    g.add("LayerNormalization", [x, g.input(shape), *([g.input(shape)] if draw(st.booleans()) else [])], axis=axis)


def instance_norm(draw: Draw, g: Graph) -> None:
    x = _images(g, draw)
    channels = g.values[x].shape[1]
    g.add("InstanceNormalization", [x, g.input((channels,)), g.input((channels,))], epsilon=0.01)


def batch_norm(draw: Draw, g: Graph) -> None:
    x = _images(g, draw)
    channels = (g.values[x].shape[1],)
    variance = g.constant(np.full(channels, 0.7), np.float32)
    g.add("BatchNormalization", [x, g.input(channels), g.input(channels), g.input(channels), variance])


def einsum(draw: Draw, g: Graph) -> None:
    a = g.pick(_ranked(2))
    m, k = g.values[a].shape
    form, shape = draw(
        st.sampled_from(
            [
                ("ij,jk->ik", (k, 2)),
                ("ij,kj->ki", (2, k)),
                ("ij,ij->i", (m, k)),
                ("ij,ij->", (m, k)),
                ("ij,k->jik", (2,)),
            ]
        )
    )
    g.add("Einsum", [a, g.input(shape)], equation=form)


def depth_to_space(draw: Draw, g: Graph) -> None:
    x = g.input((draw(st.integers(1, 2)), 4 * draw(st.integers(1, 2)), 2, draw(st.integers(1, 3))))
    g.add("DepthToSpace", [x], blocksize=2, mode=draw(st.sampled_from(["DCR", "CRD"])))


def resize(draw: Draw, g: Graph) -> None:
    x = _images(g, draw)
    scales = [1.0, 1.0] + [draw(st.sampled_from([1.0, 2.0, 0.5, 1.5])) for _ in g.values[x].shape[2:]]
    modes = {"mode": draw(st.sampled_from(["nearest", "linear", "cubic"]))}
    modes["coordinate_transformation_mode"] = draw(
        st.sampled_from(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
    )
    g.add("Resize", [x, "", g.constant(scales, np.float32)], **modes)


def recurrent(op_type: str, gates: int) -> Template:
    def build(draw: Draw, g: Graph) -> None:
        x = g.pick(lambda a: a.ndim == 3 and a.size > 0)
        steps, batch, size = g.values[x].shape
        hidden = draw(st.integers(1, 3))
        direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
        d = 2 if direction == "bidirectional" else 1
        weights = [g.fixed((d, gates * hidden, size)), g.fixed((d, gates * hidden, hidden))]
        bias = g.fixed((d, 2 * gates * hidden)) if draw(st.booleans()) else ""
        lengths = [draw(st.integers(1, steps)) for _ in range(batch)] if draw(st.booleans()) else None
        optional = [bias, "" if lengths is None else g.constant(lengths, np.int32)]
        if draw(st.booleans()):
            optional.append(g.fixed((d, batch, hidden)))
        outputs = draw(st.integers(1, 3 if op_type == "LSTM" else 2))
        more = {"linear_before_reset": draw(st.integers(0, 1))} if op_type == "GRU" else {}
        g.add(op_type, [x, *weights, *optional], outputs, hidden_size=hidden, direction=direction, **more)

    return build


UNARY = (
    "Abs Atan Celu Cos Elu Erf Exp Floor HardSigmoid HardSwish Identity LeakyRelu Neg Relu Selu Sigmoid Sign Sin "
    "Softplus Softsign Tanh ThresholdedRelu"
)
TEMPLATES: dict[str, Template] = {
    **{name: unary(name) for name in UNARY.split()},
    **{name: positive(name) for name in ("Log", "Sqrt", "Reciprocal")},
    **{name: binary(name) for name in ("Add", "Sub", "Mul")},
    **{name: variadic(name) for name in ("Sum", "Mean", "Max", "Min")},
    **{
        f"Reduce{name}": reduction(f"Reduce{name}")
        for name in ("Sum", "Mean", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp", "Prod")
    },
    **{name: along(name) for name in ("Softmax", "LogSoftmax", "Flatten", "LpNormalization")},
    **{name: pool(name) for name in ("MaxPool", "AveragePool", "LpPool")},
    "GlobalAveragePool": lambda draw, g: g.add("GlobalAveragePool", [_images(g, draw)]),
    "GlobalMaxPool": lambda draw, g: g.add("GlobalMaxPool", [_images(g, draw)]),
    "LRN": lambda draw, g: g.add("LRN", [_images(g, draw)], size=draw(st.sampled_from([1, 3]))),
    "BatchNormalization": batch_norm,
    "Clip": clip,
    "GRU": recurrent("GRU", 3),
    "LSTM": recurrent("LSTM", 4),
    "RNN": recurrent("RNN", 1),
    "Concat": concat,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "CumSum": cum_sum,
    "DepthToSpace": depth_to_space,
    "Einsum": einsum,
    "Expand": expand,
    "Gather": gather,
    "GatherElements": gather_elements,
    "Gemm": gemm,
    "InstanceNormalization": instance_norm,
    "LayerNormalization": layer_norm,
    "MatMul": matmul,
    "Pad": pad,
    "PRelu": prelu,
    "Pow": power,
    "Reshape": reshape,
    "Resize": resize,
    "ScatterElements": scatter_elements,
    "Slice": slice_,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "TopK": top_k,
    "Transpose": transpose,
    "Trilu": trilu,
    "Unsqueeze": unsqueeze,
    "Where": where,
}


@st.composite
def graphs(draw: Draw, most: int = 6) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of up to *most* templates' nodes, and values for its inputs, all of them trainable."""
    g = Graph(draw, draw(st.sampled_from(OPSETS)))
    for _ in range(draw(st.integers(1, 2))):
        g.input(tuple(draw(st.integers(1, 4)) for _ in range(draw(st.integers(1, 4)))))
    for _ in range(draw(st.integers(1, most))):
        TEMPLATES[draw(st.sampled_from(sorted(TEMPLATES)))](draw, g)
    model = g.model()
    known = {value.name for value in model.graph.input}
    return model, {name: value for name, value in g.inputs.items() if name in known}
