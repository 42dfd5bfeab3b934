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

The classes below are the whole format: every key, its type and its default stand here and nowhere else.  An
unknown key is an error that names the nearest right one.

*Selectors* (``freeze``, ``prune.include``, ``prune.exclude``, ``prune.layers``, ``optimizer.groups.match``) name
parameters: a glob over parameter names (``"layer4.*"``), the role of a parameter (``"role:bias"``, see
:data:`dsd_ort.graph.roles.ROLES`), or ``"first-conv"``, the convolutions that read the model's input.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from dsd_ort.errors import RecipeError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LossName = Literal["cross-entropy", "bce-with-logits", "mse", "l1", "huber"]
OptimizerName = Literal["sgd", "adam", "adamw"]
MetricName = Literal["loss", "top-1", "top-5", "mean-error"]

_OF_VALUES: tuple[MetricName, ...] = ("loss", "mean-error")
FITTING_METRICS: dict[LossName, tuple[MetricName, ...]] = {
    "cross-entropy": ("loss", "top-1", "top-5"),
    "bce-with-logits": ("loss",),
    "mse": _OF_VALUES,
    "l1": _OF_VALUES,
    "huber": _OF_VALUES,
}
"""What can be measured at the output of each loss."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A TOML table: immutable, compared by value, unknown keys refused."""


class Loss(_Table, frozen=True, kw_only=True):
    """One loss at one output.  Several (``[[loss]]``) are added, each times its ``weight``.

    ``cross-entropy`` takes logits ``f32[N, C, …]`` and class labels ``i64[N, …]``; the others take a target of the
    output's own shape.  All are means over the batch, as PyTorch's ``reduction="mean"``.
    """

    name: LossName = "cross-entropy"
    output: str | None = None
    """The model's output that the loss reads; may be left out where the model has only one."""
    label: str = "label"
    """The name of the target among the data's arrays."""
    weight: float = 1.0
    label_smoothing: float = 0.0
    ignore_index: int | None = None
    class_weights: tuple[float, ...] | None = None
    delta: float = 1.0
    """Huber only: where the square ends and the line begins."""


class Group(_Table, frozen=True, kw_only=True):
    """Parameters with a weight decay or learning rate of their own; the first group that matches counts."""

    match: tuple[str, ...]
    weight_decay: float | None = None
    learning_rate_factor: float = 1.0


class Optimizer(_Table, frozen=True, kw_only=True):
    """``sgd``, ``adam`` and ``adamw`` with PyTorch's meaning of every hyper-parameter."""

    name: OptimizerName = "sgd"
    momentum: float = 0.9
    dampening: float = 0.0
    nesterov: bool = False
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    epsilon_hat: bool = False
    """Adam and AdamW: ``epsilon`` is added in front of the bias correction (ε̂ of Kingma & Ba 2015), not behind it."""
    weight_decay: float = 0.0
    clip_norm: float | None = None
    """Gradients are scaled down to this global L2 norm where they exceed it."""
    accumulate: int = 1
    """Batches whose gradients are averaged before one update."""
    groups: tuple[Group, ...] = ()


