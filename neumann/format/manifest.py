"""The manifest: a snapshot is a manifest and the tables it names (design section 5).

A manifest holds nothing of one node: at the same marker it is byte-identical on every replica, and its
BLAKE2b is the **layout digest** that replicas compare (R5). The file is one record (format/record.py).
"""

from __future__ import annotations

from itertools import chain, starmap
from typing import Any, NamedTuple

import msgpack

from neumann.errors import Corrupt
from neumann.format import history as history_format
from neumann.format import record
from neumann.format.checksum import digest
from neumann.format.fields import build, check_rows, checked
from neumann.format.history import History
from neumann.format.ids import Configuration, LogPoint, configuration_from_plain
from neumann.format.special import Pause, check_level

MAGIC = b"NEUMAN01"


class TableRef(NamedTuple):
    """One immutable sorted table, named by the digest of its uncompressed content.

    Rows count tombstones too. raw_bytes is the uncompressed size, the same on every node.
    """

    digest: bytes
    rows: int
    tombstones: int
    raw_bytes: int
    first_key: str
    last_key: str

    @property
    def name(self) -> str:
        """What its file's name is made of: 64 hex digits."""
        return self.digest.hex()


class Compaction(NamedTuple):
    """A merge in flight: its inputs (consecutive tables, newest first) and the marker that chose it."""

    chosen_index: int
    inputs: tuple[bytes, ...]
    feature_level: int


class Archiving(NamedTuple):
    """What the log says of the archive: on since the first `archived`, and how far it reaches."""

    on: bool = False
    through: int = 0


class SessionRecord(NamedTuple):
    """A client session (machine/sessions.py). `answers`: (serial, index, outcome), oldest entry first."""

    id: int
    highest: int
    answers: tuple[tuple[int, int, int], ...]


class Manifest(NamedTuple):
    """A snapshot. `tables` newest first; `time_ns` is that of the frame at `point`.

    `configuration` is the one as of that index. `block_bytes` is the cluster's table block size, set
    when it was formed. `sessions`: the least recently used first.
    """

    history: History
    point: LogPoint
    time_ns: int
    configuration: Configuration
    pause: Pause | None
    archiving: Archiving
    tables: tuple[TableRef, ...]
    compaction: Compaction | None
    feature_level: int
    block_bytes: int
    sessions: tuple[SessionRecord, ...] = ()

    @property
    def snapshot_id(self) -> str:
        """`<index>-<term>`."""
        return f"{self.point.index}-{self.point.term}"


def _body(manifest: Manifest) -> list[object]:
    return [history_format.to_plain(manifest.history), *manifest[1:]]


def layout_digest(manifest: Manifest) -> bytes:
    """32 bytes that compare two replicas at the same marker."""
    return digest(msgpack.packb(_body(manifest), use_bin_type=True))


def encode(manifest: Manifest) -> bytes:
    """The manifest file's bytes."""
    return record.encode(MAGIC, _body(manifest))


def decode(data: bytes, where: str) -> Manifest:
    """Read and check a manifest; Corrupt or FormatTooNew names `where`."""
    payload = record.decode(MAGIC, data, where)
    try:
        found = _build(payload)
    except ValueError as error:
        raise Corrupt(f"{where}: not a manifest: {error}") from error
    check_level(found.feature_level, where)
    return found


def _build(payload: tuple[Any, ...]) -> Manifest:
    plain_history, point, time_ns, configuration, pause, archiving, tables, compaction, *rest = payload
    feature_level, block_bytes, sessions = rest
    checked((time_ns, tables, feature_level, block_bytes, sessions), (int, tuple, int, int, tuple))
    return Manifest(
        history_format.from_plain(plain_history),
        build(LogPoint, point),
        time_ns,
        configuration_from_plain(configuration),
        None if pause is None else build(Pause, pause),
        build(Archiving, archiving),
        tuple(build(TableRef, t) for t in tables),
        None if compaction is None else _compaction(compaction),
        feature_level,
        block_bytes,
        _sessions(sessions),
    )


_SESSION = (int, int, tuple)
_ANSWER = (int, int, int)


def _sessions(plain: tuple[Any, ...]) -> tuple[SessionRecord, ...]:
    check_rows(plain, _SESSION)
    check_rows(tuple(chain.from_iterable(answers for _, _, answers in plain)), _ANSWER)
    return tuple(starmap(SessionRecord, plain))


def _compaction(plain: object) -> Compaction:
    chosen_index, inputs, level = checked(plain, (int, tuple, int))
    return Compaction(chosen_index, checked(inputs, (bytes,) * len(inputs)), level)
