"""`wal-push`: one segment or history file into an archive, safely (design section 7).

The rules. A file is checked to its last byte before it leaves. It gets its name there whole, read back and
durable, and never in place of another (archive/destinations.py has the ways). The same bytes again are
success, made durable once more; a proper prefix of them, which a killed `cp` leaves, is replaced; other
bytes are refused and left alone. So a push that was killed at any moment is ended by the same push again,
and two at once do each other no harm.

An archive begins with a history file, and a segment goes only where the history of its timeline lies.
That file is the stamp: an unmounted directory or an empty bucket does not have it, another cluster's has
another one. The first timeline of a cluster begins its archive by itself, in a place without an archive's
files; for a later one that is done by a person, with `create`. What no stamp tells: that the directory was
not mounted when the cluster began.

PostgreSQL's basic_archive is the model (reference: backup.sgml, contrib/basic_archive).
"""

from __future__ import annotations

import posixpath
from typing import NamedTuple

from neumann.archive.destinations import Destination
from neumann.env.doors import Disk
from neumann.env.files import FULL, read_file
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


class Pushed(NamedTuple):
    """`did`: "copied"; "there" if the same bytes were; "replaced" if a part of them was."""

    name: str
    bytes: int
    did: str


class _File(NamedTuple):
    """What is to be archived, checked. `history` is None for a segment. `stamp` is the path of the history
    file of its timeline, as far as one lies on this node; else ""."""

    path: str
    name: str
    data: bytes
    cluster_id: bytes
    timeline: Timeline
    history: History | None
    stamp: str = ""


def push(source: Disk, path: str, target: Destination, *, create: bool = False) -> Pushed:
    """Archive the file at `path`, which is absolute; when it returns, `target` has it, durably.

    `create`: an archive may begin there.
    BadInput, Corrupt, RefusedByState: the file is none that can be archived. RefusedByState: the place is
    no archive, or has other bytes under the name. WrongHistory: it is another cluster's. Unavailable: it
    failed, nothing of it bears the name, and it may be tried again.
    """
    return _archive(_read(source, path), target, create)


def push_bytes(name: str, data: bytes, target: Destination) -> Pushed:
    """The same for bytes that are in no file here."""
    return _archive(_examine(name, data, name), target, False)


def _archive(file: _File, target: Destination, create: bool) -> Pushed:
    if create and file.history is None:
        raise BadInput(f"{file.name} begins no archive", remedy="--create goes with a .history file")
    try:
        _check_archive(target, file, create)
        did = _put(target, file)
        target.settle(file.name)
    except OSError as error:
        raise _failed(f"{target.place}/{file.name}", error) from error
    return Pushed(file.name, len(file.data), did)


def _read(disk: Disk, path: str) -> _File:
    name = posixpath.basename(path)
    if names.parse_segment(name) is None and names.parse_history(name) is None:
        raise BadInput(f"{path}: {name!r} is no name of a segment or a history")
    try:
        data = read_file(disk, path)
    except FileNotFoundError as error:
        raise NotFound(f"{path} does not exist") from error
    file = _examine(name, data, path)
    return file._replace(stamp=_find_stamp(disk, file))


def _find_stamp(disk: Disk, file: _File) -> str:
    """A leader writes it to raft/, its segments lie in raft/wal/, and in scratch/ what a peer gave."""
    if file.history is not None:
        return file.path
    beside = posixpath.dirname(file.path)
    above = posixpath.dirname(beside)
    stamp = names.history_name(file.timeline)
    where = (f"{place}/{stamp}" for place in (beside, above, f"{above}/{names.RAFT}"))
    return next((path for path in where if disk.exists(path)), "")


def _examine(name: str, data: bytes, path: str) -> _File:
    """What is to be archived under that name, every byte of it checked."""
    segment, timeline = names.parse_segment(name), names.parse_history(name)
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


def _check_archive(target: Destination, file: _File, create: bool) -> None:
    """That the place is this cluster's archive, or that the file may begin one there."""
    histories: dict[Timeline, History] = {}
    damaged: dict[Timeline, NeumannError] = {}
    found = target.list()
    for name in found:
        if (timeline := names.parse_history(name)) is not None and (held := target.read(name)) is not None:
            try:
                histories[timeline] = history_format.decode(held.data, f"{target.place}/{name}")
            except (Corrupt, FormatTooNew) as error:
                damaged[timeline] = error
    owners = {history.cluster_id for history in histories.values()}
    if not histories:
        owners = _owners_of_segments(target, found)
    for owner in sorted(owners - {file.cluster_id}):
        raise WrongHistory(
            f"{target.place} is the archive of cluster {owner.hex()}, and {file.name} is of "
            f"{file.cluster_id.hex()}",
            remedy="give each cluster a directory of its own",
        )
    if file.history is None:
        if file.timeline in damaged:
            raise damaged[file.timeline]
        if file.timeline not in histories:
            raise _unstamped(target.place, file)
    elif not (owners or create or len(file.history.records) == 1):
        raise _unstamped(target.place, file)


def _owners_of_segments(target: Destination, found: list[str]) -> set[bytes]:
    """Clusters whose segments lie there, as far as their headers can be read."""
    owners = set()
    for name in found:
        if names.parse_segment(name) is not None:
            head = target.head(name, SEGMENT_HEADER_BYTES)
            try:
                owners.add(segment_format.decode_header(head, f"{target.place}/{name}").cluster_id)
            except (Corrupt, FormatTooNew):
                continue
    return owners


def _unstamped(directory: str, file: _File) -> RefusedByState:
    stamp = names.history_name(file.timeline)
    begun_by = file.stamp or f"DATA_DIR/raft/{stamp}"
    where = "" if file.stamp else ", with the data directory of the node that leads"
    return RefusedByState(
        f"{directory} is not the archive of timeline {file.timeline}: {stamp} is not there",
        remedy="is it mounted? If an archive shall begin there: "
        f"neumann-admin wal-push --create {begun_by} {directory}{where}",
    )


# --- the copy ------------------------------------------------------------------------------------


def _put(target: Destination, file: _File) -> str:
    """Give the bytes their name; what was done."""
    old = target.read(file.name)
    if old is not None and old.data == file.data and target.is_durable(file.name):
        return "there"
    if old is not None and not file.data.startswith(old.data):
        raise _other_bytes(f"{target.place}/{file.name}", file, old.data)
    try:
        if old is not None:
            target.replace(file.name, file.data, old)
            return "replaced"
        target.create(file.name, file.data)
    except FileExistsError:  # another push of the file was quicker
        return _put(target, file)
    return "copied"


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
    if error.errno in FULL:
        return DiskFull(text, remedy="make room there; it is tried again")
    return Unavailable(text, remedy="it is tried again")
