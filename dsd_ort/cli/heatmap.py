"""A scan as a picture: layers times sparsities, darker where pruning costs more; an SVG, which takes no package."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT, TEXT, TOP = 58, 20, 260, 44
LIGHT, DARK = (247, 251, 255), (8, 48, 107)


def heatmap(
    title: str, rows: Sequence[tuple[str, Sequence[float | None], Sequence[str]]], columns: Sequence[str]
) -> str:
    """The picture.

    Args:
        title: above it.
        rows: a name, what each cell costs, None where it is not finite, and what is written into it.
        columns: their headings.
    """
    highest = max((cost for _, costs, _ in rows for cost in costs if cost is not None), default=0.0)
    width, height = TEXT + WIDTH * len(columns) + 10, TOP + HEIGHT * len(rows) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="11"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="6" y="15" font-weight="bold">{escape(title)}</text>',
    ]
    for number, heading in enumerate(columns):
        parts.append(_text(TEXT + WIDTH * (number + 0.5), TOP - 8, heading, "middle"))
    for row, (name, costs, texts) in enumerate(rows):
        y = TOP + HEIGHT * row
        shown = name if len(name) <= 40 else f"{name[:18]}…{name[-20:]}"
        parts.append(_text(TEXT - 6, y + 14, shown, "end"))
        for number, (cost, text) in enumerate(zip(costs, texts, strict=True)):
            x, share = TEXT + WIDTH * number, 1.0 if cost is None else max(0.0, cost) / (highest or 1.0)
            fill = "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(LIGHT, DARK, strict=True))
            parts.append(f'<rect x="{x}" y="{y}" width="{WIDTH - 1}" height="{HEIGHT - 1}" fill="{fill}"/>')
            parts.append(_text(x + WIDTH / 2, y + 14, text, "middle", "white" if share > 0.5 else "black"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, anchor: str, fill: str = "black") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'
