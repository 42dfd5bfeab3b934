"""``python tools/gpu_check.py`` is ``python -m tools.gpu_check``: see there, or with --help."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # in which the package comes before this file
    runpy.run_module("tools.gpu_check", run_name="__main__", alter_sys=True)
