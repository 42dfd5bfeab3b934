"""Dense-Sparse-Dense training of exported ONNX models at graph level (Han et al., ICLR 2017).

::

    recipe = dsd_ort.Recipe.load("recipe.toml")             # or dsd_ort.default_recipe("model.onnx")
    dsd_ort.inspect("model.onnx")                           # its parameters, and what prevents training
    dsd_ort.check("model.onnx")                             # do its gradients agree with finite differences?
    recipe = dsd_ort.fit_rates("model.onnx", recipe, "train.npz").recipe        # learning rates that fit
    dsd_ort.prepare("model.onnx", "run", recipe)            # training graphs, in a run folder
    dsd_ort.train("run", "train.npz", eval_data="test.npz") # dense, sparse, dense
    dsd_ort.export("run", "better.onnx")                    # the same file with other weights …
    dsd_ort.verify("model.onnx", "better.onnx")             # … and the proof that only they differ

``compare`` does all of it, and the same budget dense only beside it; ``experiment`` does so in several ways and with
several seeds, of which ``train_cell`` trains a part, on any machine.  ``evaluate`` measures a file or a run,
``predict`` is what it says, ``phases`` reads what a run has measured, ``status`` how far it is, ``fsck`` whether its
files are whole, ``report`` shows it as a page, ``suspects`` lists the training examples whose labels are probably
wrong, ``doctor`` says what there is to train with.  ``scan`` tells how much pruning each layer bears, ``differentiate``
adds gradients to a graph and trains nothing, ``dequantize`` makes floats of quantised weights, which then train.  What
is refused raises :class:`DsdError`.
"""

from typing import TYPE_CHECKING, Any

from dsd_ort.errors import DsdError
from dsd_ort.recipe import Recipe
from dsd_ort.version import __version__

if TYPE_CHECKING:
    from dsd_ort.api import (
        Cell,
        Comparison,
        Dequantization,
        Diagnosis,
        Experiment,
        FittedRates,
        Predicted,
        Scan,
        Status,
        Suspects,
        check,
        compare,
        default_recipe,
        dequantize,
        differentiate,
        doctor,
        evaluate,
        experiment,
        export,
        fit_rates,
        fsck,
        inspect,
        phases,
        predict,
        prepare,
        report,
        scan,
        status,
        suspects,
        train,
        train_cell,
        verify,
    )

__all__ = [
    "Cell",
    "Comparison",
    "Dequantization",
    "Diagnosis",
    "DsdError",
    "Experiment",
    "FittedRates",
    "Predicted",
    "Recipe",
    "Scan",
    "Status",
    "Suspects",
    "__version__",
    "check",
    "compare",
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
    "status",
    "suspects",
    "train",
    "train_cell",
    "verify",
]


def __getattr__(name: str) -> Any:
    """The verbs are imported when one is used first: they need ONNX and ONNX Runtime, which take a second to load."""
    if name in __all__:
        from dsd_ort import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The verbs too, though none has been used yet: for completion in a notebook, and for ``help``."""
    return sorted(__all__)
