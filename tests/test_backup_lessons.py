"""The index of lessons is whole, and what it names is there and says so."""

from __future__ import annotations

import re

import pytest

from tests.backup_lessons import LESSONS
from tests.index import is_answered, said


def threads(text: str) -> dict[str, list[str]]:
    """`wal_g#63, #70; wal_e#169` by project."""
    found: dict[str, list[str]] = {}
    for part in text.split("; "):
        project, *numbers = re.split(r", #|#", part)
        found[project] = numbers
    return found


def says(project: str, number: str, name: str, docstring: str) -> bool:
    """Whether the thread stands in the test's name (`wal_g_63_70`) or its docstring (`wal_g#63`, `#70`)."""
    in_name = f"_{project}_" in name and f"_{number}_" in name
    return in_name or f"{project}#{number}" in docstring.replace("-", "_")


def test_every_row_has_a_test_or_a_reason() -> None:
    assert list(LESSONS) == list(range(1, 45))
    for number, lesson in LESSONS.items():
        assert lesson.what and "#" in lesson.threads
        assert is_answered(lesson), f"row {number}"


@pytest.mark.parametrize("row", [row for row, lesson in LESSONS.items() if lesson.tests])
def test_the_tests_of_a_row_name_its_thread(row: int) -> None:
    for test in LESSONS[row].tests:
        name = test.partition("::")[2]
        assert any(
            says(project, number, name, said(test))
            for project, numbers in threads(LESSONS[row].threads).items()
            for number in numbers
        ), f"{test} does not name a thread of row {row}"
