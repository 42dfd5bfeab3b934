"""The options that several commands have, and the recipe that they make."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import click

from dsd_ort import api, runtime
from dsd_ort.cli.completion import of_keys, of_paths, of_recipes
from dsd_ort.cli.say import say
from dsd_ort.errors import DsdError, RecipeError
from dsd_ort.recipe import BuilderName, LossName, Recipe, parse_value
from dsd_ort.recipe.patterns import left_to
from dsd_ort.run.execution import ON_NAN, PRECISIONS

FILE = click.Path(path_type=Path)
RECIPE = "A TOML file, or the name of a built-in recipe; dsd-ort recipes lists those."


def as_json(command: Any) -> Any:
    return click.option("--json", "json_", is_flag=True, help="Print the result as JSON.")(command)


def builder_option(command: Any) -> Any:
    text = "What differentiates the model: dsd-ort, or ONNX Runtime's training build.  [default: own, or the recipe's]"
    return click.option("--builder", type=click.Choice(get_args(BuilderName)), help=text)(command)


def weights_options(command: Any) -> Any:
    command = click.option("--best", is_flag=True, help="Take the phase's best epoch rather than its last.")(command)
    return click.option("--phase", type=int, help="Which phase's weights, from 1.  [default: the last complete one]")(
        command
    )


class _Device(click.ParamType[str]):
    """Only the form is checked: whether it is there is found where it is needed."""

    name = "auto|cpu|cuda|cuda:N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            runtime.parse_device(str(value))
        except DsdError as error:
            self.fail(f"{error.what}: {error.fix}", param, ctx)
        return str(value)


device_option = click.option(
    "--device",
    type=_Device(),
    metavar=_Device.name,
    default="auto",
    show_default=True,
    help="auto: the first CUDA device, if all that it takes is there (see dsd-ort doctor), or the CPU.",
)
threads_option = click.option("--threads", type=click.IntRange(0), default=0, help="Of ONNX Runtime; 0: one a core.")


def training_options(command: Any) -> Any:
    """How a training runs, whatever it trains."""
    for option in (
        click.option(
            "--checkpoint-seconds",
            type=click.FloatRange(0),
            default=300.0,
            show_default=True,
            help="The longest time between two checkpoints.",
        ),
        click.option(
            "--deterministic", is_flag=True, help="Only what repeats to the bit on one device; names what cannot."
        ),
        click.option(
            "--cuda-graphs/--no-cuda-graphs",
            default=True,
            show_default=True,
            help="Record a step on the GPU once, and replay it.",
        ),
        click.option(
            "--precision",
            type=click.Choice(PRECISIONS),
            help="Of products: float32, TF32, or 16 bits with float32 weights.  [default: fp32, or what it was]",
        ),
        click.option(
            "--on-nan",
            type=click.Choice(ON_NAN),
            help="What becomes of an update that is not finite: skip leaves it out.  [default: stop, or what it was]",
        ),
        click.option(
            "--keep-checkpoints",
            type=click.IntRange(1),
            default=1,
            show_default=True,
            help="How many checkpoints stay; with 2, a damaged one costs what was done since the one before.",
        ),
        threads_option,
        device_option,
    ):
        command = option(command)
    return command


def training_arguments(options: Mapping[str, Any]) -> list[str]:
    """What :func:`training_options` were given, as arguments to give again."""
    given = [
        ("--threads", options["threads"]),
        ("--device", options["device"] if options["device"] != "auto" else None),
        ("--precision", options["precision"]),
        ("--on-nan", options["on_nan"]),
        ("--keep-checkpoints", keep if (keep := options["keep_checkpoints"]) > 1 else None),
    ]
    arguments = [part for name, value in given if value for part in (name, str(value))]
    arguments += ["--deterministic"] if options["deterministic"] else []
    return arguments + ([] if options["cuda_graphs"] else ["--no-cuda-graphs"])


loss_option = click.option(
    "--loss",
    type=click.Choice(get_args(LossName)),
    help="What is minimised.  [default: the recipe's; without one, final.toml's beside final.onnx, or what fits the "
    "output]",
)
output_option = click.option(
    "--output",
    help="The output that the loss reads.  [default: the recipe's; without one, what most weights lead to]",
)


settings_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=of_keys,
    help="Any key of the recipe, as optimizer.momentum=0.8.",
)


def note(text: str) -> None:
    """Says on standard error what people should know."""
    say(f"note: {text}", err=True)


def data_option(command: Any) -> Any:
    text = "A .npz or shards, a folder of .npy, of images or of recordings, IDX files, a manifest, or module:function."
    return click.option("--data", required=True, shell_complete=of_paths, help=text)(command)


def recipe_options(command: Any) -> Any:
    """Gives a command of a model its ``recipe``: that of the options, with what they set."""
    default = "sparse then dense, for a model that is trained"

    @functools.wraps(command)
    def with_recipe(recipe: Path | None, settings: tuple[str, ...], **options: Any) -> Any:
        named = ("loss", "output", "label_name", "without", "batch_size", "seed", "builder")
        keys = {key: options.pop(key) for key in named}
        return command(recipe=recipe_from(recipe, keys, settings, options["model"]), **options)

    for option in (
        settings_option,
        builder_option,
        click.option("--seed", type=int, help="Of shuffling and dropout."),
        click.option("--batch-size", type=int, help="Examples a step."),
        click.option("--without", type=FILE, help="A CSV of examples that are not trained on, as suspects writes it."),
        click.option("--label-name", help="The target's name among the data's arrays.  [default: label]"),
        output_option,
        loss_option,
        click.option("--recipe", type=FILE, shell_complete=of_recipes, help=f"{RECIPE}  [default: {default}]"),
    ):
        with_recipe = option(with_recipe)
    return with_recipe


def is_default(ctx: click.Context) -> bool:
    """Whether a command with :func:`recipe_options` was given no recipe, and no phases of one."""
    return ctx.params["recipe"] is None and not any(setting.startswith("phase") for setting in ctx.params["settings"])


def recipe_from(
    path: Path | None, keys: dict[str, Any], settings: tuple[str, ...], model: Path, *, part: bool = False
) -> Recipe:
    """The recipe file, or the default one as it fits the model, with what the command line sets; notes are told.

    *part* is whether the file may be a part of a recipe.
    """
    fitting = {"loss": keys["loss"], "output": keys["output"]}
    table = (api.completed(path, model, part=part) if path else api.default_recipe(model, **fitting)).to_dict()
    for found in api.usage_note(model, path, own_loss=path is None and any(fitting.values())):
        note(found.words)
    loss_keys = {"loss": "name", "output": "output", "label_name": "label"}
    for key, value in keys.items():
        if value is None:
            continue
        if key == "without":
            table["data"]["without"] = str(value)
        elif key not in loss_keys:
            table[key] = value
        elif isinstance(table["loss"], list):
            raise RecipeError(
                f"--{key.replace('_', '-')} does not say which of the recipe's losses",
                where=str(path),
                fix=f"use --set loss.0.{loss_keys[key]}=…",
            )
        else:
            table["loss"][loss_keys[key]] = value
    for setting in settings:
        _set(table, setting)
    if path is None and not any(setting.startswith("phase") for setting in settings):
        table["phase"] = left_to(table["prune"].get("pattern"), table["phase"])
    return Recipe.from_dict(table, where="recipe with command-line options" if settings else str(path or "recipe"))


def _set(table: dict[str, Any], setting: str) -> None:
    """``a.b=value`` with the value as TOML, or as text where it is no TOML."""
    key, equals, text = setting.partition("=")
    if not equals:
        raise RecipeError(f"--set {setting} has no value", fix="write --set KEY=VALUE, as optimizer.momentum=0.8")
    *path, last = key.split(".")
    inner: Any = table
    try:
        for part in path:
            inner = inner[int(part)] if isinstance(inner, list) else inner.setdefault(part, {})
        inner[int(last) if isinstance(inner, list) else last] = parse_value(text)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise RecipeError(
            f"--set {setting} names nothing in the recipe", fix="write it as optimizer.momentum=0.8 or phase.0.epochs=3"
        ) from error


def recipe_of_file_or_run(
    model: Path, recipe: Path | None, settings: tuple[str, ...], options: dict[str, Any]
) -> Recipe | None:
    """The recipe by which a file is understood, taken out of *options*; None of a run, which has its own."""
    if model.is_dir() and (recipe or settings):
        raise click.UsageError("a run has its own recipe: leave --recipe and --set out")
    if model.is_dir() and (options["loss"] or options["output"]):
        raise click.UsageError("a run has its own loss: leave --loss and --output out")
    if model.is_file() and (options["phase"] is not None or options["best"]):
        raise click.UsageError("--phase and --best are for runs, and this is a file")
    loss = {key: options.pop(key) for key in ("loss", "output")}
    return None if model.is_dir() else recipe_from(recipe, loss, settings, model, part=True)
