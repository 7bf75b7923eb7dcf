"""Tells what is in one file of ours, whichever it is, by its first bytes. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from neumann.env.doors import Disk
from neumann.env.files import read_file
from neumann.errors import BadInput, NeumannError
from neumann.format import command, special, state, table
from neumann.format import frame as frame_format
from neumann.format import history as history_format
from neumann.format import journal as journal_format
from neumann.format import manifest as manifest_format
from neumann.format import segment as segment_format
from neumann.format.frame import Frame, Kind
from neumann.format.segment import SEGMENT_HEADER_BYTES, SEGMENT_MAGIC
from neumann.format.times import time_text
from neumann.store.table_reader import Table

_OPS = {command.PUT: "put", command.DELETE: "delete", command.BATCH: "batch", command.CHECK: "check"}


class Inspection(NamedTuple):
    """`fields`: what the file says of itself. `items`: its frames, entries or rows, one by one; they end
    with `damage`, if there is any."""

    kind: str
    fields: dict[str, Any]
    items: Iterator[dict[str, Any]]


def inspect_file(disk: Disk, path: str, *, entries: bool) -> Inspection:
    """What that file holds. BadInput if it is not ours, Corrupt if its head is damaged."""
    file = disk.open(path)
    try:
        magic = file.pread(8, 0)
    finally:
        file.close()
    reader = next((read for prefix, read in _READERS.items() if magic.startswith(prefix)), None)
    if reader is None:
        raise BadInput(
            f"{path} is no file of neumann: it starts with {magic!r}",
            remedy="segments, tables, manifests, histories, votes, sync marks, identities can be read",
        )
    return reader(disk, path, entries)


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
    return Inspection("segment", fields, _frames(data, entries))


def _frames(data: bytes, entries: bool) -> Iterator[dict[str, Any]]:
    offset, before = SEGMENT_HEADER_BYTES, None
    while offset < len(data):
        try:
            frame = frame_format.decode(data, offset)
            if before is not None:
                frame_format.check_follows(before, frame.header)
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
    for index, one in enumerate(command.decode_body(frame.body) or (), header.first_index):
        yield {"index": index, **place, **_command_line(one)}


def _command_line(one: Any) -> dict[str, Any]:
    try:
        op, table_name, key, condition, _, _, value = one
        if op == command.BATCH:
            rows = [f"{_OPS.get(row[0], '?')} {row[1]}/{row[2]}" for row in value]
            return {"op": "batch", "rows": rows}
        line = {"op": _OPS.get(op, "?"), "table": table_name, "key": key}
        if value is not None:
            line["value_bytes"] = len(value)
        return line | ({"condition": _shown(condition)} if condition is not None else {})
    except (ValueError, TypeError, IndexError):
        return {"op": "unreadable"}


def _table(disk: Disk, path: str, entries: bool) -> Inspection:
    found = Table(disk, path, None)
    fields = {name: _shown(value) for name, value in found.ref._asdict().items()}
    return Inspection("table", fields | {"bytes": found.file_bytes}, _rows(found) if entries else iter(()))


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


def _record(kind: str, decode: Callable[[bytes, str], Any]) -> Callable[[Disk, str, bool], Inspection]:
    def read(disk: Disk, path: str, entries: bool) -> Inspection:
        found = decode(read_file(disk, path), path)
        fields = {name: _shown(value) for name, value in found._asdict().items()}
        return Inspection(kind, fields, iter(()))

    return read


def _shown(value: Any) -> Any:
    """As JSON shows it: bytes in hex, timelines by name, tuples as lists."""
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "counter"):
        return str(value)
    if isinstance(value, tuple):
        return [_shown(item) for item in value]
    return value


_READERS: dict[bytes, Callable[[Disk, str, bool], Inspection]] = {
    SEGMENT_MAGIC[:6]: _segment,
    table.MAGIC[:6]: _table,
    b"NEUMAN": _manifest,
    b"NEUHST": _history,
    b"NEUVOT": _record("vote", lambda data, where: state.decode_vote(data, where)[1]),
    b"NEUMRK": _record("sync mark", lambda data, where: state.decode_mark(data, where)[1]),
    b"NEUIDT": _record("identity", state.decode_identity),
    b"NEUJRN": _record("journal of a swap", journal_format.decode),
}
