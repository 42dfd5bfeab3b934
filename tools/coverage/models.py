"""The models' part of the coverage: each file of a corpus (tools/coverage/corpus.py), with dsd-ort and without it.

With dsd-ort, on the training build and on stock ONNX Runtime: :func:`dsd_ort.api.check`, which compares every gradient
with finite differences of the source in plain inference, does a sparse step, and exports: the exported file must verify
and give the trained state's outputs.

Without: ONNX Runtime's own gradient builder on the same model with the same loss and input, judged by the same
comparison.  Its trainable weights are the initializers; of a model that keeps weights elsewhere it cannot train all.
"""

from __future__ import annotations

import re
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import onnx_ir as ir

from dsd_ort import api, runtime
from dsd_ort.errors import DsdError, NativeError
from dsd_ort.graph import loss as losses
from dsd_ort.graph.default_loss import fitting_loss
from dsd_ort.graph.evaluation import evaluation
from dsd_ort.graph.manifest import Slice
from dsd_ort.graph.training_copy import training_copy
from dsd_ort.model import source as source_files
from dsd_ort.proof import gradients, made_up, reference
from dsd_ort.recipe import BuilderName, Recipe
from tests.session import TRAINING_BUILD
from tools.coverage.alone import Step
from tools.measuring.children import Died, each

OLDEST_LOSS = 13
"""The opset from which on all losses can be attached; older models get the mean squared error."""


_VAD_LOSS = {"name": "bce-with-logits", "output": "output"}
RECIPES: dict[str, dict[str, Any]] = {
    "silero/silero_vad": {"input": {"state": {"shape": [2, "batch", 128]}}, "loss": _VAD_LOSS},
    "audio/swift_f0": {
        "input": {"audio": {"shape": [1, 4000]}, "fmin": {"value": 46.875}, "fmax": {"value": 2093.75}},
        "loss": {"name": "mse", "output": "pitch"},
        "batch_size": 1,
    },
    "silero/silero_vad_16k_op15": {"input": {"input": {"shape": ["batch", 576]}}, "loss": _VAD_LOSS},
}
"""What files do not say of their inputs: which axis is the batch's, how long a recording is; and then, which loss."""


class Request(NamedTuple):
    """A model, and about how many seconds the comparison of its gradients may take."""

    name: str
    path: Path
    seconds: float
    threads: int


class Verdict(NamedTuple):
    """``right``, ``refused``, ``wrong``, ``fails`` or ``dies``, and why."""

    verdict: str
    why: str = ""


NOT_MEASURED = Verdict("")


class Row(msgspec.Struct, frozen=True):
    """A model of the corpus."""

    name: str
    parameters: int
    ours: Verdict = NOT_MEASURED
    seconds: float = 0
    """Of the whole check."""
    megabytes: int | msgspec.UnsetType = msgspec.UNSET
    """Of memory that it took at most."""
    bare: Verdict = NOT_MEASURED
    builder: BuilderName = "own"
    """What differentiated it with dsd-ort."""
    stock: Verdict = NOT_MEASURED
    """With dsd-ort on an ONNX Runtime without training."""


def measure(
    folder: Path, names: Sequence[str], known: Mapping[str, Row], *, seconds: float, threads: int
) -> Iterator[Row]:
    """A row for each of *names*, files of *folder* without their suffix, measured on the ONNX Runtime that is here.

    What only the other one can measure, and what is there of the models alone, are as *known* rows have it.
    """
    for name in names:
        request = Request(name, folder / f"{name}.onnx", seconds, threads)
        row = known.get(name) or Row(name, _parameters(request.path))
        (found,) = each(measured, [request], seconds=600 + 20 * request.seconds)
        ours, took, megabytes = (Verdict("dies", found.how), 0.0, 0) if isinstance(found, Died) else found
        if not TRAINING_BUILD:
            yield msgspec.structs.replace(row, stock=ours)
            continue
        bare = row.bare if row.bare.verdict else _guarded(request)
        yield msgspec.structs.replace(row, ours=ours, seconds=took, megabytes=megabytes, bare=bare, builder="own")


def measured(request: Request) -> tuple[Verdict, float, int]:
    """What the check says of the model, after how many seconds, and with how many megabytes at most."""
    began = time.monotonic()
    found = prepared(request)
    kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return found, round(time.monotonic() - began, 1), round(kilobytes / 1000)


def _guarded(request: Request) -> Verdict:
    """:func:`alone`, in a process of its own."""
    (found,) = each(alone, [request], seconds=120 + 20 * request.seconds)
    return Verdict("dies", found.how) if isinstance(found, Died) else found


def missing(folder: Path) -> dict[str, str]:
    """Models that could not be exported → the exporter's own words."""
    return {
        f"{file.parent.name}/{file.name.removesuffix('.failed.txt')}": file.read_text().strip().partition("\n")[0]
        for file in sorted(folder.glob("*/*.failed.txt"))
    }


