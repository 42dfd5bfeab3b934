"""Draws ``docs/evidence_sparsity.svg``: what DSD gains by sparsity, by share of wrong labels, and by network.

pip install matplotlib && python -m tools.evidence.draw
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tools.evidence.rows import WRONG_LABELS
from tools.evidence.summary import DENSE, Group, groups

PICTURE = Path("docs/evidence_sparsity.svg")
SHOWN, SHARE = "fashion-mlp-512", 0.3


def main() -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "dsd-ort", "font.size": 9, "svg.fonttype": "none"}
    from matplotlib import pyplot

    swept = [g for g in groups(WRONG_LABELS.read()) if not g.auto and g.noise == "drawn"]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    by_share(left, (g for g in swept if g.task == SHOWN))
    by_network(right, (g for g in swept if g.share == SHARE))
    left.set_ylabel("DSD's test error less dense only's, in points")
    for axes in (left, right):
        axes.axhline(0, color="gray", linewidth=0.8)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(PICTURE, metadata={"Date": None})


def by_share(axes: Any, found: Iterable[Group]) -> None:
    """One network, by the share of its weights that a sparse phase keeps."""
    for g in found:
        axes.plot(
            [1 - float(name) for name in g.sparsities], gains(g), marker="o", label=f"{100 * g.share:g} % wrong labels"
        )
    axes.set(xscale="log", title=SHOWN, xlabel="share of weights kept in the sparse phase")
    axes.invert_xaxis()
    axes.set_xticks([0.5, 0.2, 0.1, 0.05, 0.02, 0.01], ["50 %", "20 %", "10 %", "5 %", "2 %", "1 %"], minor=False)
    axes.minorticks_off()


def by_network(axes: Any, found: Iterable[Group]) -> None:
    """Networks of all sizes, by the number of weights that the sparse phase keeps."""
    for g in found:
        kept = [(1 - float(name)) * g.rows[0]["weights"] for name in g.sparsities]
        axes.plot(kept, gains(g), marker="o", label=f"{g.task}, {g.rows[0]['weights']:,} weights")
    axes.set(xscale="log", title=f"{100 * SHARE:g} % wrong labels", xlabel="weights kept in the sparse phase")
    axes.invert_xaxis()


def gains(g: Group) -> Sequence[float]:
    """At each sparsity, over seeds."""
    return [g.mean(f"dsd-{name}") - g.mean(DENSE) for name in g.sparsities]


if __name__ == "__main__":
    main()
