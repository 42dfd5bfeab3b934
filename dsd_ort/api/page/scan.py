"""The page of a scan: what each layer bears, as a heat map and a table, and what follows for a wanted total."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from dsd_ort.api.numbers import format_value, heading
from dsd_ort.api.page.layout import Facts, Figure, Page, Part, Section, Sheet, Source, Table
from dsd_ort.api.page.weights import heat
from dsd_ort.api.sensitivity import Layer, Scan
from dsd_ort.errors import RunError
from dsd_ort.recipe import Recipe, to_toml
from dsd_ort.recipe.names import PERCENTAGES
from dsd_ort.run.metrics import HIGHER_IS_BETTER


def read(path: Path) -> Scan:
    """What ``dsd-ort scan -o scan.json`` wrote.

    Raises:
        RunError: it is something else, or cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Scan)
    except OSError as error:
        raise RunError(f"the scan cannot be read: {error.strerror}", where=str(path)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        fix = "give what dsd-ort scan MODEL --data DATA -o scan.json writes"
        raise RunError(f"the file is no scan: {error}", where=str(path), fix=fix) from error


def page(path: Path, sheets: Sequence[Sheet] = ()) -> Page:
    """Of the file of a scan."""
    found = read(path)
    metric, whole = found.monitor, found.came.get(found.monitor, math.nan)
    percent = [f"{100 * sparsity:g} %" for sparsity in found.sparsities]
    unit = f"{heading(metric)}{' in %' if metric in PERCENTAGES else ''}, as it came {_cell(metric, whole)}"
    worst = max(found.layers, key=lambda layer: _harm(found, layer), default=None)
    text = f"{heading(metric)} when one layer alone is pruned, and nothing is retrained; the table has the numbers."
    values = [[_harm_at(found, metrics.get(metric, math.nan)) for metrics in layer.metrics] for layer in found.layers]
    parts: list[Part] = [
        heat(
            "What each layer bears",
            text + " Darker is worse.",
            rows=[layer.name for layer in found.layers],
            columns=percent,
            values=values,
            unit=f"sparsity of the layer; how much worse {heading(metric)} is than as it came",
        ),
        Table(
            unit,
            ["layer", "weights", *percent],
            [
                [
                    layer.name,
                    f"{layer.weights:,}",
                    *(_cell(metric, metrics.get(metric, math.nan)) for metrics in layer.metrics),
                ]
                for layer in found.layers
            ],
        ),
    ]
    facts = [("model", found.model), ("pattern", found.pattern), ("criterion", found.criterion)]
    facts += [("examples", f"{found.examples:,}"), ("seconds", f"{found.seconds:.1f}")]
    points = [] if worst is None else [f"{worst.name} bears least: {_range(found, worst)}"]
    return Page(
        title=f"{Path(found.model).name}: what each layer bears",
        subtitle=f"A scan by dsd-ort in {path}.",
        figures=[Figure(heading(metric), _cell(metric, whole), "as it came")],
        sections=[
            Section("Sensitivity", [text], points=points, parts=parts),
            *_of_total(found),
            Section("What it was", parts=[Facts("Facts", facts), Source("The recipe", _toml(found, path))]),
            *([Section("Suspects", parts=sheets)] if sheets else []),
        ],
    )


def _of_total(found: Scan) -> list[Section]:
    """What the network measures where all layers are pruned, each by what it bears, and beside it all alike."""
    together, metric = found.total, found.monitor
    if together is None:
        return []
    share = f"{100 * together.total:g} %"
    rows = [
        [f"{share}, each layer by what it bears", _cell(metric, together.metrics.get(metric, math.nan))],
        [f"{share} of each layer", _cell(metric, together.uniform.get(metric, math.nan))],
    ]
    layers = [[name, f"{100 * sparsity:.3g} %"] for name, sparsity in together.layers.items()]
    parts: list[Part] = [
        Table("The whole network, nothing retrained", ["pruned", heading(metric)], rows),
        Table("Sparsity by layer", ["layer", "sparsity"], layers),
    ]
    return [Section(f"{share} of all weights", parts=parts)]


def _toml(found: Scan, path: Path) -> str:
    return to_toml(Recipe.from_dict(found.recipe, where=str(path)))


def _cell(metric: str, value: float) -> str:
    return format_value(metric, value) if math.isfinite(value) else "not finite"


def _harm_at(found: Scan, value: float) -> float:
    """How much worse *value* is than what the model measures as it came."""
    came = found.came.get(found.monitor, math.nan)
    worse = came - value if HIGHER_IS_BETTER[found.monitor] else value - came
    return 100 * worse if found.monitor in PERCENTAGES else worse


def _harm(found: Scan, layer: Layer) -> float:
    values = [_harm_at(found, metrics.get(found.monitor, math.nan)) for metrics in layer.metrics]
    return sum(value for value in values if math.isfinite(value))


def _range(found: Scan, layer: Layer) -> str:
    metric, (first, last) = found.monitor, (found.sparsities[0], found.sparsities[-1])
    ends = [_cell(metric, layer.metrics[index].get(metric, math.nan)) for index in (0, -1)]
    return f"{ends[0]} at {100 * first:g} %, {ends[1]} at {100 * last:g} %"