def _parameters(path: Path) -> int:
    try:
        return sum(p.size for p in source_files.load(path).parameters)
    except DsdError:
        return 0


def prepared(request: Request) -> Verdict:
    """What the check says of the model."""
    table = RECIPES.get(request.name)
    steps = {"phase": [{"kind": "dense", "steps": 1, "learning_rate": 1e-3}]}
    recipe = Recipe.from_dict({**table, **steps}) if table else None
    try:
        report = api.check(request.path, recipe, seconds=request.seconds, threads=request.threads)
    except NativeError as error:
        return Verdict("dies", error.what)
    except DsdError as error:
        ours = "fails" if error.what.startswith("the check itself failed") else "refused"
        return Verdict(ours, _one_line(f"{error.what} ({error.where})", request.path))
    bad = [row.group for row in report.wrong] + [line.what for line in report.lines if not line.passed]
    if bad:
        texts = [line.text for line in report.lines if not line.passed]
        return Verdict("wrong", _one_line("; ".join([*bad, *texts]), request.path))
    if not report.ok:
        return Verdict("undecided", f"{report.count('undecided')} tensors undecided, {report.count('zero')} zero")
    rest = ["with a recipe that fixes " + ", ".join(table["input"])] if table else []
    rest += [f"{report.count(v)} tensors {v}" for v in ("undecided", "zero") if report.count(v)]
    return Verdict("right", ", ".join(rest))


def alone(request: Request) -> Verdict:
    """The model in ONNX Runtime's own gradient builder; this can end the process."""
    try:
        return _alone(request)
    except Exception as error:  # whatever it raises, it tells
        what = error.what if isinstance(error, DsdError) else runtime.native_message(error)
        return Verdict("fails", _one_line(what, request.path))


def _alone(request: Request) -> Verdict:
    source = source_files.load(request.path)
    model = training_copy(source)
    old = model.opset_imports.get("", OLDEST_LOSS) < OLDEST_LOSS
    loss = fitting_loss(source, name="mse" if old else None)
    recipe = msgspec.structs.replace(api.default_recipe(), loss=loss)
    weights = [p for p in source.parameters if p.storage == "initializer"]
    if len(weights) < len(source.parameters):
        rest = len(source.parameters) - len(weights)
        return Verdict("fails", f"{rest} of {len(source.parameters)} weights are no initializers, but nodes' constants")

    attached = losses.attach(model, recipe.losses)
    run = Step(ir.to_proto(model), [p.name for p in weights], attached.loss, threads=request.threads)
    shipped = evaluation(source, recipe)
    batch = made_up.batch(source, shipped, recipe, None, {}, threads=request.threads)
    values = {p.name: source.value(p.name) for p in (*source.parameters, *source.statistics)}

    inputs = {**values, **batch.arrays}
    found, grads, _ = run(inputs)
    if bad := [name for name, gradient in grads.items() if gradient.shape != values[name].shape]:
        return Verdict("wrong", f"the gradient of {bad[0]} has the shape {list(grads[bad[0]].shape)}")
    signs = np.random.default_rng(0)
    moved = {
        p.name: values[p.name] * (1 + signs.choice([-1, 1], p.shape).astype(np.float32) * 2.0**-23) for p in weights
    }
    _, other, _ = run({**inputs, **moved})
    noise = {name: float(np.linalg.norm((other[name] - grads[name]).astype(np.float64))) for name in grads}
    point = gradients.Point(inputs, found, grads, noise, "inference")

    graph, threads = shipped.graph, request.threads
    plain = reference.InRuntime(graph, shipped.loss, double=False, threads=threads)(inputs)
    best, _ = reference.best(
        graph, shipped.loss, inputs, plain, limit=max(request.seconds / 10, 1.0), training=False, threads=threads
    )
    assert best is not None, "plain inference is one"
    if not abs(found - plain) <= 1e-3 * max(abs(plain), 1e-6):
        return Verdict("wrong", f"the loss is {found:.6g}, in plain inference {plain:.6g}")
    slices = [
        Slice(name=p.name, shape=p.shape, offset=0, size=p.size, role=p.role, layer=p.layer, successor="")
        for p in weights
    ]
    rows = list(gradients.check(point, best, slices, seconds=request.seconds / 2))
    wrong = [row.group for row in rows if row.verdict == "wrong"]
    if wrong:
        return Verdict("wrong", f"{len(wrong)} of {len(rows)} gradients, first {wrong[0]}")
    return Verdict("right") if any(row.verdict == "right" for row in rows) else Verdict("undecided")


def _one_line(text: str, path: Path) -> str:
    """Without folders of this machine, and not too long."""
    text = " ".join(re.sub(r"/\S+/(?=dsd_ort/)", "", text.replace(str(path), path.name)).split())
    return text if len(text) <= 240 else f"{text[:240]}…"
