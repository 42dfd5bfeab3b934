"""The exported file: only weights differ from the source, and plain inference gives the trained state's outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from dsd_ort import runtime
from dsd_ort.errors import ModelError
from dsd_ort.graph.evaluation import Evaluation
from dsd_ort.graph.inference import write_inference_form
from dsd_ort.graph.legalize import precision, to_supported
from dsd_ort.model.source import Source
from dsd_ort.proof import made_up
from dsd_ort.proof.report import Line
from dsd_ort.recipe import Recipe
from dsd_ort.ship import export
from dsd_ort.ship import verify as verify_files

SAME_OUTPUT = 1e-4
"""Of the exported file's output and the trained state's, relative to the greatest entry."""

Arrays = Mapping[str, npt.NDArray[Any]]


def line(
    source: Source,
    shipped: Evaluation,
    weights: Arrays,
    batch: Arrays,
    recipe: Recipe,
    *,
    moving: Iterable[str],
    folder: Path,
    threads: int,
) -> Line:
    """Exports the *weights* that are *moving* into the new *folder*, and compares."""
    folder.mkdir()
    final = folder / source.path.name
    export.write_weights(source, {name: weights[name] for name in moving}, final)
    verdict = verify_files.verify(source.path, final)
    if not verdict.same:
        text = "the exported file differs in more than weights: " + "; ".join(verdict.reasons)
        return Line(what="export", passed=False, text=text)
    measured, names = write_inference_form(final) or final, list(shipped.outputs)

    def apart(options: Any) -> tuple[float, str]:
        """How far the file's outputs are from the trained state's, and a remark."""
        plain, remark = _plain(measured, options, names)
        fitting = _as_many(batch, plain, shipped)
        theirs = plain.run(names, made_up.others(plain, _as_in_file(fitting, shipped.axes), recipe))
        del plain  # with the weights that it read
        trained = runtime.session(shipped.graph, options, where="the evaluate graph")
        feeds = {**weights, **fitting}
        ours = trained.run(names, {value.name: feeds[value.name] for value in trained.get_inputs()})
        moved = shipped.axes
        theirs = [np.moveaxis(y, moved[name], 0) if name in moved else y for name, y in zip(names, theirs, strict=True)]
        return max(map(_difference, ours, theirs)), remark

    worst, beside = apart(runtime.session_options(threads))
    text = f"only weights differ from the source; in plain inference it gives the trained outputs within {worst:.1e}"
    if worst > SAME_OUTPUT:
        # What is constant in the file is fused; of a probability of 1e-5, two roundings of Sigmoid's are a hundredth.
        worst, beside = apart(runtime.session_options(threads, optimized=False))
        text += f", and within {worst:.1e} where ONNX Runtime fuses no nodes"
    if measured != final:
        beside += "; it is in training mode, so its inference form was compared"
    return Line(what="export", passed=worst <= SAME_OUTPUT, text=text + beside)


def plain_run(path: Path, batch: Arrays, shipped: Evaluation, recipe: Recipe, *, threads: int) -> Callable[[], object]:
    """What runs the file once, in plain inference, on the inputs of *batch*.

    Raises:
        ModelError: ONNX Runtime does not run it.
    """
    session, _ = _plain(path, runtime.session_options(threads), ())
    arrays = _as_in_file(_as_many(batch, session, shipped), shipped.axes)
    feeds = made_up.others(session, arrays, recipe)
    return lambda: session.run(None, feeds)


def _as_in_file(batch: Arrays, axes: Mapping[str, int]) -> Arrays:
    """*batch* with the examples along the *axes* that the file has them in."""
    return {name: np.moveaxis(array, 0, axes[name]) if name in axes else array for name, array in batch.items()}


def _as_many(batch: Arrays, session: Any, shipped: Evaluation) -> Arrays:
    """*batch* with as many examples as *session* asks for, where it asks for a number, or holds one."""
    for value in session.get_inputs():
        n, array = (value.shape or [None])[shipped.axes.get(value.name, 0)], batch.get(value.name)
        n = n if isinstance(n, int) else shipped.held
        if array is not None and isinstance(n, int) and array.shape[0] != n:
            old = array.shape[0]
            return {k: np.resize(a, (n, *a.shape[1:])) if a.shape[:1] == (old,) else a for k, a in batch.items()}
    return batch


def _plain(path: Path, options: Any, names: Sequence[str]) -> tuple[Any, str]:
    """A session of *path*, in float32 where ONNX Runtime has no kernels for the file itself; and a remark on that."""
    try:
        return runtime.session(_with_outputs(_runnable(path), names), options, where=str(path)), ""
    except ModelError:
        model = _in_memory(path)
        if not precision.other_types(model):
            raise
        for value in model.graph.inputs:  # NumPy has no bfloat16
            if value.dtype == ir.DataType.BFLOAT16:
                value.dtype = ir.DataType.FLOAT
        precision.to_float32(model)
    remark = "; ONNX Runtime's CPU build cannot run this file itself; compared in float32"
    return runtime.session(ir.to_proto(model), options, where=str(path)), remark


def _difference(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    a, b = (np.squeeze(array).astype(np.float64) for array in (a, b))  # the file may squeeze a batch of one
    apart = a != b  # infinities may be the same
    return float(np.abs(a[apart] - b[apart]).max(initial=0)) / (float(np.abs(a[np.isfinite(a)]).max(initial=0)) or 1.0)


def _runnable(path: Path) -> onnx.ModelProto | str:
    """*path* itself, or its model in memory where the file is too new for this ONNX Runtime."""
    slim = onnx.load(path, load_external_data=False)
    opset = max((o.version for o in slim.opset_import if o.domain in ("", "ai.onnx")), default=1)
    if slim.ir_version <= runtime.SUPPORTED_IR and opset <= runtime.SUPPORTED_OPSET:
        return str(path)
    return ir.to_proto(_in_memory(path))


def _with_outputs(model: onnx.ModelProto | str, names: Sequence[str]) -> onnx.ModelProto | str:
    """*model* itself, or with outputs more: a loss may read what is none."""
    graph = (onnx.load(model, load_external_data=False) if isinstance(model, str) else model).graph
    if not (missing := set(names) - {value.name for value in graph.output}):
        return model
    whole = onnx.load(model) if isinstance(model, str) else model
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in missing)
    return whole


def _in_memory(path: Path) -> ir.Model:
    """In an opset that this ONNX Runtime knows."""
    model = ir.load(path)
    ir.external_data.load_to_model(model)
    return to_supported(model)
