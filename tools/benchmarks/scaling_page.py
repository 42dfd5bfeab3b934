"""docs/scaling.md, from what :mod:`tools.benchmarks.scaling` measured."""

from __future__ import annotations

from typing import Any

from tools.benchmarks.scaling import MEMORY, NETS, exchange_seconds

RANKS = (8, 64, 512)
_HEAD = """# What ranks gain and what they cost

Written by `python -m tools.benchmarks.scaling`, whose numbers are in [scaling.json](scaling.json).
How to train with several processes is in the guide [Many processes and machines](guides/ranks.md).
"""


def page(found: dict[str, Any]) -> str:
    """The page of all that was measured."""
    writers = {"turns": _turns, "exchange": _exchange, "throttled": _throttled, "steps": _model}
    parts = [write(found[name]) for name, write in writers.items() if name in found]
    missing = [f"`--{name}`" for name in writers if name not in found]
    parts += [f"Not measured yet on a machine that does nothing else: {', '.join(missing)}.\n"] if missing else []
    return "\n".join([_HEAD, *parts])


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(["| " + " | ".join(cells) + " |" for cells in (head, ("---",) * len(head), *rows)])


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def _turns(found: dict[str, Any]) -> str:
    head = ("network", "examples", "two ranks", "two threads", "ratio", "spread", "exchange and update", "update alone")
    rows = [
        (
            row["network"],
            f"2 × {row['batch']}",
            _seconds(row["two_ranks"]),
            _seconds(row["two_threads"]),
            f"**{row['ratio']:.2f}**",
            f"{row['spread'][0]:.2f} … {row['spread'][1]:.2f}",
            _seconds(row["exchange_and_update"]),
            _seconds(row["update"]),
        )
        for row in found["rows"]
    ]
    return f"""## Two ranks of one thread beside one process of two threads

An update of two batches, taking turns; medians of turns that follow each other, on {found["cpu"]}.
Below 1 the ranks are faster.

{_table(head, rows)}
"""


def _exchange(found: dict[str, Any]) -> str:
    rows = [
        (
            f"{row['megabytes']:g} MB",
            str(row["ranks"]),
            _seconds(row["shares"]),
            _seconds(row["shares"] / row["megabytes"]),
            _seconds(row["allreduce"]),
        )
        for row in found["rows"]
    ]
    head = ("gradients", "ranks", "by shares, in order", "a megabyte", "MPI's Allreduce")
    return f"""## The sum of gradients

In the order of the batches, to the bytes of one process, beside the library's own sum, which promises no order.
On one machine, {found["cpu"]}, also with more ranks than cores.

{_table(head, rows)}
"""


def _throttled(found: dict[str, Any]) -> str:
    rows = [
        (
            f"{row['gigabits']:g} Gbit/s",
            f"{row['megabytes']:g} MB",
            _seconds(row["shares"]),
            _seconds(row["model"]),
            f"{row['shares'] / row['model']:.2f}",
        )
        for row in found["rows"]
    ]
    head = ("loopback", "gradients", "measured", "model", "measured / model")
    return f"""## The model, against a slow net

Seconds to add up the gradients of n batches, G bytes each, and to hand every rank the sum: each rank sends n - 1 shares
to be added up and n - 1 that are, and two small messages go before:

    (2·(n - 1) + 2·log₂ n) · latency + 2·(n - 1)/n · G / bandwidth + G / {MEMORY / 1e9:g} GB/s

Two ranks over TCP on a loopback that `tc` slows down (which both share, so each has half of it):

{_table(head, rows)}
"""


def _model(found: dict[str, Any]) -> str:
    rows, needed = [], []
    for row in found["rows"]:
        for net, (bandwidth, latency) in NETS.items():
            cells, steps = [], []
            for ranks in RANKS:
                seconds = exchange_seconds(row["bytes"], ranks, bandwidth, latency)
                alone = row["step"] + row["update"]
                cells.append(f"{alone / (alone + seconds):.1%}")
                steps.append(_seconds(9 * seconds))
            rows.append((row["network"], f"{row['bytes'] / 1e6:,.0f} MB", _seconds(row["step"]), net, *cells))
            needed.append((row["network"], net, *steps))
    several = tuple(f"{ranks} ranks" for ranks in RANKS)
    sizes = ", ".join(f"{row['batch']}" for row in found["rows"])
    nets = "; ".join(f"{name} {b / 1e9:g} GB/s and {latency * 1e6:g} µs" for name, (b, latency) in NETS.items())
    return f"""## Many machines, by the model

Nothing below was run on many machines. Assumed are {nets};
one batch a rank; a step as it was measured on {found["cpu"]}, all of its cores, with {sizes} examples;
nothing overlaps. Efficiency is what an update takes by one rank, over what it takes by n, each with as many examples.

{_table(("network", "gradients", "step", "net", *several), rows)}

A GPU's step is much shorter. How long one has to be, at least, for 90 %:

{_table(("network", "net", *several), needed)}
"""
