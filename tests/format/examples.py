"""The worked examples of docs/format.md: one small cluster's files, as values and through the codecs.

    python -m tests.format.examples        write them into the page anew

A change of a format shows as a difference of the page. tests/format/test_page.py holds the page against
the codecs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from neumann.format import (
    command,
    frame,
    history,
    journal,
    manifest,
    message,
    record,
    restored,
    rpc,
    segment,
    special,
    state,
    table,
)
from neumann.format.checksum import digest
from neumann.format.frame import Frame, Kind
from neumann.format.history import History, HistoryRecord
from neumann.format.ids import Configuration, Member, Timeline
from neumann.format.journal import Journal
from neumann.format.manifest import Archiving, Manifest
from neumann.format.message import (
    Append,
    AppendReply,
    Envelope,
    SnapshotOffer,
    Status,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from neumann.format.restored import Restored
from neumann.format.segment import SEGMENT_HEADER_BYTES, SegmentHeader
from neumann.format.special import Archived, Break, Marker, Noop, Pause, Publish, Resume, Special
from neumann.format.state import Diverged, Identity, SyncMark, Vote
from neumann.format.table import Columns, Index
from tests.format.page import PAGE, Example, rewritten

# --- the cluster --------------------------------------------------------------------------------------

CLUSTER = bytes.fromhex("00112233445566778899aabbccddeeff")
STORAGE = bytes.fromhex("a0a1a2a3a4a5a6a7a8a9aaabacadaeaf")
TIMELINE = Timeline(1, 0x51D0C3A29F5B7E11)
NOON_NS = 1_700_000_000_000_000_000
HISTORY = History(CLUSTER, (HistoryRecord(TIMELINE, None, 0, 0, 0, 1, NOON_NS, "bootstrap"),))
MEMBERS = Configuration((Member("n1", STORAGE, "10.0.0.1:7878", "voter"),), ("n9",), ())
BERLIN = command.encode_put("cities", "berlin", command.pack_value({"population": 3_700_000}))
ATLANTIS = command.encode_delete("cities", "atlantis", (command.REVISION, 7))
BATCH = command.encode_batch(
    [
        (command.PUT, "cities", "rome", (command.ABSENT,), command.pack_value(None)),
        (command.CHECK, "cities", "berlin", (command.VALUE, command.pack_value(1)), None),
    ]
)
SEAL = Marker(True, True, "half", 0, b"", Publish.ASKED, 0, 1)


def _frames() -> tuple[Frame, ...]:
    base = HISTORY.base
    first = frame.encode(Kind.NOOP, 1, 2, NOON_NS + 1, base.chain, [special.encode(Noop())[1]])
    second = frame.encode(Kind.DATA, 2, 2, NOON_NS + 2, first.header.chain, [BERLIN, ATLANTIS])
    third = frame.encode(Kind.MARKER, 4, 2, NOON_NS + 3, second.header.chain, [special.encode(SEAL)[1]])
    return first, second, third


FRAMES = _frames()
END = FRAMES[-1].header.end
SEGMENT_HEADER = SegmentHeader(CLUSTER, TIMELINE, 1, HISTORY.base.term, HISTORY.base.chain)
ROWS = Columns(
    ("cities\0atlantis", "cities\0berlin"),
    (None, command.pack_value({"population": 3_700_000})),
    (3, 2),
    (NOON_NS + 2, NOON_NS + 2),
)
CONTENT = table.encode_content(ROWS)
BLOCK = table.encode_block(CONTENT)
FILTER = table.encode_filter(table.prints_of(ROWS.keys))
INDEX = Index([ROWS.keys[0]], [len(table.MAGIC) + len(BLOCK)], [len(ROWS.keys)], ROWS.keys[-1])
TABLE = table.MAGIC + BLOCK + FILTER + table.encode_end(INDEX, 2, 1, len(CONTENT), digest(CONTENT))
TABLE_REF = manifest.TableRef(digest(CONTENT), 2, 1, len(CONTENT), ROWS.keys[0], ROWS.keys[-1])
MANIFEST = Manifest(HISTORY, END, NOON_NS + 3, MEMBERS, None, Archiving(), (TABLE_REF,), None, 1, 65_536)
CHILD = HISTORY.child(
    HistoryRecord(
        Timeline(2, 0x0123456789ABCDEF), TIMELINE, 3, NOON_NS + 2, 1_000_004, 9, NOON_NS + 10**9, "restore"
    )
)
RESTORED = Restored(
    "restore",
    digest(b"wanted"),
    CHILD.timeline,
    3,
    NOON_NS + 2,
    1_000_004,
    1,
    digest(b"rows"),
    NOON_NS + 10**9,
)
DIVERGED = Diverged("snapshot 3 differs from the majority's", NOON_NS)
JOURNAL = Journal(
    "restore", (("raft", "aside/20231114T221320Z/raft"),), (("scratch/restore/raft", "raft"),), ("scratch",)
)
STATUS = Status(3, NOON_NS, 1 << 30, 1, 4, manifest.layout_digest(MANIFEST), 4, False)
MARK = SyncMark(5, SEGMENT_HEADER_BYTES, *END, 4, 2, True)


# --- how each is laid out -----------------------------------------------------------------------------

FRAME_PARTS = (
    (4, "header_crc"),
    (4, "body_crc"),
    (4, "parent"),
    (4, "body_bytes"),
    (4, "entry_count"),
    (1, "kind"),
    (1, "version"),
    (2, "zero"),
    (8, "first_index"),
    (8, "term"),
    (8, "time_ns"),
)
SEGMENT_PARTS = (
    (8, "magic"),
    (4, "crc"),
    (4, "version"),
    (16, "cluster_id"),
    (4, "timeline counter"),
    (8, "timeline random"),
    (8, "first_index"),
    (8, "previous_term"),
    (4, "previous_chain"),
)
RECORD_PARTS = ((8, "magic"), (4, "crc"), (4, "length"))
BLOCK_PARTS = ((4, "crc"), (4, "raw_bytes"), (4, "stored_bytes"))
FOOTER_PARTS = (
    (4, "index_bytes"),
    (4, "index_crc"),
    (8, "rows"),
    (8, "tombstones"),
    (8, "raw_bytes"),
    (32, "digest"),
    (28, "zero"),
    (4, "crc"),
    (8, "magic"),
)


def _frame_parts(one: Frame) -> tuple[tuple[int, str], ...]:
    if one.header.kind is not Kind.DATA:
        return (*FRAME_PARTS, (one.header.body_bytes, "body"))
    commands = [(len(packed), "a command") for packed in (BERLIN, ATLANTIS)]
    return (*FRAME_PARTS, (frame.ARRAY_HEADER_BYTES, "array32 header"), *commands)


def _record(value: Any, encode: Callable[[Any], bytes], decode: Callable[[bytes, str], Any]) -> Example:
    data = encode(value)
    parts = (*RECORD_PARTS, (len(data) - 16, "payload"))
    return Example(value, data, lambda found: decode(found, "page"), encode, parts)


def _slot(
    value: Any, encode: Callable[[int, Any], bytes], decode: Callable[[bytes, str], tuple[int, Any]]
) -> Example:
    """The record in a slot, without the zeros behind it. The example's value is (sequence, value)."""

    def read(found: bytes) -> tuple[int, Any]:
        return decode(found.ljust(record.SLOT_BYTES, b"\0") * record.SLOT_COUNT, "page")

    def write(numbered: tuple[int, Any]) -> bytes:
        padded = encode(*numbered)
        return padded[: 16 + int.from_bytes(padded[12:16], "little")]

    data = write((1, value))
    return Example((1, value), data, read, write, (*RECORD_PARTS, (len(data) - 16, "payload")))


