"""A report in a real browser: nothing complains, all pictures are there and have names, keys reach all, on any screen.

Skipped where there is no Chromium, unless DSD_ORT_BROWSER=1 says that there has to be one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import dsd_ort
from tests.models import cnn_data, write_cnn
from tools.maintenance.browser import Page, browser, program

pytestmark = pytest.mark.skipif(
    program() is None and os.environ.get("DSD_ORT_BROWSER") != "1",
    reason="no Chromium on PATH; on Debian and Ubuntu: apt-get install chromium",
)
PHASES = [
    {"kind": "dense", "epochs": 4, "learning_rate": 0.05},
    {"kind": "sparse", "sparsity": 0.5, "epochs": 4, "learning_rate": 0.02},
    {"kind": "dense", "epochs": 2, "learning_rate": 0.001},
]
PICTURES = 9
"""Loss, one metric, rate, speed, time, density, ways, and two layers."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    recipe = dsd_ort.Recipe.from_dict({"batch_size": 2, "phase": PHASES, "metrics": ["loss", "top-1"]})
    dsd_ort.prepare(write_cnn(folder / "model.onnx"), folder / "run", recipe)
    dsd_ort.train(folder / "run", cnn_data(20), eval_data=cnn_data(24, seed=2), threads=1)
    return dsd_ort.report(folder / "run")


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as tab:
        yield tab


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_complains_and_nothing_else_is_asked_for(page: Page, report: Path, scheme: str) -> None:
    page.open(report, scheme=scheme)
    assert page.complaints() == []
    assert page.requested() == [report.as_uri()]


def test_a_complaint_would_be_seen(page: Page, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<!DOCTYPE html><title>x</title><script>console.error('ho'); nothing()</script><img src='no.png'>")
    page.open(bad)
    said = " ".join(page.complaints())
    assert "ho" in said and "nothing is not defined" in said and "ERR_FILE_NOT_FOUND" in said
    assert (tmp_path / "no.png").as_uri() in page.requested()


def test_all_pictures_are_there_and_have_a_size(page: Page, report: Path) -> None:
    page.open(report)
    sizes = page.run(
        "[...document.querySelectorAll('figure svg')].map(e => { const b = e.getBoundingClientRect();"
        "return [b.width, b.height, e.querySelectorAll('path').length, e.querySelectorAll('text').length] })"
    )
    assert len(sizes) == PICTURES
    assert all(width > 200 and height > 90 and paths > 5 and texts > 3 for width, height, paths, texts in sizes)


def test_what_is_seen_has_a_name_for_those_who_do_not_see_it(page: Page, report: Path) -> None:
    page.open(report)
    named = page.named()
    images = [name for role, name in named if role == "image"]
    assert len(images) == PICTURES and all(len(name) > 30 for name in images)
    headings = [name for role, name in named if role == "heading"]
    assert headings[0] == "model.onnx: dense → sparse 50 % → dense"
    assert headings[1:] == ["How it went", "What became of the weights", "What it was"]
    assert {"columnheader", "rowheader", "main", "banner", "contentinfo"} <= {role for role, _ in named}
    assert not [role for role, name in named if role in ("columnheader", "region", "DisclosureTriangle") and not name]
    assert not any(name == "before pruning" for _, name in named), "drawings are read as one"


def test_keys_reach_what_is_folded_and_what_scrolls(page: Page, report: Path) -> None:
    page.open(report)
    met = []
    for _ in range(12):
        page.press("Tab", 9)
        met.append(page.run("document.activeElement.tagName + ' ' + document.activeElement.textContent.slice(0, 24)"))
        if met[-1].startswith("SUMMARY Layers"):
            break
    assert met[0] == "A To the content" and met[-1] == "SUMMARY Layers in numbers", met
    assert any(tag.startswith("DIV") for tag in met), "tables can be scrolled with keys"
    assert page.run("document.activeElement.parentElement.open") is False
    page.press("Enter", 13)
    assert page.run("document.activeElement.parentElement.open") is True


@pytest.mark.parametrize("width", [320, 375, 768])
def test_no_screen_is_too_narrow(page: Page, report: Path, width: int) -> None:
    page.open(report, width=width, height=800)
    assert page.run("document.documentElement.scrollWidth") <= width
    smallest = page.run(
        "Math.min(...[...document.querySelectorAll('figure svg text')].map(e => e.getBoundingClientRect().height))"
    )
    assert smallest >= 7, "type in drawings is still read"


def test_in_the_dark_the_ground_is_dark_and_drawings_are_light(page: Page, report: Path) -> None:
    def brightness(scheme: str, script: str) -> float:
        page.open(report, scheme=scheme)
        found: str = page.run(script)
        return sum(int(part) for part in found.strip("rgba()").split(",")[:3]) / 765

    ground = "getComputedStyle(document.body).backgroundColor"
    text = "getComputedStyle(document.querySelector('figure svg text')).fill"
    assert brightness("light", ground) > 0.9 and brightness("dark", ground) < 0.2
    assert brightness("light", text) < 0.5 < brightness("dark", text)
