"""What types cannot say of a recipe: ranges, and keys that need or exclude each other."""

from __future__ import annotations

import math
from collections.abc import Callable

from dsd_ort.errors import RecipeError
from dsd_ort.recipe.names import FITTING_METRICS, WITH_LABELS
from dsd_ort.recipe.patterns import HELP, parse
from dsd_ort.recipe.tables import Content, Data, Experiment, Loss, Optimizer, Phase, Rise

Require = Callable[[bool, str, str], None]
"""Refuses the recipe where the first is not so; the others are what is wrong, and what to do."""


def refuse_bad_values(recipe: Content, where: str) -> None:
    """Holds a recipe to its ranges; *where* it stands is for messages.

    Raises:
        RecipeError: a value is out of its range, or does not go with another.
    """

    def require(condition: bool, what: str, fix: str) -> None:
        if not condition:
            raise RecipeError(what, where=where, fix=fix)

    require(bool(recipe.phase), "the recipe has no phase", "add at least one [[phase]]")
    require(bool(recipe.losses), "the recipe has no loss", "add a [loss]")
    require(recipe.batch_size > 0, f"batch_size = {recipe.batch_size} is not positive", "give a whole number, as 32")
    require(recipe.seed >= 0, f"seed = {recipe.seed} is negative", "give a whole number from 0")
    for i, phase in enumerate(recipe.phase):
        _check_phase(phase, f"phase[{i}]", require)
    _check_drops(recipe, require)
    _check_prune(recipe, require)
    _check_experiment(recipe.experiment, require)
    _check_optimizer(recipe.optimizer, require)
    for loss in recipe.losses:
        _check_loss(loss, require)
    _check_data(recipe.data, {loss.blank for loss in recipe.losses if loss.name == "ctc"}, require)
    _check_metrics(recipe, require)


def _check_phase(phase: Phase, at: str, require: Require) -> None:
    limits = [v for v in (phase.epochs, phase.steps) if v is not None]
    require(len(limits) == 1, f"{at} needs either epochs or steps", "give exactly one of the two")
    require(0 <= limits[0] < math.inf, f"{at} has a negative or infinite length", "give a number from 0")
    require(phase.kind == "sparse" or phase.sparsity is None, f"{at} is dense but has a sparsity", "remove it")
    if phase.kind == "sparse":
        require(phase.sparsity is not None, f"{at} is sparse but has no sparsity", "add it, as sparsity = 0.3")
        if isinstance(phase.sparsity, Rise):
            _check_rise(phase.sparsity, f"{at}.sparsity", require)
        else:
            _check_sparsity(phase.sparsity or 0.0, f"{at}.sparsity", require)
    require(phase.patience is None or phase.patience > 0, f"{at}.patience must be positive", "give 1 or more epochs")
    schedule = phase.schedule
    rates = (schedule.initial, schedule.final, schedule.factor)
    require(all(rate >= 0 for rate in rates), f"{at} has a negative learning rate", "give a number from 0")
    require(max(rates) < math.inf, f"{at} has an infinite learning rate", "give a number, as 1e-2")
    require(schedule.every > 0, f"{at}.learning_rate.every must be positive", "give the epochs between two steps")
    require(schedule.warmup >= 0, f"{at}.learning_rate.warmup is negative", "give a number of steps")


def _check_rise(rise: Rise, at: str, require: Require) -> None:
    for key in ("initial", "final"):
        _check_sparsity(getattr(rise, key), f"{at}.{key}", require)
    fix = "it rises: give a lower initial or a higher final"
    require(rise.initial <= rise.final, f"{at} is to rise from {rise.initial:g} to {rise.final:g}", fix)
    require(rise.every > 0, f"{at}.every = {rise.every} is not positive", "give the updates from one mask to the next")
    require(rise.stairs > 0, f"{at}.stairs = {rise.stairs} is not positive", "give a number of steps, as 4")
    require(0 < rise.over <= 1, f"{at}.over = {rise.over:g} is outside (0, 1]", "give a share of the phase, as 0.75")


def _check_prune(recipe: Content, require: Require) -> None:
    prune, pattern = recipe.prune, parse(recipe.prune.pattern)
    require(pattern is not None, f"prune.pattern = {prune.pattern!r} is none", HELP)
    assert pattern is not None
    for selector, value in prune.layers.items():
        _check_sparsity(value, f"prune.layers.{selector!r}", require)
    layered = not prune.alive or prune.scope == "layer"
    require(layered, 'prune.alive does not go with prune.scope = "global"', "it is about each layer for itself")
    single, named = pattern.kind in ("unstructured", "rows"), f"prune.pattern = {prune.pattern!r}"
    require(single or not prune.alive, f"prune.alive does not go with {named}", "remove one of the two")
    together = prune.scope == "layer" or pattern.kind not in ("rows", "N:M")
    fix = "each of its groups has a share of its own; remove the scope"
    require(together, f'{named} has no meaning with prune.scope = "global"', fix)
    require(prune.calibration > 0, f"prune.calibration = {prune.calibration} is not positive", "give examples, as 128")
    if pattern.sparsity is None:
        return
    sparse = [(i, phase.final_sparsity) for i, phase in enumerate(recipe.phase) if phase.kind == "sparse"]
    for i, final in sparse:
        says = final is None or math.isclose(final, pattern.sparsity, abs_tol=1e-6)
        what = f"{named} prunes {pattern.sparsity:g}, and phase[{i}].sparsity says {final or 0:g}"
        require(says, what, "remove the sparsity, or choose another pattern")
    for selector, value in prune.layers.items():
        whole = math.isclose(value * pattern.second, round(value * pattern.second), abs_tol=1e-6)
        what = f"prune.layers.{selector!r} = {value:g} is no whole number of each {pattern.second} of {named}"
        require(whole, what, f"give {pattern.sparsity:g}, or 0 for a layer that is not pruned")


