"""The imports of a package as SVG: boxes in one column, arrows in lanes beside it.

Every box that is imported has a lane to the right of the column, in the order of the boxes.  An arrow leaves its box
at the lower right, bends into the other's lane, where its number is, and enters the other box at the upper right.  As
lanes end where their boxes are, an arrow that goes downwards crosses no other on its last way.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

from tools.maintenance.imports.graph import Arrow, Box, Imports

MARGIN, COLUMN, HEAD, FOOT = 16, 396, 96, 48
GUTTER, LANE, BEND = 34, 27, 8
NEAR, FAR, GROUND = 6, 18, 5
"""Between boxes of a layer, between layers, and around the boxes of a layer."""
LINE, LETTERS = 13, 64
"""The height of a line of small text, and the letters that surely fit into a box."""
FILE = 3
"""Pixels of a bar for a file: the same in every picture, so that two of them can be compared."""

LIGHT = {
    "paper": "#ffffff",
    "ground": "#eff2f5",
    "box": "#ffffff",
    "edge": "#8c959f",
    "ink": "#1f2328",
    "pale": "#57606a",
    "way": "#6e7781",
    "wrong": "#cf222e",
    "bar": "#218bff",
}
DARK = {
    "paper": "#0d1117",
    "ground": "#1c2128",
    "box": "#0d1117",
    "edge": "#59636e",
    "ink": "#e6edf3",
    "pale": "#9198a1",
    "way": "#8b949e",
    "wrong": "#ff7b72",
    "bar": "#388bfd",
}
STYLE = """\
  .paper {{ fill: {paper} }} .ground {{ fill: {ground} }} .box {{ fill: {box}; stroke: {edge} }} .bar {{ fill: {bar} }}
  text {{ fill: {ink} }} .small {{ fill: {pale} }}
  .way {{ fill: none; stroke: {way} }} .pill {{ fill: {paper}; stroke: {way} }} .tip {{ fill: {way} }}
  .wrong .way, .wrong .pill {{ stroke: {wrong} }} .wrong .tip {{ fill: {wrong} }}"""
SHAPES = """\
  .small { font-size: 11px } .name { font-weight: 600 } .right { text-anchor: end }
  .number { font-size: 10px; text-anchor: middle }"""


KEY = (
    "A line goes from a folder to what it imports; its number says how many files of the folder do.",
    "The bar of a box is as long as the folder has files.",
)


class Place(NamedTuple):
    """Where a box is, and where arrows enter and leave it at its right."""

    top: int
    height: int

    @property
    def enters(self) -> int:
        return self.top + 12

    @property
    def leaves(self) -> int:
        return self.top + self.height - 11


def draw(imports: Imports) -> str:
    """The picture; the same imports give the same bytes."""
    places = placed(imports.boxes)
    reached = [box for box in imports.boxes if any(box.name == other for _, other in imports.arrows)]
    lanes = {box.name: MARGIN + COLUMN + GUTTER + LANE * number for number, box in enumerate(reached)}
    width = MARGIN + COLUMN + GUTTER + LANE * len(lanes) + 2 * MARGIN
    height = max(place.top + place.height for place in places.values()) + FOOT
    arrows = sorted(imports.arrows, key=lambda ends: (ends in imports.wrong, ends))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" font-size="14">',
        f"<title>The imports of {imports.package}</title>",
        f"<style>\n{STYLE.format(**LIGHT)}\n{SHAPES}",
        f"  @media (prefers-color-scheme: dark) {{\n{STYLE.format(**DARK)}\n  }}\n</style>",
        f'<rect class="paper" width="{width}" height="{height}"/>',
        *grounds(imports.boxes, places, width),
        *heading(imports),
        *(head(box.label, lanes[box.name]) for box in reached),
        *(arrow(ends, imports, places, lanes) for ends in arrows),
        *(number(ends, imports, places, lanes) for ends in arrows),
        *(part for box in imports.boxes for part in drawn(box, places[box.name])),
        *(f'<text class="small" x="{MARGIN}" y="{height - 26 + LINE * i}">{text}</text>' for i, text in enumerate(KEY)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def placed(boxes: Sequence[Box]) -> dict[str, Place]:
    """Boxes under each other, as high as their sentences are long."""
    places: dict[str, Place] = {}
    top, layer = HEAD, 0
    for box in boxes:
        top += FAR - NEAR if box.layer != layer else 0
        places[box.name] = Place(top, 30 + LINE * len(wrapped(box)))
        top, layer = top + places[box.name].height + NEAR, box.layer
    return places


def wrapped(box: Box) -> list[str]:
    return textwrap.wrap(box.sentence, LETTERS)


def grounds(boxes: Sequence[Box], places: Mapping[str, Place], width: int) -> Iterator[str]:
    """What is behind the boxes of each layer."""
    for layer in sorted({box.layer for box in boxes}):
        inside = [places[box.name] for box in boxes if box.layer == layer]
        top, bottom = inside[0].top - GROUND, inside[-1].top + inside[-1].height + GROUND
        x = MARGIN - GROUND
        yield f'<rect class="ground" x="{x}" y="{top}" width="{width - 2 * x}" height="{bottom - top}" rx="6"/>'


def heading(imports: Imports) -> Iterator[str]:
    files, lines = sum(box.files for box in imports.boxes), sum(box.lines for box in imports.boxes)
    wrong = f"{len(imports.wrong)} of them not to a lower layer" if imports.wrong else "all to a lower layer"
    yield f'<text class="name" x="{MARGIN}" y="30">The imports of {imports.package}</text>'
    yield f'<text class="small" x="{MARGIN}" y="49">{files} files, {lines:,} lines</text>'
    yield f'<text class="small" x="{MARGIN}" y="64">{len(imports.arrows)} arrows, {wrong}</text>'


def head(label: str, lane: int) -> str:
    """The name of a lane."""
    return f'<text class="small" transform="translate({lane - 2} {HEAD - 12}) rotate(-50)">{escape(label)}</text>'


def arrow(ends: Arrow, imports: Imports, places: Mapping[str, Place], lanes: Mapping[str, int]) -> str:
    """From the lower right of a box, along the lane of another, to that one's upper right."""
    (importer, imported), edge = ends, MARGIN + COLUMN
    begin, lane, end = places[importer].leaves, lanes[imported], places[imported].enters
    down = BEND if end > begin else -BEND
    width = 1 + 0.5 * math.log2(imports.arrows[ends])
    way = f"M{edge} {begin}H{lane - BEND}q{BEND} 0 {BEND} {down}V{end - down}q0 {down} {-BEND} {down}H{edge + 6}"
    tip = f"M{edge} {end}l9 -5v10z"
    return (
        f"<g{mark(ends, imports)}><title>{importer} → {imported}: {imports.arrows[ends]}</title>"
        f'<path class="way" stroke-width="{width:.1f}" d="{way}"/><path class="tip" d="{tip}"/></g>'
    )


