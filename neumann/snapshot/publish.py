"""Published snapshots on disk: `raft/snapshots/<index>-<term>/` holds a manifest and its tables.

The tables are hard links to those in store/, so publishing costs no bytes. A directory is built under
a temporary name, synced and renamed, so it is whole from its first moment; `latest`, a relative link,
is swapped last. Users copy from here and delete here: a node never needs what lies here for its own
restart, an incomplete snapshot is never chosen, and `audit` links again what is missing from the
newest (`find -mtime +7 -delete` takes old tables out of it, for hard links share their mtime). Users put
others here too: one that has the name of the node's own is renamed, never mixed with it and never lost.

Readers also recognise a flat copy (manifest and tables directly in the directory) and subdirectories
of any name, as `scp` and `rsync` leave them.
"""

from __future__ import annotations

import contextlib
import itertools
import posixpath
from collections.abc import Iterator
from typing import NamedTuple

from neumann.env.doors import Disk, Files
from neumann.env.files import link_over, read_file, write_new
from neumann.errors import Corrupt, FormatTooNew, NotFound
from neumann.format import manifest as manifest_format
from neumann.format import names
from neumann.format.manifest import Manifest, layout_digest
from neumann.format.names import Paths

ASKED = "asked"
"""An empty file beside a snapshot that somebody asked for, or may have: pruned later than others."""


class Published(NamedTuple):
    """A snapshot that lies in some directory.

    `complete`: its manifest can be read and every table is there. `manifest` is None where it can't be
    read; then `time_ns` is 0 and `damage` says why. `bytes` counts the files that are there.
    """

    id: str
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody calls here
    term: int
    time_ns: int
    path: str
    bytes: int
    complete: bool
    asked: bool
    manifest: Manifest | None
    damage: str = ""


def publish(disk: Disk, paths: Paths, manifest: Manifest, *, asked: bool = False) -> str:
    """Publish a snapshot whose tables are in store/; its directory. Repeats harmlessly."""
    snapshot_id = manifest.snapshot_id
    final = f"{paths.snapshots}/{snapshot_id}"
    disk.make_dirs(paths.snapshots)
    if _is_there(disk, final, manifest):
        _mend(disk, paths, manifest)
        if asked and not disk.exists(f"{final}/{ASKED}"):
            write_new(disk, f"{final}/{ASKED}", b"")
            disk.sync_dir(final)
    else:
        building = final + names.TEMPORARY
        disk.remove_tree(building)
        disk.make_dirs(building)
        for ref in manifest.tables:
            name = names.table_name(ref.digest)
            disk.link(f"{paths.store}/{name}", f"{building}/{name}")
        if asked:
            write_new(disk, f"{building}/{ASKED}", b"")
        write_new(disk, f"{building}/{names.MANIFEST}", manifest_format.encode(manifest))
        disk.sync_dir(building)
        disk.rename(building, final)
        disk.sync_dir(paths.snapshots)
    _point_latest(disk, paths)
    return final


def list_published(disk: Files, directory: str) -> list[Published]:
    """Every snapshot in that directory, newest first; one that is there twice counts once."""
    found: dict[str, Published] = {}
    for path in _places(disk, directory):
        published = _look_at(disk, path)
        known = found.get(published.id)
        if known is None or (published.complete and not known.complete):
            found[published.id] = published
    return sorted(found.values(), key=lambda p: (p.index, p.term), reverse=True)


def newest_complete(disk: Files, directory: str) -> Published | None:
    """The newest snapshot that can be used, or None."""
    return next((p for p in list_published(disk, directory) if p.complete), None)


def open_published(disk: Files, directory: str) -> Manifest:
    """The manifest of the snapshot in that directory; NotFound or Corrupt if it has no complete one."""
    try:
        data = read_file(disk, f"{directory}/{names.MANIFEST}")
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{directory} holds no snapshot", remedy="neumann-admin snapshot-list") from None
    manifest = manifest_format.decode(data, f"{directory}/{names.MANIFEST}")
    for ref in manifest.tables:
        if not disk.exists(f"{directory}/{names.table_name(ref.digest)}"):
            raise Corrupt(f"{directory}: the table {ref.name} of this snapshot is missing")
    return manifest


def put_back(disk: Disk, paths: Paths, published: Published) -> None:
    """Link a complete snapshot's tables into store/, which lacks them. The caller writes the manifest."""
    assert published.complete and published.manifest is not None
    disk.make_dirs(paths.store)
    for ref in published.manifest.tables:
        name = names.table_name(ref.digest)
        if not disk.exists(f"{paths.store}/{name}"):
            disk.link(f"{published.path}/{name}", f"{paths.store}/{name}")
    disk.sync_dir(paths.store)


def relink(disk: Disk, paths: Paths, name: str) -> None:
    """Let every published snapshot that has this table link to the one in store/, which was replaced."""
    for snapshot in filter(names.parse_snapshot, disk.list(paths.snapshots)):
        path = f"{paths.snapshots}/{snapshot}/{name}"
        if disk.exists(path) and link_over(disk, f"{paths.store}/{name}", path):
            disk.sync_dir(f"{paths.snapshots}/{snapshot}")


def audit(disk: Disk, paths: Paths, manifest: Manifest) -> int:
    """Make the newest published snapshot, `manifest`, whole again; how many files were missing.

    Also removes what a crash left half-built. Run at start and every minute.
    """
    disk.make_dirs(paths.snapshots)
    for name in disk.list(paths.snapshots):
        if name.endswith(names.TEMPORARY):
            _remove_any(disk, f"{paths.snapshots}/{name}")
    if not _is_there(disk, f"{paths.snapshots}/{manifest.snapshot_id}", manifest):
        publish(disk, paths, manifest)
        return 1 + len(manifest.tables)
    missing = _mend(disk, paths, manifest)
    _point_latest(disk, paths)
    return missing


