"""report: a run, a comparison or a scan as one page of HTML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dsd_ort.api.comparison import document
from dsd_ort.api.comparison.report import REPORT
from dsd_ort.api.page import comparison as comparison_page
from dsd_ort.api.page import layout
from dsd_ort.api.page import run as run_page
from dsd_ort.api.page import scan as scan_page
from dsd_ort.errors import RunError
from dsd_ort.graph.program import MANIFEST, open_program
from dsd_ort.run.suspects import keep

DEFAULT = "report.html"


def report(folder: str | Path, output: str | Path | None = None, *, sheets: Sequence[str | Path] = ()) -> Path:
    """Writes one HTML file with all that a run, comparison or scan has to show: opens from disk, and asks nobody.

    Reads the folder and changes nothing in it but for *output*.  Of a run: losses, metrics and rates over the updates,
    where the time went, and what became of the weights; of a comparison: its arms with their intervals, the differences
    by seed, and the verdict; of a scan: what each layer bears.

    Args:
        folder: what :func:`dsd_ort.prepare`, :func:`dsd_ort.compare` or :func:`dsd_ort.experiment` made, or the file
            ``.json`` of a scan.
        output: the file; by default ``report.html`` in *folder*, or beside the scan.
        sheets: contact sheets of suspects, as PNG or JPEG, to be shown too.

    Returns:
        Where it is.

    Raises:
        RunError: *folder* is neither, or has nothing to report yet; or the file cannot be written.
        InstallationError: matplotlib or jinja2 is missing, the extra ``report``.
    """
    layout.require_extra()
    folder = Path(folder)
    is_scan = folder.suffix == ".json" and folder.is_file()
    default = folder.with_suffix(".html") if is_scan else folder / DEFAULT
    output = default if output is None else Path(output)
    shown = [layout.sheet(Path(sheet)) for sheet in sheets]
    if is_scan:
        page = scan_page.page(folder, shown)
    elif (folder / MANIFEST).exists():
        page = run_page.page(open_program(folder), shown)
    elif (folder / document.FILE).exists() or (folder / REPORT).exists():
        page = comparison_page.page(folder, shown)
    else:
        raise RunError(
            "this is neither a run nor a comparison",
            where=str(folder),
            fix="give a folder that dsd-ort prepare or dsd-ort compare made, or the .json of dsd-ort scan",
        )
    keep(output, layout.html(page).encode("utf-8", "backslashreplace"))
    return output
