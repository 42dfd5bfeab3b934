"""What cannot be trained is refused before native code sees it: one message, exit status 3, nothing written.

``docs/refusals.md`` lists them; ``python -m tests.cli.test_refusals`` writes it anew.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from dsd_ort import api
from dsd_ort.errors import DsdError
from dsd_ort.recipe import Recipe
from tests.cli.conftest import Command
from tests.refused import REFUSED, Refused, write

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "refusals.md"
HEAD = """# What cannot be trained

Models that `dsd-ort prepare` refuses, each with its message and exit status 3, before ONNX Runtime sees the graph. The
models are in `tests/refused.py`, and `tests/cli/test_refusals.py` holds that these are the messages.
"""


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_it_is_refused_by_one_message(case: Refused, tmp_path: Path, dsd_ort: Command) -> None:
    model = write(case, tmp_path)
    answer = dsd_ort("prepare", model, "-o", tmp_path / "run", "--loss", "mse")
    assert answer.status == 3, answer
    assert answer.err.startswith("dsd-ort: ") and "Traceback" not in answer.err
    assert case.says in answer.err and "  fix:   " in answer.err
    assert answer.out == "" and [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert dsd_ort("inspect", model).status in (0, 3)


def test_the_document_has_these_messages() -> None:
    assert len(REFUSED) >= 25
    assert DOCUMENT.read_text() == document(), "run: python -m tests.cli.test_refusals"


def document() -> str:
    return "\n".join([HEAD, *(f"## {case.name[0].upper()}{case.name[1:]}\n\n{_quoted(case)}\n" for case in REFUSED)])


def _quoted(case: Refused) -> str:
    lines = str(_message(case)).splitlines()
    return "\n".join(f"    {line}".rstrip() for line in lines)


def _message(case: Refused) -> DsdError:
    table = api.default_recipe().to_dict()
    table["loss"]["name"] = "mse"
    with tempfile.TemporaryDirectory() as folder:
        model = write(case, Path(folder))
        try:
            api.prepare(model, Path(folder) / "run", Recipe.from_dict(table))
        except DsdError as error:
            where = error.where and error.where.replace(f"{folder}/", "")
            return DsdError(error.what, where=where, fix=error.fix)
    raise AssertionError(f"not refused: {case.name}")


if __name__ == "__main__":
    DOCUMENT.write_text(document())
    print(f"{len(REFUSED)} refusals in {DOCUMENT.name}", file=sys.stderr)
