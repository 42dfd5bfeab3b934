"""The results as tables: for the terminal, and as the page docs/performance.md, a pure function of the JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tools.gpu_check.results import Row

SIDES = {"training": "training build", "stock": "stock", "torch": "PyTorch"}
PYTORCH = ("eager", "compile", "channels-last", "cudnn-rnn", "host")


GOAL, OVERHEAD = 1.0, 0.01
"""Of PyTorch eager's time, and of masks."""


class Table(NamedTuple):
    """A heading, what it says, and cells."""

    title: str
    text: str
    header: list[str]
    rows: list[list[str]]


def tables(results: dict[str, Any]) -> list[Table]:
    """All of them; those without rows are left out."""
    rows: list[Row] = results["rows"]
    good = [row for row in rows if "error" not in row]
    timed = [row for row in good if row["part"] == "speed"]
    found = [
        against_pytorch(timed),
        within(timed),
        correctness([row for row in rows if row["part"] == "correctness"]),
        errors([row for row in rows if "error" in row]),
    ]
    return [table for table in found if table.rows]


def against_pytorch(rows: Sequence[Row]) -> Table:
    columns = _there(rows, PYTORCH)
    header = ["network", "batch", "precision", "ONNX Runtime", "ms a step", "steps/s", "GB"]
    for against in columns:
        header += [against, "GB"] if against in ("eager", "compile") else [against]
    lines = []
    for key, group in _grouped(rows, "network", "batch", "precision", "side"):
        measured = {row["against"]: row for row in group if row["against"] in PYTORCH}
        if not measured:
            continue
        first = next(iter(measured.values()))
        seconds = first["seconds"]
        line = [key[0], str(key[1]), key[2], SIDES[key[3]], f"{1e3 * seconds:.4g}", f"{1 / seconds:.1f}"]
        line.append(_gigabytes(first["memory"]))
        for against in columns:
            row = measured.get(against)
            missed = row is not None and against == "eager" and row["ratio"] > GOAL
            line.append(_bold(f"{row['ratio']:.3f}", missed) if row else "–")
            if against in ("eager", "compile"):
                line.append(_gigabytes(row["other_memory"]) if row else "–")
        eager = measured.get("eager")
        line.append(f"{abs(eager['loss'] / eager['other_loss'] - 1):.0e}" if eager else "–")
        lines.append(line)
    header.append("loss")
    text = (
        "Time of a training step (forward, backward, update) in times of PyTorch's with the same precision, on the "
        "same device, from the same weights: below 1, ONNX Runtime is faster. GB is what the device has less while "
        "the process runs, on a CPU the peak of the process; behind a column of PyTorch's it is PyTorch's. "
        "The last column is how far the first losses are apart, relatively: VGG-16's drop at random. Bold: slower than "
        "PyTorch eager. The batch is on the device beforehand, but in the column host, where both copy it there each "
        "step. cudnn-rnn: DeepSpeech 2 with PyTorch's own recurrent layers, which have no clipped ReLU."
    )
    return Table("Against PyTorch", text, header, lines)


def within(rows: Sequence[Row]) -> Table:
    """Masks, CUDA graphs, and one ONNX Runtime against the other."""
    lines = []
    for key, group in _grouped(rows, "network", "batch", "precision", "side"):
        measured = {row["against"]: row for row in group}
        sparse, launches, stock = (measured.get(name) for name in ("sparse", "launches", "stock"))
        if not (sparse or launches or stock):
            continue
        lines.append(
            [
                *(key[0], str(key[1]), key[2], SIDES[key[3]]),
                _overhead(1 / sparse["ratio"] - 1) if sparse else "–",
                f"{1 / launches['ratio']:.3f}" if launches else "–",
                f"{1 / stock['ratio']:.3f}" if stock else "–",
            ]
        )
    text = (
        "Masks: time that a step under masks takes more than a dense one; bold: more than 1 %. CUDA graphs: time of a "
        "step without them in times of one with them. Stock: time of the stock ONNX Runtime's step in times of the "
        "training build's."
    )
    header = ["network", "batch", "precision", "ONNX Runtime", "masks", "CUDA graphs", "stock"]
    return Table("Masks, CUDA graphs, stock ONNX Runtime", text, header, lines)


