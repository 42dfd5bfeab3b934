"""report: what is on a page of a run and of a comparison; that it is valid, alone, small, and never obeys a name."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import html5lib
import numpy as np
import onnx
import pytest

import dsd_ort
from dsd_ort.api import reporting
from dsd_ort.api.page import comparison, curves, draw, layout, weights
from dsd_ort.api.page.layout import Facts, Figure, Page, Section, Source, Table
from dsd_ort.errors import InstallationError, RunError, Stopped
from dsd_ort.run import keeping
from dsd_ort.run.journal import FILE, Event, read
from tests.models import cnn_data, write_cnn

PHASES = [
    {"kind": "dense", "epochs": 8, "learning_rate": {"schedule": "cosine", "initial": 0.05, "final": 0.001}},
    {"kind": "sparse", "sparsity": 0.5, "epochs": 8, "learning_rate": 0.02},
    {"kind": "dense", "epochs": 4, "learning_rate": 0.001},
]
DATA, TEST = cnn_data(40), cnn_data(24, seed=2)
RECIPE = dsd_ort.Recipe.from_dict({"batch_size": 8, "phase": PHASES})
HOSTILE = "<script>alert(1)</script>[red]\n\x1b[31m\u202e'\"&amp;$x_1$#010201"
DANGEROUS = ("<script>alert", "\x1b", "\u202e")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run, which was stopped once."""
    folder = tmp_path_factory.mktemp("report")
    dsd_ort.prepare(write_cnn(folder / "model.onnx"), folder / "run", RECIPE)
    told: list[Event] = []
    with pytest.raises(Stopped):
        count: Callable[[], bool] = lambda: sum(event["event"] == "tick" for event in told) >= 25  # noqa: E731
        dsd_ort.train(folder / "run", DATA, eval_data=TEST, threads=1, listener=told.append, stop=count)
    dsd_ort.train(folder / "run", DATA, eval_data=TEST, threads=1, resume=True)
    return folder / "run"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    phases = [{**phase, "epochs": 1} for phase in PHASES]
    recipe = dsd_ort.Recipe.from_dict({"batch_size": 8, "phase": phases})
    options = {"kinds": ("dense-only", "dsd"), "seeds": 3, "threads": 1}
    dsd_ort.experiment(write_cnn(folder / "model.onnx"), folder / "found", recipe, DATA, TEST, **options)
    return folder / "found"


def text_of(path: Path) -> str:
    """What people read of it; the file has to be valid."""
    return words(parsed(path.read_text("utf-8")))


