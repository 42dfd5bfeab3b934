"""Measures what dsd-ort covers, beside ONNX Runtime Training alone, and writes docs/coverage.md and docs/coverage.json.

    python -m tools.coverage --operators             every case of every operator (a minute)
    python -m tools.coverage --models CORPUS         every model that tools.coverage.corpus made (an hour or more)
    python -m tools.coverage --models CORPUS --only 'zoo/*'

Without the training build, both measure dsd-ort on the ONNX Runtime that is there, in columns of their own.
What is not measured stays as the JSON has it.  The answers of ONNX Runtime alone depend on its version and the case or
model only, so they are taken from the JSON too; --bare measures them anew.  A test compares the operators' part.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.session import TRAINING_BUILD
from tools.coverage import models, operators
from tools.coverage.runtime import onnx_runtime

DOCS = Path(__file__).resolve().parents[2] / "docs"
RENEW = "python -m tools.coverage --operators, with the training build and without it"
OPSETS = (13, 17, 18, 21)
SIDES = ("dsd-ort: right", "refused", "wrong", "stock: right", "alone: right", "fails", "**wrong**", "dies")
VERDICTS = {
    "right": "right",
    "refused": "refused by name",
    "fails": "fails with an error",
    "undecided": "undecided",
    "wrong": "**wrong without an error**",
    "dies": "ends the process",
}
ABOUT_OPERATORS = """\
A case is a small graph at one opset (`tests/graph/legalize/cases`). It is right if output and gradients are those of
ONNX's reference evaluator in float64 and of central differences. The last columns, one for each opset: dsd-ort right /
alone right / cases.
"""
ABOUT_MODELS = """\
The models are made by `tools/coverage/corpus.py`, from packages that it names. *Right* with dsd-ort means that
`dsd-ort check` passes: gradients agree with the slopes of the file's loss in plain inference, a sparse step does what
it should, the export verifies, and the exported file gives the trained outputs in plain inference. Seconds and
megabytes are the whole check's; those of the groups audio, captcha, chemistry, eeg, ocr, pictures and text were
measured with `--seconds 240`, on two cores that up to nineteen other processes shared. *Right* alone means that the
gradients agree; its weights are the file's initializers, as a user of ONNX Runtime Training has them. An empty cell
was not measured."""


class Coverage(msgspec.Struct):
    """The content of docs/coverage.json."""

    runtime: str = ""
    stock: str = ""
    operators: list[operators.Row] = []
    refused: list[tuple[str, str]] = []
    models: list[models.Row] = []
    missing: dict[str, str] = {}

    @classmethod
    def load(cls, path: Path) -> Coverage:
        return msgspec.json.decode(path.read_bytes(), type=cls) if path.exists() else cls()

    def save(self, path: Path) -> None:
        """One row a line, for people who compare versions."""
        table = msgspec.to_builtins(self)
        parts = []
        for key, value in table.items():
            rows = [json.dumps(row, ensure_ascii=False) for row in value] if isinstance(value, list) else []
            text = "[\n" + ",\n".join(rows) + "\n]" if rows else json.dumps(value, ensure_ascii=False)
            parts.append(f"{json.dumps(key)}: {text}")
        path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        "tools.coverage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--operators", action="store_true")
    parser.add_argument("--models", type=Path, metavar="CORPUS")
    parser.add_argument("--only", default="*", metavar="GLOB", help="models to measure; the others stay as they were")
    parser.add_argument("--bare", action="store_true", help="measure ONNX Runtime alone anew, too")
    parser.add_argument("--seconds", type=float, default=40.0, help="about, for a model's gradients")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=DOCS, metavar="FOLDER", help="where the two files are")
    arguments = parser.parse_args()
    if not TRAINING_BUILD and arguments.bare:
        parser.error("ONNX Runtime alone is measured with the training build")
    coverage = Coverage.load(arguments.output / "coverage.json")
    if TRAINING_BUILD and (arguments.bare or coverage.runtime != onnx_runtime()):
        coverage.operators = [row._replace(bare="") for row in coverage.operators]
        coverage.models = [] if arguments.models else coverage.models
    if arguments.operators:
        coverage = with_operators(coverage)
    if arguments.models:
        measure_models(coverage, arguments)
    write(coverage, arguments.output)
    print("\n".join(line for line in totals(coverage) if line.startswith("|")))


def with_operators(coverage: Coverage) -> Coverage:
    """*coverage* with the operators measured now, by the ONNX Runtime that is here."""

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if not TRAINING_BUILD:
        rows = operators.measure(coverage.operators, "stock", tell)
        return msgspec.structs.replace(coverage, stock=onnx_runtime(), operators=rows)
    rows = operators.with_alone(operators.measure(coverage.operators, "ours", tell), tell)
    refused = list(operators.refused(rows))
    return msgspec.structs.replace(coverage, runtime=onnx_runtime(), operators=rows, refused=refused)


def measure_models(coverage: Coverage, arguments: argparse.Namespace) -> None:
    """Measures the models of a folder, cheap groups first, and writes after each: it may be stopped."""
    folder: Path = arguments.models
    if arguments.only == "*":
        coverage.missing = models.missing(folder)
    there = [f"{file.parent.name}/{file.name.removesuffix('.onnx')}" for file in sorted(folder.glob("*/*.onnx"))]
    rows = {row.name: row for row in coverage.models}
    names = [name for name in there if fnmatch.fnmatch(name, arguments.only)]
    known = dict(rows)
    if arguments.bare:
        known = {name: msgspec.structs.replace(row, bare=models.NOT_MEASURED) for name, row in rows.items()}
    if not TRAINING_BUILD and coverage.stock != onnx_runtime():
        coverage.stock = onnx_runtime()
        known = {name: msgspec.structs.replace(row, stock=models.NOT_MEASURED) for name, row in rows.items()}
        rows = dict(known)
    for row in models.measure(folder, names, known, seconds=arguments.seconds, threads=arguments.threads):
        rows[row.name] = row
        coverage.models = [rows[name] for name in sorted(rows)]
        write(coverage, arguments.output)
        sides = {"dsd-ort": row.ours, "stock": row.stock, "alone": row.bare}
        print(f"{row.name}: " + " | ".join(f"{k}: {v.verdict} {v.why}" for k, v in sides.items()), flush=True)


def write(coverage: Coverage, folder: Path) -> None:
    coverage.save(folder / "coverage.json")
    (folder / "coverage.md").write_text(page(coverage))


def page(coverage: Coverage) -> str:
    """docs/coverage.md."""
    parts = [
        "# What trains",
        "",
        "Measured by `python -m tools.coverage`, which writes this page.",
        f"*dsd-ort* is with {coverage.runtime}, and *stock* with {coverage.stock}, which has no kernels for training.",
        "*Alone* is the former's own gradient builder on the same graph, without dsd-ort.",
        "",
        *totals(coverage),
        "",
        *operator_tables(coverage),
        "",
        *model_tables(coverage),
    ]
    return "\n".join(parts) + "\n"


def totals(coverage: Coverage) -> list[str]:
    lines = ["## In short", ""]
    columns: list[tuple[str, Counter[str]]] = []
    rows = coverage.operators
    if rows:
        cases = f"{len(rows)} cases of {len({row.operator for row in rows})} operators"
        columns.append((f"{cases}: dsd-ort", Counter(row.ours for row in rows)))
        columns.append(("stock", Counter(row.stock for row in rows)))
        columns.append(("alone", Counter(row.bare for row in rows)))
    if coverage.models:
        columns.append((f"{len(coverage.models)} models: dsd-ort", Counter(r.ours.verdict for r in coverage.models)))
        stock = [row.stock.verdict for row in coverage.models if row.stock.verdict]
        columns.append((f"stock, {len(stock)} tried", Counter(stock)))
        columns.append(("alone", Counter(r.bare.verdict for r in coverage.models)))
    lines.append("| | " + " | ".join(title for title, _ in columns) + " |")
    lines.append("|---|" + "---:|" * len(columns))
    for verdict, label in VERDICTS.items():
        cells = [str(counts[verdict]) for _, counts in columns]
        if any(cell != "0" for cell in cells) or verdict == "wrong":
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return lines


def operator_tables(coverage: Coverage) -> list[str]:
    lines = [
        "## Operators",
        "",
        ABOUT_OPERATORS,
        f"| operator | cases | {' | '.join(SIDES)} | {' | '.join(map(str, OPSETS))} | other |",
        "|---|" + "---:|" * (1 + len(SIDES) + len(OPSETS) + 1),
    ]
    by_operator: dict[str, list[operators.Row]] = {}
    for row in coverage.operators:
        by_operator.setdefault(row.operator, []).append(row)
    for name, rows in by_operator.items():
        ours, bare = Counter(r.ours for r in rows), Counter(r.bare for r in rows)
        failing = ours["refused"] + ours["fails"]
        cells: list[Any] = [len(rows), ours["right"], failing or "", ours["wrong"] or ""]
        cells.append(sum(r.stock == "right" for r in rows))
        wrong = f"**{bare['wrong']}**" if bare["wrong"] else ""
        cells += [bare["right"], bare["fails"] or "", wrong, bare["dies"] or ""]
        for opsets in (*((opset,) for opset in OPSETS), None):
            at = [r for r in rows if (r.opset in opsets if opsets else r.opset not in OPSETS)]
            counts = (sum(r.ours == "right" for r in at), sum(r.bare == "right" for r in at), len(at))
            cells.append("{} / {} / {}".format(*counts) if at else "")
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    lines += [
        "",
        "Refused by name where a gradient would have to pass, among the standard operators on real numbers:",
        "",
    ]
    lines += [f"- `{name}`: {why}" for name, why in coverage.refused]
    return lines


def model_tables(coverage: Coverage) -> list[str]:
    lines = ["## Models", "", ABOUT_MODELS]
    groups: dict[str, list[models.Row]] = {}
    for row in coverage.models:
        groups.setdefault(row.name.partition("/")[0], []).append(row)
    for group, rows in groups.items():
        lines += [
            "",
            f"### {group}, {_right(rows)}",
            "",
            "| model | parameters | dsd-ort | s | MB | stock | alone |",
            "|---|---:|---|---:|---:|---|---|",
        ]
        for row in rows:
            name = row.name.partition("/")[2]
            older = " (by ONNX Runtime's builder)" if row.builder == "ort" else ""
            ours = f"{_cell(row.ours)}{older}"
            taken = [f"{row.seconds:g}", f"{row.megabytes:,}" if row.megabytes else ""]
            cells = [name, f"{row.parameters:,}", ours, *taken, _cell(row.stock), _cell(row.bare)]
            lines.append(f"| {' | '.join(cells)} |")
    if coverage.missing:
        lines += ["", "### Not exported", "", "These the exporter itself refuses:", ""]
        lines += [f"- {name}: {_escaped(why)[:200]}" for name, why in coverage.missing.items()]
    return lines


def _right(rows: Sequence[models.Row]) -> str:
    sides = {
        "with dsd-ort": [r.ours for r in rows],
        "on stock": [r.stock for r in rows],
        "alone": [r.bare for r in rows],
    }
    counts = {side: sum(v.verdict == "right" for v in verdicts) for side, verdicts in sides.items()}
    return f"{len(rows)} models: " + ", ".join(f"{count} right {side}" for side, count in counts.items())


def _cell(verdict: models.Verdict) -> str:
    word = f"**{verdict.verdict}**" if verdict.verdict in ("wrong", "dies") else verdict.verdict
    return f"{word}: {_escaped(verdict.why)}" if verdict.why else word


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    main()
