"""docs/reference.md is what the code says, and the code says something about everything that is in it."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest

from neumann.cli.group import group
from neumann.cli.server import parser
from neumann.config import Config
from neumann.errors import all_error_classes
from neumann.server import admin
from neumann.server.metrics import METRICS
from neumann.server.routes import declared
from scripts import _reference

DECLARED = re.compile(r"^    @route\(", re.MULTILINE)
ROUTES = list(declared(*admin.GROUPS))


def test_the_page_is_what_the_code_says() -> None:
    assert _reference.PAGE.read_text() == "\n".join(_reference.page()), "run scripts/reference"


def test_it_lists_every_route_that_is_declared() -> None:
    """Read from the sources, since those of a class that nobody serves would be missing in the page."""
    folder = Path(inspect.getfile(admin)).parent
    sources = set(folder.glob("*.py")) - {folder / "routes.py"}  # whose first lines have an example
    assert sum(len(DECLARED.findall(path.read_text())) for path in sources) == len(ROUTES) > 20
    page = _reference.PAGE.read_text()
    assert [route.name for route in ROUTES if f"| `{route.method} {route.plain_path}` |" not in page] == []


@pytest.mark.parametrize("name", sorted(group.commands))
def test_every_option_says_what_it_means(name: str) -> None:
    options = [p for p in group.commands[name].params if isinstance(p, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_everything_else_says_what_it_means() -> None:
    assert [a.dest for a in parser()._actions if not a.help] == []
    assert [name for name, spec in METRICS.items() if not spec.text] == []
    assert [cls for cls in all_error_classes().values() if not cls.__doc__] == []
    assert [route.name for route in ROUTES if not route.text] == []
    for section in fields(Config):
        made: Any = section.default_factory
        assert [key.name for key in fields(made) if not re.sub(r"\bR$", "", key.metadata["text"])] == []
