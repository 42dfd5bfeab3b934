"""What is done about learning rates: those of a recipe, fitted to a model and its data."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from dsd_ort import runtime
from dsd_ort.data import open_data
from dsd_ort.graph.prepare import prepare
from dsd_ort.recipe import Recipe
from dsd_ort.run import range_test
from dsd_ort.run.examples import Examples
from dsd_ort.run.execution import Execution
from dsd_ort.run.range_test import Curve, Point


@dataclass(frozen=True)
class FittedRates:
    """What :func:`fit_rates` found."""

    recipe: Recipe
    """The recipe at the rate that was chosen; phases keep their ratios to each other."""
    curve: Curve
    """The loss after a few updates at each rate."""

    @property
    def rate(self) -> float:
        """The highest learning rate of the recipe."""
        return self.curve.best.rate

    @property
    def why(self) -> str:
        """Why it was chosen, in a sentence."""
        curve, best = self.curve, self.curve.best
        on = f"the loss on {curve.held_back:,} examples of the training data"
        if best.loss < curve.start:
            what = f"lowers {on} most in {range_test.UPDATES} updates, from {curve.start:.4g} to {best.loss:.4g}"
        else:
            what = f"was chosen as no rate lowers {on}: from {curve.start:.4g} it rises least, to {best.loss:.4g}"
        return f"a learning rate of {best.rate:g} {what}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them; a loss that is not finite is None."""
        curve = self.curve
        points = [{"rate": p.rate, "loss": p.loss if p.loss < float("inf") else None} for p in curve.points]
        found = {"came": curve.came, "start": curve.start, "points": points, "held_back": curve.held_back}
        return {"rate": self.rate, "why": self.why, "curve": found, "recipe": self.recipe.to_dict()}


def fit_rates(
    model: str | Path,
    recipe: Recipe,
    data: Any,
    *,
    device: str = "auto",
    threads: int = 0,
    listener: Callable[[Point], None] = lambda point: None,
) -> FittedRates:
    """Learning rates for a recipe, by a short range test of the model on its training data.

    From the model's own weights, pruned where the first phase is sparse, 32 updates at each rate from 1e-5 to 1 (352 at
    most, and no higher rate after one that ruins the model); the rate with the lowest loss on examples that are held
    back, a tenth of the data and 1,000 at most, is what the highest rate of the recipe becomes.  Nothing is written but
    temporary files.

    Args:
        model: an ONNX file, or a training graph of ONNX Runtime's.
        recipe: whose optimizer, batch size and first phase are tested; :func:`default_recipe` makes one.
        data: to train on, see :func:`train`; never what the model is evaluated on.
        device: see :func:`train`.
        threads: see :func:`train`.
        listener: is told the loss at each rate.

    Raises:
        RecipeError: the recipe does not fit the model, or all its rates are 0.
        ModelError, InstallationError: see :func:`prepare` and :func:`train`.
        DataError: the data does not fit the model; :class:`dsd_ort.run.range_test.UntestableError`, which is one: it is
            a stream, or fewer than two batches.
        DivergedError: the loss is not finite, as the model came or at every rate.
    """
    runtime.require_runtime()
    execution = Execution(runtime.choose_device(device), threads)
    recipe.at_rate(1.0)  # refuses what cannot be scaled before anything is made
    with tempfile.TemporaryDirectory(prefix="dsd-ort-") as folder:
        only_loss = msgspec.structs.replace(recipe, metrics=("loss",), monitor="loss")
        program = prepare(model, Path(folder) / "run", only_loss)
        fields = [*program.manifest.inputs, *program.manifest.labels]
        examples = Examples(program, open_data(data, fields, program.recipe.data))
        curve = range_test.measure(program, examples.left, execution, listener)
    return FittedRates(recipe.at_rate(curve.best.rate), curve)
