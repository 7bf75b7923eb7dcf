"""What the indexes of tests share (known_bugs.py, paper_rules.py, backup_lessons.py): rows that name tests
by their node ids below tests/, or say why there can't be one."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Protocol

_TESTS = Path(__file__).parent


class Row(Protocol):
    """A row of an index."""

    @property
    def tests(self) -> tuple[str, ...]: ...
    @property
    def reason(self) -> str: ...


def is_answered(row: Row) -> bool:
    """It has tests or a reason, and not both."""
    return bool(row.tests) != bool(row.reason)


def said(test: str) -> str:
    """The docstring of a test, on one line; KeyError if there is no such test."""
    file, _, name = test.partition("::")
    return " ".join(_docstrings(file)[name].split())


@cache
def _docstrings(file: str) -> dict[str, str]:
    tree = ast.parse((_TESTS / file).read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {function.name: ast.get_docstring(function) or "" for function in functions}