def _check_drops(recipe: Content, require: Require) -> None:
    for i, phase in enumerate(recipe.phase):
        if phase.drop_suspects:
            key = f"phase[{i}].drop_suspects"
            require(phase.kind == "dense", f"{key} is set in a sparse phase", "set it in a dense one after that")
            before = any(earlier.kind == "sparse" for earlier in recipe.phase[:i])
            require(before, f"{key} has no sparse phase before it, whose network could doubt a label", "add one")
            name = recipe.losses[0].name
            fix = f"suspects are for {', '.join(WITH_LABELS)}"
            require(name in WITH_LABELS, f"{key} does not fit the loss {name!r}, which has no labels", fix)


def _check_experiment(experiment: Experiment, require: Require) -> None:
    require(experiment.seeds > 0, f"experiment.seeds = {experiment.seeds} is no experiment", "give 1 or more")
    share = experiment.select
    require(share is None or 0 < share < 1, f"experiment.select = {share} is outside (0, 1)", "give a share, as 0.1")


def _check_sparsity(value: float, key: str, require: Require) -> None:
    require(0 <= value < 1, f"{key} = {value:g} is outside [0, 1)", "give the share of weights to prune, as 0.3")


def _check_optimizer(optimizer: Optimizer, require: Require) -> None:
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


def _check_metrics(recipe: Content, require: Require) -> None:
    first, wanted = recipe.losses[0].name, (*(recipe.metrics or ()), recipe.monitor)
    for metric in wanted:
        fix = "with it, metrics and monitor can be " + ", ".join(FITTING_METRICS[first])
        require(metric in FITTING_METRICS[first], f"the metric {metric!r} does not fit the loss {first!r}", fix)
    if "wer" in wanted:
        fix = 'give the text of each class, as alphabet = "_ abc…"'
        require(bool(recipe.data.alphabet), "the metric 'wer' needs data.alphabet, to know words", fix)


def _check_loss(loss: Loss, require: Require) -> None:
    require(0 <= loss.label_smoothing < 1, "loss.label_smoothing is outside [0, 1)", "e.g. 0.1")
    require(loss.delta > 0, "loss.delta must be positive", "e.g. 1.0")
    require(loss.blank >= 0, f"loss.blank = {loss.blank} is negative", "give the number of a class, from 0")
    if loss.name == "ctc":
        fits = loss.ignore_index is None or loss.ignore_index < 0
        require(fits, "loss.ignore_index would be a class of ctc's", "give a negative number, as -1")
        require(loss.time_axis in (0, 1, 2), f"loss.time_axis = {loss.time_axis} is none of 0, 1 and 2", "e.g. 1")


def _check_data(data: Data, blanks: set[int], require: Require) -> None:
    require(all(s > 0 for s in data.spread), "data.std must be positive", "give one number a channel")
    require(data.pad_to >= 1, f"data.pad_to = {data.pad_to} is not positive", "give a length, as 50")
    for key in ("resize", "crop"):
        size = getattr(data.image, key)
        require(size is None or size > 0, f"data.image.{key} = {size} is not positive", "give pixels, as 224")
    resize, crop, pad = data.image.resize, data.image.crop, data.image.pad
    require(pad >= 0, f"data.image.pad = {pad} is negative", "give pixels, as 4")
    require(
        resize is None or crop is None or crop <= resize + 2 * pad,
        f"data.image.crop = {crop} is larger than data.image.resize = {resize} with its padding",
        "set a smaller crop, as resize = 256 and crop = 224",
    )
    for key in ("time_mask", "frequency_mask"):
        value = getattr(data.audio, key)
        require(value >= 0, f"data.audio.{key} = {value} is negative", "give a whole number from 0")
    for key in ("sample_rate", "window", "hop", "mels"):
        value = getattr(data.audio, key)
        require(
            0 < value < 1e9, f"data.audio.{key} = {value:g} is not positive, or too large", "see the README's recipes"
        )
    audio = data.audio
    require(
        round(audio.window * audio.sample_rate) >= 2 and round(audio.hop * audio.sample_rate) >= 1,
        "data.audio.window or hop is less than a sample",
        "give seconds, as window = 0.025 and hop = 0.01",
    )
    require(data.without != "", "data.without is empty", "give the path of a CSV, or remove it")
    entries = [entry for number, entry in enumerate(data.alphabet) if entry and number not in blanks]
    twice = next((entry for entry in entries if entries.count(entry) > 1), None)
    require(twice is None, f"data.alphabet has {twice!r} twice", "give each class a text of its own")
