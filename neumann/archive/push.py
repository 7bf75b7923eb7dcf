"""`wal-push`: one segment or history file into an archive directory, safely (design section 7).

The rules. A file is checked to its last byte before it leaves. A copy is made under a temporary name,
synced, read back, and only then linked, which never replaces anything; then the directory is synced. The
same bytes again are success, made durable once more; a proper prefix of them, which a killed `cp` leaves,
is replaced; other bytes are refused and left alone. So a push that was killed at any moment is ended by
the same push again, and two at once do each other no harm.

An archive begins with a history file, and a segment goes only where the history of its timeline lies.
That file is the stamp: an unmounted directory does not have it, another cluster's has another one. The
first timeline of a cluster begins its archive by itself, in a directory without an archive's files; for a
later one that is done by a person, with `create`. What no stamp tells: that the directory was not mounted
when the cluster began.

PostgreSQL's basic_archive is the model (reference: backup.sgml, contrib/basic_archive).
"""

from __future__ import annotations

import contextlib
import errno
import posixpath
from typing import NamedTuple

from neumann.archive import sources
from neumann.env.doors import Disk
from neumann.env.files import read_file, write_new
from neumann.errors import (
    BadInput,
    Corrupt,
    DiskFull,
    FormatTooNew,
    NeumannError,
    NotFound,
    RefusedByState,
    Unavailable,
    WrongHistory,
)
from neumann.format import history as history_format
from neumann.format import names
from neumann.format import segment as segment_format
from neumann.format.history import History
from neumann.format.ids import Timeline
from neumann.format.segment import SEGMENT_HEADER_BYTES
from neumann.snapshot.segment_file import End, scan

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Pushed(NamedTuple):
    """`did`: "copied"; "there" if the same bytes were; "replaced" if a part of them was."""

    name: str
    bytes: int
    did: str


class _File(NamedTuple):
    """What is to be archived, checked. `history` is None for a segment."""

    path: str
    name: str
    data: bytes
    cluster_id: bytes
    timeline: Timeline
    history: History | None


def push(
    source: Disk, path: str, target: Disk, directory: str, *, token: bytes, create: bool = False
) -> Pushed:
    """Archive the file at `path`; when it returns, `directory` has it, durably. Both are absolute.

    `token` is random and makes the temporary name. `create`: an archive may begin in `directory`.
    BadInput, Corrupt, RefusedByState: the file is none that can be archived. NotFound, RefusedByState:
    the directory is not there, or no archive, or has other bytes under the name. WrongHistory: it is
    another cluster's. Unavailable: it failed, nothing of it bears the name, and it may be tried again.
    """
    file = _read(source, path)
    directory = sources.directory(target, directory, "the archive")
    if create and file.history is None:
        raise BadInput(f"{file.name} begins no archive", remedy="--create goes with a .history file")
    found = target.list(directory)
    _check_archive(target, directory, found, file, create)
    path = f"{directory}/{file.name}"
    temporary = f"{path}.{token.hex()}{names.TEMPORARY}"
    try:
        _remove_leftovers(target, directory, file.name, found)
        did = _put(target, path, temporary, file)
        _unlink(target, temporary)
        target.sync_dir(directory)
    except (OSError, NeumannError) as error:
        # What this can't remove either is removed by the next push of the file.
        with contextlib.suppress(OSError):
            _unlink(target, temporary)
        if isinstance(error, OSError):
            raise _failed(path, error) from error
        raise
    return Pushed(file.name, len(file.data), did)


def _read(disk: Disk, path: str) -> _File:
    """The file, every byte of it checked."""
    name = posixpath.basename(path)
    segment, timeline = names.parse_segment(name), names.parse_history(name)
    if segment is None and timeline is None:
        raise BadInput(f"{path}: {name!r} is no name of a segment or a history")
    try:
        data = read_file(disk, path)
    except FileNotFoundError as error:
        raise NotFound(f"{path} does not exist") from error
    if timeline is not None:
        history = history_format.decode(data, path)
        if history.timeline != timeline or history_format.encode(history) != data:
            raise Corrupt(f"{path}: is the history of {history.timeline}, or longer than that")
        return _File(path, name, data, history.cluster_id, timeline, history)
    read = scan(data, path, bodies=True)
    if read.end is End.OPEN:
        raise RefusedByState(f"{read.damage}; what it holds may not be committed", remedy="push sealed ones")
    if read.end is End.BROKEN:
        raise Corrupt(read.damage, remedy="neumann-admin verify-checksums on that node")
    if (read.header.timeline, read.header.first_index) != segment:
        raise Corrupt(f"{path}: is a segment of another name")
    return _File(path, name, data, read.header.cluster_id, read.header.timeline, None)


# --- whose archive it is -------------------------------------------------------------------------


