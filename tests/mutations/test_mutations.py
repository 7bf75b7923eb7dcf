"""Each planted bug makes the tests fail that are there against it; taken out, they pass again."""

from __future__ import annotations

import importlib
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.mutations.plant import Mutation, planted
from tests.mutations.table import MUTATIONS


def calls(node_id: str) -> Iterator[Callable[[], Any]]:
    """The test as plain calls, one for each set of its parameters. It takes no fixtures."""
    file, _, name = node_id.partition("::")
    test = getattr(importlib.import_module(f"tests.{file[:-3].replace('/', '.')}"), name)
    assert not inspect.iscoroutinefunction(test)
    choices = []
    for mark in getattr(test, "pytestmark", []):
        names = mark.args[0] if isinstance(mark.args[0], tuple) else (mark.args[0],)
        rows = [row if isinstance(mark.args[0], tuple) else (row,) for row in mark.args[1]]
        choices.append([dict(zip(names, row, strict=True)) for row in rows])
    for chosen in itertools.product(*choices):
        arguments = {name: value for part in chosen for name, value in part.items()}
        yield lambda arguments=arguments: test(**arguments)


def fails(node_id: str) -> bool:
    """Whether the test fails for any of its parameters."""
    for call in calls(node_id):
        try:
            call()
        except (Exception, pytest.fail.Exception):
            return True
    return False


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_planted_bug_is_found_by_its_tests(mutation: Mutation) -> None:
    assert mutation.tests
    with planted(mutation):
        for test in mutation.tests:
            assert fails(test), f"{test} passes with the bug planted"
    for test in mutation.tests:
        assert not fails(test), f"{test} fails without the bug"
