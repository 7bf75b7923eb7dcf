"""The verb query: SQL on a node, or on the files of a snapshot."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import click

from neumann.cli import output
from neumann.cli.verb import Call, verb
from neumann.config import LimitsConfig, StoreConfig
from neumann.env.disk import RealDisk
from neumann.errors import BadInput, NotFound, TooLarge
from neumann.format import values
from neumann.format.manifest import Manifest
from neumann.format.names import Paths
from neumann.format.times import time_text
from neumann.query import statement
from neumann.snapshot.publish import newest_complete, open_published
from neumann.snapshot.verify import open_view
from neumann.store.cache import BlockCache
from neumann.store.manifests import load_newest
from neumann.store.view import View

_ATTEMPTS = 3
_Body = dict[str, list[str] | list[list[object]] | int]


@verb("query")
@click.argument("sql", metavar="SQL")
@click.option("--stale", is_flag=True, help="What this node has, perhaps old.")
@click.option("--rows-max", type=click.IntRange(1), metavar="N", help="More rows are an error.")
@click.option("--data-dir", metavar="DIR", help="Ask no server: read the newest snapshot of this directory.")
@click.option("--snapshot", "snapshot_dir", metavar="DIR", help="Ask no server: read this snapshot.")
def query(
    call: Call, sql: str, stale: bool, rows_max: int | None, data_dir: str | None, snapshot_dir: str | None
) -> None:
    """Answer a SELECT over all tables at one moment.

    Each row has the columns key, revision and time, and its value's fields; other values than maps stand in
    the column value. For example: neumann-admin query "SELECT COUNT(*) FROM cities"
    """
    if data_dir is None and snapshot_dir is None:
        asked = {"sql": sql, "stale": stale, "rows_max": rows_max, "timeout_s": call.timeout_s}
        body = call.node.post("/query", asked).body
    elif stale or (data_dir is not None and snapshot_dir is not None):
        raise BadInput("--stale, --data-dir and --snapshot exclude each other", remedy="give one")
    else:
        body = _offline(call, sql, rows_max, data_dir, snapshot_dir)
    call.show(body, lambda: output.table(body["columns"], body["rows"], cell=_cell))
    call.note(f"{len(body['rows'])} rows at index {body['index']}")


def _offline(
    call: Call, sql: str, rows_max: int | None, data_dir: str | None, snapshot_dir: str | None
) -> _Body:
    if snapshot_dir is not None:
        manifest, view = _open_snapshot(os.path.abspath(snapshot_dir))
    else:
        assert data_dir is not None
        manifest, view = _open_newest(os.path.abspath(data_dir))
        made = time_text(manifest.time_ns) if manifest.time_ns else "the beginning"
        call.note(f"snapshot {manifest.snapshot_id} of {made}; what was written since is not in it")
    result = statement.run(
        view,
        manifest.point.index,
        sql,
        (),
        rows_max=rows_max or LimitsConfig().query_rows_max,
        check=_deadline(call.timeout_s),
    )
    rows = [values.plain(list(row)) for row in result.rows]
    return {"columns": result.columns, "rows": rows, "index": result.index}


def _open_snapshot(directory: str) -> tuple[Manifest, View]:
    manifest = open_published(RealDisk(), directory)
    return manifest, _view(directory, manifest)


def _open_newest(root: str) -> tuple[Manifest, View]:
    """The newest state in files; a running server may take them away while they are opened."""
    disk, paths = RealDisk(), Paths(root)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            manifest = load_newest(disk, paths.store) if disk.exists(paths.store) else None
            if manifest is not None:
                return manifest, _view(paths.store, manifest)
            published = newest_complete(disk, paths.snapshots) if disk.exists(paths.snapshots) else None
            if published is not None:
                return _open_snapshot(published.path)
        except FileNotFoundError:
            if attempt == _ATTEMPTS:
                raise
    raise NotFound(f"{root} holds no snapshot", remedy="name the node's --data-dir, or --snapshot DIR")


def _view(directory: str, manifest: Manifest) -> View:
    return open_view(RealDisk(), directory, manifest, BlockCache(StoreConfig().cache_bytes_max))


def _deadline(timeout_s: float) -> Callable[[], None]:
    end = time.monotonic() + timeout_s

    def check() -> None:
        if time.monotonic() > end:
            raise TooLarge(f"the query takes longer than {timeout_s:g} s", remedy="give a larger --timeout")

    return check


def _cell(value: object) -> str:
    """As SQL would write it, but for text, which stays in one line."""
    match value:
        case None:
            return "NULL"
        case {"$bytes": str() as encoded}:
            return f"base64:{encoded}"
        case {"$float": str() as name}:
            return name
        case str():
            return "".join(c if c.isprintable() else repr(c)[1:-1] for c in value)
    return str(value)
