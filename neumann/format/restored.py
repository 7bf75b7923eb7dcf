"""`raft/restored`: how this directory's state came to be, if by a restore or by init-cluster.

It makes both one-shot: the same command typed again finds its own fingerprint and changes nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from neumann.errors import Corrupt
from neumann.format import record
from neumann.format.fields import build
from neumann.format.ids import Timeline

_MAGIC = b"NEURST01"


class Restored(NamedTuple):
    """The reached point is the last entry that was taken, of the parent timeline.

    fingerprint: what was asked for, 32 bytes. timeline: the new one. digest: the content digest.
    made_ns: when.
    """

    purpose: str
    fingerprint: bytes
    timeline: Timeline
    reached_index: int
    reached_time_ns: int
    base_index: int
    rows: int
    digest: bytes
    made_ns: int


def encode(restored: Restored) -> bytes:
    """The file's bytes."""
    return record.encode(_MAGIC, [*restored[:2], list(restored.timeline), *restored[3:]])


def decode(data: bytes, where: str) -> Restored:
    """The record in those bytes; Corrupt names `where`."""
    try:
        purpose, fingerprint, timeline, *rest = record.decode(_MAGIC, data, where)
        plain = (purpose, fingerprint, build(Timeline, timeline), *rest)
        return build(Restored, plain)
    except ValueError as error:
        raise Corrupt(f"{where}: does not tell of a restore: {error}") from error