class Prune(_Table, frozen=True, kw_only=True):
    """Which parameters a sparse phase prunes, and by how much where it is not the phase's ``sparsity``."""

    scope: Literal["layer", "global"] = "layer"
    """``layer``: the same share of every layer; ``global``: the smallest weights of all layers together."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ("first-conv",)
    layers: dict[str, float] = {}
    """Sparsity of single layers: selector → sparsity; the first that matches counts."""


class Schedule(_Table, frozen=True, kw_only=True):
    """A learning rate over the steps of one phase.

    ``constant``: initial.  ``step``: initial · factor^(epochs passed // every).  ``cosine``: from initial to final over
    the phase.  With ``warmup`` steps, the rate first rises linearly from initial/warmup to initial.
    """

    schedule: Literal["constant", "step", "cosine"] = "constant"
    initial: float
    final: float = 0.0
    factor: float = 0.1
    every: float = 1.0
    """Epochs between two steps of ``step``."""
    warmup: int = 0


class Phase(_Table, frozen=True, kw_only=True):
    """One phase: dense, or sparse under a mask that is computed when it begins and then stays."""

    kind: Literal["dense", "sparse"]
    learning_rate: float | Schedule
    epochs: int | None = None
    steps: int | None = None
    sparsity: float | None = None
    patience: int | None = None
    """The phase ends after this many epochs without a better ``monitor``; ``epochs`` is then the most it takes."""

    @property
    def schedule(self) -> Schedule:
        if isinstance(self.learning_rate, Schedule):
            return self.learning_rate
        return Schedule(initial=self.learning_rate)


class Data(_Table, frozen=True, kw_only=True):
    """How arrays become the model's inputs.

    uint8 arrays that feed a float input become ``(x · scale − mean) / std``, per channel where ``mean`` and ``std``
    have several entries (axis 1).  ``layout = "nhwc"`` says that image arrays are ``[N, H, W, C]``.
    """

    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Literal["nchw", "nhwc"] = "nchw"
    shuffle: bool = True
    drop_last: bool = False


class Input(_Table, frozen=True, kw_only=True):
    """What is fixed of one of the model's inputs (``[input.NAME]``).

    A model may have inputs that are no data: a sampling rate, an initial state.  With a value, data does not feed it.
    A fixed value or length may also decide a condition, so that the branch that is not taken needs no gradient.
    """

    value: int | float | bool | tuple[Any, ...] | None = None
    """One number for every entry, or nested lists of the input's shape."""
    shape: tuple[int | str, ...] | None = None
    """A length for each axis; a text stands for any length."""


class Recipe(_Table, frozen=True, kw_only=True):
    """The whole recipe."""

    phase: tuple[Phase, ...]
    batch_size: int = 32
    seed: int = 0
    loss: Loss | tuple[Loss, ...] = Loss()
    optimizer: Optimizer = Optimizer()
    prune: Prune = Prune()
    data: Data = Data()
    input: dict[str, Input] = {}
    """What is fixed of the model's inputs, by their names."""
    batch_norm: Literal["train", "frozen"] = "train"
    freeze: tuple[str, ...] = ()
    metrics: tuple[MetricName, ...] | None = None
    """What evaluation reports of the first loss's output; by default all that fit that loss."""
    monitor: MetricName = "loss"
    """What decides which epoch of a phase is the best, and when a phase has converged; always reported."""

    @property
    def losses(self) -> tuple[Loss, ...]:
        return self.loss if isinstance(self.loss, tuple) else (self.loss,)

    @classmethod
    def from_dict(cls, table: dict[str, Any], *, where: str = "recipe") -> Recipe:
        """A checked recipe.

        Raises:
            RecipeError: an unknown key, a wrong type, or a value out of its range.
        """
        _refuse_unknown_keys(cls, table, where)
        try:
            recipe = msgspec.convert(table, cls)
        except msgspec.ValidationError as error:
            message, _, path = str(error).partition(" - at ")
            at = path.strip("`").removeprefix("$.")
            raise RecipeError(
                f"the recipe's {at or 'content'} is wrong: {message}", where=where, fix="see the README's recipe"
            ) from error
        _refuse_bad_values(recipe, where)
        return recipe

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Reads a TOML file.

        Raises:
            RecipeError: no such file, not TOML, or not a recipe.
        """
        try:
            table = tomllib.loads(Path(path).read_text("utf-8"))
        except OSError as error:
            raise RecipeError(
                f"the recipe cannot be read: {error.strerror}", where=str(path), fix="give the path of a TOML file"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RecipeError(
                f"the recipe is not TOML: {error}", where=str(path), fix="mend that line; see the README's recipe"
            ) from error
        return cls.from_dict(table, where=str(path))

    def dense_only(self) -> Recipe:
        """The same budget and learning rates without pruning: what a sparse phase's gain is measured against."""
        phases = tuple(msgspec.structs.replace(phase, kind="dense", sparsity=None) for phase in self.phase)
        return msgspec.structs.replace(self, phase=phases)

    def to_dict(self) -> dict[str, Any]:
        """Plain tables that :meth:`from_dict` takes back."""
        table: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return table


def parse_value(text: str) -> Any:
    """A TOML value such as ``0.1``, ``true`` or ``["a", "b"]``; anything else is taken as text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _tables_in(annotation: Any) -> list[type[_Table]]:
    """The table classes in a type such as ``Loss | tuple[Loss, ...]``."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return [annotation] if issubclass(annotation, _Table) else []
    return list(dict.fromkeys(t for a in get_args(annotation) for t in _tables_in(a)))


def _refuse_unknown_keys(cls: type[_Table], table: dict[str, Any], where: str, path: str = "") -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(cls)}
    for key, value in table.items():
        if key not in fields:
            raise RecipeError(
                f"unknown key {path + key!r} in the recipe",
                where=where,
                fix=nearest(key, fields) or "the keys here are " + ", ".join(fields),
            )
        for inner in _tables_in(fields[key]):
            by_name = get_origin(fields[key]) is dict and isinstance(value, dict)
            items = value if isinstance(value, list) else list(value.values()) if by_name else [value]
            for item in items:
                if isinstance(item, dict):
                    _refuse_unknown_keys(inner, item, where, f"{path}{key}.")


