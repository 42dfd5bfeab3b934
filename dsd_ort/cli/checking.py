"""What ``check`` says of a model's gradients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dsd_ort.cli.columns import show
from dsd_ort.cli.say import say

if TYPE_CHECKING:  # what is shown is imported by what makes it
    from dsd_ort.proof.report import Report, Row

REPORT_COLUMNS = {
    "gradient": "left",
    "batch norm": "left",
    "tensors": "right",
    "‖gradient‖": "right",
    "error": "right",
    "reference": "left",
    "verdict": "left",
}


ANSWERS = {"trains": "trains", "does not": "does NOT train", "not proven": "is NOT proven to train"}


def show_report(report: Report, *, verbose: bool = False) -> None:
    """The answer; a table of the gradients that are not right, or, if *verbose*, of all; and what else there is."""
    found = ", ".join(f"{count} {verdict}" for verdict, count in report.counts.items() if count)
    say(f"{Path(report.model).name} {ANSWERS[report.answer]}: {found} gradients, {report.seconds:.0f} s")
    if report.answer == "not proven":
        say("  what would decide: more --seconds, or --thorough; other input, as --data or --shape")
    shown = [row for row in report.rows if verbose or not row.proven]
    rows = [
        [
            row.group,
            "running" if row.mode == "inference" else "of the batch",
            str(len(row.tensors)),
            f"{row.norm:.2e}",
            f"{row.error:.0e}",
            row.reference,
            row.verdict.upper() if row.verdict == "wrong" else row.verdict + (f" ({row.note})" if row.note else ""),
        ]
        for row in shown
    ]
    if rows:
        show(f"{Path(report.model).name}: gradients, error relative to ‖gradient‖", REPORT_COLUMNS, rows)
    if rest := [row for row in report.rows if row.proven and not verbose]:
        count, worst = sum(len(row.tensors) for row in rest), max(row.error for row in rest)
        by = ", ".join(dict.fromkeys(row.reference for row in rest))
        say(f"ok    {count} gradients: within {worst:.0e} of the slopes of the loss, by {by}")
        for note, tensors in _by_note(rest).items():
            say(f"      {tensors} of them {note}")
    for line in report.lines:
        say(f"{'ok   ' if line.passed else 'WRONG'} {line.what}: {line.text}")
    inputs = ", ".join(f"{name} {what}" for name, what in report.inputs.items())
    say(f"{report.loss} at output {report.output!r}; {report.data}: {inputs}")
    for note in report.notes:
        say(f"note: {note}")


def _by_note(rows: Sequence[Row]) -> dict[str, int]:
    """What is said of gradients → of how many."""
    found: Counter[str] = Counter()
    for row in rows:
        found[row.note] += len(row.tensors) if row.note else 0
    return {note: count for note, count in found.items() if note}
