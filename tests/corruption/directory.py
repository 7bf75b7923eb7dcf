"""A stopped node's data directory and its archive, made by a real node; and copies of both in memory.

It has a file of each kind: sealed segments and an open one with entries above the newest manifest, two
manifests and their tables, published snapshots, both two-slot files, an identity, what a restore leaves,
and in the archive segments and a timeline's history.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from neumann.config import Config
from neumann.env.files import write_new
from neumann.format import names
from neumann.format import restored as restored_format
from neumann.format.command import encode_batch, encode_delete, pack_value
from neumann.format.names import Paths
from tests.format.examples import RESTORED
from tests.runtime.nodes import config_of, one_node, put
from tests.sim.disk import SimDisk

ROOT, ARCHIVE = "/data", "/archive"
SEGMENT_BYTES = 4096
_NOT_OURS = (names.LOCK, "asked")


async def make(root: Path) -> Config:
    """Run a node in root/n1 with an archive in root/archive, and stop it; its configuration."""
    archive = root / "archive"
    archive.mkdir(parents=True)
    command = f"cp %p {archive}/%f"
    config = config_of(root, segment_bytes_max=SEGMENT_BYTES, archive_command=command, archive_timeout=0.0)
    async with one_node(config) as node:
        for number in range(4):
            await node.write(put(f"{number}", {"number": number, "text": "ü" * number}))
        await node.snapshot()
        await node.write(encode_delete("t", "1"))
        await node.write(encode_batch([(1, "u", "x", None, pack_value(None)), (1, "u", "y", None, b"\x07")]))
        await node.restore_point("here")
        await node.snapshot()
        await node.write(put("2", "newer than every manifest"))
        await node.archive_flush()
        await node.write(put("3", "not archived"))
    (root / "n1" / "raft" / names.RESTORED).write_bytes(restored_format.encode(RESTORED))
    return config


def load(root: Path, *, keep_links: bool = True) -> SimDisk:
    """What `make` left, in memory: ROOT and ARCHIVE. Without links, a copy as `cp -r` makes it."""
    disk = SimDisk()
    for source, target in ((root / "n1", ROOT), (root / "archive", ARCHIVE)):
        known: dict[int, str] = {}
        for path in sorted(source.rglob("*")):
            place = f"{target}/{path.relative_to(source)}"
            disk.make_dirs(os.path.dirname(place))
            if path.is_symlink():
                disk.symlink(os.readlink(path), place)
            elif path.is_dir():
                disk.make_dirs(place)
            elif keep_links and path.stat().st_ino in known:
                disk.link(known[path.stat().st_ino], place)
            else:
                known[path.stat().st_ino] = place
                write_new(disk, place, path.read_bytes())
    return disk


def files(disk: SimDisk, directory: str) -> Iterator[str]:
    """Every file of ours below a directory, save for those whose bytes say nothing."""
    for name in disk.list(directory):
        path = f"{directory}/{name}"
        if name in (*_NOT_OURS, names.LATEST):
            continue
        if disk.stat(path).is_directory:
            yield from files(disk, path)
        else:
            yield path


def kinds(disk: SimDisk) -> dict[str, str]:
    """Kind of file -> the path of one."""
    paths = Paths(ROOT)
    segments = [f"{paths.wal}/{name}" for name in disk.list(paths.wal)]
    manifests = sorted(filter(names.parse_manifest, disk.list(paths.store)), key=_index)
    tables = [name for name in disk.list(paths.store) if names.parse_table(name)]
    published = sorted(filter(names.parse_snapshot, disk.list(paths.snapshots)), key=_index)
    snapshot = f"{paths.snapshots}/{published[-1]}"
    archived = disk.list(ARCHIVE)
    return {
        "sealed segment": segments[0],
        "sealed segment above the manifest": segments[-2],
        "open segment": segments[-1],
        "table": f"{paths.store}/{tables[0]}",
        "manifest": f"{paths.store}/{manifests[-1]}",
        "older manifest": f"{paths.store}/{manifests[0]}",
        "vote": paths.vote,
        "sync mark": paths.sync_mark,
        "identity": paths.identity,
        "restored": paths.restored,
        "published manifest": f"{snapshot}/{names.MANIFEST}",
        "published table": f"{snapshot}/{next(filter(names.parse_table, disk.list(snapshot)))}",
        "archived segment": f"{ARCHIVE}/{next(filter(names.parse_segment, archived))}",
        "history": f"{ARCHIVE}/{next(filter(names.parse_history, archived))}",
        "own history": f"{paths.raft}/{next(filter(names.parse_history, disk.list(paths.raft)))}",
    }


def _index(name: str) -> int:
    """Of a manifest or a published snapshot."""
    return int(name.partition("-")[0])
