"""``docs/performance.md``: the words of ``page.md`` beside this file, and tables of what was measured."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path("docs/performance.md")
WORDS = Path(__file__).with_name("page.md")
FORMS, MEMORY = Path("docs/bench_forms.json"), Path("docs/bench_step_memory.json")
LAYERS, PROFILE = Path("docs/bench_layers.json"), Path("docs/bench_profile.json")
PRODUCTS = Path("docs/bench_products.json")
FAMILIES = {
    "products": "Conv FusedConv NhwcFusedConv ConvGrad ConvTranspose Gemm FusedGemm MatMul FusedMatMul Einsum",
    "norms and softmax": "BatchNormInternal BatchNormalization BatchNormalizationGrad LayerNormalization "
    "LayerNormalizationGrad SimplifiedLayerNormalization Softmax SoftmaxGrad_13 LogSoftmax LogSoftmaxGrad_13 LRN",
    "pools": "MaxPool MaxPoolGrad AveragePool AveragePoolGrad GlobalAveragePool",
    "sums": "ReduceSum ReduceMean ReduceSumSquare ReduceMax ReduceL2 Sum ReduceSumTraining",
    "moved": "Transpose Concat Split Slice Gather GatherND GatherElements ScatterND ScatterElements Reshape Expand Pad "
    "ReorderInput ReorderOutput Squeeze Unsqueeze Identity Shape Tile ConcatTraining SplitTraining Flatten",
}
"""Operators of a step by what they do; all others are taken entry by entry."""
PEERS = {"eager": "PyTorch", "compiled": "torch.compile", "ort": "ONNX Runtime's API"}
SIDES = ("ours", "cheap", "eager")
"""Whose memory is measured."""
SINCE = dict.fromkeys(("neuraltalk", "decoder"), "2026-11-30 13:30")
"""When a network got a form that changed its step by more than measurements differ.  What was measured of it before
stays in the JSON."""
GOAL, MEDIAN_GOAL = 0.9, 0.75
RUNS = 3
"""What a number in the README is a median of, at least."""
Row = dict[str, Any]


class Cell(NamedTuple):
    """All measurements of one network at one batch, on one processor."""

    network: str
    batch: int
    rows: tuple[Row, ...]

    def ratios(self, peer: str) -> list[float]:
        return sorted(row["ratios"][peer] for row in self.rows if peer in row["ratios"])

    def of_limit(self, side: str) -> float | None:
        """The share of *side*'s time that its products would take at the speed of a large one."""
        flops, speed, seconds = self.median("flops"), self.median("gflops"), self.median("seconds", side)
        return flops / speed / 1e9 / seconds if flops and speed and seconds else None

    def median(self, what: str, *keys: str) -> float | None:
        found = [value for row in self.rows if (value := _at(row, (what, *keys))) is not None]
        return statistics.median(found) if found else None


def write(path: Path) -> None:
    PAGE.write_text(page(json.loads(path.read_text())), "utf-8")


def page(rows: Sequence[Row]) -> str:
    """The whole page."""
    tables = "\n\n".join(_of_processor(cpu, found) for cpu, found in by_processor(rows).items())
    words = WORDS.read_text("utf-8").replace("{tables}", tables).replace("{gain}", _gain())
    words = words.replace("{memory}", _memory(json.loads(MEMORY.read_text("utf-8"))))
    words = words.replace("{profile}", _profiles(json.loads(PROFILE.read_text("utf-8"))))
    words = words.replace("{products}", _products(json.loads(PRODUCTS.read_text("utf-8"))))
    return words.replace("{layers}", _layers(json.loads(LAYERS.read_text("utf-8"))))


def _profiles(rows: Sequence[Row]) -> str:
    """A line a network: its nodes, and the share of the step that each family takes."""
    family = {kind: name for name, kinds in FAMILIES.items() for kind in kinds.split()}
    names = [*FAMILIES, "entry by entry"]
    lines = [f"| network | batch | nodes run | {' | '.join(names)} |", f"|---|{'---:|' * (2 + len(names))}"]
    for row in rows:
        spent = dict.fromkeys(names, 0.0)
        for kind, milliseconds in row["operators"].items():
            spent[family.get(kind, names[-1])] += milliseconds
        shares = (f"{part / sum(spent.values()):.0%}" for part in spent.values())
        lines.append(f"| {row['network']} | {row['batch']} | {sum(row['counts'].values())} | {' | '.join(shares)} |")
    return "\n".join([", ".join(sorted({row["cpu"] for row in rows})) + ":", "", *lines])


