"""The table of commands.  Each one reads options, calls the verb of the same name, and prints.

A command's module is imported when it runs: ``--help`` and completions answer at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

import click

from dsd_ort.version import __version__


class _Where(NamedTuple):
    """The module of :mod:`dsd_ort.cli` that has a command, and the first line of its help."""

    module: str
    about: str


COMMANDS = {
    "inspect": _Where(
        "models", "Show a model's parameters, what training rewrites in it, and all that prevents training."
    ),
    "check": _Where("models", "Prove that MODEL trains: every gradient against finite differences of plain inference."),
    "dequantize": _Where("quantised", "Write the float model that a quantised MODEL stands for, which trains."),
    "fit-rates": _Where("rates", "Print a recipe whose learning rates fit MODEL and its training data, as TOML."),
    "scan": _Where("scanning", "Tell how much pruning each layer of an ONNX file, or of a run's weights, bears."),
    "prepare": _Where("runs", "Make the graphs that train MODEL, as a run folder."),
    "train": _Where("runs", "Train a prepared RUN through its phases."),
    "status": _Where("looking", "Tell how far RUN is, also while it trains elsewhere, and whether it goes well."),
    "journal": _Where("looking", "Write what RUN recorded: losses, rates and metrics by update."),
    "fsck": _Where("fsck", "Check every file of RUN, and tell what can be saved: exit status 0 if all is whole."),
    "report": _Where("reporting", "Show a run or a comparison as one page of HTML, with pictures."),
    "evaluate": _Where("models", "Measure an ONNX file, or a run's weights, on data."),
    "predict": _Where("predictions", "Write what an ONNX file, or a run's weights, say of each example."),
    "suspects": _Where(
        "suspects", "List the training examples whose labels the sparse network of RUN does not believe."
    ),
    "export": _Where("runs", "Write the model with trained weights, and verify it."),
    "verify": _Where("models", "Prove that FINAL is MODEL with other weights: exit status 0 if so, 1 if not."),
    "compare": _Where(
        "comparing", "Train MODEL with a recipe, and beside it the same budget in other ways: does pruning gain?"
    ),
    "recipes": _Where("recipes", "List the built-in recipes, or print the one called NAME, to copy and change."),
    "completion": _Where(
        "completion", "Print or install what makes SHELL complete commands, options, files, recipes and their keys."
    ),
    "doctor": _Where("doctor", "Show what there is to train with here, and what to install."),
    "demo": _Where("demo", "Train a small network on bundled digits, with wrong labels and with right ones."),
}
"""In the order in which people meet them."""


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(
            import_module(f"dsd_ort.cli.{COMMANDS[cmd_name].module}"), cmd_name.replace("-", "_")
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, where.about) for name, where in COMMANDS.items()])


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="dsd-ort")
def cli() -> None:
    """Dense-Sparse-Dense training for any exported ONNX model.

    \b
    dsd-ort demo                                    see all of it on bundled data
    dsd-ort inspect model.onnx                      what can be trained, and what prevents it
    dsd-ort check model.onnx                        proof that its gradients are right
    dsd-ort fit-rates model.onnx --data train.npz   a recipe whose learning rates fit
    dsd-ort prepare model.onnx -o run               make the training graphs
    dsd-ort train run --data train.npz              dense → sparse → dense
    dsd-ort status run                              how far it is, from another terminal
    dsd-ort fsck run                                whether its files are whole
    dsd-ort report run                              what it did, as a page with pictures
    dsd-ort suspects run --data train.npz           which of its labels are probably wrong
    dsd-ort export run -o final.onnx                the same model with better weights
    dsd-ort verify model.onnx final.onnx            proof that only weights differ
    dsd-ort compare model.onnx … -o comparison      all that, and the same budget dense only beside it
    dsd-ort doctor                                  what there is to train with here, and what to install
    """