def _is_there(disk: Disk, path: str, manifest: Manifest) -> bool:
    """Whether that snapshot's directory is there, whole or not. Another's under its name goes beside: of two
    clusters, snapshots may well have one index and term."""
    if not disk.exists(path):
        return False
    try:
        found = manifest_format.decode(read_file(disk, f"{path}/{names.MANIFEST}"), path)
        if layout_digest(found) == layout_digest(manifest):
            return True
    except (FileNotFoundError, Corrupt, FormatTooNew):
        return True
    except NotADirectoryError:
        pass  # a user's file, which is in the way
    beside = next(name for n in itertools.count(1) if not disk.exists(name := f"{path}.{n}"))
    disk.rename(path, beside)
    disk.sync_dir(posixpath.dirname(path))
    return False


def _mend(disk: Disk, paths: Paths, manifest: Manifest) -> int:
    """Link again the tables, and write again the manifest, that are missing from its directory."""
    directory = f"{paths.snapshots}/{manifest.snapshot_id}"
    missing = 0
    for ref in manifest.tables:
        name = names.table_name(ref.digest)
        if not disk.exists(f"{directory}/{name}"):
            disk.link(f"{paths.store}/{name}", f"{directory}/{name}")
            missing += 1
    if not disk.exists(f"{directory}/{names.MANIFEST}"):
        building = f"{directory}/{names.MANIFEST}{names.TEMPORARY}"
        if disk.exists(building):
            disk.unlink(building)
        write_new(disk, building, manifest_format.encode(manifest))
        disk.rename(building, f"{directory}/{names.MANIFEST}")
        missing += 1
    if missing:
        disk.sync_dir(directory)
    return missing


def _point_latest(disk: Disk, paths: Paths) -> None:
    """Swap `latest` to the newest complete snapshot, if it is elsewhere."""
    newest = _newest_own(disk, paths.snapshots)
    link = f"{paths.snapshots}/{names.LATEST}"
    if newest is None or _link_target(disk, link) == posixpath.basename(newest.path):
        return
    if disk.exists(link) and _link_target(disk, link) is None:
        return
    building = link + names.TEMPORARY
    if disk.exists(building):
        disk.unlink(building)
    disk.symlink(posixpath.basename(newest.path), building)
    disk.rename(building, link)
    disk.sync_dir(paths.snapshots)


def _newest_own(disk: Files, directory: str) -> Published | None:
    """The newest complete snapshot that has a directory of its own.

    Most directories tell by their names which is the newest: manifests of older ones are not read.
    """
    places = [path for path in _places(disk, directory) if path != directory]
    named = {path: point for path in places if (point := names.parse_snapshot(posixpath.basename(path)))}
    newest_first = sorted(named, key=named.__getitem__, reverse=True)
    own = next((found for path in newest_first if (found := _look_at(disk, path)).complete), None)
    strange = [found for path in places if path not in named and (found := _look_at(disk, path)).complete]
    return max([*filter(None, [own]), *strange], key=lambda p: (p.index, p.term), default=None)


def _link_target(disk: Files, path: str) -> str | None:
    """What the symbolic link holds; None if there is nothing, or it is no link."""
    try:
        return disk.read_link(path)
    except OSError:
        return None


def _places(disk: Files, directory: str) -> Iterator[str]:
    """Directories that may hold a snapshot: those in this one that are no links, then itself."""
    listed = disk.list(directory)
    for name in listed:
        path = f"{directory}/{name}"
        if name.endswith(names.TEMPORARY) or _link_target(disk, path) is not None:
            continue
        if names.parse_snapshot(name) or (
            disk.stat(path).is_directory and disk.exists(f"{path}/{names.MANIFEST}")
        ):
            yield path
    if names.MANIFEST in listed:
        yield directory


def _names(disk: Files, path: str) -> list[str]:
    """None where it is no directory."""
    try:
        return disk.list(path)
    except NotADirectoryError:
        return []


def _look_at(disk: Files, path: str) -> Published:
    """What lies there, by its manifest and the names and sizes of its files."""
    size = 0
    present: set[str] = set()
    for name in _names(disk, path):
        with contextlib.suppress(FileNotFoundError):
            stat = disk.stat(f"{path}/{name}")
            if stat.kind == "file" and (names.parse_table(name) or name == names.MANIFEST):
                size += stat.size_bytes
                present.add(name)
    asked = disk.exists(f"{path}/{ASKED}")
    try:
        data = read_file(disk, f"{path}/{names.MANIFEST}")
        manifest = manifest_format.decode(data, f"{path}/{names.MANIFEST}")
    except (FileNotFoundError, NotADirectoryError, Corrupt, FormatTooNew) as error:
        damage = str(error)
        if isinstance(error, OSError):
            damage = "its manifest is missing" if isinstance(error, FileNotFoundError) else "is no directory"
        index, term = names.parse_snapshot(posixpath.basename(path)) or (0, 0)
        return Published(
            names.snapshot_name(index, term), index, term, 0, path, size, False, asked, None, damage
        )
    missing = [r.name for r in manifest.tables if names.table_name(r.digest) not in present]
    damage = f"{len(missing)} of its {len(manifest.tables)} tables are missing" if missing else ""
    return Published(
        manifest.snapshot_id,
        manifest.point.index,
        manifest.point.term,
        manifest.time_ns,
        path,
        size,
        not missing,
        asked,
        manifest,
        damage,
    )


def _remove_any(disk: Disk, path: str) -> None:
    if _link_target(disk, path) is None and disk.stat(path).is_directory:
        disk.remove_tree(path)
    else:
        disk.unlink(path)
