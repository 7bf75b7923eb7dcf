"""The index of known bugs is whole, and what it names is there and says so."""

from __future__ import annotations

import re

import pytest

from tests.index import is_answered, said
from tests.known_bugs import BUGS
from tests.mutations.table import MUTATIONS

SPOKEN = re.compile(r"[Bb]ugs? (\d+(?:(?:, | and )\d+)*)")


def test_every_row_has_a_test_or_a_reason() -> None:
    assert list(BUGS) == list(range(1, 41))
    for number, bug in BUGS.items():
        assert bug.what and bug.source
        assert is_answered(bug), f"row {number}"


@pytest.mark.parametrize("number", [number for number, bug in BUGS.items() if bug.tests])
def test_the_tests_of_a_row_say_so(number: int) -> None:
    for test in BUGS[number].tests:
        spoken = {int(n) for found in SPOKEN.finditer(said(test)) for n in re.findall(r"\d+", found[1])}
        assert number in spoken, f"{test} does not say that it is about bug {number}"


def test_what_is_planted_stands_in_the_table() -> None:
    planted = {number for mutation in MUTATIONS for number in mutation.bugs}
    assert planted <= set(BUGS) and len(planted) >= 15
    for mutation in MUTATIONS:
        rows = {test for number in mutation.bugs for test in BUGS[number].tests}
        assert {test.removeprefix("tests/") for test in mutation.tests} <= rows or not mutation.bugs