def number(ends: Arrow, imports: Imports, places: Mapping[str, Place], lanes: Mapping[str, int]) -> str:
    """In how many files, where the arrow bends."""
    x, y = lanes[ends[1]], places[ends[0]].leaves
    return (
        f'<g{mark(ends, imports)}><circle class="pill" cx="{x}" cy="{y}" r="9"/>'
        f'<text class="number" x="{x}" y="{y + 3.5}">{imports.arrows[ends]}</text></g>'
    )


def mark(ends: Arrow, imports: Imports) -> str:
    return ' class="wrong"' if ends in imports.wrong else ""


def drawn(box: Box, place: Place) -> Iterator[str]:
    """A box: its name and size, what it says of itself, and its bar."""
    x, y = MARGIN + 10, place.top + 18
    size = f"{box.files} file{'s' * (box.files > 1)}, {box.lines:,} lines"
    bar = min(FILE * box.files, COLUMN)
    yield f'<rect class="box" x="{MARGIN}" y="{place.top}" width="{COLUMN}" height="{place.height}" rx="3"/>'
    yield f'<rect class="bar" x="{MARGIN}" y="{place.top + place.height - 3}" width="{bar}" height="3"/>'
    yield f'<text class="name" x="{x}" y="{y}">{escape(box.label)}</text>'
    yield f'<text class="small right" x="{MARGIN + COLUMN - 12}" y="{y}">{size}</text>'
    for line, text in enumerate(wrapped(box), 1):
        yield f'<text class="small" x="{x}" y="{y + 2 + LINE * line}">{escape(text, quote=False)}</text>'
