"""A single training that goes on where it was stopped, for what an example trains beside its comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx_ir as ir

import dsd_ort
from dsd_ort.cli.progress import reporter
from dsd_ort.cli.stop import stoppable
from dsd_ort.recipe import Recipe


def trained(model: ir.Model, run: Path, recipe: Recipe, data: Any, eval_data: Any, *, threads: int) -> dict[str, float]:
    """Trains *model* in the run folder *run*, or what is left of it to train; the metrics at its end.

    Beside the run is then RUN.onnx, the trained model.
    """
    start = run.with_suffix(".start.onnx")
    if not start.exists():
        run.parent.mkdir(parents=True, exist_ok=True)
        ir.save(model, start)
    return trained_on(start, run, recipe, data, eval_data, threads=threads)


def trained_on(model: Path, run: Path, recipe: Recipe, data: Any, eval_data: Any, *, threads: int) -> dict[str, float]:
    """:func:`trained`, of a model that is a file."""
    if not (run / "manifest.json").exists():
        dsd_ort.prepare(model, run, recipe)
    final = run.with_suffix(".onnx")
    if not final.exists():
        with stoppable("the same command") as stop, reporter() as listener:
            begun = (run / "checkpoint.safetensors").exists()
            dsd_ort.train(run, data, eval_data=eval_data, resume=begun, threads=threads, listener=listener, stop=stop)
        dsd_ort.export(run, final)
    [*_, last] = dsd_ort.phases(run)
    metrics: dict[str, float] = last["metrics"]
    return metrics
