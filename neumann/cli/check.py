"""inspect: any file of ours for a person. It changes nothing and needs no server."""

from __future__ import annotations

import json
import os
from itertools import islice
from typing import Any

import click

from neumann.cli.inspect import inspect_file
from neumann.cli.verb import Call, verb
from neumann.env.disk import RealDisk
from neumann.errors import Corrupt, NotFound


@verb("inspect")
@click.argument("path", metavar="FILE")
@click.option("--entries", is_flag=True, help="Each entry of a segment, each row of a table.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many lines of them.")
def inspect(call: Call, path: str, entries: bool, limit: int | None) -> None:
    """Print what is in a segment, table, manifest, history, vote, sync mark, identity or journal."""
    if not os.path.isfile(path):
        raise NotFound(f"{path} is no file")
    found = inspect_file(RealDisk(), os.path.abspath(path), entries=entries)
    items = list(islice(found.items, limit))
    body = {"kind": found.kind, **found.fields, "items": items}
    call.show(body, lambda: _inspection_text(found.kind, found.fields, items))
    for item in items:
        if "damage" in item:
            raise Corrupt(f"{path}, offset {item['offset']}: {item['damage']}")


def _inspection_text(kind: str, fields: dict[str, Any], items: list[dict[str, Any]]) -> str:
    width = max(map(len, fields))
    lines = [kind, *(f"  {name:<{width}}  {_value(value)}" for name, value in fields.items())]
    return "\n".join(
        lines + ["  ".join(f"{name} {_value(value)}" for name, value in i.items()) for i in items]
    )


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