def _products(rows: Sequence[Row]) -> str:
    """A line a size and form, with two columns a processor: our speed beside PyTorch's, and the ratio of times."""
    processors = list(dict.fromkeys(row["cpu"] for row in rows))
    heads = [head for cpu in processors for head in (f"{cpu}: GFLOP/s, PyTorch's", "ratio")]
    lines = [f"| of | product | {' | '.join(heads)} |", f"|---|---|{'---:|' * len(heads)}"]
    found = {(row["size"], row["form"], row["cpu"]): row for row in rows}
    for size, form in dict.fromkeys((row["size"], row["form"]) for row in rows):
        cells = [_product(found.get((size, form, cpu))) for cpu in processors]
        lines.append(f"| {size} | {form} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _product(row: Row | None) -> str:
    return f"{row['gflops']:.0f}, {row['torch_gflops']:.0f} | {row['ratio']:.2f}" if row else " | "


def _layers(rows: Sequence[Row]) -> str:
    """A line a layer, and how many take longer than PyTorch's."""
    lines = ["| layer | ms | PyTorch | ratio |", "|---|---:|---:|---:|"]
    lines += [f"| {row['layer']} | {row['ours']:.2f} | {row['eager']:.2f} | {row['ratio']:.2f} |" for row in rows]
    ratios = [row["ratio"] for row in rows]
    within = sum(ratio <= 1 for ratio in ratios)
    said = f"{within} of {len(rows)} take at most PyTorch's time, the median {statistics.median(ratios):.2f} of it."
    return "\n".join([said, "", *lines])


def _memory(rows: Sequence[Row]) -> str:
    """The table, and of how many networks each column is at most PyTorch's."""
    lines = ["| network | batch | GB | `cheap` | PyTorch |", "|---|---:|---:|---:|---:|"]
    within = dict.fromkeys(SIDES, 0)
    for row in rows:
        found = row["gigabytes"]
        lines.append(f"| {row['network']} | {row['batch']} | {' | '.join(f'{found[side]:.2f}' for side in SIDES)} |")
        for side in SIDES:
            within[side] += found[side] <= found["eager"]
    said = f"{within['ours']} of {len(rows)} take at most what PyTorch takes, {within['cheap']} with `cheap`."
    return "\n".join([said, "", *lines])


def _gain() -> str:
    """What tools/benchmarks/forms.py has found."""
    gains = [row["gain"] for row in json.loads(FORMS.read_text("utf-8"))]
    return (
        f"{min(gains):.0%} to {max(gains):.0%}, in the median of {len(gains)} networks {statistics.median(gains):.1%},"
    )


def by_processor(rows: Iterable[Row]) -> dict[str, list[Cell]]:
    """Cells by processor, threads and clock, in the order in which they first came."""
    found: dict[str, dict[tuple[str, int], list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["clock"] == "wall" and row["when"] < SINCE.get(row["network"], ""):
            continue
        threads = "one thread" if row["threads"] == 1 else f"{row['threads']} threads"
        clock = "" if row["clock"] == "wall" else ", processor time on a busy machine"
        found[f"{row['cpu']}, {threads}{clock}"][row["network"], row["batch"]].append(row)
    return {cpu: [Cell(*key, tuple(same)) for key, same in cells.items()] for cpu, cells in found.items()}


def summary(cells: Sequence[Cell]) -> str:
    """What the table says against PyTorch eager, in a sentence."""
    medians = _medians(cells)
    slower = [f"{c.network} at {c.batch}" for c, m in zip(cells, medians, strict=True) if m > GOAL]
    within = f"{len(medians) - len(slower)} of {len(medians)} at most {GOAL}"
    above = f"; above: {', '.join(slower)}" if slower else ""
    return (
        f"Median of all {statistics.median(medians):.2f} (goal {MEDIAN_GOAL}), from {min(medians):.2f} to "
        f"{max(medians):.2f}; {within}{above}."
    )


def short(rows: Sequence[Row]) -> str:
    """What the README says, in half a sentence: what the first processor has measured often enough."""
    processor, found = next(iter(by_processor(rows).items()))
    cells = [cell for cell in found if len(cell.ratios("eager")) >= RUNS]
    medians = _medians(cells)
    networks, batches = {cell.network for cell in cells}, [cell.batch for cell in cells]
    return (
        f"{statistics.median(medians):.2f} of PyTorch eager's time in the median of {len(networks)} networks at "
        f"batches of {min(batches)} to {max(batches)}, from {min(medians):.2f} to {max(medians):.2f} ({processor}, "
        f"{RUNS} runs or more)"
    )


def _medians(cells: Iterable[Cell]) -> list[float]:
    return [statistics.median(cell.ratios("eager")) for cell in cells]


def _of_processor(cpu: str, cells: Sequence[Cell]) -> str:
    peers = [peer for peer in PEERS if any(cell.ratios(peer) for cell in cells)]
    heads = ["network", "batch", "ms", *(PEERS[peer] for peer in peers), "runs", "of the limit", "PyTorch's"]
    lines = [f"### {cpu}", "", summary(cells), "", f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    lines += [f"| {' | '.join(_cells(cell, peers))} |" for cell in cells]
    return "\n".join(lines)


def _cells(cell: Cell, peers: Sequence[str]) -> Iterator[str]:
    seconds = cell.median("seconds", "ours") or 0.0
    milliseconds = f"{seconds * 1e3:,.0f}" if seconds >= 0.1 else f"{seconds * 1e3:.2g}"
    yield from (cell.network, str(cell.batch), milliseconds)
    for peer in peers:
        yield _spread(cell.ratios(peer))
    yield str(len(cell.rows))
    for share in (cell.of_limit("ours"), cell.of_limit("eager")):
        yield "" if share is None else f"{share:.0%}"


def _spread(ratios: Sequence[float]) -> str:
    if not ratios:
        return ""
    middle = f"{statistics.median(ratios):.2f}"
    return middle if len(ratios) == 1 else f"{middle} ({ratios[0]:.2f} … {ratios[-1]:.2f})"


def _at(row: Row, keys: Sequence[str]) -> Any:
    for key in keys:
        row = row.get(key) or {}
    return row or None