def parsed(text: str) -> object:
    """The tree; raises where the HTML is not valid."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)


def words(tree: object) -> str:
    return re.sub(r"\s+", " ", " ".join(tree.itertext()))  # type: ignore[attr-defined]


# --- what is on it


def test_the_page_of_a_run_shows_all_that_it_recorded(run: Path) -> None:
    path = dsd_ort.report(run)
    assert path == run / "report.html"
    said = text_of(path)
    for title in ("Loss", "top-1, %", "Learning rate", "Examples a second", "Where the time went", "Density by layer"):
        assert f" {title} " in said, title
    events = read(run)
    ends = [event for event in events if event["event"] == "phase-end"]
    came = next(event for event in events if event["event"] == "measured")
    for event in (came, *ends):
        assert f"{event['metrics']['loss']:.4f}" in said
    assert "updates 100 in 3 of 3 phases" in said
    assert "dense → sparse 50 % → dense" in said and "cosine" in said and "stopped and resumed 1 times" in said


def test_it_says_on_what_it_was_trained(run: Path, tmp_path: Path) -> None:
    said = text_of(dsd_ort.report(run, tmp_path / "r.html"))
    [began] = [event for event in read(run) if event["event"] == "data"]
    assert began["versions"]["dsd-ort"] == dsd_ort.__version__ and began["device"] == "the CPU"
    for name, version in began["versions"].items():
        assert f"{name} {version}" in said
    assert "40 examples" in said and "fp32, 1 threads" in said
    assert json.loads((run / "manifest.json").read_text())["source_digest"] in said


def test_each_pruned_layer_has_its_five_moments(run: Path, tmp_path: Path) -> None:
    text = dsd_ort.report(run, tmp_path / "r.html").read_text("utf-8")
    drawings = dict(re.findall(r'aria-label="([^:"]+): [^"]*">.*?(<svg.*?</svg>)', text, re.DOTALL))
    for layer in ("conv2.weight", "fc.weight"):
        for moment in ("before pruning", "pruned", "after sparse", "restored", "after dense"):
            assert f">{moment}</text>" in drawings[layer], (layer, moment)
    assert "conv1.weight" not in drawings, "the first convolution is not pruned"
    assert "90 at 0" in drawings["conv2.weight"] and "50.0 % of 180 weights were pruned" in text


def test_a_run_of_an_earlier_version_is_told_from_what_it_has(run: Path, tmp_path: Path) -> None:
    old = copied(run, tmp_path)
    lines = [json.loads(line) for line in (old / FILE).read_text().splitlines()]
    for line in lines:
        for key in ("versions", "device", "precision", "threads", "data", "eval_data", "waiting"):
            line.pop(key, None)
    (old / FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    keeping.weights_file(old, 1, "sparse").unlink()
    said = text_of(dsd_ort.report(old))
    assert "not recorded: the run was begun by an earlier version" in said
    assert "No sparse phase is complete" in said and "at the ends of 2 phases are not in the folder" in said


def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def test_a_run_that_goes_on_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    dsd_ort.prepare(write_cnn(tmp_path / "model.onnx"), tmp_path / "run", RECIPE)
    with pytest.raises(RunError, match="has not been trained"):
        dsd_ort.report(tmp_path / "run")
    dsd_ort.train(tmp_path / "run", DATA, threads=1, until=1)
    said = text_of(dsd_ort.report(tmp_path / "run"))
    assert "in phase 1 of 3" in said and "No sparse phase is complete" in said and "How far each layer moved" in said


def test_the_page_of_an_experiment_has_arms_differences_and_verdict(experiment: Path, tmp_path: Path) -> None:
    said = text_of(dsd_ort.report(experiment, tmp_path / "r.html"))
    found = json.loads((experiment / "experiment.json").read_text())
    for sentence in found["verdict"]:
        assert sentence in said
    for title in ("By arm and seed", "Differences from dense only", "Every training", "95 %"):
        assert title in said
    for result in found["results"]:
        assert f"{result['title']}, seed {result['seed']}" in said
    assert found["data"] in said and "[[phase]]" in said


def test_the_page_of_two_trainings_has_their_phases(tmp_path: Path) -> None:
    phases = [{**phase, "epochs": 1} for phase in PHASES]
    recipe = dsd_ort.Recipe.from_dict({"batch_size": 8, "phase": phases})
    found = dsd_ort.compare(write_cnn(tmp_path / "model.onnx"), tmp_path / "found", recipe, DATA, TEST, threads=1)
    said = text_of(dsd_ort.report(tmp_path / "found"))
    for row in found.rows:
        assert f"{row.training}, phase {row.phase} {row.kind}" in said
        assert f"{row.metrics['loss']:.4f}" in said
    assert all(f" {title} " in said for title in ("loss", "top-1, %", "dense only")) and "in the end DSD " in said


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a scan with a total, whose model has a hostile name."""
    folder = tmp_path_factory.mktemp("scan")
    model = write_cnn(folder / "<script>m.onnx")
    found = dsd_ort.scan(model, cnn_data(60), sparsities=(0.3, 0.9), total=0.5, threads=1)
    path = folder / "scan.json"
    path.write_text(json.dumps(found.to_dict()))
    return path


def test_the_page_of_a_scan_has_a_heat_map_and_the_total(scan: Path) -> None:
    path = dsd_ort.report(scan)
    assert path == scan.with_suffix(".html")
    text = text_of(path)
    for told in ("What each layer bears", "conv2.weight", "bears least", "50 % of each layer", "<script>m.onnx"):
        assert told in text, told
    assert "<script>" not in path.read_text("utf-8")


def test_what_is_no_scan_is_said(tmp_path: Path) -> None:
    (tmp_path / "scan.json").write_text('{"model": 1}')
    with pytest.raises(RunError, match="the file is no scan") as caught:
        dsd_ort.report(tmp_path / "scan.json")
    assert "dsd-ort scan MODEL" in str(caught.value)


