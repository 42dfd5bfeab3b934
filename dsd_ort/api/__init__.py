"""The verbs of the project as Python functions; the command line has the same ones.

::

    import dsd_ort

    dsd_ort.prepare("model.onnx", "run", dsd_ort.Recipe.load("recipe.toml"))
    dsd_ort.train("run", "train.npz", eval_data="test.npz")
    dsd_ort.export("run", "final.onnx")
    assert dsd_ort.verify("model.onnx", "final.onnx").same

In: paths, a recipe, data.  Out: records with all that there is to say, and files.  Nothing is printed, and the command
line (``cli/``) is not imported here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsd_ort.api.comparison.cell import Cell, train_cell
    from dsd_ort.api.comparison.compare import Comparison, compare
    from dsd_ort.api.comparison.experiment import Experiment, experiment
    from dsd_ort.api.environment import Diagnosis, doctor
    from dsd_ort.api.evaluation import evaluate, predict
    from dsd_ort.api.gradients import differentiate
    from dsd_ort.api.labels import Suspects, suspects
    from dsd_ort.api.models import check, inspect, verify
    from dsd_ort.api.progress import Status, status
    from dsd_ort.api.quantised import Dequantization, dequantize
    from dsd_ort.api.rates import FittedRates, fit_rates
    from dsd_ort.api.recipes import completed, default_recipe, usage_note
    from dsd_ort.api.reporting import report
    from dsd_ort.api.runs import as_it_came, export, phases, ships_sparse, train
    from dsd_ort.api.sensitivity import Scan, scan
    from dsd_ort.api.shipping import Shipped, shipped
    from dsd_ort.graph.prepare import prepare
    from dsd_ort.run.fsck import fsck
    from dsd_ort.run.predict import Predicted

__all__ = [
    "Cell",
    "Comparison",
    "Dequantization",
    "Diagnosis",
    "Experiment",
    "FittedRates",
    "Predicted",
    "Scan",
    "Shipped",
    "Status",
    "Suspects",
    "as_it_came",
    "check",
    "compare",
    "completed",
    "default_recipe",
    "dequantize",
    "differentiate",
    "doctor",
    "evaluate",
    "experiment",
    "export",
    "fit_rates",
    "fsck",
    "inspect",
    "phases",
    "predict",
    "prepare",
    "report",
    "scan",
    "shipped",
    "ships_sparse",
    "status",
    "suspects",
    "train",
    "train_cell",
    "usage_note",
    "verify",
]

_MODULES = {
    "dsd_ort.api.comparison.compare": ("Comparison", "compare"),
    "dsd_ort.api.comparison.cell": ("Cell", "train_cell"),
    "dsd_ort.api.comparison.experiment": ("Experiment", "experiment"),
    "dsd_ort.api.environment": ("Diagnosis", "doctor"),
    "dsd_ort.api.gradients": ("differentiate",),
    "dsd_ort.api.labels": ("Suspects", "suspects"),
    "dsd_ort.api.quantised": ("Dequantization", "dequantize"),
    "dsd_ort.api.shipping": ("Shipped", "shipped"),
    "dsd_ort.api.sensitivity": ("Scan", "scan"),
    "dsd_ort.api.rates": ("FittedRates", "fit_rates"),
    "dsd_ort.api.models": ("check", "inspect", "verify"),
    "dsd_ort.api.recipes": ("completed", "default_recipe", "usage_note"),
    "dsd_ort.api.evaluation": ("evaluate", "predict"),
    "dsd_ort.run.predict": ("Predicted",),
    "dsd_ort.run.fsck": ("fsck",),
    "dsd_ort.api.reporting": ("report",),
    "dsd_ort.api.runs": ("as_it_came", "export", "phases", "ships_sparse", "train"),
    "dsd_ort.api.progress": ("Status", "status"),
    "dsd_ort.graph.prepare": ("prepare",),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """A verb's module is imported when the verb is used first: each needs another part of the package."""
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
