"""Verbs on snapshots: snapshot, snapshot-list, restore-point; and stats."""

from __future__ import annotations

from typing import Any

import click

from neumann.archive import sources
from neumann.cli import output
from neumann.cli.place import local, places
from neumann.cli.verb import Call, verb
from neumann.snapshot import listing
from neumann.snapshot.publish import list_published


@verb("snapshot")
@click.option("--no-wait", is_flag=True, help="Only begin it.")
def snapshot(call: Call, no_wait: bool) -> None:
    """Make and publish a snapshot; returns when a majority and the asked node have it."""
    params = {"wait": str(not no_wait).lower(), "timeout_s": f"{call.timeout_s:g}"}
    reply = call.node.post("/admin/snapshot", params=params).body
    call.show(reply, lambda: lines(reply))


@verb("snapshot-list")
@click.option(
    "--dir",
    "directory",
    metavar="SRC",
    help="Where copies lie, instead of a node: DIR, HOST:PATH or s3://BUCKET/...",
)
def snapshot_list(call: Call, directory: str | None) -> None:
    """The published snapshots of one node, or of a place that holds copies, newest first."""
    if directory is None:
        found = call.node.get("/admin/snapshots").body["snapshots"]
    else:
        with places() as files:
            path = sources.directory(files, local(directory), "--dir")
            found = [listing.summary(p) for p in list_published(files, path)]
    call.show({"snapshots": found}, lambda: _list_text(found))


def _list_text(found: list[dict[str, Any]]) -> str:
    if not found:
        return "no snapshots"
    columns = ("id", "index", "time", "bytes", "complete")
    text = output.table(columns, [[line[column] for column in columns] for line in found])
    damage = [f"{line['id']}: {line['damage']}" for line in found if line.get("damage")]
    return "\n".join([text, *damage])


@verb("restore-point")
@click.argument("name")
@click.option("--no-wait", is_flag=True, help="Only name it.")
def restore_point(call: Call, name: str, no_wait: bool) -> None:
    """Name this moment, for wal-replay --until-name; returns when it is archived, or says that it is not."""
    params = {"wait": str(not no_wait).lower(), "timeout_s": f"{call.timeout_s:g}"}
    reply = call.node.post("/admin/restore-points", {"name": name}, params=params).body
    call.show(reply, lambda: lines(reply))


@verb("stats")
def stats(call: Call) -> None:
    """Numbers of the whole store, `total_entries` first: the rows stored, exactly."""
    reply = call.node.get("/admin/stats").body
    call.show(reply, lambda: "\n".join(f"{name} {value}" for name, value in reply.items()))


def lines(body: dict[str, Any]) -> str:
    """A flat answer as aligned `name value` lines."""
    width = max(map(len, body), default=0)
    return "\n".join(f"{name:<{width}}  {_value(value)}" for name, value in body.items())


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return output.count(value) if not isinstance(value, bool) else "yes" if value else "no"
