"""Does a change of the code leave what it makes as it was?  Digests of prepared graphs and of exported files.

The small siblings of the paper's networks (``tests/stock/siblings.py``) and the demo's network are prepared, trained
dense, sparse, dense on one thread and exported; graphs and exported files are digested, file by
file.  Two revisions that do the same have the same digests on one machine::

    git worktree add /tmp/before REVISION
    cd /tmp/before && python -m tools.maintenance.snapshot before.json     # with the same environment
    python -m tools.maintenance.snapshot after.json --against /tmp/before/before.json

Exit status 1 where something differs.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from importlib.resources import files
from pathlib import Path

import click
import onnx

import dsd_ort
from tests.stock import siblings

THREADS = 1
"""Sums of several threads may come in another order on another machine, but not in another revision; one is safe."""
COMPARED = ("run/graphs/*.onnx", "final.onnx")
DEMO = Path(str(files("dsd_ort.demo")))


def _of_network(name: str, folder: Path) -> None:
    siblings.prepare(name, folder)
    (folder / name).rename(folder / "run")
    dsd_ort.train(folder / "run", siblings.data(name), threads=THREADS)


def _of_demo(folder: Path) -> None:
    recipe = dsd_ort.Recipe.load(DEMO / "digits.toml")
    dsd_ort.prepare(DEMO / "digits_mlp.onnx", folder / "run", recipe)
    dsd_ort.train(folder / "run", DEMO / "digits-train.npz", threads=THREADS)


def digests() -> dict[str, str]:
    """``NETWORK/FILE`` → sha256 of what this revision makes."""
    found = {}
    for name in (*siblings.SIBLINGS, "demo"):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            _of_demo(folder) if name == "demo" else _of_network(name, folder)
            dsd_ort.export(folder / "run", folder / "final.onnx")
            for file in sorted(path for pattern in COMPARED for path in folder.glob(pattern)):
                key = f"{name}/{file.relative_to(folder).as_posix()}"
                found[key] = hashlib.sha256(_content(file)).hexdigest()
        click.echo(f"{name}: done", err=True)
    return found


def _content(file: Path) -> bytes:
    """What is compared of a file: all of what ships, and of a graph all but what it notes of values in between."""
    if file.name == "final.onnx":
        return file.read_bytes()
    model = onnx.load(file)
    del model.graph.value_info[:]
    return model.SerializeToString(deterministic=True)


@click.command(help=__doc__)
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--against", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="What another one wrote.")
def main(output: Path, against: Path | None) -> None:
    found = digests()
    output.write_text(json.dumps(found, indent=1) + "\n")
    if against is None:
        return
    before = json.loads(against.read_text())
    differing = [key for key in before.keys() | found.keys() if before.get(key) != found.get(key)]
    for key in sorted(differing):
        click.echo(f"differs: {key}")
    click.echo(f"{len(found) - len(differing)} of {len(found)} files are equal")
    raise SystemExit(1 if differing else 0)


if __name__ == "__main__":
    main()
