"""The page of a run: what it recorded, and what became of its weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dsd_ort.api.numbers import duration, format_column, format_value, heading
from dsd_ort.api.page import curves, weights
from dsd_ort.api.page.layout import Facts, Figure, Folded, Page, Part, Section, Sheet, Source, Table
from dsd_ort.errors import RunError
from dsd_ort.graph.program import Program
from dsd_ort.recipe import to_toml
from dsd_ort.run import borders, health
from dsd_ort.run.borders import Layer
from dsd_ort.run.journal import AS_IT_CAME, Event, read, resumed

OPEN = 6
"""Layers whose five moments are shown at once; the others on demand."""
DRAWN = 60
"""Layers whose moments are drawn at all: the largest."""


def page(program: Program, sheets: Sequence[Sheet] = ()) -> Page:
    """All that there is to show of a run so far.

    Raises:
        RunError: nothing of it is trained, or a file of its folder cannot be read.
    """
    events, stops = read(program.folder), resumed(program.folder)
    if not any(event["event"] == "phase" for event in events):
        raise RunError(
            "there is nothing to report: the run has not been trained",
            where=str(program.folder),
            fix=f"dsd-ort train {program.folder} --data DATA",
        )
    ended = any(event["event"] == "end" for event in events)
    phases = curves.spans(events)
    names = " → ".join(span.name for span in phases)
    state = "complete" if ended else f"in phase {phases[-1].number} of {len(program.recipe.phase)}"
    return Page(
        title=f"{program.manifest.model}: {names}",
        subtitle=f"A training by dsd-ort in {program.folder}, {state}.",
        figures=list(_figures(program, events)),
        sections=[
            Section("How it went", (), health.remarks(events), [*_table(events), *curves.pictures(events, stops)]),
            _weights(program),
            *([Section("Suspects", parts=sheets)] if sheets else []),
            _told(program, events, stops),
        ],
    )


def _figures(program: Program, events: Sequence[Event]) -> Iterator[Figure]:
    """What is read first."""
    measured = [event["metrics"] for event in events if event["event"] in ("measured", "epoch") and event["metrics"]]
    came = curves.as_it_came(events)
    if measured:
        for metric in list(measured[-1])[:3]:
            note = f"came with {format_value(metric, came[metric])}" if metric in came else ""
            yield Figure(heading(metric), format_value(metric, measured[-1][metric]), note)
    spans = curves.spans(events)
    yield Figure("updates", f"{spans[-1].stop:,}", f"in {len(spans)} of {len(program.recipe.phase)} phases")
    ends = [event for event in events if event["event"] == "phase-end"]
    if ends:
        yield Figure("training", duration(sum(event["seconds"] for event in ends)), "evaluation not counted")
    sparse = [event for event in ends if event["kind"] == "sparse"]
    if sparse:
        least = min(event["density"] for event in sparse)
        yield Figure("sparsest", f"{100 * (1 - least):.1f} %", "of the prunable weights are 0")


def _table(events: Sequence[Event]) -> list[Table]:
    """The model at the end of each phase."""
    ends = [event for event in events if event["event"] == "phase-end"]
    came = [event for event in events if event["event"] == "measured" and event["name"] == AS_IT_CAME]
    if not ends:
        return []
    rows = [*came, *ends]
    metrics = list(dict.fromkeys(name for event in rows for name in event["metrics"]))
    columns = [format_column(name, [event["metrics"].get(name) for event in rows]) for name in metrics]
    cells = zip(
        [AS_IT_CAME] * len(came) + [f"{event['phase']} {event['kind']}" for event in ends],
        *columns,
        [f"{event['density']:.3f}" if "density" in event else "" for event in rows],
        [f"{event['seconds']:.1f}" if "seconds" in event else "" for event in rows],
        strict=True,
    )
    return [Table("After each phase", ["phase", *map(heading, metrics), "density", "seconds"], [[*c] for c in cells])]


def _weights(program: Program) -> Section:
    count = borders.complete(program)
    title = "What became of the weights"
    if not count:
        return Section(title, ["No phase is complete, or the weights at the ends of the phases are not in the folder."])
    layers = list(borders.layers(program))
    phases = [f"{number} {phase.kind}" for number, phase in enumerate(program.recipe.phase[:count], 1)]
    parts: list[Part] = []
    if any(layer.prunable for layer in layers):
        parts.append(weights.density(layers, phases))
    if layers:
        parts += [weights.movement(layers, phases), weights.table(layers, phases)]
    words, pictures = _moments(layers, borders.last_sparse(program))
    parts += pictures
    missing = sum(event["event"] == "phase-end" for event in read(program.folder)) - count
    if missing > 0:
        words = [f"The weights at the ends of {missing} phases are not in the folder: those are left out.", *words]
    return Section(title, words, parts=parts)


def _moments(layers: Sequence[Layer], sparse: int | None) -> tuple[list[str], list[Part]]:
    """Figure 2 of the paper for each layer, and what it shows."""
    pruned = [layer for layer in layers if layer.histograms is not None]
    if sparse is None or not pruned:
        return ["No sparse phase is complete, so there is no pruning to show."], []
    words = [
        f"Each layer around phase {sparse}, as figure 2 of Han et al. (2017) has it: the weights before pruning, what "
        "is left of them, that after the sparse phase, the pruned ones restored at zero, and all of them in the end. "
        "Those that were pruned are orange, the others blue; what lies beyond the axis is in its outermost bars."
    ]
    came = [layer.histograms for layer in pruned if layer.histograms and layer.histograms.returned is not None]
    if came and (total := sum(h.count for h in came)):
        back = sum((h.returned or 0) * h.count for h in came) / total
        words.append(
            f"Of {total:,} weights that came back from zero, {100 * back:.1f} % are larger in the end than any weight "
            "of their layer was that phase pruned."
        )
    by_size = sorted(pruned, key=lambda layer: -layer.size)[:DRAWN]
    chosen = [layer for layer in pruned if layer in by_size]
    drawn = [weights.figure_2(layer, number) for number, layer in enumerate(chosen, 1)]
    first: list[Part] = list(drawn[:OPEN])
    if len(drawn) > OPEN:
        first.append(Folded(f"The other {len(drawn) - OPEN} layers", drawn[OPEN:]))
    if len(pruned) > DRAWN:
        words.append(f"The {DRAWN} largest of {len(pruned)} layers are drawn.")
    return words, first


def _told(program: Program, events: Sequence[Event], stops: Sequence[Event]) -> Section:
    """Model, data, recipe, versions, device."""
    manifest = program.manifest
    began: Event = next((event for event in events if event["event"] == "data"), {})

    def fields(kind: str) -> str:
        found = manifest.inputs if kind == "inputs" else manifest.labels
        shapes = (", ".join("?" if size is None else str(size) for size in field.shape) for field in found)
        return "; ".join(f"{f.name}: {f.dtype} [{shape}]" for f, shape in zip(found, shapes, strict=True))

    losses = zip(program.recipe.losses, manifest.outputs, strict=False)
    total, trained, prunable = (
        sum(p.size for p in which) for which in (manifest.parameters, manifest.trained, manifest.prunable)
    )
    rows = [
        ("model", manifest.model),
        ("its digest", manifest.source_digest),
        ("parameters", f"{total:,}, of which {trained:,} are trained and {prunable:,} may be pruned"),
        ("inputs", fields("inputs")),
        ("labels", fields("labels")),
        ("losses", "; ".join(f"{loss.name} at {output}" for loss, output in losses)),
    ]
    if "data" in began:
        count = "a stream" if began["examples"] is None else f"{began['examples']:,} examples"
        rows += [("training data", f"{began['data']}, {count}"), ("evaluation data", began["eval_data"] or "none")]
        rows += [("trained on", ", then ".join(_how(event) for event in (began, *stops) if "versions" in event))]
    else:
        rows += [("device and versions", "not recorded: the run was begun by an earlier version")]
    rows += [("stopped and resumed", f"{len(stops)} times" if stops else "never")]
    notes = [(note.kind, note.words) for note in program.notes if note.kind != "rewrite"]
    parts: list[Part] = [Facts("Facts", rows), *([Facts("Notes", notes)] if notes else [])]
    return Section("What it was", parts=[*parts, Source("The recipe", to_toml(program.recipe))])


def _how(event: Event) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in event["versions"].items())
    threads = f"{event['threads']} threads" if event["threads"] else "all cores"
    return f"{event['device']}, {event['precision']}, {threads}; {versions}"
