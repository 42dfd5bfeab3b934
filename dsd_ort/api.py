"""The verbs of the project as Python functions; the command line has the same ones.

::

    import dsd_ort

    dsd_ort.prepare("model.onnx", "run", dsd_ort.Recipe.load("recipe.toml"))
    dsd_ort.train("run", "train.npz", eval_data="test.npz")
    dsd_ort.export("run", "final.onnx")
    assert dsd_ort.verify("model.onnx", "final.onnx").same
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from dsd_ort import runtime
from dsd_ort.data import open_data
from dsd_ort.errors import DataError, DsdError, RecipeError, RunError
from dsd_ort.graph import artifacts, inspection
from dsd_ort.graph import export as export_files
from dsd_ort.graph import source as source_files
from dsd_ort.graph import verify as verify_files
from dsd_ort.graph.inference import write_inference_form
from dsd_ort.graph.inspection import Inspection
from dsd_ort.graph.prepare import evaluation, prepare
from dsd_ort.graph.program import Program, open_program
from dsd_ort.graph.verify import Verdict
from dsd_ort.proof import Report, Request, child
from dsd_ort.recipe import BUILTIN, LossName, Recipe
from dsd_ort.run import checkpoint
from dsd_ort.run.arena import Arena
from dsd_ort.run.evaluate import Evaluator
from dsd_ort.run.journal import Event, Journal, read
from dsd_ort.run.lock import locked
from dsd_ort.run.phases import Trainer, new_arena, weights_file

__all__ = ["check", "default_recipe", "evaluate", "export", "inspect", "phases", "prepare", "train", "verify"]


def inspect(model: str | Path, *, output: str | None = None) -> Inspection:
    """What an ONNX file holds and what training makes of it: parameters, rewrites, and what prevents training.

    Needs no data, writes nothing, and reads no weights.

    Args:
        model: an ONNX file, or a training graph of ONNX Runtime's (its folder, or its training_model.onnx); one that
            cannot be trained is inspected too, and its ``refusals`` say why.
        output: the output that the loss reads; by default the one that most weights lead to.

    Raises:
        ModelError: the file cannot be read.
        RecipeError: the model has no such output.
    """
    return inspection.inspect(model, default_recipe(), output=output)


def check(
    model: str | Path,
    recipe: Recipe | None = None,
    *,
    loss: LossName | None = None,
    output: str | None = None,
    data: Any = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seconds: float = 60.0,
    thorough: bool = False,
    threads: int = 0,
    isolate: bool = True,
    listener: Callable[[str], None] = lambda text: None,
) -> Report:
    """Proves that a model trains: each gradient against finite differences of its loss in plain inference.

    A sparse step and the exported file are checked too.  Nothing is written but temporary files.

    Args:
        model: an ONNX file, or a training graph of ONNX Runtime's, which is checked with its own loss.
        recipe: by default the default recipe, with a loss that fits the output.
        loss: without a recipe, the kind of loss.
        output: without a recipe, the output that the loss reads; by default the one that most weights lead to.
        data: see :func:`train`; by default input is made up from the model's signature.
        shapes: input → shape, for input that is made up.
        seconds: about what the check may take: more tensors are then checked together, and what is left is not checked.
        thorough: every tensor for itself, however long it takes.
        threads: of ONNX Runtime; 0 means one a core.
        isolate: in a process of its own, as native code may end it; *data* is then a path or ``"module:function"``.
        listener: is told what is being done.

    Returns:
        The report; ``.ok`` is the answer.

    Raises:
        ModelError, UnsupportedError, RecipeError: the model cannot be trained so; ``.causes`` has all reasons.
        DataError: no made-up input runs, or the data does not fit.
        NativeError: ONNX Runtime ended the process.
    """
    runtime.require_training_build()
    if recipe is not None and (loss or output):
        raise RecipeError(
            "loss and output are given beside a recipe that has its own", fix="set them in the recipe, or leave it out"
        )
    by_name = data is None or isinstance(data, (str, Path))
    if isolate and not by_name:
        raise DataError(
            "Python objects cannot be handed to the process that the check runs in",
            fix='give a path or "module:function", or isolate=False',
        )
    request = Request(
        model=str(model),
        recipe=(recipe or default_recipe(model)).to_dict(),
        fit=recipe is None,
        loss=loss,
        output=output,
        data=str(data) if data is not None and by_name else None,
        shapes={name: tuple(shape) for name, shape in (shapes or {}).items()},
        seconds=seconds,
        thorough=thorough,
        threads=threads,
    )
    if isolate:
        return child.run(request, listener)
    from dsd_ort.proof import prove

    return prove.run(request, listener, None if by_name else data)


def train(
    run: str | Path,
    data: Any,
    *,
    eval_data: Any = None,
    resume: bool = False,
    device: str = "auto",
    threads: int = 0,
    checkpoint_seconds: float = 300.0,
    listener: Callable[[Event], None] = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Event]:
    """Trains a prepared run: all phases, or with *resume* what is left of them.

    Args:
        run: the folder that :func:`prepare` made.
        data: what :func:`dsd_ort.data.open_data` takes: a path, ``"module:function"``, arrays by name.
        eval_data: likewise; evaluated after each epoch.
        resume: go on from the last checkpoint.
        device: ``"auto"`` or ``"cpu"``.
        threads: of ONNX Runtime; 0 means one a core.
        checkpoint_seconds: the longest time between two checkpoints.
        listener: is told every event, see :mod:`dsd_ort.run.journal`.
        stop: asked after each update; on yes the state is saved and :class:`dsd_ort.run.phases.Stopped` raised.

    Returns:
        The ``phase-end`` events: metrics, density and seconds of each phase.

    Raises:
        RunError: *run* is no run folder, or is in another state than *resume* says.
        DataError: the data does not fit the model.
        DivergedError: loss or weights became NaN or infinite.
    """
    runtime.require_training_build()
    runtime.require_device(device)
    program = open_program(run)
    recipe, manifest = program.recipe, program.manifest
    fields = [*manifest.inputs, *manifest.labels]
    train_data = open_data(data, fields, recipe.data)
    held_out = open_data(eval_data, fields, recipe.data) if eval_data is not None else None
    with locked(program.folder), closing(Journal(program.folder, listener)) as journal:
        for opened, name in ((train_data, "data"), (held_out, "eval-data")):
            for note in opened.notes if opened else ():
                journal.tell({"event": "note", "text": f"{name}: {note}"})
        Trainer(
            program,
            train_data,
            held_out,
            journal,
            stop=stop,
            checkpoint_seconds=checkpoint_seconds,
            threads=threads,
        ).run(resume=resume)
    return phases(run)


def phases(run: str | Path) -> list[Event]:
    """The ``phase-end`` events of a run so far."""
    return [event for event in read(Path(run)) if event["event"] == "phase-end"]


def evaluate(
    model: str | Path,
    data: Any,
    recipe: Recipe | None = None,
    *,
    phase: int | None = None,
    best: bool = False,
    threads: int = 0,
) -> dict[str, float]:
    """Metrics of an ONNX file, or of a run's weights, over *data*.

    Args:
        model: an ONNX file or a run folder.
        data: see :func:`train`.
        recipe: loss, metrics, batch size and data section, for a file; a run has its own.
        phase: of a run, from 1; by default the last one that is complete.
        best: take that phase's best epoch.
        threads: of ONNX Runtime; 0 means one a core.

    Raises:
        ModelError, RunError, DataError: see :func:`train`.
    """
    runtime.require_training_build()
    if Path(model).is_dir():
        program = open_program(model)
        recipe, manifest = program.recipe, program.manifest
        weights: dict[str, npt.NDArray[np.float32]] = _weights(program, phase, best, sparse=False).values()
        evaluator = Evaluator.of_program(program, weights, threads=threads)
        fields = [*manifest.inputs, *manifest.labels]
    else:
        source = source_files.load(model)
        recipe = recipe or default_recipe()
        parts = evaluation(source, recipe)
        weights = {p.name: source.value(p.name) for p in (*source.parameters, *source.statistics)}
        evaluator = Evaluator(
            parts.graph, weights, outputs=parts.outputs, loss=parts.loss, recipe=recipe, threads=threads
        )
        fields = [*parts.inputs, *parts.labels]
    return evaluator(open_data(data, fields, recipe.data))


def export(
    run: str | Path, final: str | Path, *, phase: int | None = None, best: bool = False, sparse: bool = False
) -> Verdict:
    """Writes the model with trained weights and proves that nothing else changed.

    Of a run made from an exported training graph, the model is its inference model, and beside it, with the ending
    ``.checkpoint``, is its checkpoint with these weights.  Beside a model that is in training mode is its inference
    form, with the ending ``.inference.onnx``.

    Args:
        run: a trained run folder.
        final: the new file; an existing one is replaced.
        phase: whose weights, from 1; by default the last one that is complete.
        best: the weights of that phase's best epoch rather than its last.
        sparse: the last sparse phase's weights.

    Raises:
        RunError: that phase is not complete.
        DsdError: the written file does not verify, which is a defect of dsd-ort.
    """
    program = open_program(run)
    arena = _weights(program, phase, best, sparse)
    source = program.source()
    export_files.write_weights(source, arena.values(), Path(final))
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


def verify(model: str | Path, final: str | Path) -> Verdict:
    """Whether *final* is *model* with nothing changed but its weights; ``.same`` is the answer.

    Raises:
        ModelError: one of the files cannot be read.
    """
    return verify_files.verify(Path(model), Path(final))


def default_recipe(model: str | Path | None = None) -> Recipe:
    """The recipe that ``prepare`` takes where none is given; for an exported training graph, with its own optimizer.

    Raises:
        ModelError: the training graph lacks files.
    """
    recipe = Recipe.load(BUILTIN / "default.toml")
    exported = artifacts.find(model) if model is not None else None
    optimizer = artifacts.optimizer(exported) if exported is not None else None
    return recipe if optimizer is None else msgspec.structs.replace(recipe, optimizer=optimizer)


def _weights(program: Program, phase: int | None, best: bool, sparse: bool) -> Arena:
    """The arena with the weights of a phase."""
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
    arena = new_arena(program)
    path = weights_file(program.folder, phase - 1, kinds[phase - 1], ".best" if best else "")
    checkpoint.load(path, arena, program.digest)
    return arena
