"""The documentation as a site: what ``mkdocs.yml`` calls while it builds (``make docs``), as hooks of MkDocs.

The pages of ``docs/`` are taken as they are; those of the reference are made here, from the code.
"""

from __future__ import annotations

from typing import Any

from tools.maintenance.reference import PAGES


def on_files(files: Any, config: Any) -> Any:
    """Puts the pages of the reference among those that MkDocs found."""
    from mkdocs.structure.files import File

    for path, page in PAGES.items():
        files.append(File.generated(config, path, content=page()))
    return files