def _packed(value: Any) -> Example:
    data = rpc.pack(value)
    return Example(
        value, data, lambda found: msgpack.unpackb(found, use_list=False), rpc.pack, ((len(data), ""),)
    )


def _special(value: Special) -> Example:
    kind, body = special.encode(value)

    def read(found: bytes) -> Special | None:
        return special.decode(frame.encode(kind, 1, 1, 1, 0, [found]))

    return Example(value, body, read, lambda known: special.encode(known)[1], ((len(body), f"kind {kind}"),))


def _message(value: message.Message, frames: bytes = b"", status: Status | None = None) -> Example:
    envelope = Envelope(CLUSTER, TIMELINE, "n1", STORAGE, value, status)
    data = message.encode(envelope, frames)
    return Example(
        envelope, data, message.decode, lambda known: message.encode(known, frames), ((len(data), ""),)
    )


def _read_segment(data: bytes) -> tuple[SegmentHeader, tuple[Frame, ...]]:
    header = segment.decode_header(data, "page")
    return header, frame.decode_run(data[SEGMENT_HEADER_BYTES:])


def _write_segment(value: tuple[SegmentHeader, tuple[Frame, ...]]) -> bytes:
    return segment.encode_header(value[0]) + b"".join(one.data for one in value[1])


def _read_table(data: bytes) -> tuple[Columns, manifest.TableRef]:
    footer = table.decode_footer(data[-table.FOOTER_BYTES :], "page")
    start = len(data) - table.FOOTER_BYTES - footer.index_bytes
    index = table.decode_index(data[start : -table.FOOTER_BYTES], footer, "page")
    table.check_magic(data[: table.HEADER_BYTES], "page")
    content = table.decode_content(data[table.HEADER_BYTES : index.ends[0]], "page")
    rows = table.decode_rows(content, "page")
    assert table.decode_filter(data[index.ends[0] : start], "page") == table.prints_of(rows.keys)
    return rows, footer.ref(index)