def _check_archive(disk: Disk, directory: str, found: list[str], file: _File, create: bool) -> None:
    """That the directory is this cluster's archive, or that the file may begin one there."""
    histories: dict[Timeline, History] = {}
    damaged: dict[Timeline, NeumannError] = {}
    for name in found:
        if (timeline := names.parse_history(name)) is not None:
            path = f"{directory}/{name}"
            try:
                histories[timeline] = history_format.decode(read_file(disk, path), path)
            except (Corrupt, FormatTooNew) as error:
                damaged[timeline] = error
    owners = {history.cluster_id for history in histories.values()}
    if not histories:
        owners = _owners_of_segments(disk, directory, found)
    for owner in sorted(owners - {file.cluster_id}):
        raise WrongHistory(
            f"{directory} is the archive of cluster {owner.hex()}, and {file.name} is of "
            f"{file.cluster_id.hex()}",
            remedy="give each cluster a directory of its own",
        )
    if file.history is None:
        if file.timeline in damaged:
            raise damaged[file.timeline]
        if file.timeline not in histories:
            raise _unstamped(directory, file)
    elif not (owners or create or len(file.history.records) == 1):
        raise _unstamped(directory, file)


def _owners_of_segments(disk: Disk, directory: str, found: list[str]) -> set[bytes]:
    """Clusters whose segments lie there, as far as their headers can be read."""
    owners = set()
    for name in found:
        if names.parse_segment(name) is not None:
            path = f"{directory}/{name}"
            file = disk.open(path)
            try:
                head = file.pread(SEGMENT_HEADER_BYTES, 0)
            finally:
                file.close()
            try:
                owners.add(segment_format.decode_header(head, path).cluster_id)
            except (Corrupt, FormatTooNew):
                continue
    return owners


def _unstamped(directory: str, file: _File) -> RefusedByState:
    stamp = names.history_name(file.timeline)
    place = posixpath.dirname(file.path)
    if file.history is None and posixpath.basename(place) == names.WAL:
        place = posixpath.dirname(place)
    return RefusedByState(
        f"{directory} is not the archive of timeline {file.timeline}: {stamp} is not there",
        remedy="is it mounted? If an archive shall begin there: "
        f"neumann-admin wal-push --create {place}/{stamp} {directory}",
    )


# --- the copy ------------------------------------------------------------------------------------


def _put(disk: Disk, path: str, temporary: str, file: _File) -> str:
    """Give the bytes their name; what was done. The directory is not synced yet."""
    old = _present(disk, path)
    if old == file.data and _is_synced(disk, path):
        return "there"
    if old is not None and not file.data.startswith(old):
        raise _other_bytes(path, file, old)
    write_new(disk, temporary, file.data)
    if read_file(disk, temporary) != file.data:
        raise Corrupt(f"{path}: what was written there is not what is read back", remedy="check that disk")
    try:
        if old is not None:
            disk.rename(temporary, path)
            return "replaced"
        disk.link(temporary, path)
    except FileNotFoundError as error:
        raise Unavailable(f"another wal-push of {path} is at work", remedy="try again") from error
    except FileExistsError:
        _unlink(disk, temporary)
        return _put(disk, path, temporary, file)
    return "copied"


def _present(disk: Disk, path: str) -> bytes | None:
    try:
        return read_file(disk, path)
    except FileNotFoundError:
        return None


def _is_synced(disk: Disk, path: str) -> bool:
    """Whether the bytes that are there are durable now; if not, only a new copy can be."""
    file = disk.open(path)
    try:
        file.sync()
    except OSError:
        return False
    finally:
        file.close()
    return True


def _remove_leftovers(disk: Disk, directory: str, name: str, found: list[str]) -> None:
    """Temporary copies of this file, of pushes that were killed. One that still runs fails, and is
    tried again."""
    for other in found:
        if other.startswith(f"{name}.") and other.endswith(names.TEMPORARY):
            _unlink(disk, f"{directory}/{other}")


def _unlink(disk: Disk, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        disk.unlink(path)


# --- refusals ------------------------------------------------------------------------------------


def _other_bytes(path: str, file: _File, old: bytes) -> NeumannError:
    """Why the file that has the name already is not replaced."""
    what = f"{path} is there with other bytes ({len(old)}, and {len(file.data)} are to be archived)"
    if file.history is None:
        try:
            read = scan(old, path, bodies=True)
        except (Corrupt, FormatTooNew) as error:
            return RefusedByState(f"{what}; it is damaged: {error.message}", remedy=_MOVE_AWAY)
        if read.header.cluster_id != file.cluster_id:
            return WrongHistory(
                f"{path} is of cluster {read.header.cluster_id.hex()}, and not of {file.cluster_id.hex()}",
                remedy="give each cluster a directory of its own",
            )
        if read.end is not End.SEALED:
            return RefusedByState(f"{what}; it is damaged: {read.damage}", remedy=_MOVE_AWAY)
    return RefusedByState(
        f"{what}; they differ from byte {_first_difference(old, file.data)} on, and both are whole: "
        "two logs of one timeline",
        remedy="verify-checksums on each node tells which one is right; nothing is overwritten",
    )


_MOVE_AWAY = "move it away, and the next attempt archives the file"


def _first_difference(one: bytes, other: bytes) -> int:
    """How many bytes are the same at the begin."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _failed(path: str, error: OSError) -> NeumannError:
    text = f"{path} could not be archived: {error.strerror or error}"
    if error.errno in _FULL:
        return DiskFull(text, remedy="make room there; it is tried again")
    return Unavailable(text, remedy="it is tried again")
