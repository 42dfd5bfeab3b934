"""A recipe says how a model is trained: loss, optimizer, pruning, phases and data, as TOML.

::

    batch_size = 256
    [loss]
    name = "cross-entropy"
    [optimizer]
    name = "sgd"
    momentum = 0.9
    [[phase]]
    kind = "dense"
    epochs = 60
    learning_rate = 1e-2
    [[phase]]
    kind = "sparse"
    sparsity = 0.3
    epochs = 11
    learning_rate = { schedule = "cosine", initial = 1e-3, final = 1e-5 }

:mod:`~dsd_ort.recipe.tables` is the whole format, :class:`Recipe` what is read, checked and handed on.  An unknown key
is an error that names the nearest right one.  ``builtin/`` holds the recipes that ship with the package; those under
``paper/`` are the tables of the DSD paper.

In: the path of a TOML file, or tables.  Out: a :class:`Recipe`.  Of the package only errors are imported.
"""

from dsd_ort.recipe.names import (
    DEFAULT_METRICS,
    FITTING_METRICS,
    WITH_LABELS,
    BuilderName,
    CriterionName,
    LossName,
    MetricName,
    OptimizerName,
)
from dsd_ort.recipe.reading import BUILTIN, builtin_names, parse_value, read_toml
from dsd_ort.recipe.recipe import Recipe
from dsd_ort.recipe.tables import (
    Audio,
    Cycle,
    Data,
    Group,
    Image,
    Input,
    Loss,
    Optimizer,
    Parameters,
    Phase,
    Prune,
    Rise,
    Schedule,
)
from dsd_ort.recipe.writing import to_toml

__all__ = [
    "BUILTIN",
    "DEFAULT_METRICS",
    "FITTING_METRICS",
    "WITH_LABELS",
    "Audio",
    "BuilderName",
    "CriterionName",
    "Cycle",
    "Data",
    "Group",
    "Image",
    "Input",
    "Loss",
    "LossName",
    "MetricName",
    "Optimizer",
    "OptimizerName",
    "Parameters",
    "Phase",
    "Prune",
    "Recipe",
    "Rise",
    "Schedule",
    "builtin_names",
    "parse_value",
    "read_toml",
    "to_toml",
]
