"""The manifests of a store directory: one is written at each snapshot, and the newest two are kept.

A manifest is whole or is not there (temporary name, sync, rename), and its tables are durable before it.
"""

from __future__ import annotations

import posixpath

from neumann.env import Disk
from neumann.env.files import naming, read_file, write_durable
from neumann.errors import Corrupt, FormatTooNew
from neumann.format import manifest as manifest_format
from neumann.format import names
from neumann.format.manifest import Manifest

KEPT = 2


def write_manifest(disk: Disk, directory: str, manifest: Manifest) -> None:
    """Make it durable; its tables must be there."""
    name = names.manifest_name(manifest.point.index, manifest.point.term)
    write_durable(disk, posixpath.join(directory, name), manifest_format.encode(manifest))


def read_manifest(disk: Disk, path: str) -> Manifest:
    """One manifest; Corrupt, with the path in its detail, or FormatTooNew names the file."""
    with naming(path):
        return manifest_format.decode(read_file(disk, path), path)


def load_newest(disk: Disk, directory: str, below: int | None = None) -> Manifest | None:
    """The newest manifest that can be read and whose tables are all there; None in an empty directory.
    `below`: of those below that index.

    Corrupt, with the reason of the newest, where there are manifests and none is usable.
    """
    reason: Corrupt | None = None
    for name in _newest_first(disk, directory):
        point = names.parse_manifest(name)
        if below is not None and point is not None and point[0] >= below:
            continue
        path = posixpath.join(directory, name)
        try:
            manifest = read_manifest(disk, path)
            _check_tables(disk, directory, manifest, path)
        except Corrupt as error:
            reason = reason or error
        else:
            return manifest
    if reason is not None:
        raise reason
    return None


def check_usable(disk: Disk, directory: str, index: int, term: int) -> None:
    """Corrupt with the reason if the manifest of that snapshot is there and can't be used."""
    path = posixpath.join(directory, names.manifest_name(index, term))
    if disk.exists(path):
        _check_tables(disk, directory, read_manifest(disk, path), path)


def kept_manifests(disk: Disk, directory: str) -> list[Manifest]:
    """The newest two, newest first, as far as they can be read: what must not lose its tables."""
    kept = []
    for name in _newest_first(disk, directory)[:KEPT]:
        try:
            kept.append(read_manifest(disk, posixpath.join(directory, name)))
        except Corrupt:
            continue
    return kept


def drop_naming(disk: Disk, directory: str, digest: bytes) -> bool:
    """Unlink the older manifests that name a table; False, and nothing is done, where the newest does."""
    paths = [posixpath.join(directory, name) for name in _newest_first(disk, directory)]
    naming = [path for path in paths if _names_table(disk, path, digest)]
    if paths[0] in naming:
        return False
    for path in naming:
        disk.unlink(path)
    disk.sync_dir(directory)
    return True


def remove_old(disk: Disk, directory: str) -> None:
    """Unlink all manifests but the newest two."""
    for name in _newest_first(disk, directory)[KEPT:]:
        disk.unlink(posixpath.join(directory, name))


def _newest_first(disk: Disk, directory: str) -> list[str]:
    parsed = [(point, name) for name in disk.list(directory) if (point := names.parse_manifest(name))]
    return [name for _, name in sorted(parsed, reverse=True)]


def _names_table(disk: Disk, path: str, digest: bytes) -> bool:
    try:
        return any(ref.digest == digest for ref in read_manifest(disk, path).tables)
    except (Corrupt, FormatTooNew):
        return False


def _check_tables(disk: Disk, directory: str, manifest: Manifest, path: str) -> None:
    for ref in manifest.tables:
        table = posixpath.join(directory, names.table_name(ref.digest))
        if not disk.exists(table):
            raise Corrupt(
                f"{table} is missing, and {path} names it",
                remedy="fetch it from a peer or from a backup of that snapshot",
                detail={"path": table},
            )
