"""The live state of a node: what reads see, from the newest place down.

    active memtable  ->  frozen memtables, newest first  ->  tables of the manifest, newest first

The first place that knows a row has its newest version; a tombstone there means absent. What is found in
tables is kept by rows (cache.py), in a quarter of the room for caches; the rest is for blocks. The event
loop alone changes a Store: it writes rows into `active`, freezes it at a snapshot marker, and adopts the
manifest that a checkpoint made. All places stand in one immutable value that is exchanged whole, so a
lane's thread that takes it once reads in peace while the loop goes on.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection
from typing import NamedTuple

from neumann.env import Disk
from neumann.errors import Corrupt
from neumann.format import names
from neumann.format.ids import LogPoint
from neumann.format.manifest import Manifest
from neumann.format.table import Version, print_of
from neumann.store.cache import BlockCache, RowCache
from neumann.store.memtable import Frozen, Memtable
from neumann.store.table_reader import COLD, Peeked, Table
from neumann.store.view import View


class _Places(NamedTuple):
    active: Memtable
    frozen: tuple[Frozen, ...]
    tables: tuple[Table, ...]


class Store:
    """Made by `open`. `manifest` is the newest one adopted: the snapshot that the tables are."""

    def __init__(self, disk: Disk, directory: str, manifest: Manifest, cache_bytes_max: int) -> None:
        self.directory = directory
        self.manifest = manifest
        self.cache = BlockCache(cache_bytes_max - cache_bytes_max // 4)
        self.rows = RowCache(cache_bytes_max // 4)
        self._disk = disk
        self._places = _Places(Memtable(manifest.point), (), ())

    @classmethod
    def open(cls, disk: Disk, directory: str, manifest: Manifest, cache_bytes_max: int) -> Store:
        """The state of a manifest, before the log behind it is replayed. Corrupt names a table that is
        missing or is another one."""
        store = cls(disk, directory, manifest, cache_bytes_max)
        store._places = store._places._replace(tables=store.open_tables(manifest))
        return store

    @property
    def active(self) -> Memtable:
        """Where apply writes. Another one after each `freeze`."""
        return self._places.active

    @property
    def tables(self) -> tuple[Table, ...]:
        """Those of the manifest, newest first."""
        return self._places.tables

    @property
    def disk_bytes(self) -> int:
        """What these take on disk."""
        return sum(table.file_bytes for table in self.tables)

    @property
    def backlog(self) -> int:
        """Frozen memtables that are not part of the manifest yet."""
        return len(self._places.frozen)

    @property
    def memtable_bytes(self) -> int:
        """An estimate of all memtables together."""
        return self.active.size_bytes + sum(frozen.size_bytes for frozen in self._places.frozen)

    def peek(self, row: str) -> Peeked:
        """The newest version, None where there surely is none, or COLD where only a read can tell.

        Never touches the disk, so the event loop may ask. A deleted row gives its tombstone.
        """
        version, places = self.rows.version, self._places
        found = self._in_memory(row, places)
        if found is not None or not places.tables:
            return found
        mark = print_of(row)
        for table in places.tables:
            peeked = table.peek(row, mark)
            if peeked is COLD:
                return COLD
            if peeked is not None:
                self._keep(row, peeked, version)
                return peeked
        return None

    def get(self, row: str) -> Version | None:
        """The same as `peek`, and reads the disk where it must; any thread may ask."""
        version, places = self.rows.version, self._places
        found = self._in_memory(row, places)
        if found is not None or not places.tables:
            return found
        mark = print_of(row)
        for table in places.tables:
            found = table.get(row, mark)
            if found is not None:
                self._keep(row, found, version)
                return found
        return None

    def _in_memory(self, row: str, places: _Places) -> Version | None:
        found = places.active.rows.get(row)
        if found is not None:
            return found
        for memtable in places.frozen:
            found = memtable.rows.get(row)
            if found is not None:
                return found
        return self.rows.get(row)

    def _keep(self, row: str, found: Version, version: int) -> None:
        """Keep what tables said that were taken behind `version`; not a tombstone, a merge may drop it."""
        if found[0] is not None:
            self.rows.put(row, found, version)

    def view(self) -> View:
        """This moment, to be read at leisure in any thread. Call it on the event loop, between frames.

        Copies the active memtable, some 50 us for 10,000 rows.
        """
        active, frozen, tables = self._places
        return View(active.rows.copy(), frozen, tables)

    def freeze(self, point: LogPoint, time_ns: int) -> Frozen:
        """End the active memtable at a snapshot marker and begin the next one behind it."""
        active, frozen, tables = self._places
        ended = Frozen(active, point, time_ns)
        self._places = _Places(Memtable(point), (ended, *frozen), tables)
        return ended

    def open_tables(self, manifest: Manifest) -> tuple[Table, ...]:
        """The tables of a manifest, opened where they are not open yet; any thread may ask."""
        open_already = {table.ref.digest: table for table in self._places.tables}
        tables = []
        for ref in manifest.tables:
            table = open_already.get(ref.digest)
            if table is None:
                path = posixpath.join(self.directory, names.table_name(ref.digest))
                if not self._disk.exists(path):
                    raise Corrupt(
                        f"{path} is missing, and the manifest of snapshot {manifest.snapshot_id} names it",
                        remedy="fetch it from a peer or from a backup of that snapshot",
                        detail={"path": path},
                    )
                table = Table(self._disk, path, ref, self.cache)
            tables.append(table)
        return tuple(tables)

    def reopen(self, digest: bytes) -> None:
        """Read a table from the file that took the place of a damaged one; any thread may ask."""
        for table in self._places.tables:
            if table.ref.digest == digest:
                table.reopen()

    def adopt(self, manifest: Manifest, tables: tuple[Table, ...] | None = None) -> None:
        """Go over to a newer manifest; frozen memtables that are in it are dropped.

        `tables` are what `open_tables` gave for it in a lane; without them they are opened here.
        """
        assert manifest.point.index >= self.manifest.point.index
        opened = self.open_tables(manifest) if tables is None else tables
        assert [table.ref for table in opened] == list(manifest.tables)
        active, frozen, _ = self._places
        for one in frozen:
            if one.point.index <= manifest.point.index:
                self.rows.forget(one.rows)
        waiting = tuple(one for one in frozen if one.point.index > manifest.point.index)
        self._places = _Places(active, waiting, opened)
        self.manifest = manifest

    def collect(self, keep: Collection[bytes]) -> list[str]:
        """Unlink the table files that neither the manifest nor `keep`, digests, need; their names.

        Not while a job writes tables: its output is not needed by anybody yet. Any thread may ask.
        """
        needed = {ref.digest for ref in self.manifest.tables} | set(keep)
        gone = []
        for name in self._disk.list(self.directory):
            digest = names.parse_table(name)
            if digest is not None and digest not in needed:
                self._disk.unlink(posixpath.join(self.directory, name))
                gone.append(name)
        return gone


__all__ = ["COLD", "Store"]
