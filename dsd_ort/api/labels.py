"""What is done about labels: which examples a run's sparse network does not believe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from dsd_ort import runtime
from dsd_ort.data import Counted, contact_sheet, counted, open_data
from dsd_ort.errors import DataError, RunError
from dsd_ort.graph.program import Program, open_program
from dsd_ort.run import suspects as finding
from dsd_ort.run.execution import Execution
from dsd_ort.run.journal import read
from dsd_ort.run.suspects import Suspect

TILES = 100
"""The suspects on a contact sheet, at most: the first ones."""


@dataclass(frozen=True)
class Suspects:
    """What :func:`suspects` found."""

    phase: int
    """The sparse phase, from 1, whose network does not believe them."""
    examples: int
    """How many were looked at: all of the data."""
    found: tuple[Suspect, ...]
    """The most suspicious first."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        return {"phase": self.phase, "examples": self.examples, "suspects": msgspec.to_builtins(self.found)}


def suspects(
    run: str | Path,
    data: Any,
    *,
    phase: int | None = None,
    output: str | Path | None = None,
    sheet: str | Path | None = None,
    device: str = "auto",
    threads: int = 0,
) -> Suspects:
    """The training examples whose labels are probably wrong: those that a run's sparse network does not believe.

    A network that is sparse enough cannot learn wrong labels by heart.  Hard examples are suspects too, and so is what
    a sparse network is too small for: look before you leave them out.

    Args:
        run: a run folder whose sparse phase is complete.
        data: what it was trained on, see :func:`train`; examples that it left out are looked at too.
        phase: which sparse phase's network, from 1, at its end; by default the last one's.
        output: where the list goes as CSV, which ``train(without=…)`` takes.
        sheet: where a PNG file goes, with the pictures of the first of them.
        device: see :func:`train`.
        threads: of ONNX Runtime; 0 means one a core.

    Raises:
        RunError: the run has no sparse phase, or it is not complete, or has no labels.
        DataError: the data does not fit the model, has another size than what the run was trained on, or has no numbers
            (a stream), or no pictures for a sheet.
        InstallationError: a sheet without Pillow.
    """
    runtime.require_runtime()
    program = open_program(run)
    finding.refuse_values(program.recipe, str(program.folder))
    number = _sparse_phase(program, phase)
    opened = counted(open_data(data, [*program.manifest.inputs, *program.manifest.labels], program.recipe.data))
    _refuse_another_size(program, opened)
    if sheet is not None:
        contact_sheet.refuse_without_pictures(opened, Path(sheet))
    execution = Execution(runtime.choose_device(device), threads)
    found = finding.find(program, number, opened, execution=execution)
    if output is not None:
        finding.write(Path(output), found, opened)
    if sheet is not None:
        first = found[:TILES]
        captions = [f"{suspect.index}: {suspect.given} -> {suspect.believed}" for suspect in first]
        contact_sheet.write(Path(sheet), opened, [s.index for s in first], captions, program.recipe.data)
    return Suspects(number, opened.examples, tuple(found))


def _sparse_phase(program: Program, phase: int | None) -> int:
    """*phase*, or the last sparse one of the recipe, which is complete."""
    folder, phases = str(program.folder), program.recipe.phase
    sparse = [number for number, each in enumerate(phases, 1) if each.kind == "sparse"]
    if not sparse:
        fix = "train one with a sparse phase: dsd-ort recipes shows some"
        raise RunError("the run has no sparse phase, so no network that could doubt a label", where=folder, fix=fix)
    chosen = sparse[-1] if phase is None else phase
    if chosen not in sparse:
        fix = f"give {' or '.join(map(str, sparse))}"
        raise RunError(f"phase {chosen} of the run is no sparse one", where=folder, fix=fix)
    done = {event["phase"] for event in read(program.folder) if event["event"] == "phase-end"}
    if chosen not in done:
        earlier = [number for number in sparse if number in done]
        fix = f"dsd-ort train {folder} --data DATA   (with --resume if it was interrupted)"
        fix += f", or take --phase {earlier[-1]}" if earlier else ""
        raise RunError(f"the sparse phase {chosen} of the run is not complete", where=folder, fix=fix)
    return chosen


def _refuse_another_size(program: Program, data: Counted) -> None:
    """Runs of earlier versions do not say how many examples they were trained on."""
    sizes = [event["examples"] for event in read(program.folder) if event["event"] == "data"]
    if sizes and sizes[0] != data.examples:
        raise DataError(
            f"the run was trained on {sizes[0]:,} examples, and this has {data.examples:,}",
            where=data.where,
            fix="give the data that the run was trained on",
        )
