"""What a page is made of, and the one place where it becomes HTML: jinja2 escapes all that is no picture of ours."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from dsd_ort.errors import InstallationError, RunError
from dsd_ort.notes import plain
from dsd_ort.version import __version__

EXTRA = 'pip install "dsd-ort[report]"'
_IMAGES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


@dataclass(frozen=True)
class Picture:
    """A drawing, and the same in words for those who do not see it."""

    title: str
    text: str
    svg: str
    """Markup of :mod:`~dsd_ort.api.page.draw`, which has escaped the names in it; it is not escaped again."""
    size: Literal["half", "third", "wide"] = "half"
    """How much of a wide page it takes."""


@dataclass(frozen=True)
class Sheet:
    """A bitmap from a file."""

    title: str
    text: str
    data: str
    """A data URL."""


@dataclass(frozen=True)
class Table:
    """Rows under headings; the first cell of a row is its heading."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False
    """Whether it is shown on demand."""


@dataclass(frozen=True)
class Facts:
    """Names and what there is to say of each."""

    title: str
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Folded:
    """Pictures that are shown on demand."""

    title: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Source:
    """Text as it stands in a file."""

    title: str
    text: str


Part: TypeAlias = "Picture | Sheet | Table | Facts | Folded | Source"


@dataclass(frozen=True)
class Section:
    """A heading, what there is to say in words, and what shows it."""

    title: str
    words: Sequence[str] = ()
    """Paragraphs."""
    points: Sequence[str] = ()
    """A list."""
    parts: Sequence[Part] = ()

    @property
    def groups(self) -> list[tuple[str, list[Part]]]:
        """Neighbours of a kind together: pictures of a size stand side by side."""
        found: list[tuple[str, list[Part]]] = []
        for part in self.parts:
            kind = f"pictures {part.size}" if isinstance(part, Picture) else type(part).__name__
            if found and found[-1][0] == kind:
                found[-1][1].append(part)
            else:
                found.append((kind, [part]))
        return found


@dataclass(frozen=True)
class Figure:
    """A number that is read first."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Page:
    """All of it."""

    title: str
    subtitle: str
    figures: Sequence[Figure] = ()
    sections: Sequence[Section] = field(default_factory=tuple)


def require_extra() -> None:
    """Raises InstallationError where what draws or lays out is missing."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        what = f"a report is drawn by matplotlib and laid out by jinja2, and {error.name} is not installed"
        raise InstallationError(what, fix=EXTRA) from error


def sheet(path: Path) -> Sheet:
    """A contact sheet of suspects, or another bitmap.

    Raises:
        RunError: it cannot be read, or is no PNG or JPEG.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"the sheet cannot be read: {error.strerror}", where=str(path), fix="check the path") from error
    kind = next((kind for magic, kind in _IMAGES.items() if content.startswith(magic)), None)
    if kind is None:
        fix = "give what dsd-ort suspects --sheet wrote"
        raise RunError("the sheet is neither PNG nor JPEG", where=str(path), fix=fix)
    text = (
        "Examples whose labels the sparse network does not believe, above the label that was given and the one that it "
        "believes; the most doubtful first."
    )
    return Sheet("Suspects", text, f"data:{kind};base64,{base64.b64encode(content).decode()}")


def html(page: Page) -> str:
    """The page as one file.

    Raises:
        InstallationError: jinja2 is missing.
    """
    require_extra()
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: plain(value) if isinstance(value, str) and not hasattr(value, "__html__") else value,
    )
    return environment.get_template("page.html.jinja").render(page=page, version=__version__) + "\n"