def _write_table(value: tuple[Columns, manifest.TableRef]) -> bytes:
    rows, ref = value
    content = table.encode_content(rows)
    block = table.encode_block(content)
    filters = table.encode_filter(table.prints_of(rows.keys))
    index = Index([rows.keys[0]], [table.HEADER_BYTES + len(block)], [len(rows.keys)], rows.keys[-1])
    end = table.encode_end(index, ref.rows, ref.tombstones, len(content), digest(content))
    return table.MAGIC + block + filters + end


def _examples() -> dict[str, Example]:
    first = FRAMES[1]
    whole = _write_segment((SEGMENT_HEADER, FRAMES))
    segment_parts = (*SEGMENT_PARTS, *(part for one in FRAMES for part in _frame_parts(one)))
    index_bytes = len(TABLE) - len(table.MAGIC) - len(BLOCK) - len(FILTER) - table.FOOTER_BYTES
    table_parts = (
        (8, "magic"),
        *BLOCK_PARTS,
        (len(BLOCK) - 12, "stored: LZ4"),
        (4, "crc"),
        (len(FILTER) - 4, "prints"),
        (index_bytes, "index"),
        *FOOTER_PARTS,
    )
    checked: dict[str, bytes] = {
        "put": BERLIN,
        "delete": ATLANTIS,
        "batch": BATCH,
        "open": command.encode_open(),
        "put_in_session": command.with_session(BERLIN, 7, 3),
    }
    commands = {
        name: Example(
            msgpack.unpackb(data, use_list=False),
            data,
            lambda found: command.check(found, command.Limits()),
            rpc.pack,
            ((len(data), ""),),
        )
        for name, data in checked.items()
    }
    append = Append(2, 1, 2, FRAMES[0].header.chain, 1, 5, 3)
    sent = _message(append, first.data)
    received = sent.value._replace(message=append._replace(frames=(first,)))
    return {
        "segment": Example((SEGMENT_HEADER, FRAMES), whole, _read_segment, _write_segment, segment_parts),
        "frame": Example(first, first.data, frame.decode, lambda known: known.data, _frame_parts(first)),
        **commands,
        "noop": _special(Noop()),
        "marker": _special(SEAL),
        "configuration": _special(MEMBERS),
        "pause": _special(Pause("backup", NOON_NS, "nightly")),
        "resume": _special(Resume("asked")),
        "archived": _special(Archived(4)),
        "break": _special(Break(5, 8, "disk lost")),
        "identity": _record(
            Identity(CLUSTER, TIMELINE, "n1", STORAGE), state.encode_identity, state.decode_identity
        ),
        "vote": _slot(Vote(2, "n1", STORAGE, 0, 0, 3), state.encode_vote_slot, state.decode_vote),
        "sync_mark": _slot(MARK, state.encode_mark_slot, state.decode_mark),
        "history": _record(CHILD, history.encode, history.decode),
        "manifest": _record(MANIFEST, manifest.encode, manifest.decode),
        "session": _packed((7, 3, ((1, 8, 0), (2, 9, 0), (3, 11, 1)))),
        "journal": _record(JOURNAL, journal.encode, journal.decode),
        "restored": _record(RESTORED, restored.encode, restored.decode),
        "diverged": _record(DIVERGED, state.encode_diverged, state.decode_diverged),
        "table": Example((ROWS, TABLE_REF), TABLE, _read_table, _write_table, table_parts),
        "content": Example(
            (ROWS.keys[1], ROWS.values[1], ROWS.revisions[1]),
            table.content_bytes(ROWS.cut(1, 2)),
            lambda found: msgpack.unpackb(found, use_list=False),
            rpc.pack,
            ((len(table.content_bytes(ROWS.cut(1, 2))), ""),),
        ),
        "vote_request": _message(VoteRequest(3, 4, 2, False, False)),
        "vote_reply": _message(VoteReply(3, True, False, STORAGE), status=STATUS),
        "append": sent._replace(value=received),
        "append_reply": _message(AppendReply(2, True, 3, 2, 5), status=STATUS),
        "snapshot_offer": _message(SnapshotOffer(2, 4, 2, END.chain, 6)),
        "timeout_now": _message(TimeoutNow(2)),
        "request": _packed((0, 1, "get", ("cities", "berlin", False))),
        "answer": _packed((1, 1, None, (command.pack_value({"population": 3_700_000}), 2, NOON_NS + 2))),
        "refusal": _packed((1, 2, ("not_found", "no such row", {"remedy": "check the key"}), None)),
        "notification": _packed((2, "raft", (_message(TimeoutNow(2)).data,))),
    }


EXAMPLES = _examples()


def main() -> None:
    """Write the examples into the page."""
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), EXAMPLES), encoding="utf-8")
    print(f"{PAGE}: {len(EXAMPLES)} examples")


if __name__ == "__main__":
    main()
