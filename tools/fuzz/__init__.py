"""Files that are almost right, through the command line: what it does with them.

    python -m tools.fuzz --models 20000 --recipes 5000 --data 5000 --seed 1 --json docs/fuzz.json

A *case* is a kind and a number: both, with the seed, decide all bytes of it, so a case that failed is made again by
``--only models:4711``.  A case's files are written into a folder of its own, commands of dsd-ort run on them in a child
process whose memory is limited, and each must end with an answer or one message: no signal, no traceback, no more than
:data:`~tools.fuzz.trial.SECONDS` of processor time, and nothing written outside of the folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

from tools.fuzz import data, models, recipes

KINDS: dict[str, Callable[[Path, Random], tuple[str, list[tuple[str, ...]]]]] = {
    "models": models.make,
    "recipes": recipes.make,
    "data": data.make,
}
"""Kind → what writes a case of it into a folder: what was done to what, and the commands to run there."""
