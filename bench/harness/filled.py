"""A store with many rows, made quickly and truly: the tables that flushes and compactions would leave.

Rows come in random order, FLUSH_ROWS at a time, and each run becomes a table through the product's own
writer; compactions are chosen and installed by the product's own rules, and run through its own job. Only
the log and the markers between are left out. So point reads meet as many overlapping tables as in a store
that was written row by row.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.harness import peers
from bench.harness.measured import progress
from neumann.env.clock import RealEntropy
from neumann.env.disk import RealDisk
from neumann.format import command
from neumann.format.ids import ID_BYTES, LogPoint
from neumann.format.manifest import Manifest
from neumann.format.names import Paths
from neumann.format.table import Version
from neumann.recovery.formation import empty_base, write_member
from neumann.store import jobs
from neumann.store.compaction import choose, drops_tombstones, install
from neumann.store.manifests import load_newest, write_manifest
from neumann.store.memtable import sorted_columns
from neumann.store.table_writer import write_runs

TABLE = "rows"
FLUSH_ROWS = 10_000
BLOCK_BYTES = 32 * 1024
SEGMENT_BYTES = 64 * 1024 * 1024
VALUE_BYTES = 100


def key(number: int) -> str:
    """A row's key: ten characters."""
    return f"k{number:09d}"


def value(rng: random.Random, value_bytes: int = VALUE_BYTES) -> bytes:
    """A packed text of random hexadecimal digits, `value_bytes` with its head of two bytes: no block
    codec makes it much smaller than half."""
    return command.pack_value(rng.randbytes(value_bytes // 2 - 1).hex())


def shuffled(rows: int, seed: int = 1) -> list[int]:
    """The numbers of the rows, in the order in which they are written."""
    numbers = list(range(rows))
    random.Random(seed).shuffle(numbers)
    return numbers


def fill_peer(kind: peers.Kind, directory: Path, rows: int, cache_bytes: int) -> None:
    """Fill another store, unless a question before did."""
    if not directory.exists():
        store = kind(directory, cache_bytes)
        store.put_all(plain_rows(rows))
        store.merge()
        store.close()


def plain_rows(rows: int, seed: int = 1) -> Iterator[tuple[bytes, bytes]]:
    """Rows of the same sizes and in the same order for a store that knows bytes only."""
    rng = random.Random(seed)
    return ((key(number).encode(), value(rng)) for number in shuffled(rows, seed))


def fill_store(directory: Path, rows: int, base: Manifest, seed: int = 1) -> Manifest:
    """Write the tables of so many rows; the manifest that names them, at index `rows`."""
    disk = RealDisk()
    disk.make_dirs(str(directory))
    manifest, revision = base, 0
    for numbers in _runs(shuffled(rows, seed)):
        rng = random.Random(f"{seed} {revision}")
        fresh: dict[str, Version] = {}
        for number in numbers:
            revision += 1
            fresh[command.row_key(TABLE, key(number))] = value(rng), revision, revision
        flushed = write_runs(disk, str(directory), [sorted_columns(fresh)], base.block_bytes)
        assert flushed is not None
        manifest = manifest._replace(
            point=LogPoint(revision, 1, revision), time_ns=revision, tables=(flushed, *manifest.tables)
        )
        manifest = _compacted(disk, directory, manifest)
    write_manifest(disk, str(directory), manifest)
    return manifest


def overlapping_tables(directory: Path, count: int, rows: int) -> list[str]:
    """That many tables of `rows` rows each over the same range of keys, no row in two; their names."""
    disk = RealDisk()
    disk.make_dirs(str(directory))
    numbers = shuffled(count * rows)
    names = []
    for number in range(count):
        rng = random.Random(number)
        part = numbers[number * rows : (number + 1) * rows]
        fresh: dict[str, Version] = {command.row_key(TABLE, key(n)): (value(rng), n + 1, n + 1) for n in part}
        written = write_runs(disk, str(directory), [sorted_columns(fresh)], BLOCK_BYTES)
        assert written is not None
        names.append(written.name)
    return names


def shared_store(root: Path, rows: int) -> tuple[Path, Manifest]:
    """The same for questions that only read: made once below `root` for each size."""
    directory = root / f"filled-{rows}"
    if not directory.exists():
        progress(f"filling a store with {rows:,} rows")
        fill_store(
            directory,
            rows,
            empty_base("n1", "127.0.0.1:1", bytes(ID_BYTES), 1, bytes(ID_BYTES), 1, BLOCK_BYTES),
        )
    manifest = load_newest(RealDisk(), str(directory))
    assert manifest is not None
    return directory, manifest


def fill_member(data: Path, rows: int, node_id: str, address: str, seed: int = 1) -> None:
    """Make a data directory of a node that is the only voter of a cluster with so many rows."""
    entropy, disk, paths = RealEntropy(), RealDisk(), Paths(str(data))
    cluster_id, storage_id = entropy.token(ID_BYTES), entropy.token(ID_BYTES)
    base = empty_base(node_id, address, storage_id, 1, cluster_id, 1, BLOCK_BYTES)
    manifest = fill_store(Path(paths.store), rows, base, seed)
    write_member(disk, paths, manifest, node_id, storage_id, SEGMENT_BYTES, 1)


def _compacted(disk: RealDisk, directory: Path, manifest: Manifest) -> Manifest:
    while (compaction := choose(manifest)) is not None:
        manifest = manifest._replace(compaction=compaction)
        params = {
            "directory": str(directory),
            "block_bytes": manifest.block_bytes,
            "inputs": [digest.hex() for digest in compaction.inputs],
            "drop_tombstones": drops_tombstones(manifest),
        }
        merged = jobs.merge(disk, params)["table"]
        for digest in compaction.inputs:
            (directory / f"{digest.hex()}.table").unlink()
        manifest = manifest._replace(tables=install(manifest.tables, compaction, merged), compaction=None)
    return manifest


def _runs(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), FLUSH_ROWS):
        yield numbers[start : start + FLUSH_ROWS]
