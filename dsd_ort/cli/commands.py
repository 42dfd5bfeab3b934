"""The table of commands.  Each one reads options, calls the verb of the same name, and prints."""

from __future__ import annotations

import click

from dsd_ort.cli.comparing import compare
from dsd_ort.cli.demo import demo
from dsd_ort.cli.doctor import doctor
from dsd_ort.cli.models import check, evaluate, inspect, verify
from dsd_ort.cli.rates import fit_rates
from dsd_ort.cli.recipes import recipes
from dsd_ort.cli.runs import export, prepare, train
from dsd_ort.cli.suspects import suspects
from dsd_ort.version import __version__


class _Group(click.Group):
    """Keeps the order in which people meet the commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


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
    dsd-ort suspects run --data train.npz           which of its labels are probably wrong
    dsd-ort export run -o final.onnx                the same model with better weights
    dsd-ort verify model.onnx final.onnx            proof that only weights differ
    dsd-ort compare model.onnx … -o comparison      all that, and the same budget dense only beside it
    dsd-ort doctor                                  what there is to train with here, and what to install
    """


_FILES = (inspect, check, fit_rates, prepare)
_RUNS = (train, evaluate, suspects, export, verify, compare)
for _command in (*_FILES, *_RUNS, recipes, doctor, demo):
    cli.add_command(_command)
