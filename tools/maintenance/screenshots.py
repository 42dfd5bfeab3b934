"""The pictures of a report in the documentation: what a browser shows of one, and figure 2 of one layer as a file.

::

    dsd-ort demo -o demo
    python -m tools.maintenance.screenshots demo/wrong/runs/seed-0/dsd -o docs

Needs a Chromium and Pillow, which makes the files small.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import click
from PIL import Image

import dsd_ort
from dsd_ort.api.page import layout, weights
from dsd_ort.graph.program import open_program
from dsd_ort.run import borders
from tools.maintenance.browser import browser

SHOTS = {
    "report_light.png": {"width": 1000, "height": 1130, "scheme": "light"},
    "report_dark.png": {"width": 1000, "height": 1130, "scheme": "dark"},
    "report_phone.png": {"width": 375, "height": 1130, "scheme": "light"},
}
COLOURS = 64
FIGURE = "figure_2.svg"


@click.command(help=__doc__.partition("\n")[0] if __doc__ else None)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(run: Path, output: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, browser() as page:
        report = dsd_ort.report(run, Path(folder) / "report.html")
        for name, window in SHOTS.items():
            page.open(report, **window)
            shot = Path(folder) / name
            page.screenshot(shot)
            few = Image.open(shot).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            few.save(output / name, optimize=True)
    layers = [layer for layer in borders.layers(open_program(run)) if layer.histograms is not None]
    drawn = weights.figure_2(max(layers, key=lambda layer: layer.size), 1)
    (output / FIGURE).write_text(standalone(drawn.svg, drawn.text), "utf-8")


def standalone(svg: str, text: str) -> str:
    """A drawing of a page as a file, in the page's colours."""
    template = (Path(layout.__file__).parent / "page.html.jinja").read_text("utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", template, re.DOTALL)[:2]
    style = (
        f"<style>svg {{{light} font-family: system-ui, sans-serif; background: var(--card) }}"
        f"@media (prefers-color-scheme: dark) {{ svg {{{dark}}} }}</style>"
    )
    namespace = 'xmlns="http://www.w3.org/2000/svg"'
    head = svg.replace("<svg ", f"<svg {namespace} ", 1).replace(
        'aria-hidden="true">', f'role="img"><title>{text}</title>{style}', 1
    )
    return re.sub(r"\s+", " ", head.replace("\n", " ")).replace("> <", ">\n<") + "\n"


if __name__ == "__main__":
    main()
