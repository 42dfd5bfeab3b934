"""What is done with a run folder: train, export."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec

from dsd_ort import runtime
from dsd_ort.api.tensorboard import EventFiles
from dsd_ort.data import Dataset, Field, open_data
from dsd_ort.errors import DsdError, RunError
from dsd_ort.graph.inference import write_inference_form
from dsd_ort.graph.program import Program, open_program
from dsd_ort.model import artifacts
from dsd_ort.recipe import Recipe
from dsd_ort.run import checkpoint, keeping, outlook
from dsd_ort.run.arena import Arena
from dsd_ort.run.epoch import in_parts, updates_of_phase
from dsd_ort.run.examples import Examples
from dsd_ort.run.execution import Execution, OnNaN, Precision
from dsd_ort.run.health import Watch
from dsd_ort.run.journal import AS_IT_CAME, Event, Journal, Silent, damage, read
from dsd_ort.run.lock import locked
from dsd_ort.run.outlook import Outlook
from dsd_ort.run.phases import Trainer
from dsd_ort.run.position import Position
from dsd_ort.run.ranks import Ranks, device_of_a_rank, refuse_what_differs, threads_of_a_rank, together
from dsd_ort.run.suspects import weights_of
from dsd_ort.ship import export as export_files
from dsd_ort.ship import verify as verify_files
from dsd_ort.ship.verify import Verdict
from dsd_ort.version import __version__


def train(
    run: str | Path,
    data: Any,
    *,
    eval_data: Any = None,
    without: str | Path | None = None,
    resume: bool = False,
    until: int | None = None,
    device: str = "auto",
    threads: int = 0,
    precision: Precision | None = None,
    cuda_graphs: bool = True,
    deterministic: bool = False,
    micro_batch: int | None = None,
    checkpoint_seconds: float = 300.0,
    keep_checkpoints: int = 1,
    on_nan: OnNaN | None = None,
    measure_first: bool = True,
    tensorboard: str | Path | None = None,
    listener: Callable[[Event], None] = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Event]:
    """Trains a prepared run: all phases, or with *resume* what is left of them.

    Started by ``mpirun`` or ``srun``, the processes share the batches of each update and end with the bytes of one; an
    error of one of them is raised by all.

    Args:
        run: the folder that :func:`prepare` made.
        data: what :func:`dsd_ort.data.open_data` takes: a path, ``"module:function"``, arrays by name.
        eval_data: likewise; evaluated before the first step and after each epoch.
        without: a CSV that names examples of *data* which are left out, see :mod:`dsd_ort.data.subset`; in place of the
            recipe's list.  The run folder gets a copy, so that it is not needed again.
        resume: go on from the last checkpoint.
        until: the phase to end after, from 1; by default the last.  What is left, *resume* does.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` for the second one, or ``"auto"``, see
            :func:`dsd_ort.runtime.choose_device`; what it chose is told in a note.
        threads: of ONNX Runtime; 0 means one a core, and the ranks of one machine share them.
        precision: see :class:`dsd_ort.run.execution.Execution`; by default ``"fp32"``, and with *resume* what it was.
        cuda_graphs: whether CUDA records what it runs, and replays it.
        deterministic: whether only what repeats to the bit is used.
        micro_batch: batches of this size, as many an update as make up the examples of the recipe's; by default its
            ``batch_size``, and with *resume* what it was.
        checkpoint_seconds: the longest time between two checkpoints.
        keep_checkpoints: how many of them stay; with 2, a damaged one costs what was done since the one before.
        on_nan: what becomes of an update that is not finite: ``"stop"`` ends the training, ``"skip"`` leaves it out and
            counts it, up to twenty in a row; by default ``"stop"``, and with *resume* what it was.
        measure_first: whether the model as it came is evaluated too, where there is *eval_data*.
        tensorboard: a folder for event files of TensorBoard, see :mod:`dsd_ort.api.tensorboard`.
        listener: is told every event as a dict, see :mod:`dsd_ort.run.journal` for what is in which.
        stop: asked after each update; on yes the state is saved and :class:`dsd_ort.run.phases.Stopped` raised.

    Returns:
        The ``phase-end`` events: metrics, density and seconds of each phase.

    Raises:
        RunError: *run* is no run folder, or is in another state than *resume* says.
        DataError: the data does not fit the model.
        DivergedError: loss or weights became NaN or infinite.
        InstallationError: ONNX Runtime cannot train, or not on the device that was asked for, or what *tensorboard*
            takes is missing.
    """
    with together() as ranks:
        runtime.require_runtime()
        chosen = device_of_a_rank(device, ranks)
        program = open_program(run)
        threads = threads or threads_of_a_rank(ranks)
        recipe, manifest, first = program.recipe, program.manifest, ranks.rank == 0
        fields = [*manifest.inputs, *manifest.labels]
        listed = None if without is None else Path(without)
        examples = Examples(program, _opened(data, fields, recipe), listed, writes=first)
        held_out = _opened(eval_data, fields, recipe) if eval_data is not None else None
        if ranks.size > 1:
            same = {"run folder": program.digest, "data": examples.left.digest}
            same |= {"evaluation data": held_out.digest} if held_out is not None else {}
            refuse_what_differs(ranks, **{"version of dsd-ort": __version__}, **same, threads=threads)
        told = list[str]()
        with ExitStack() as stack:
            listeners = [listener]
            if first:
                stack.enter_context(locked(program.folder, told.append))
                told += _put_in_order(program, resume=resume)
            ranks.gather(None)  # what the first put in order, the others read
            was = checkpoint.chosen(program) if resume else checkpoint.Chosen()
            execution = Execution(
                chosen,
                threads,
                precision or was.get("precision", "fp32"),
                cuda_graphs,
                deterministic,
                on_nan or was.get("on_nan", "stop"),
            )
            if first and tensorboard is not None:
                listeners.append(stack.enter_context(closing(EventFiles(Path(tensorboard)))))
            journal = Journal(program.folder, *listeners) if first else Silent(program.folder)
            stack.enter_context(closing(journal))
            journal.listeners = (*journal.listeners, Watch(journal.tell))
            for text in (*told, *_notes(execution, ranks)):
                journal.tell({"event": "note", "text": text})
            for opened, name in ((examples.left, "data"), (held_out, "eval-data")):
                for note in opened.notes if opened else ():
                    journal.tell({"event": "note", "text": f"{name}: {note}"})
            journal.tell(outlook.needs(program))
            parts = in_parts(recipe, micro_batch)
            updates = [updates_of_phase(parts, examples.left, phase, Position()) for phase in recipe.phase]
            journal.listeners = (*journal.listeners, Outlook(updates, until, journal.tell))
            ranks.gather(None)  # before the first writes, all have read
            Trainer(
                program,
                examples,
                held_out,
                journal,
                stop=stop,
                checkpoint_seconds=checkpoint_seconds,
                keep_checkpoints=keep_checkpoints,
                measure_first=measure_first,
                execution=execution,
                ranks=ranks,
                micro_batch=micro_batch or was.get("batch_size"),
            ).run(resume=resume, until=until)
    return phases(run)


OLDER = "the run was prepared by an earlier version, whose manifests have no digest: damage of it may go unseen"
"""A note on a run folder of before there were digests of all files."""


def _put_in_order(program: Program, *, resume: bool) -> list[str]:
    """Removes what is half-written, and sets a damaged checkpoint aside; notes on what was done, and on damage."""
    told = [] if program.manifest.digest is not msgspec.UNSET else [OLDER]
    if left := keeping.remove_left(program.folder):
        told.append(f"removed what a process that was killed left half-written: {', '.join(left)}")
    if resume:
        checkpoint.set_aside(program, told.append)
    damaged = damage(read(program.folder))
    return [*told, damaged] if damaged else told


def _notes(execution: Execution, ranks: Ranks) -> list[str]:
    """What people should know of how a run is executed."""
    device = [f"device {execution.device.why}"] if execution.device.had_choice else []
    several = [f"{ranks.size} ranks, {execution.threads} threads each, share the batches of each update"]
    return device + execution.notes() + (several if ranks.size > 1 else [])


def _opened(data: Any, fields: Sequence[Field], recipe: Recipe) -> Dataset:
    """*data*, which may be open already: then it fits these fields."""
    return data if isinstance(data, Dataset) else open_data(data, fields, recipe.data)


def phases(run: str | Path) -> list[Event]:
    """The ``phase-end`` events of a run so far."""
    return [event for event in read(Path(run)) if event["event"] == "phase-end"]


def as_it_came(run: str | Path) -> dict[str, float]:
    """What the model of a run measured before the first step; empty where it was not measured."""
    measured = (event for event in read(Path(run)) if event["event"] == "measured" and event["name"] == AS_IT_CAME)
    found: dict[str, float] = next(measured, {"metrics": {}})["metrics"]
    return found


def export(
    run: str | Path, final: str | Path, *, phase: int | None = None, best: bool = False, sparse: bool = False
) -> Verdict:
    """Writes the model with trained weights and proves that nothing else changed.

    Beside it is a file that says how it is used (:mod:`dsd_ort.model.usage`), ``final.toml`` beside ``final.onnx``,
    which other verbs take up.  Of a run made from an exported training graph, the model is its inference model, and
    beside it, with the ending ``.checkpoint``, is its checkpoint with these weights.  Beside a model that is in
    training mode is its inference form, with the ending ``.inference.onnx``.

    Args:
        run: a trained run folder.
        final: the new file; an existing one is replaced.
        phase: whose weights, from 1; by default the last one that is complete.
        best: the weights of that phase's best epoch rather than its last.
        sparse: the last sparse phase's weights.

    Raises:
        RunError: that phase is not complete, or somebody else's ``final.toml`` is there.
        DsdError: the written file does not verify, which is a defect of dsd-ort.
    """
    program = open_program(run)
    arena = weights_at(program, phase, best, sparse)
    source = program.source()
    export_files.write_weights(source, arena.moving(), Path(final), recipe=program.recipe)
    program.refuse_other_artifacts()
    if (exported := artifacts.find(program.artifacts)) is not None:
        artifacts.write_checkpoint(exported, arena.values(), Path(final).with_suffix(".checkpoint"))
    write_inference_form(Path(final))
    verdict = verify_files.verify(program.source_path, Path(final))
    if not verdict.same:
        raise DsdError(
            "the exported file differs from the model in more than weights: " + "; ".join(verdict.reasons),
            where=str(final),
            fix="this is a defect of dsd-ort: please report it with the model",
        )
    return verdict


def ships_sparse(run: str | Path, *, phase: int | None = None, sparse: bool = False) -> bool:
    """Whether the phase that :func:`export` would take is a sparse one."""
    program = open_program(run)
    return program.recipe.phase[chosen_phase(program, phase, sparse=sparse) - 1].kind == "sparse"


def weights_at(program: Program, phase: int | None, best: bool, sparse: bool) -> Arena:
    """The arena with the weights of a phase."""
    return weights_of(program, chosen_phase(program, phase, sparse=sparse), best=best)


def chosen_phase(program: Program, phase: int | None, *, sparse: bool) -> int:
    """The number of a phase, from 1: *phase*, or the last one that is complete, of the sparse ones if *sparse*.

    Raises:
        RunError: there is none.
    """
    kinds = [p.kind for p in program.recipe.phase]
    done = [e["phase"] for e in phases(program.folder)]
    if phase is None:
        done = [p for p in done if kinds[p - 1] == "sparse"] if sparse else done
        if not done:
            raise RunError(
                f"no {'sparse ' if sparse else ''}phase of the run is complete",
                where=str(program.folder),
                fix=f"dsd-ort train {program.folder} --data DATA   (with --resume if it was interrupted)",
            )
        phase = done[-1]
    if not 1 <= phase <= len(kinds):
        raise RunError(f"there is no phase {phase}", where=str(program.folder), fix=f"give 1 to {len(kinds)}")
    return phase
