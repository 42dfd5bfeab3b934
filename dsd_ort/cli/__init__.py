"""The command line: thin commands over :mod:`dsd_ort.api`.

Exit status: 0 done; 1 the answer is no (verify); 2 wrong usage; 3 bad input, told in one message (what, where, what to
do); 130 stopped by Ctrl-C, with everything saved.
"""

from __future__ import annotations

import sys

from dsd_ort.errors import DsdError


def main() -> None:
    """Runs the command line and ends the process with its exit status."""
    from dsd_ort.cli.commands import cli

    try:
        cli()
    except DsdError as error:
        print(f"dsd-ort: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        print("\ndsd-ort: stopped", file=sys.stderr)
        sys.exit(130)
    except MemoryError:
        print("dsd-ort: out of memory\n  fix:   use a smaller batch_size", file=sys.stderr)
        sys.exit(3)
