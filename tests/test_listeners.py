"""The listeners of the guide: MLflow reads back what the journal has, and Weights & Biases would have been told it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from dsd_ort.run.journal import Event, read
from tests.test_site import DOCS, lay_out, run, shown

GUIDE = DOCS / "guides" / "watching.md"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    return tmp_path


def listener(package: str) -> str:
    [text] = [text for _, text in shown("python", [GUIDE]) if f"import {package}\n" in text]
    return text


def of(folder: str, kind: str) -> list[Event]:
    found = [event for event in read(Path(folder)) if event["event"] == kind]
    assert found
    return found


def test_mlflow_has_what_the_journal_has(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its file store; needs the dependency group mlflow."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (here / "mlruns").as_uri())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what MLflow imports
        mlflow = pytest.importorskip("mlflow", reason="needs mlflow-skinny, of the dependency group mlflow")
        run(listener("mlflow"), "watching")
        client = mlflow.MlflowClient()
        [tracked] = client.search_runs([e.experiment_id for e in client.search_experiments()])
        history = {name: client.get_metric_history(tracked.info.run_id, name) for name in tracked.data.metrics}
        artifacts = [file.path for file in client.list_artifacts(tracked.info.run_id)]
    assert artifacts == ["report.html"]
    assert {m.step: m.value for m in history["loss"]} == {e["step"]: e["loss"] for e in of("tracked", "progress")}
    for metric in ("loss", "top-1"):
        wanted = {e["step"]: e["metrics"][metric] for e in of("tracked", "epoch")}
        assert {m.step: m.value for m in history[f"eval-{metric}"]} == wanted
    assert tracked.data.params == {"phase-1": "sparse 0.3", "phase-2": "dense"}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What a package in the place of wandb was told."""
    found: dict[str, Any] = {"logged": [], "summary": {}, "finished": False}

    def log(values: dict[str, float], step: int) -> None:
        found["logged"].append((step, values))

    stub = ModuleType("wandb")
    a_run = SimpleNamespace(log=log, summary=found["summary"], finish=lambda: found.update(finished=True))
    stub.init = lambda project: a_run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", stub)
    yield found


def test_wandb_is_told_what_the_journal_has(here: Path, told: dict[str, Any]) -> None:
    run(listener("wandb"), "watching")
    steps = [step for step, _ in told["logged"]]
    assert steps == sorted(steps), "W&B takes no step that lies behind"
    epochs = {step: values["eval/top-1"] for step, values in told["logged"] if "eval/top-1" in values}
    assert epochs == {event["step"]: event["metrics"]["top-1"] for event in of("logged", "epoch")}
    progress = {step: values["loss"] for step, values in told["logged"] if "learning_rate" in values}
    assert progress == {event["step"]: event["loss"] for event in of("logged", "progress")}
    assert told["summary"] == {f"density of phase {e['phase']}": e["density"] for e in of("logged", "phase-end")}
    assert told["finished"]
