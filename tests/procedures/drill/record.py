"""What was acknowledged, when, and what the state must be from that: kept apart from the product.

Each acknowledged write is a line of the record's file and an item in memory, numbered by the index that
the cluster answered. The state at an index is these writes replayed into a dictionary, and its content
digest is computed here from the definition (BLAKE2b-256 over a MessagePack array [table NUL key, value
as bin, revision] for each row, in the order of the first), not by the product's code. What an operator
lost on purpose, by restoring an older state, is forgotten in memory and marked in the file.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import msgpack

Rows = dict[tuple[str, str], tuple[bytes, int]]
"""(table, key) -> (packed value, revision)."""


@dataclass(frozen=True, slots=True)
class Write:
    """An acknowledged write. `rows` are (table, key, packed value; None deletes)."""

    index: int
    sent_ns: int
    acked_ns: int
    rows: tuple[tuple[str, str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class State:
    """What a cluster must hold when it has applied everything through `last` and nothing later."""

    rows: Rows
    last: Write

    def digest(self) -> str:
        """Its content digest in hex."""
        return content_digest(self.rows)


def content_digest(rows: Rows) -> str:
    """In hex, as the module's docstring defines it."""
    digest = hashlib.blake2b(digest_size=32)
    for (table, key), (packed, revision) in sorted(rows.items(), key=lambda row: "\0".join(row[0])):
        digest.update(msgpack.packb(["\0".join((table, key)), packed, revision], use_bin_type=True))
    return digest.hexdigest()


def pack(value: object) -> bytes:
    """A value's MessagePack bytes, as a client has to send them."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


class Record:
    """Filled by the clients' thread, read by the procedures'."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1, encoding="utf-8")  # a line leaves us at once
        self._base: Rows = {}
        self._writes: list[Write] = []

    def acknowledged(self, index: int, sent_ns: int, rows: Iterable[tuple[str, str, bytes | None]]) -> Write:
        """Note a write at the moment its acknowledgement is in our hands."""
        write = Write(index, sent_ns, time.time_ns(), tuple(rows))
        self._writes.append(write)
        plain = [
            [table, key, None if packed is None else msgpack.unpackb(packed)]
            for table, key, packed in write.rows
        ]
        line = {"index": index, "sent_ns": sent_ns, "acked_ns": write.acked_ns, "rows": plain}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        return write

    def last(self) -> Write:
        """The write that was acknowledged last."""
        return self._writes[-1]

    def since(self, acked_ns: int) -> list[Write]:
        """Writes acknowledged at that moment or later."""
        return [write for write in list(self._writes) if write.acked_ns >= acked_ns]

    def state(self, through: int | None = None) -> State:
        """The state at that index, or now. Call it when nothing at or below it is in flight."""
        known = [write for write in list(self._writes) if through is None or write.index <= through]
        writes = sorted(known, key=lambda write: write.index)
        assert writes, f"nothing was acknowledged at or below index {through}"
        rows = dict(self._base)
        for write in writes:
            for table, key, packed in write.rows:
                if packed is None:
                    rows.pop((table, key), None)
                else:
                    rows[table, key] = (packed, write.index)
        return State(rows, writes[-1])

    def restored(self, state: State) -> None:
        """The cluster was brought back to `state`: later writes are gone, and were meant to be."""
        self._base, self._writes = dict(state.rows), [replace(state.last, rows=())]
        self._file.write(json.dumps({"restored_to": state.last.index}) + "\n")

    def close(self) -> None:
        self._file.close()
