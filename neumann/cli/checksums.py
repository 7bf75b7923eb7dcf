"""Reads every byte of a data directory and names what is not as it was written. Changes nothing.

It works beside a running server. The log is judged by the sync mark, as a start would judge it: what
lies above it may be a batch in the making and is not read, unless an orderly stop left the mark at the
end. A file that goes away meanwhile was dropped, and what looks damaged is looked at a second time, since
a truncation lowers the mark before it cuts. What was not read, `Report.not_read` says.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from neumann.cli.progress import Advance
from neumann.env.doors import Disk
from neumann.env.files import read_file
from neumann.errors import Corrupt, FormatTooNew, NotFound
from neumann.format import history as history_format
from neumann.format import journal as journal_format
from neumann.format import manifest as manifest_format
from neumann.format import names, state
from neumann.format import restored as restored_format
from neumann.format import segment as segment_format
from neumann.format.ids import LogPoint, Timeline
from neumann.format.names import Paths
from neumann.format.record import SLOT_BYTES, SLOT_COUNT
from neumann.format.state import SyncMark
from neumann.snapshot.publish import list_published
from neumann.store.table_reader import Table
from neumann.wal.scan import scan, used_bytes
from neumann.wal.segment import Segment
from neumann.wal.verify import verify_segment

_MEMBER = (
    "neumann-admin rejoin on this node fetches a good copy from the cluster; "
    "a sole voter is brought back by neumann-admin wal-replay"
)
_BEHIND = "behind the end that an orderly stop left the log with"
_STATE = "the next start makes both slots equal; if neither is readable: neumann-admin rejoin"
_RESTORED = "it only keeps the same restore from being done twice: delete it"
_JOURNAL = "do again what was begun here: wal-replay, init-cluster or rejoin"
_HISTORY = "delete it: it is written anew before it is archived"
_COPY = "the running node links missing files again within a minute; a damaged copy: delete that directory"


class Damage(NamedTuple):
    """One thing that is wrong. `offset` and `first_index` where they are known."""

    path: str
    message: str
    remedy: str
    offset: int | None = None
    first_index: int | None = None


@dataclass(slots=True)
class Scope:
    """How much was read of one kind of file."""

    files: int = 0
    entries: int = 0
    bytes: int = 0

    def add(self, size: int, entries: int = 0) -> None:
        """One more file."""
        self.files += 1
        self.entries += entries
        self.bytes += size


@dataclass(slots=True)
class Report:
    """What was read, by kind, what is wrong, and what lies there and was not read."""

    data_dir: str
    scopes: dict[str, Scope] = field(default_factory=dict)
    damage: list[Damage] = field(default_factory=list)
    not_read: list[str] = field(default_factory=list)
    advance: Advance | None = None
    expected_bytes: int = 0

    def tell(self) -> None:
        """How far it is, to whoever wants to know."""
        if self.advance is not None:
            self.advance(sum(scope.bytes for scope in self.scopes.values()), self.expected_bytes)


def verify_directory(disk: Disk, root: str, advance: Advance | None = None) -> Report:
    """Read all of a data directory but aside/. NotFound if it holds no state. `advance` gets bytes."""
    paths = Paths(root)
    if not (disk.exists(paths.raft) or disk.exists(paths.store)):
        raise NotFound(f"{root} holds no state of a node", remedy="name the node's --data-dir")
    first = _read_all(disk, paths, advance)
    if not first.damage:
        return first
    second = _read_all(disk, paths, advance)
    lasting = {damage.path for damage in first.damage}
    second.damage = [damage for damage in second.damage if damage.path in lasting]
    return second


def _read_all(disk: Disk, paths: Paths, advance: Advance | None) -> Report:
    report = Report(paths.root, advance=advance)
    for directory in (paths.wal, paths.store):
        report.expected_bytes += sum(_size(disk, f"{directory}/{name}") for name in disk.list(directory))
    mark = _verify_state(disk, paths, report)
    _verify_log(disk, paths, mark, report)
    _verify_store(disk, paths, report)
    _verify_published(disk, paths, report)
    _note_unread(disk, paths, report)
    return report


def _attempt(report: Report, path: str, remedy: str, work: Callable[[], None]) -> None:
    """Run one check; what is wrong becomes Damage, a file that is gone was dropped meanwhile."""
    try:
        work()
    except FileNotFoundError:
        return
    except (Corrupt, FormatTooNew) as error:
        offset, first = error.detail.get("offset"), error.detail.get("first_index")
        report.damage.append(
            Damage(
                path,
                error.message,
                error.remedy or remedy,
                offset if isinstance(offset, int) else None,
                first if isinstance(first, int) else None,
            )
        )
    finally:
        report.tell()


def _verify_state(disk: Disk, paths: Paths, report: Report) -> SyncMark | None:
    """What lies beside the log; the sync mark if there is one."""
    scope = report.scopes.setdefault("state", Scope())
    found: list[SyncMark] = []

    def whole(path: str, decode: Callable[[bytes, str], object]) -> None:
        data = read_file(disk, path)
        decode(data, path)
        scope.add(len(data))

    def slots(path: str, decode_slot: Callable[[bytes, int, str], object]) -> None:
        data = read_file(disk, path)
        if path == paths.sync_mark:
            found.append(state.decode_mark(data, path)[1])
        for slot in range(SLOT_COUNT):
            decode_slot(data, slot, path)
        if len(data) != SLOT_COUNT * SLOT_BYTES:
            raise Corrupt(f"{path}: {len(data) - SLOT_COUNT * SLOT_BYTES} bytes follow its slots")
        scope.add(len(data))

    _attempt(report, paths.identity, _MEMBER, lambda: whole(paths.identity, state.decode_identity))
    _attempt(report, paths.restored, _RESTORED, lambda: whole(paths.restored, restored_format.decode))
    _attempt(report, paths.diverged, _MEMBER, lambda: whole(paths.diverged, state.decode_diverged))
    _attempt(report, paths.journal, _JOURNAL, lambda: whole(paths.journal, journal_format.decode))
    for name in disk.list(paths.raft):
        if names.parse_history(name) is not None:
            path = f"{paths.raft}/{name}"
            _attempt(report, path, _HISTORY, lambda path=path: whole(path, history_format.decode))  # type: ignore[misc]
    _attempt(report, paths.vote, _STATE, lambda: slots(paths.vote, state.decode_vote_slot))
    _attempt(report, paths.sync_mark, _STATE, lambda: slots(paths.sync_mark, state.decode_mark_slot))
    return found[0] if found else None


def _verify_log(disk: Disk, paths: Paths, mark: SyncMark | None, report: Report) -> None:
    scope = report.scopes.setdefault("log", Scope())
    ends: dict[Timeline, LogPoint] = {}

    def segment(path: str, timeline: Timeline, first_index: int) -> None:
        if mark is not None and first_index >= mark.segment_first:
            if first_index > mark.segment_first and not mark.clean:
                report.not_read.append(f"{path}: behind entry {mark.index}, which the sync mark names")
                return
            if first_index > mark.segment_first:
                raise Corrupt(f"{path}: {_BEHIND}", detail={"first_index": first_index})
            previous, end, size = _read_open(disk, path, mark, report)
        else:
            summary = verify_segment(disk, path)
            previous, end, size = summary.header.previous, summary.end, summary.bytes
            if mark is not None and not summary.sealed:
                raise Corrupt(
                    f"{path}: it ends at entry {end.index} without its seal",
                    detail={"offset": size, "first_index": end.index + 1},
                )
        scope.add(size, end.index - first_index + 1)
        before = ends.get(timeline)
        ends[timeline] = end
        if before is not None and previous != before:
            raise Corrupt(
                f"{path}: continues entry {previous.index}, and the log before it ends at {before.index}",
                detail={"first_index": before.index + 1},
            )

    for name in disk.list(paths.wal):
        parsed = names.parse_segment(name)
        if parsed is not None:
            path = f"{paths.wal}/{name}"
            _attempt(report, path, _MEMBER, lambda path=path, parsed=parsed: segment(path, *parsed))  # type: ignore[misc]
    if mark is not None and max((end.index for end in ends.values()), default=0) < mark.index:
        what = f"{paths.wal}: the log ends before entry {mark.index}, which the sync mark says was durable"
        report.damage.append(Damage(paths.wal, what, _MEMBER, None, mark.index))


def _read_open(disk: Disk, path: str, mark: SyncMark, report: Report) -> tuple[LogPoint, LogPoint, int]:
    """The open segment up to the sync mark: (what it continues, where the mark is, bytes)."""
    data = read_file(disk, path)
    header = segment_format.decode_header(data, path)
    found = scan(data[: mark.offset], Segment(path, header.previous))
    if found.segment.end_bytes != mark.offset:
        first = found.segment.last_index + 1
        raise Corrupt(
            f"{path}: {found.why}; entries {first}..{mark.index} were durable",
            detail={"offset": found.segment.end_bytes, "first_index": first},
        )
    end = found.segment.point(len(found.headers))
    place: dict[str, object] = {"offset": mark.offset, "first_index": mark.index + 1}
    if end != LogPoint(mark.index, mark.term, mark.chain):
        raise Corrupt(f"{path}: has another frame than the sync mark names, entry {mark.index}", detail=place)
    behind = used_bytes(data) - mark.offset
    if behind > 0 and mark.clean:
        raise Corrupt(f"{path}, offset {mark.offset}: something lies {_BEHIND}", detail=place)
    if behind > 0:
        what = f"{behind} bytes behind entry {mark.index}, which the sync mark names"
        report.not_read.append(f"{path}: {what}")
    return header.previous, end, mark.offset


def _verify_store(disk: Disk, paths: Paths, report: Report) -> None:
    manifests = report.scopes.setdefault("manifests", Scope())
    tables = report.scopes.setdefault("tables", Scope())

    def manifest(path: str) -> None:
        data = read_file(disk, path)
        for ref in manifest_format.decode(data, path).tables:
            if not disk.exists(f"{paths.store}/{names.table_name(ref.digest)}") and disk.exists(path):
                raise Corrupt(f"{path}: its table {ref.name} is missing")
        manifests.add(len(data))

    for name in disk.list(paths.store):
        path = f"{paths.store}/{name}"
        if names.parse_manifest(name):
            _attempt(report, path, _MEMBER, lambda path=path: manifest(path))  # type: ignore[misc]
        elif names.parse_table(name):
            _attempt(report, path, _MEMBER, lambda path=path: _verify_table(disk, path, tables))  # type: ignore[misc]


def _verify_table(disk: Disk, path: str, scope: Scope) -> None:
    """Every byte of a table, and that it is the one that its name says."""
    table = Table(disk, path, None)
    table.verify()
    if names.table_name(table.ref.digest) != posixpath.basename(path):
        raise Corrupt(f"{path}: holds another table, {table.ref.name}")
    scope.add(table.file_bytes, table.ref.rows)


def _verify_published(disk: Disk, paths: Paths, report: Report) -> None:
    """Tables that are links to those in store/ were read there."""
    scope = report.scopes.setdefault("snapshots", Scope())
    tables = report.scopes.setdefault("tables", Scope())
    read = _inodes(disk, paths.store)
    for published in list_published(disk, paths.snapshots):
        if not published.complete and disk.exists(published.path):
            what = f"{published.path}: {published.damage}"
            is_unread = published.manifest is None
            path = f"{published.path}/{names.MANIFEST}" if is_unread else published.path
            report.damage.append(Damage(path, what, _COPY))
            continue
        scope.add(published.bytes)
        for name in disk.list(published.path):
            path = f"{published.path}/{name}"
            if names.parse_table(name) and (inode := _inode(disk, path)) not in read:
                read.add(inode)
                _attempt(report, path, _COPY, lambda path=path: _verify_table(disk, path, tables))  # type: ignore[misc]


def _note_unread(disk: Disk, paths: Paths, report: Report) -> None:
    """What a person set aside, and files of no kind that is known here."""
    if set_aside := disk.list(paths.aside):
        report.not_read.append(f"{paths.aside}: {len(set_aside)} states that were set aside")
    known: dict[str, tuple[Callable[[str], object], ...]] = {
        paths.wal: (names.parse_segment,),
        paths.store: (names.parse_manifest, names.parse_table),
    }
    for directory, kinds in known.items():
        for name in disk.list(directory):
            if not any(parse(name) for parse in kinds):
                report.not_read.append(f"{directory}/{name}: no file of that directory")


def _inodes(disk: Disk, directory: str) -> set[int]:
    return {_inode(disk, f"{directory}/{name}") for name in disk.list(directory)}


def _size(disk: Disk, path: str) -> int:
    """0 for a file that has gone away."""
    try:
        return disk.stat(path).size_bytes
    except FileNotFoundError:
        return 0


def _inode(disk: Disk, path: str) -> int:
    """0 for a file that has gone away."""
    try:
        return disk.stat(path).inode
    except FileNotFoundError:
        return 0
