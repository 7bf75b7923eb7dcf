"""Tells what is in one file of ours, whichever it is: by its first bytes, else by its name. Read-only."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from neumann.env.doors import Disk
from neumann.env.files import read_file
from neumann.errors import BadInput, Corrupt, NeumannError
from neumann.format import command, names, special, state, table
from neumann.format import frame as frame_format
from neumann.format import history as history_format
from neumann.format import journal as journal_format
from neumann.format import manifest as manifest_format
from neumann.format import restored as restored_format
from neumann.format import segment as segment_format
from neumann.format.frame import Frame, Kind
from neumann.format.record import SLOT_BYTES, SLOT_COUNT
from neumann.format.segment import SEGMENT_HEADER_BYTES, SEGMENT_MAGIC, SegmentHeader
from neumann.format.times import time_text
from neumann.store.table_reader import Table

_OPS = {
    command.PUT: "put",
    command.DELETE: "delete",
    command.BATCH: "batch",
    command.CHECK: "check",
    command.OPEN: "open",
}


class Inspection(NamedTuple):
    """`fields`: what the file says of itself. `items`: its frames, entries or rows, one by one; they end
    with `damage`, if there is any."""

    kind: str
    fields: dict[str, Any]
    items: Iterator[dict[str, Any]]


Reader = Callable[[Disk, str, bool], Inspection]
"""(disk, path, whether entries are wanted)."""


def inspect_file(disk: Disk, path: str, *, entries: bool) -> Inspection:
    """What that file holds. BadInput if it is not ours, Corrupt if its head is damaged."""
    file = disk.open(path)
    try:
        magic = file.pread(8, 0)
    finally:
        file.close()
    reader = next((read for prefix, read in _READERS.items() if magic.startswith(prefix)), None)
    reader = reader or _by_name(posixpath.basename(path))
    if reader is None:
        raise BadInput(
            f"{path} is no file of neumann: it starts with {magic!r}",
            remedy="what can be read: segments, tables, manifests, histories, votes, sync marks, identities, "
            "restored, diverged and restore.journal",
        )
    return reader(disk, path, entries)


def _by_name(name: str) -> Reader | None:
    """For a file whose first bytes are damaged: it is still told as what it was."""
    parsers: tuple[tuple[Callable[[str], object], bytes], ...] = (
        (names.parse_segment, b"NEUWAL"),
        (names.parse_table, b"NEUTAB"),
        (names.parse_manifest, b"NEUMAN"),
        (names.parse_history, b"NEUHST"),
    )
    prefix = next((prefix for parse, prefix in parsers if parse(name)), _NAMES.get(name))
    return None if prefix is None else _READERS[prefix]


def _segment(disk: Disk, path: str, entries: bool) -> Inspection:
    data = read_file(disk, path)
    header = segment_format.decode_header(data, path)
    fields = {
        "cluster_id": header.cluster_id.hex(),
        "timeline": str(header.timeline),
        "first_index": header.first_index,
        "previous_term": header.previous_term,
        "previous_chain": f"{header.previous_chain:08x}",
        "bytes": len(data),
    }
    return Inspection("segment", fields, _frames(data, header, entries))


def _frames(data: bytes, segment: SegmentHeader, entries: bool) -> Iterator[dict[str, Any]]:
    offset, before = SEGMENT_HEADER_BYTES, None
    while offset < len(data):
        try:
            frame = frame_format.decode(data, offset)
            if before is not None:
                frame_format.check_follows(before, frame.header)
            elif (frame.header.first_index, frame.header.parent) != (
                segment.first_index,
                segment.previous_chain,
            ):
                raise Corrupt("the first frame does not continue what the segment's header names")
        except NeumannError as error:
            if any(data[offset:]):
                yield {"offset": offset, "damage": error.message}
            else:
                yield {"offset": offset, "unused_bytes": len(data) - offset}
            return
        yield from _entries(frame) if entries else [_frame_line(frame, offset)]
        before = frame.header
        offset += len(frame.data)


def _frame_line(frame: Frame, offset: int) -> dict[str, Any]:
    header = frame.header
    return {
        "offset": offset,
        "kind": header.kind.name.lower(),
        "first_index": header.first_index,
        "last_index": header.last_index,
        "term": header.term,
        "time": time_text(header.time_ns, 9),
        "chain": f"{header.chain:08x}",
        "bytes": len(frame.data),
    }


def _entries(frame: Frame) -> Iterator[dict[str, Any]]:
    header = frame.header
    place = {"term": header.term, "time": time_text(header.time_ns, 9)}
    if header.kind is not Kind.DATA:
        entry = special.decode(frame)
        fields = {} if entry is None else {name: _shown(value) for name, value in entry._asdict().items()}
        yield {"index": header.first_index, **place, "op": header.kind.name.lower(), **fields}
        return
    commands = command.decode_body(frame.body)
    if commands is None:
        yield {"index": header.first_index, **place, "op": "unreadable", "last_index": header.last_index}
    for index, one in enumerate(commands or (), header.first_index):
        yield {"index": index, **place, **_command_line(one)}


def _command_line(one: Any) -> dict[str, Any]:
    try:
        op, table_name, key, condition, session, serial, value = one
        inside = {"session": session, "serial": serial} if session else {}
        if op == command.OPEN:
            return {"op": "open"}
        if op == command.BATCH:
            rows = [f"{_OPS.get(row[0], '?')} {row[1]}/{row[2]}" for row in value]
            return {"op": "batch", "rows": rows} | inside
        line = {"op": _OPS.get(op, "?"), "table": table_name, "key": key} | inside
        if value is not None:
            line["value_bytes"] = len(value)
        return line | ({"condition": _shown(condition)} if condition is not None else {})
    except (ValueError, TypeError, IndexError):
        return {"op": "unreadable"}


def _table(disk: Disk, path: str, entries: bool) -> Inspection:
    found = Table(disk, path, None)
    fields = {name: _shown(value) for name, value in found.ref._asdict().items()}
    lines = _rows(found) if entries else _table_blocks(found)
    return Inspection("table", fields | {"bytes": found.file_bytes}, lines)


def _table_blocks(found: Table) -> Iterator[dict[str, Any]]:
    for number, columns in enumerate(found.chunks()):
        table_name, key = command.split_row_key(columns.keys[0])
        yield {"block": number, "rows": len(columns.keys), "table": table_name, "first_key": key}


def _rows(found: Table) -> Iterator[dict[str, Any]]:
    for columns in found.chunks():
        for place, address in enumerate(columns.keys):
            value, revision, time_ns = columns.version(place)
            table_name, key = command.split_row_key(address)
            size = None if value is None else len(value)
            line = {"table": table_name, "key": key, "revision": revision, "time": time_text(time_ns, 9)}
            yield line | {"value_bytes": size}


def _manifest(disk: Disk, path: str, entries: bool) -> Inspection:
    found = manifest_format.decode(read_file(disk, path), path)
    fields = {
        "id": found.snapshot_id,
        "index": found.point.index,
        "term": found.point.term,
        "chain": f"{found.point.chain:08x}",
        "time": time_text(found.time_ns, 9),
        "digest": manifest_format.layout_digest(found).hex(),
        "cluster_id": found.history.cluster_id.hex(),
        "timeline": str(found.history.timeline),
        "members": [f"{m.node_id}={m.address} {m.role}" for m in found.configuration.members],
        "sessions": len(found.sessions),
        "pause": _shown(found.pause),
        "archiving": _shown(found.archiving),
        "compaction": _shown(found.compaction),
        "feature_level": found.feature_level,
        "block_bytes": found.block_bytes,
    }
    lines = ({name: _shown(value) for name, value in ref._asdict().items()} for ref in found.tables)
    return Inspection("manifest", fields, lines)


def _history(disk: Disk, path: str, entries: bool) -> Inspection:
    found = history_format.decode(read_file(disk, path), path)
    lines = ({name: _shown(value) for name, value in one._asdict().items()} for one in found.records)
    return Inspection(
        "history", {"cluster_id": found.cluster_id.hex(), "timeline": str(found.timeline)}, lines
    )


def _record(kind: str, decode: Callable[[bytes, str], Any]) -> Reader:
    def read(disk: Disk, path: str, entries: bool) -> Inspection:
        found = decode(read_file(disk, path), path)
        fields = {name: _shown(value) for name, value in found._asdict().items()}
        return Inspection(kind, fields, iter(()))

    return read


def _slots(
    kind: str,
    decode: Callable[[bytes, str], tuple[int, Any]],
    decode_slot: Callable[[bytes, int, str], tuple[int, Any]],
) -> Reader:
    def read(disk: Disk, path: str, entries: bool) -> Inspection:
        data = read_file(disk, path)
        fields = {name: _shown(value) for name, value in decode(data, path)[1]._asdict().items()}
        return Inspection(kind, fields, _slot_lines(data, path, decode_slot))

    return read


def _slot_lines(
    data: bytes, path: str, decode_slot: Callable[[bytes, int, str], tuple[int, Any]]
) -> Iterator[dict[str, Any]]:
    for slot in range(SLOT_COUNT):
        try:
            yield {"slot": slot, "sequence": decode_slot(data, slot, path)[0]}
        except NeumannError as error:
            yield {"slot": slot, "offset": slot * SLOT_BYTES, "damage": error.message}


def _shown(value: Any) -> Any:
    """As JSON shows it: bytes in hex, timelines by name, tuples as lists."""
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "counter"):
        return str(value)
    if isinstance(value, tuple):
        return [_shown(item) for item in value]
    return value


_READERS: dict[bytes, Reader] = {
    SEGMENT_MAGIC[:6]: _segment,
    table.MAGIC[:6]: _table,
    b"NEUMAN": _manifest,
    b"NEUHST": _history,
    b"NEUVOT": _slots("vote", state.decode_vote, state.decode_vote_slot),
    b"NEUMRK": _slots("sync mark", state.decode_mark, state.decode_mark_slot),
    b"NEUIDT": _record("identity", state.decode_identity),
    b"NEUJRN": _record("journal of a swap", journal_format.decode),
    b"NEURST": _record("restored", restored_format.decode),
    b"NEUDIV": _record("diverged", state.decode_diverged),
}
_NAMES = {
    names.MANIFEST: b"NEUMAN",
    names.VOTE: b"NEUVOT",
    names.SYNC_MARK: b"NEUMRK",
    names.IDENTITY: b"NEUIDT",
    names.RESTORE_JOURNAL: b"NEUJRN",
    names.RESTORED: b"NEURST",
    names.DIVERGED: b"NEUDIV",
}
