"""docs/errors.md says what is said to bad input."""

from __future__ import annotations

import pytest

from tools.maintenance.bad_input.__main__ import PAGE, page, said
from tools.maintenance.bad_input.cases import GROUPS, Case

CASES = [case for cases in GROUPS.values() for case in cases]


def test_there_are_eighty_and_no_two_alike() -> None:
    assert len({case.what for case in CASES}) == len(CASES) >= 80


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_bad_input_is_one_message(case: Case) -> None:
    status, message = said(case)
    assert status == 3
    assert message.startswith("dsd-ort: ") or "\ndsd-ort: " in message
    assert "  fix:   " in message
    assert "Traceback" not in message


def test_the_page_is_what_is_said_now() -> None:
    assert PAGE.read_text("utf-8") == page(), "renew it: python -m tools.maintenance.bad_input"
