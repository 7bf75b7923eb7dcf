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
from neumann.server import admin, kv, members, query, snapshots
from neumann.server.metrics import METRICS
from scripts import _reference

SERVED = re.compile(r"web\.(get|post|put|delete)\(\s*(\"[^\"]+\"|row)")


def test_the_page_is_what_the_code_says() -> None:
    assert _reference.PAGE.read_text() == "\n".join(_reference.page()), "run scripts/reference"


def test_it_lists_every_route_that_is_served() -> None:
    """Read from the sources, since a table that nobody asks for would be missing in the page."""
    listed = {Path(inspect.getfile(module)) for module in (admin, kv, query, members, snapshots)}
    served = sum(len(SERVED.findall(path.read_text())) for path in listed)
    others = set(Path(inspect.getfile(admin)).parent.glob("*.py")) - listed
    assert served == len(_reference.http_routes()) > 20
    assert not any(SERVED.search(path.read_text()) for path in others)


@pytest.mark.parametrize("name", sorted(group.commands))
def test_every_option_says_what_it_means(name: str) -> None:
    options = [p for p in group.commands[name].params if isinstance(p, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_everything_else_says_what_it_means() -> None:
    assert [a.dest for a in parser()._actions if not a.help] == []
    assert [name for name, spec in METRICS.items() if not spec.text] == []
    assert [cls for cls in all_error_classes().values() if not cls.__doc__] == []
    assert [route for route in _reference.http_routes() if not inspect.getdoc(route.handler)] == []
    for section in fields(Config):
        made: Any = section.default_factory
        assert [key.name for key in fields(made) if not re.sub(r"\bR$", "", key.metadata["text"])] == []
