"""Verbs that bring state back: wal-list, wal-replay, init-cluster, rejoin, aside-list.

They work on directories; the server of a directory that they change must be stopped.
"""

from __future__ import annotations

import os
from typing import Any

import click

from neumann.archive.sources import Source, source
from neumann.cli import output
from neumann.cli.verb import Call, verb
from neumann.env.clock import RealClock
from neumann.env.disk import RealDisk
from neumann.format.times import time_text
from neumann.recovery import swap
from neumann.recovery.catalog import Catalog, restore_points, runs

_SOURCE_OPTIONS = (
    click.option("--repo", metavar="R", help="Holds wal/ and snapshots/."),
    click.option("--wal-dir", metavar="W", help="The log's archive."),
    click.option("--snapshot-dir", metavar="S", help="Published snapshots, beside --wal-dir."),
)


def _with_source(function: Any) -> Any:
    for option in reversed(_SOURCE_OPTIONS):
        function = option(function)
    return function


def _source(repo: str | None, wal_dir: str | None, snapshot_dir: str | None) -> Source:
    """A relative path of this machine is taken from where the command is typed."""
    places = [
        place if not place or ":" in place else os.path.abspath(place)
        for place in map(_text, (repo, wal_dir, snapshot_dir))
    ]
    return source(RealDisk(), repo=places[0], wal_dir=places[1], snapshot_dir=places[2])


def _text(value: str | None) -> str:
    return value or ""


@verb("wal-list")
@_with_source
def wal_list(call: Call, repo: str | None, wal_dir: str | None, snapshot_dir: str | None) -> None:
    """What an archive covers, by the headers of its files: timelines, windows, restore points, gaps."""
    catalog = Catalog(RealDisk(), _source(repo, wal_dir, snapshot_dir).wal_directory)
    found, wrong = runs(catalog, bodies=False)
    body = {
        "clusters": sorted(cluster_id.hex() for cluster_id in catalog.cluster_ids()),
        "windows": [
            {
                "timeline": str(run.timeline),
                "first_index": run.first_index,
                "last_index": run.last_index,
                "first_time": time_text(run.first_time_ns),
                "last_time": time_text(run.last_time_ns),
                "files": run.files,
                "bytes": run.bytes,
            }
            for run in found
        ],
        "restore_points": [
            {"name": name, "index": index, "time": time_text(time_ns, 9), "timeline": str(head.timeline)}
            for head, name, index, time_ns in restore_points(catalog, catalog.heads)
        ],
        "wrong": wrong,
        "unknown_files": catalog.unknown,
    }
    call.show(body, lambda: _wal_list_text(body))


def _wal_list_text(body: dict[str, Any]) -> str:
    lines = [f"cluster {cluster_id}" for cluster_id in body["clusters"]]
    windows = [[*list(window.values())[:6], output.size(window["bytes"])] for window in body["windows"]]
    if windows:
        columns = ("timeline", "from", "to", "from time", "to time", "files", "bytes")
        lines.append(output.table(columns, windows))
    if body["restore_points"]:
        points = [list(point.values()) for point in body["restore_points"]]
        lines.append(output.table(("restore point", "index", "time", "timeline"), points))
    lines += [f"WRONG {what}" for what in body["wrong"]]
    lines += [f"not a file of the archive: {name}" for name in body["unknown_files"]]
    return "\n".join(lines) or "the archive is empty"


@verb("rejoin")
@click.option("--data-dir", metavar="DIR", help="Default the configured one.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def rejoin(call: Call, data_dir: str | None, yes: bool) -> None:
    """Set this node's state aside, so that it joins its cluster as new at the next start."""
    root = call.data_dir(data_dir)
    call.confirm(f"Set raft/ and store/ of {root} aside?", yes)
    clock = RealClock()
    aside_id = swap.rejoin(RealDisk(), root, clock.wall_ns())
    body = {"aside": aside_id, "path": f"{root}/aside/{aside_id}"}
    call.show(body, lambda: f"set aside as {body['path']}; start the node: it joins as new")


@verb("aside-list")
@click.option("--data-dir", metavar="DIR", help="Default the configured one.")
def aside_list(call: Call, data_dir: str | None) -> None:
    """Old state that a restore, a rejoin or a repair has set aside; only a person deletes it."""
    found = [a._asdict() for a in swap.list_aside(RealDisk(), call.data_dir(data_dir))]
    columns = ("id", "bytes", "holds", "path")
    rows = [[a["id"], output.size(a["bytes"]), " ".join(a["holds"]), a["path"]] for a in found]
    call.show({"aside": found}, lambda: output.table(columns, rows) if rows else "nothing is set aside")
