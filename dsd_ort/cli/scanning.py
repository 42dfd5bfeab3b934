"""``dsd-ort scan``: how much each layer bears, as a table, files, and a recipe."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from dsd_ort import api
from dsd_ort.api import Scan
from dsd_ort.api.numbers import format_metrics, format_value, heading
from dsd_ort.cli.columns import show
from dsd_ort.cli.heatmap import heatmap
from dsd_ort.cli.options import (
    FILE,
    RECIPE,
    as_json,
    device_option,
    loss_option,
    output_option,
    recipe_of_file_or_run,
    settings_option,
    threads_option,
    weights_options,
)
from dsd_ort.cli.progress import doing
from dsd_ort.cli.say import say
from dsd_ort.recipe import Recipe, to_toml
from dsd_ort.recipe.names import PERCENTAGES
from dsd_ort.run.metrics import HIGHER_IS_BETTER
from dsd_ort.run.suspects import keep


def _shares(_: click.Context, __: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no list of numbers: write 0.5,0.8,0.9") from error


@click.command()
@click.argument("model", type=FILE, metavar="MODEL|RUN")
@click.option("--data", required=True, help="As for train; what is measured on.")
@click.option(
    "-o", "--output-file", "files", type=FILE, multiple=True, help="A .json, .csv, .svg or .toml; repeatable."
)
@click.option("--total", type=float, help="The share of all weights to prune: finds a recipe's prune.layers for it.")
@click.option("--sparsity", "sparsities", callback=_shares, help="Which to try.  [default: 0.1 … 0.9, 0.95, 0.99]")
@click.option("--examples", type=click.IntRange(0), default=1000, show_default=True, help="Of the data; 0: all.")
@click.option("--recipe", type=FILE, help=f"{RECIPE}  Its prune, loss, metrics and data count.")
@loss_option
@output_option
@settings_option
@weights_options
@device_option
@threads_option
@as_json
def scan(
    model: Path,
    data: str,
    files: tuple[Path, ...],
    recipe: Path | None,
    settings: tuple[str, ...],
    *,
    json_: bool,
    **options: Any,
) -> None:
    """Tell how much pruning each layer of an ONNX file, or of a run's weights, bears.

    Each layer alone is pruned to each sparsity and the model measured, without retraining: one evaluation each, on a
    sample of the data.  With --total, layers that bear more are pruned more, so that this share of all weights is
    pruned where it costs least, and -o recipe.toml is the recipe for that.

    \b
    Examples:
        dsd-ort scan model.onnx --data test.npz
        dsd-ort scan model.onnx --data test.npz -o scan.json -o scan.svg
        dsd-ort scan model.onnx --data train.npz --total 0.8 -o recipe.toml
        dsd-ort scan model.onnx --data test.npz --set prune.pattern=2:4 --set prune.criterion=wanda
    """
    for file in files:
        if file.suffix not in WRITERS:
            raise click.UsageError(f"-o {file}: the name of what is written ends with {', '.join(WRITERS)}")
        if file.suffix == ".toml" and options["total"] is None:
            raise click.UsageError(f"-o {file}: a recipe is for a share of all weights: give --total, as 0.8")
    chosen = recipe_of_file_or_run(model, recipe, settings, options)
    with doing(quiet=json_) as tell:
        found = api.scan(model, data, chosen, listener=tell, **options)
    for file in files:
        keep(file, WRITERS[file.suffix](found).encode(), "the scan")
    if json_:
        click.echo(json.dumps(found.to_dict(), indent=1))
        return
    _show(found)
    for file in files:
        say(f"{file} written")


def _show(found: Scan) -> None:
    together = found.total
    columns = {"layer": "left", "weights": "right", **dict.fromkeys(map(_percent, found.sparsities), "right")}
    columns |= {} if together is None else {f"of {_percent(together.total)}": "right"}
    rows = [
        [
            layer.name,
            f"{layer.weights:,}",
            *(cell.removesuffix(" %") for cell in _cells(found, layer)),
            *([] if together is None else [_percent(together.layers[layer.name], 3)]),
        ]
        for layer in found.layers
    ]
    unit = " in %" if found.monitor in PERCENTAGES else ""
    title = (
        f"{Path(found.model).name}: {heading(found.monitor)}{unit} with one layer pruned, {found.examples:,} examples"
    )
    show(title, columns, rows)
    say(f"as it came: {format_metrics(found.came)}")
    if together is not None:
        say(f"{_percent(together.total)} of all, by layer as in the last column: {format_metrics(together.metrics)}")
        say(f"{_percent(together.total)} of each layer: {format_metrics(together.uniform)}")


def _cells(found: Scan, layer: Any) -> list[str]:
    name = found.monitor
    return [format_value(name, metrics[name]) if name in metrics else "not finite" for metrics in layer.metrics]


def _percent(share: float, digits: int = 5) -> str:
    return f"{100 * share:.{digits}g} %"


def _as_json(found: Scan) -> str:
    return json.dumps(found.to_dict(), indent=1) + "\n"


def _as_csv(found: Scan) -> str:
    def rows() -> Iterator[list[Any]]:
        names = list(found.came)
        yield ["name", "weights", "sparsity", "zeros", *names]
        yield ["", "", "", "", *found.came.values()]
        for layer in found.layers:
            for sparsity, zeros, metrics in zip(found.sparsities, layer.pruned, layer.metrics, strict=True):
                yield [layer.name, layer.weights, sparsity, zeros, *(metrics.get(name, "") for name in names)]

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows())
    return text.getvalue()


def _as_svg(found: Scan) -> str:
    name, sign = found.monitor, -1 if HIGHER_IS_BETTER[found.monitor] else 1
    rows = []
    for layer in found.layers:
        costs = [sign * (m[name] - found.came[name]) if name in m else None for m in layer.metrics]
        rows.append((layer.name, costs, _cells(found, layer)))
    came = format_metrics({name: found.came[name]})
    title = f"{Path(found.model).name}: {heading(name)} with one layer pruned; as it came {came}"
    return heatmap(title, rows, list(map(_percent, found.sparsities)))


def _as_toml(found: Scan) -> str:
    together = found.total
    assert together is not None
    told = (
        f"{Path(found.model).name}: {_percent(together.total)} of the weights pruned where a scan says it costs least"
    )
    return f"# {told}\n{to_toml(Recipe.from_dict(found.recipe))}"


WRITERS: dict[str, Callable[[Scan], str]] = {".json": _as_json, ".csv": _as_csv, ".svg": _as_svg, ".toml": _as_toml}
