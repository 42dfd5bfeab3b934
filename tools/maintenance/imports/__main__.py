"""The command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import tools.maintenance.imports as package
from tools.maintenance.imports.graph import read
from tools.maintenance.imports.picture import draw

ROOT = Path(__file__).resolve().parents[3]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 1 if an arrow does not go downwards, otherwise 0."""
    parser = argparse.ArgumentParser(
        "tools.maintenance.imports", description=package.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the picture, as SVG")
    parser.add_argument("--root", type=Path, default=ROOT, metavar="FOLDER", help="with pyproject.toml (this one's)")
    given = parser.parse_args(arguments)
    imports = read(given.root)
    given.output.write_text(draw(imports), "utf-8")
    for importer, imported in sorted(imports.wrong):
        print(f"{importer} imports {imported}, which is not on a lower layer")
    return 1 if imports.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
