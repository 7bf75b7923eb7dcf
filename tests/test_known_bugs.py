"""The index of known bugs is whole, and what it names is there and says so."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.known_bugs import BUGS
from tests.mutations.table import MUTATIONS

TESTS = Path(__file__).parent
SPOKEN = re.compile(r"[Bb]ugs? (\d+(?:(?:, | and )\d+)*)")


@cache
def docstrings(file: str) -> dict[str, str]:
    """Of every test function of this file."""
    tree = ast.parse((TESTS / file).read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {function.name: ast.get_docstring(function) or "" for function in functions}


def test_every_row_has_a_test_or_a_reason() -> None:
    assert list(BUGS) == list(range(1, 41))
    for number, bug in BUGS.items():
        assert bug.what and bug.source
        assert bool(bug.tests) != bool(bug.reason), f"row {number}"


@pytest.mark.parametrize("number", [number for number, bug in BUGS.items() if bug.tests])
def test_the_tests_of_a_row_say_so(number: int) -> None:
    for test in BUGS[number].tests:
        file, _, name = test.partition("::")
        said = docstrings(file)[name]
        spoken = {int(n) for found in SPOKEN.finditer(said) for n in re.findall(r"\d+", found[1])}
        assert number in spoken, f"{test} does not say that it is about bug {number}"


def test_what_is_planted_stands_in_the_table() -> None:
    planted = {number for mutation in MUTATIONS for number in mutation.bugs}
    assert planted <= set(BUGS) and len(planted) >= 15
    for mutation in MUTATIONS:
        rows = {test for number in mutation.bugs for test in BUGS[number].tests}
        assert {test.removeprefix("tests/") for test in mutation.tests} <= rows or not mutation.bugs
