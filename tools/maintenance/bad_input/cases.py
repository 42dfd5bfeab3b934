"""The cases: what is wrong, how it comes about in a folder with a sound model, recipe and data, and the command."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx.helper

from tools.fuzz import seeds
from tools.maintenance.bad_input.bombs import gzip_bomb, npz_bomb, picture_bomb

Model = onnx.ModelProto
Change = Callable[[Path], object]
INSPECT = ("inspect", "model.onnx")
PREPARE = ("prepare", "model.onnx", "-o", "run", "--recipe", "recipe.toml")
EVALUATE = ("evaluate", "model.onnx", "--data", "data.npz")
RECIPE = '[[phase]]\nkind = "dense"\nepochs = 1\nlearning_rate = 0.01\n'


class Case(NamedTuple):
    what: str
    change: Change
    command: tuple[str, ...] = INSPECT


def sound(folder: Path) -> None:
    """What every case begins with."""
    (folder / "model.onnx").write_bytes(seeds.MODELS["mlp"].SerializeToString())
    (folder / "recipe.toml").write_text(RECIPE)
    np.savez(folder / "data.npz", **seeds.arrays("mlp"))


def model(change: Callable[[Model], object], seed: str = "mlp") -> Change:
    def write(folder: Path) -> None:
        made = Model()
        made.CopyFrom(seeds.MODELS[seed])
        change(made)
        (folder / "model.onnx").write_bytes(made.SerializeToString())
        (folder / seeds.EXTERNAL).write_bytes(seeds.EXTERNAL_BYTES)

    return write


def tensor(**fields: Any) -> Change:
    """The first tensor has other fields."""

    def change(made: Model) -> None:
        first = made.graph.initializer[0]
        for name, value in fields.items():
            if isinstance(value, list):
                first.ClearField(name)  # type: ignore[arg-type]
                getattr(first, name).extend(value)
            else:
                setattr(first, name, value)

    return model(change)


def node(index: int, seed: str = "mlp", **fields: Any) -> Change:
    """A node has other fields."""

    def change(made: Model) -> None:
        for name, value in fields.items():
            if isinstance(value, list):
                getattr(made.graph.node[index], name)[:] = value
            else:
                setattr(made.graph.node[index], name, value)

    return model(change, seed)


def attribute(index: int, name: str, value: Any, seed: str = "cnn") -> Change:
    """A node has one attribute more, or another value of it."""

    def change(made: Model) -> None:
        found = made.graph.node[index]
        kept = [one for one in found.attribute if one.name != name]
        del found.attribute[:]
        found.attribute.extend([*kept, *([] if value is None else [onnx.helper.make_attribute(name, value)])])

    return model(change, seed)


def external(key: str, value: str) -> Change:
    def change(made: Model) -> None:
        for entry in made.graph.initializer[0].external_data:
            if entry.key == key:
                entry.value = value

    return model(change, "external")


def grows(made: Model) -> None:
    (found,) = (n for n in made.graph.node if n.output[0] == "s")
    found.attribute[0].ints[:] = [2**20, 2**20]


def nested(made: Model) -> None:
    inner, value = onnx.helper.make_node("Identity", ["x"], ["deepest"]), "deepest"
    for depth in range(30):
        graph = onnx.GraphProto(name=f"g{depth}", node=[inner])
        graph.output.add(name=value)
        value = f"d{depth}"
        inner = onnx.helper.make_node("If", ["x"], [value])
        inner.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g.CopyFrom(graph)
    made.graph.node.append(inner)


def calls_itself(made: Model) -> None:
    made.opset_import.add(domain="own", version=1)
    function = made.functions.add(name="Block", domain="own", input=["a"], output=["b"])
    function.opset_import.add(domain="own", version=1)
    function.node.add(op_type="Block", domain="own", input=["a"], output=["b"])
    made.graph.node[2].op_type, made.graph.node[2].domain = "Block", "own"


def recipe(text: str, *, whole: bool = False) -> Change:
    return lambda folder: (folder / "recipe.toml").write_text(text if whole else text + RECIPE)


def arrays(**others: Any) -> Change:
    def write(folder: Path) -> None:
        made = {**seeds.arrays("mlp"), **others}
        np.savez(folder / "data.npz", **{name: value for name, value in made.items() if value is not None})

    return write


def raw(name: str, content: bytes) -> Change:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return write


def several(*changes: Change) -> Change:
    def write(folder: Path) -> None:
        for change in changes:
            change(folder)

    return write


def idx(shape: tuple[int, ...], content: bytes) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content


def python(text: str) -> Change:
    return lambda folder: (folder / "loader.py").write_text(text)


def loaded(name: str = "loader:load") -> tuple[str, ...]:
    return ("evaluate", "model.onnx", "--data", name)


X, LABEL = seeds.arrays("mlp")["x"], seeds.arrays("mlp")["label"]
NAME = "\x1b[31mred\x1b[0m\nnext line"

_USAGE = raw("model.toml", b'usage = "1"\nseed = 3\n')

MODELS = [
    Case("no such file", lambda folder: (folder / "model.onnx").unlink()),
    Case("an empty file", raw("model.onnx", b"")),
    Case("a file that is not ONNX", raw("model.onnx", b"\x89PNG\r\n\x1a\n")),
    Case("a Git LFS pointer", raw("model.onnx", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")),
    Case("a truncated file", lambda folder: raw("model.onnx", (folder / "model.onnx").read_bytes()[:150])(folder)),
    Case("no graph", model(lambda made: made.ClearField("graph"))),
    Case("no outputs", model(lambda made: made.graph.ClearField("output"))),
    Case("no operator set", model(lambda made: made.ClearField("opset_import"))),
    Case("an operator set that cannot be", model(lambda made: setattr(made.opset_import[0], "version", 0))),
    Case("a shape that its bytes do not fit", tensor(dims=[4, 50])),
    Case("a shape of 2^62 numbers", tensor(dims=[2**31, 2**31])),
    Case("a negative length", tensor(dims=[-4, 5])),
    Case("an element type that there is not", tensor(data_type=99)),
    Case("numbers in two fields", tensor(float_data=[1.0])),
    Case("a tensor of 40 axes", tensor(dims=[1] * 40)),
    Case("two tensors of one name", model(lambda made: made.graph.initializer.append(made.graph.initializer[0]))),
    Case("a value that is made twice", node(1, output=["a"])),
    Case("a value that nobody makes", node(1, input=["nowhere", "b"])),
    Case("an output that nobody makes", model(lambda made: setattr(made.graph.output[0], "name", "z"))),
    Case("a cycle", node(0, input=["c", "w"])),
    Case("an operator with an input too few", node(0, input=["x"])),
    Case("an operator without a needed attribute", node(0, op_type="Concat")),
    Case("an attribute that the operator does not have", attribute(0, "colour", 3)),
    Case("an attribute of another type", attribute(0, "kernel_shape", 3.0)),
    Case("a stride of 0", attribute(0, "strides", [0, 1])),
    Case("ranks that do not fit", node(1, seed="mlp", op_type="MatMul", input=["a", "v"])),
    Case("a body with inputs that nobody feeds", node(3, seed="loop", input=["n", "t"])),
    Case("bodies 30 deep in each other", model(nested)),
    Case("a function that calls itself", model(calls_itself)),
    Case("a name of 100,000 letters", node(0, name="n" * 100_000)),
    Case("a name that commands the terminal", node(0, name=NAME, output=["a", "second"])),
    Case("a shape that a node fills, larger than memory", model(grows, "filled")),
    Case("external data at an absolute path", external("location", "/etc/hostname")),
    Case("external data outside of the folder", external("location", "../weights.bin")),
    Case("external data that is missing", external("location", "weights.bin")),
    Case("external data that is too short", external("offset", "1000")),
    Case("external data at a negative offset", external("offset", "-8")),
    Case(
        "external data in a pipe",
        several(lambda folder: os.mkfifo(folder / "pipe"), external("location", "pipe")),
    ),
    Case("a file beside the model that says more than how it is used", _USAGE, EVALUATE),
]


def _setting(text: str) -> tuple[str, str]:
    return "--set", f"phase.0.{text}"


RECIPES = [
    Case("no such recipe", lambda folder: (folder / "recipe.toml").unlink(), PREPARE),
    Case("a key that there is not", recipe("batchsize = 3\n"), PREPARE),
    Case("a value of another type", recipe('batch_size = "many"\n'), PREPARE),
    Case("a value out of its range", recipe("batch_size = 0\n"), PREPARE),
    Case("no phases", recipe("batch_size = 4\n", whole=True), PREPARE),
    Case("a sparse phase without a sparsity", recipe(RECIPE.replace("dense", "sparse"), whole=True), PREPARE),
    Case(
        "a sparsity of 100 %", recipe(""), (*PREPARE, "--set", "phase.0.kind=sparse", "--set", "phase.0.sparsity=1.0")
    ),
    Case("a loss that there is not", recipe('[loss]\nname = "mae"\n'), PREPARE),
    Case("a metric that does not fit the loss", recipe('metrics = ["wer"]\n[loss]\nname = "mse"\n'), PREPARE),
    Case("a pattern that matches nothing", recipe('freeze = ["conv*"]\n'), PREPARE),
    Case("nothing left to train", recipe('freeze = ["*"]\n'), PREPARE),
    Case("a negative learning rate", recipe(""), (*PREPARE, *_setting("learning_rate=-1.0"))),
    Case("momentum of 1", recipe("[optimizer]\nmomentum = 1.0\n"), PREPARE),
    Case("nesterov without momentum", recipe("[optimizer]\nnesterov = true\nmomentum = 0.0\n"), PREPARE),
    Case("a setting that names nothing", recipe(""), (*PREPARE, "--set", "phase.7.epochs=1")),
    Case("a setting without a value", recipe(""), (*PREPARE, "--set", "optimizer")),
    Case("an output that the model does not have", recipe(""), (*PREPARE[:4], "--output", "z")),
    Case("a recipe of a megabyte", recipe("# " + "x" * (1 << 20) + "\n"), PREPARE),
    Case("a key of 5,000 parts", recipe(".".join("a" * 5000) + " = 1\n"), PREPARE),
    Case("a list of examples that is not there", recipe('[data]\nwithout = "none.csv"\n'), PREPARE),
]

DATA = [
    Case("no such data", lambda folder: (folder / "data.npz").unlink(), EVALUATE),
    Case("a file that is no data", raw("data.txt", b"1 2 3"), ("evaluate", "model.onnx", "--data", "data.txt")),
    Case("a .npz that is no archive", raw("data.npz", b"PK\x03\x04 and nothing"), EVALUATE),
    Case("an array of Python objects", arrays(x=np.array([{"a": 1}] * 6, object)), EVALUATE),
    Case("an archive that unpacks to a thousand times its size", npz_bomb, EVALUATE),
    Case("an array that is missing", arrays(x=None), EVALUATE),
    Case("no labels", arrays(label=None), EVALUATE),
    Case("a shape that does not fit", arrays(x=X[:, :3]), EVALUATE),
    Case("texts where numbers are wanted", arrays(x=X.astype("U8")), EVALUATE),
    Case("more examples than labels", arrays(label=LABEL[:-1]), EVALUATE),
    Case("a label beyond the classes", arrays(label=LABEL + 3), EVALUATE),
    Case("a negative label", arrays(label=LABEL - 1), EVALUATE),
    Case("numbers that are not finite", arrays(x=np.where(X > 0, np.nan, X)), EVALUATE),
    Case("no examples", arrays(x=X[:0], label=LABEL[:0]), EVALUATE),
    Case(
        "an IDX file that promises more than it has",
        several(raw("d/a-images-idx3-ubyte", idx((6, 2, 2), b"")), raw("d/a-labels-idx1-ubyte", idx((6,), bytes(6)))),
        ("evaluate", "model.onnx", "--data", "d/a"),
    ),
    Case(
        "an IDX file without its labels",
        raw("d/a-images-idx3-ubyte", idx((1, 2, 2), bytes(4))),
        ("evaluate", "model.onnx", "--data", "d/a"),
    ),
    Case("a .gz that unpacks to a gigabyte", gzip_bomb, ("evaluate", "model.onnx", "--data", "d/a")),
    Case("a picture that is none", raw("d/cat/1.png", b"no picture"), ("evaluate", "model.onnx", "--data", "d")),
    Case("a picture of 60,000 × 60,000 pixels", picture_bomb, ("evaluate", "model.onnx", "--data", "d")),
    Case(
        "a line of a manifest that is no JSON",
        raw("all.jsonl", b"a.wav\n"),
        ("evaluate", "model.onnx", "--data", "all.jsonl", "--set", 'data.alphabet="_ab"'),
    ),
    Case(
        "a recording that is not there",
        raw("all.jsonl", b'{"audio_filepath": "/dev/zero", "text": "a"}\n'),
        ("evaluate", "model.onnx", "--data", "all.jsonl", "--set", 'data.alphabet="_ab"'),
    ),
    Case("no such module", lambda folder: None, loaded("nobody_has_this:load")),
    Case("a module without the function", python("def laod():\n    pass\n"), loaded()),
    Case("a loader that raises", python("def load():\n    return 1 / 0\n"), loaded()),
    Case("a loader that ends Python", python("def load():\n    raise SystemExit('enough')\n"), loaded()),
    Case("a loader that gives no data", python("def load():\n    return 'text'\n"), loaded()),
]

GROUPS = {"Models": MODELS, "Recipes": RECIPES, "Data": DATA}