def test_a_contact_sheet_is_in_the_file(run: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (4, 4)).save(tmp_path / "sheet.png")
    text = dsd_ort.report(run, tmp_path / "r.html", sheets=[tmp_path / "sheet.png"]).read_text("utf-8")
    assert '<img src="data:image/png;base64,' in text and 'alt="Examples whose labels' in text
    (tmp_path / "no.png").write_text("<script>")
    with pytest.raises(RunError, match="neither PNG nor JPEG"):
        dsd_ort.report(run, tmp_path / "s.html", sheets=[tmp_path / "no.png"])
    with pytest.raises(RunError, match="cannot be read"):
        dsd_ort.report(run, tmp_path / "s.html", sheets=[tmp_path / "missing.png"])
    assert not (tmp_path / "s.html").exists()


# --- what it is as a file


@pytest.mark.parametrize("kind", ["run", "experiment", "scan"])
def test_it_is_one_valid_file_that_asks_nobody(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    text = dsd_ort.report(request.getfixturevalue(kind), tmp_path / "r.html").read_text("utf-8")
    tree = parsed(text)
    assert re.findall(r"(?:https?:)?//[\w.]", text) == [] and "<script" not in text and "@import" not in text
    ids = Counter(re.findall(r'\bid="([^"]*)"', text))
    assert {name for name, count in ids.items() if count > 1} == set()
    used = re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"|aria-labelledby="([^"]*)"', text)
    assert {name for names in used for name in names if name} <= {*ids}
    assert 'lang="en"' in text and 'name="viewport"' in text and "prefers-color-scheme: dark" in text
    figures = tree.findall(".//figure")  # type: ignore[attr-defined]
    assert figures and all(figure.get("aria-label") and figure.find("figcaption").text for figure in figures)
    for table in tree.iter("table"):  # type: ignore[attr-defined]
        assert table.find("caption").text
        assert all(cell.get("scope") for cell in table.iter("th"))


def test_the_same_run_gives_the_same_page(run: Path, tmp_path: Path) -> None:
    first, second = (dsd_ort.report(run, tmp_path / f"{name}.html").read_bytes() for name in "ab")
    assert first == second


def test_ten_thousand_steps_stay_below_three_megabytes(run: Path, tmp_path: Path) -> None:
    long = copied(run, tmp_path)
    events = read(long)
    begin = next(i for i, event in enumerate(events) if event["event"] == "phase")
    (phase, progress) = (next(e for e in events if e["event"] == name) for name in ("phase", "progress"))
    rng = np.random.default_rng(0)
    more = [
        {**progress, "step": step, "time": phase["time"] + step / 1e6, "loss": float(rng.random())}
        for step in range(20, 10_001, 20)
    ]
    later = [{**event, "step": event["step"] + 10_000} for event in events[begin + 1 :]]
    (long / FILE).write_text("".join(json.dumps(e) + "\n" for e in [*events[: begin + 1], *more, *later]))
    path = dsd_ort.report(long)
    assert "updates 10,100" in text_of(path)
    assert path.stat().st_size < 3_000_000


def test_of_a_long_line_the_peaks_stay() -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal(50_000)
    y[31_234], y[7] = 99.0, -99.0
    x, kept = draw.thinned(range(len(y)), y.tolist())
    assert len(x) == len(kept) <= draw.POINTS and (x[0], x[-1]) == (0, len(y) - 1)
    assert max(kept) == 99.0 and min(kept) == -99.0 and all(y[i] == v for i, v in zip(x, kept, strict=True))
    assert x == sorted({*x}) and draw.thinned([1, 2], [3.0, 4.0]) == ([1, 2], [3.0, 4.0])


def test_time_between_a_stop_and_the_resumption_is_nobodys() -> None:
    def event(name: str, time: float, **more: object) -> Event:
        return {"event": name, "time": time, "step": int(time), "phase": 1, **more}

    events = [
        event("phase", 0.0, kind="dense", sparsity=None),
        event("progress", 10.0, waiting=0.25),
        event("epoch", 20.0),
        event("progress", 1030.0, waiting=0.25),
        event("phase-end", 1040.0, seconds=24.0),
    ]
    [found] = curves.times(events, [{"event": "resume", "time": 1020.0}])
    assert found == ("1 dense", 18.0, 6.0, 6.0), "of 30 seconds outside of the stop 24 trained, a quarter of it waiting"
    [found] = curves.times(events, [])
    assert found.beside == 1016.0


def test_a_heat_map_has_a_cell_for_each_number_and_none_for_what_is_none() -> None:
    values = [[0.1, 0.2], [0.3, float("nan")]]
    names = {"rows": ["conv1", HOSTILE], "columns": ["50 %", "90 %"]}
    found = weights.heat("Which layers bear it", "In words.", values=values, unit="loss", **names)
    assert [f">{v}</text>" in found.svg for v in ("0.1", "0.2", "0.3", "nan")] == [True, True, True, False]
    assert found.size == "wide" and not any(part in found.svg for part in DANGEROUS)


# --- what it does not do


def test_a_name_is_text_wherever_it_stands() -> None:
    page = Page(
        HOSTILE,
        HOSTILE,
        [Figure(HOSTILE, HOSTILE, HOSTILE)],
        [
            Section(HOSTILE, [HOSTILE], [HOSTILE], [Table(HOSTILE, [HOSTILE, "b"], [[HOSTILE, HOSTILE]])]),
            Section("", parts=[Facts(HOSTILE, [(HOSTILE, HOSTILE)]), Source(HOSTILE, f"a\n{HOSTILE}")]),
            Section("", parts=[draw.picture(HOSTILE, HOSTILE, lambda axes: axes[0].set_title(HOSTILE), name="x") ]),
        ],
    )  # fmt: skip
    text = layout.html(page)
    tree = parsed(text)
    assert not any(part in text for part in DANGEROUS)
    assert list(tree.iter("script")) == []  # type: ignore[attr-defined]
    assert words(tree).count("<script>alert(1)</script>[red]\\n\\x1b[31m\\u202e'\"&amp;$x_1$#010201") >= 11


def test_a_model_with_hostile_names_is_shown_as_text(tmp_path: Path) -> None:
    model = onnx.load(write_cnn(tmp_path / "plain.onnx"))
    hostile = {"conv2.weight": HOSTILE, "fc.weight": "</svg><img src=x onerror=alert(1)>"}
    for tensor in model.graph.initializer:
        tensor.name = hostile.get(tensor.name, tensor.name)
    for node in model.graph.node:
        node.input[:] = [hostile.get(name, name) for name in node.input]
    path = tmp_path / "<b>[red].onnx"
    onnx.save(model, path)
    recipe = dsd_ort.Recipe.from_dict({"batch_size": 8, "phase": [{**phase, "epochs": 1} for phase in PHASES]})
    dsd_ort.prepare(path, tmp_path / "run", recipe)
    dsd_ort.train(tmp_path / "run", DATA, threads=1)
    text = dsd_ort.report(tmp_path / "run").read_text("utf-8")
    tree = parsed(text)
    assert not any(part in text for part in (*DANGEROUS, "<img", "<b>"))
    assert [*tree.iter("script"), *tree.iter("img"), *tree.iter("b")] == []  # type: ignore[attr-defined]
    said = words(tree)
    assert "<b>[red].onnx" in said and "</svg><img src=x onerror=alert(1)>" in said and "\\x1b[31m\\u202e" in said


def test_colours_are_told_apart_from_the_ground_by_all_eyes() -> None:
    """WCAG's contrast: 4.5 for text, 3 for what is drawn; on white and on black."""
    template = (Path(layout.__file__).parent / "page.html.jinja").read_text("utf-8")
    parts = template.split("(prefers-color-scheme: dark)")[:2]
    light, dark = (dict(re.findall(r"--(\w+): (#\w+);", part)) for part in parts)
    assert {*light} == {*dark} >= {*draw._VARIABLES.values()}
    for scheme in (light, dark):
        least = dict.fromkeys(("ink", "muted", "link"), 4.5) | dict.fromkeys(("blue", "red", "green", "purple"), 3.0)
        for name, wanted in least.items():
            for ground in ("card", "ground"):
                assert contrast(scheme[name], scheme[ground]) >= wanted, (name, ground)


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_what_is_neither_run_nor_comparison_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="neither a run nor a comparison"):
        dsd_ort.report(tmp_path)
    with pytest.raises(RunError, match="cannot be written"):
        reporting.keep(tmp_path / "missing" / "r.html", b"")


def test_an_experiment_without_a_result_has_nothing_to_report(experiment: Path, tmp_path: Path) -> None:
    found = json.loads((experiment / "experiment.json").read_text())
    (tmp_path / "experiment.json").write_text(json.dumps({**found, "results": [], "final": None, "verdict": []}))
    with pytest.raises(RunError, match="no training of the comparison is measured yet"):
        comparison.page(tmp_path)


def test_what_draws_is_asked_for_by_name(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InstallationError, match="matplotlib is not installed") as raised:
        dsd_ort.report(run)
    assert raised.value.fix == 'pip install "dsd-ort[report]"'
