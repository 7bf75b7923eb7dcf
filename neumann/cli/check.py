"""Verbs that look at files: verify-checksums and inspect. They change nothing and need no server."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from itertools import islice
from typing import Any

import click

from neumann.cli import output
from neumann.cli.checksums import Report, verify_directory
from neumann.cli.inspect import inspect_file
from neumann.cli.progress import bar
from neumann.cli.verb import Call, verb
from neumann.env.disk import RealDisk
from neumann.errors import Corrupt, NotFound
from neumann.format.times import time_text
from neumann.snapshot.verify import verify_snapshot


@verb("verify-checksums")
@click.option("--data-dir", metavar="DIR", help="A node's data directory; default the configured one.")
@click.option("--snapshot", "snapshot_dir", metavar="DIR", help="One published snapshot, wherever it lies.")
def verify_checksums(call: Call, data_dir: str | None, snapshot_dir: str | None) -> None:
    """Read every byte, beside a running server or without. Exits 5 if one is not as it was written."""
    if snapshot_dir is not None:
        _verify_snapshot(call, os.path.abspath(snapshot_dir))
        return
    with bar("reading", quiet=call.quiet, shown=output.size) as advance:
        report = verify_directory(RealDisk(), call.data_dir(data_dir), advance)
    body = {
        "data_dir": report.data_dir,
        "scope": {kind: asdict(scope) for kind, scope in report.scopes.items()},
        "damage": [damage._asdict() for damage in report.damage],
    }
    call.show(body, lambda: _report_text(report))
    if report.damage:
        click.get_current_context().exit(Corrupt.exit_code)


def _verify_snapshot(call: Call, directory: str) -> None:
    found = verify_snapshot(RealDisk(), directory)
    body = {
        "id": found.id,
        "time": time_text(found.time_ns),
        "tables": found.tables,
        "bytes": found.bytes,
        "digest": found.layout_digest.hex(),
        "damage": [],
    }
    call.show(
        body, lambda: f"snapshot {found.id}: {found.tables} tables, {output.size(found.bytes)}, no damage"
    )


def _report_text(report: Report) -> str:
    kinds = [[kind, s.files, s.entries, output.size(s.bytes)] for kind, s in report.scopes.items()]
    lines = [report.data_dir, output.table(("read", "files", "entries", "bytes"), kinds)]
    for damage in report.damage:
        lines += [f"DAMAGE {damage.message}", f"       remedy: {damage.remedy}"]
    lines.append(f"{len(report.damage)} damaged" if report.damage else "no damage")
    return "\n".join(lines)


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
