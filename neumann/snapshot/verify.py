"""Reads every byte of a snapshot and says what it holds, or where it is damaged."""

from __future__ import annotations

from typing import NamedTuple

from neumann.env.doors import Files
from neumann.format import names
from neumann.format.manifest import Manifest, layout_digest
from neumann.snapshot.publish import open_published
from neumann.store.cache import BlockCache
from neumann.store.table_reader import Table
from neumann.store.view import View


class Summary(NamedTuple):
    """A snapshot whose every byte was read and is as it was written. Rows count tombstones too."""

    id: str
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody calls here
    term: int
    time_ns: int
    tables: int
    rows: int
    layout_digest: bytes
    bytes: int


def verify_snapshot(disk: Files, directory: str) -> Summary:
    """Read all of it. NotFound: there is none; Corrupt names file and offset."""
    manifest = open_published(disk, directory)
    return verify_tables(disk, directory, manifest)


def verify_tables(disk: Files, directory: str, manifest: Manifest) -> Summary:
    """Read every table of a manifest, wherever the manifest itself lies."""
    size = 0
    for ref in manifest.tables:
        table = Table(disk, f"{directory}/{names.table_name(ref.digest)}", ref)
        table.verify()
        size += table.file_bytes
    return Summary(
        manifest.snapshot_id,
        manifest.point.index,
        manifest.point.term,
        manifest.time_ns,
        len(manifest.tables),
        sum(ref.rows for ref in manifest.tables),
        layout_digest(manifest),
        size,
    )


def open_view(disk: Files, directory: str, manifest: Manifest, cache: BlockCache | None = None) -> View:
    """The rows of a snapshot, read from its tables where they lie."""
    tables = [
        Table(disk, f"{directory}/{names.table_name(ref.digest)}", ref, cache) for ref in manifest.tables
    ]
    return View({}, (), tables)