def _refuse_bad_values(recipe: Recipe, where: str) -> None:
    """What types cannot say: ranges, and keys that need or exclude each other."""

    def require(condition: bool, what: str, fix: str) -> None:
        if not condition:
            raise RecipeError(what, where=where, fix=fix)

    def sparsity_in_range(value: float, key: str) -> None:
        require(0 <= value < 1, f"{key} = {value:g} is outside [0, 1)", "give the share of weights to prune, as 0.3")

    require(bool(recipe.phase), "the recipe has no phase", "add at least one [[phase]]")
    require(bool(recipe.losses), "the recipe has no loss", "add a [loss]")
    require(recipe.batch_size > 0, f"batch_size = {recipe.batch_size} is not positive", "give a whole number, as 32")
    require(recipe.seed >= 0, f"seed = {recipe.seed} is negative", "give a whole number from 0")
    for i, phase in enumerate(recipe.phase):
        at = f"phase[{i}]"
        limits = [v for v in (phase.epochs, phase.steps) if v is not None]
        require(len(limits) == 1, f"{at} needs either epochs or steps", "give exactly one of the two")
        require(limits[0] >= 0, f"{at} has a negative length", "give a whole number from 0")
        require(phase.kind == "sparse" or phase.sparsity is None, f"{at} is dense but has a sparsity", "remove it")
        if phase.kind == "sparse":
            require(phase.sparsity is not None, f"{at} is sparse but has no sparsity", "add it, as sparsity = 0.3")
            sparsity_in_range(phase.sparsity or 0.0, f"{at}.sparsity")
        require(
            phase.patience is None or phase.patience > 0, f"{at}.patience must be positive", "give 1 or more epochs"
        )
        schedule = phase.schedule
        rates = (schedule.initial, schedule.final, schedule.factor)
        require(all(rate >= 0 for rate in rates), f"{at} has a negative learning rate", "give a number from 0")
        require(max(rates) < math.inf, f"{at} has an infinite learning rate", "give a number, as 1e-2")
        require(schedule.every > 0, f"{at}.learning_rate.every must be positive", "give the epochs between two steps")
        require(schedule.warmup >= 0, f"{at}.learning_rate.warmup is negative", "give a number of steps")
    for selector, value in recipe.prune.layers.items():
        sparsity_in_range(value, f"prune.layers.{selector!r}")
    optimizer = recipe.optimizer
    require(optimizer.accumulate > 0, "optimizer.accumulate must be positive", "1 means every batch is an update")
    require(optimizer.clip_norm is None or optimizer.clip_norm > 0, "optimizer.clip_norm must be positive", "e.g. 1.0")
    decays = (optimizer.weight_decay, *(g.weight_decay for g in optimizer.groups if g.weight_decay is not None))
    require(all(0 <= d < math.inf for d in decays), "a weight_decay is negative or not finite", "e.g. 1e-4")
    require(optimizer.epsilon > 0, "optimizer.epsilon must be positive", "e.g. 1e-8")
    factors = [group.learning_rate_factor for group in optimizer.groups]
    require(all(0 <= f < math.inf for f in factors), "a learning_rate_factor is negative or not finite", "e.g. 0.1")
    for name in ("momentum", "beta1", "beta2"):
        value = getattr(optimizer, name)
        require(0 <= value < 1, f"optimizer.{name} = {value:g} is outside [0, 1)", "e.g. 0.9")
    require(
        not optimizer.nesterov or (optimizer.momentum > 0 and optimizer.dampening == 0),
        "optimizer.nesterov needs a momentum and no dampening",
        "set momentum = 0.9, or remove nesterov",
    )
    for loss in recipe.losses:
        require(0 <= loss.label_smoothing < 1, "loss.label_smoothing is outside [0, 1)", "e.g. 0.1")
        require(loss.delta > 0, "loss.delta must be positive", "e.g. 1.0")
    require(all(s > 0 for s in recipe.data.std), "data.std must be positive", "give one number a channel")
    first = recipe.losses[0].name
    for metric in (*(recipe.metrics or ()), recipe.monitor):
        fix = "with it, metrics and monitor can be " + ", ".join(FITTING_METRICS[first])
        require(metric in FITTING_METRICS[first], f"the metric {metric!r} does not fit the loss {first!r}", fix)
