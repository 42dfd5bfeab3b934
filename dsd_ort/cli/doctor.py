"""``dsd-ort doctor``: what there is to train with here, and what to install."""

from __future__ import annotations

import json
import sys

import click

from dsd_ort import api
from dsd_ort.cli.columns import show
from dsd_ort.cli.options import as_json
from dsd_ort.cli.say import say


@click.command()
@as_json
def doctor(json_: bool) -> None:
    """Show what there is to train with here, and what to install.

    That is ONNX Runtime, CUDA's driver, devices and libraries, and what connects several processes.

    Exit status 0 if runs can be trained here, on whatever device, 1 if not.

    \b
    Examples:
        dsd-ort doctor
        dsd-ort doctor --json
    """
    found = api.doctor()
    if json_:
        click.echo(json.dumps(found.to_dict(), indent=1))
    else:
        _show(found)
    sys.exit(0 if found.trains else 1)


def _show(found: api.Diagnosis) -> None:
    runtimes = ", ".join(f"{name} {version}" for name, version in found.distributions.items()) or "missing"
    if found.trains:
        runtimes += ": prepares and trains" + (", with kernels for training" if found.training_build else "")
    serves = f"{found.driver}, serves CUDA up to {found.driver_serves}" if found.driver else "none that works"
    rows = [
        ["dsd-ort", found.dsd_ort],
        ["Python", found.python],
        ["ONNX Runtime", runtimes],
        ["providers", ", ".join(found.providers) or "unknown"],
        ["CUDA it takes", found.cuda or "none"],
        ["NVIDIA driver", serves],
    ]
    for gpu in found.gpus:
        free = "" if gpu.free is None else f" ({_gib(gpu.free)} free)"
        rows.append([gpu.device, f"{gpu.name}, {_gib(gpu.memory)}{free}, compute capability {gpu.capability}"])
    rows += [
        [library.file, library.path or ("MISSING" if library.required else "missing, seldom needed")]
        for library in found.libraries
    ]
    through = f"gradients go through the host's memory and {found.mpi}" if found.mpi else 'not without "dsd-ort[mpi]"'
    rows.append(["several processes", through])
    rows.append(["--device auto", found.why.removeprefix("auto: ")])
    show("", {"what": "left", "found": "left"}, rows)
    for advice in found.advice:
        say(f"{advice.goal}: {advice.what}" + (f" ({advice.where})" if advice.where else ""))
        say(f"  {advice.fix}")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