def correctness(rows: Sequence[Row]) -> Table:
    good = [row for row in rows if "error" not in row]
    checks = list(dict.fromkeys(row["check"] for row in good))
    lines = []
    for key, group in _grouped(good, "network", "side"):
        values = {row["check"]: _value(row) for row in group}
        lines.append([key[0], SIDES[key[1]], *(values.get(check, "–") for check in checks)])
    text = (
        "Small siblings of the networks. dense and sparse: the greatest relative difference of loss, gradients and "
        "statistics of one float32 step to the CPU's (at most 1e-4); dsd: of all weights behind 60 steps of dense, "
        "sparse, dense (1e-4, or five times what the order of the examples in a batch changes on the CPU), without "
        "those that only one of both has pruned, whose share is masks (1e-4); zeros: "
        "pruned weights that are not exactly 0; verify: exports that differ in more than weights; fp16, bf16, tf32: "
        "the mean relative difference of the loss to float32's on the same device over 200 steps, of running means of "
        "10, from where 16-bit gradients have found their scale (1 %); graphs: of weights with CUDA graphs and "
        "without (1e-6); dropout and repeats: numbers that differ "
        "where the seed is the same. What is wrong is bold, with where it is."
    )
    return Table("Correctness", text, ["network", "ONNX Runtime", *checks], lines)


def errors(rows: Sequence[Row]) -> Table:
    """One line for all that failed with the same words."""
    lines = []
    for (message,), group in _grouped(rows, "error"):
        more = f", and {len(group) - 1} more" if len(group) > 1 else ""
        lines.append([group[0]["task"] + more, _one_line(message)])
    return Table("What failed", "", ["task", "message"], lines)


def page(results: dict[str, Any]) -> str:
    """The page in Markdown."""
    device = results["device"]
    parts = [
        f"# Performance on {device['name']}",
        "",
        "Measured by `python tools/gpu_check.py`, which writes this page.",
    ]
    parts += ["", *about(results)]
    for side, why in results.get("missing", {}).items():
        parts.append(f"- {SIDES[side]}: left out, and so without figures here: {_one_line(why)}.")
    for table in tables(results):
        left = 4 if table.header[0] == "network" and table.title != "Correctness" else 2
        parts += ["", f"## {table.title}", "", *([table.text, ""] if table.text else [])]
        parts.append(f"| {' | '.join(table.header)} |")
        parts.append(f"|{'---|' * left}{'---:|' * (len(table.header) - left)}")
        parts += [f"| {' | '.join(line)} |" for line in table.rows]
    return "\n".join(parts) + "\n"


def about(results: dict[str, Any]) -> list[str]:
    """What was measured on what, in lines."""
    device = results["device"]
    if device["kind"] == "cuda":
        capability = ".".join(map(str, device["capability"]))
        memory = f"{device['memory'] / 2**30:.0f} GiB"
        lines = [f"- Device: {device['name']}, {memory}, compute capability {capability}, driver {device['driver']}."]
    else:
        lines = [f"- Device: {device['name']} (a CPU: these are no figures of a GPU)."]
    for side, versions in results.get("sides", {}).items():
        lines.append(
            f"- {SIDES[side]}: " + ", ".join(f"{key} {value}" for key, value in versions.items() if value) + "."
        )
    return [*lines, f"- Commit {results.get('commit', 'unknown')}; `{results.get('command', '')}`."]


def _value(row: Row) -> str:
    value = row["value"]
    whole = not isinstance(value, str) and (value == 0 or row["limit"] == 0)
    text = f"{value:.0f}" if whole else value if isinstance(value, str) else f"{value:.1e}"
    return text if row["ok"] else f"**{text}** {row.get('where', '')}".strip()


def _overhead(share: float) -> str:
    return _bold(f"{100 * share:+.2f} %", share > OVERHEAD)


def _bold(text: str, really: bool) -> str:
    return f"**{text}**" if really else text


def _there(rows: Iterable[Row], names: Sequence[str]) -> list[str]:
    present = {row["against"] for row in rows}
    return [name for name in names if name in present]


def _grouped(rows: Iterable[Row], *keys: str) -> list[tuple[tuple[Any, ...], list[Row]]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return list(groups.items())


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")


def _gigabytes(size: float) -> str:
    return f"{size / 2**30:.2f}"
