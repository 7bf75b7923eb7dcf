"""Special entries: what a leader says to the log itself. Each stands alone in its frame.

The frame's kind says which it is; the body is one MessagePack array of the fields below, in order. An
entry that can't be decoded changes nothing, on every node alike (R3): `decode` then returns None.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import msgpack

from neumann.errors import FormatTooNew
from neumann.format.frame import Frame, Kind
from neumann.format.ids import Configuration, configuration_from_plain
from neumann.format.limits import FEATURE_LEVEL


class Publish(IntEnum):
    """Whether a marker's snapshot is also published. On disk: never renumber."""

    NO = 0
    PERIODIC = 1
    ASKED = 2


class Noop(NamedTuple):
    """The first entry of a term."""


class Marker(NamedTuple):
    """A boundary in the log (design section 4).

    seal: the segment ends behind this frame. snapshot: every replica makes its snapshot at exactly
    this index. name: a restore point, "" for none. reported_index, reported_digest: the newest snapshot
    that a majority reported (0 and b"" for none). publish implies snapshot and seal. compaction: the
    index of the marker that chose the compaction installed here, 0 for none.
    """

    seal: bool = False
    snapshot: bool = False
    name: str = ""
    reported_index: int = 0
    reported_digest: bytes = b""
    publish: Publish = Publish.NO
    compaction: int = 0
    feature_level: int = 1


class Pause(NamedTuple):
    """Client writes change nothing from here on, until a Resume. until_ns is the leader's clock."""

    owner: str
    until_ns: int
    reason: str


class Resume(NamedTuple):
    """Ends a pause. `why` is "asked" or "expired"."""

    why: str


class Archived(NamedTuple):
    """Everything up to `through` is in the archive. The first one switches archiving on."""

    through: int


class Break(NamedTuple):
    """Entries first..last will never be archived; first == 0: archiving ends here (R7)."""

    first: int
    last: int
    reason: str


Special = Noop | Marker | Configuration | Pause | Resume | Archived | Break

_KIND_OF: dict[type, Kind] = {
    Noop: Kind.NOOP,
    Marker: Kind.MARKER,
    Configuration: Kind.CONFIGURATION,
    Pause: Kind.PAUSE,
    Resume: Kind.RESUME,
    Archived: Kind.ARCHIVED,
    Break: Kind.BREAK,
}


def check_level(level: int, where: str) -> None:
    """FormatTooNew where something was shaped at a feature level that this release does not know."""
    if level > FEATURE_LEVEL:
        raise FormatTooNew(
            f"{where}: feature level {level}; this release knows levels up to {FEATURE_LEVEL}",
            remedy=f"use the release that the cluster went over to level {level} with, or a newer one",
        )


def encode(special: Special) -> tuple[Kind, bytes]:
    """(kind, body) for format.frame.encode."""
    if isinstance(special, Marker) and special.publish:
        assert special.snapshot and special.seal, "publish implies snapshot and seal"
    body: bytes = msgpack.packb(special, use_bin_type=True)
    return _KIND_OF[type(special)], body


def decode(frame: Frame) -> Special | None:
    """The special entry in this frame, or None if it can't be decoded."""
    try:
        fields = msgpack.unpackb(frame.body, use_list=False, raw=False)
        return _build(frame.header.kind, fields)
    except (ValueError, TypeError, msgpack.UnpackException):
        return None


def _build(kind: Kind, fields: tuple[object, ...]) -> Special | None:
    match kind, fields:
        case Kind.NOOP, ():
            return Noop()
        case Kind.MARKER, (
            bool() as seal,
            bool() as snapshot,
            str() as name,
            int() as index,
            bytes() as digest,
            int() as publish,
            int() as compaction,
            int() as level,
        ):
            return Marker(seal, snapshot, name, index, digest, Publish(publish), compaction, level)
        case Kind.CONFIGURATION, (tuple(), tuple(), tuple(), tuple()):
            return configuration_from_plain(fields)
        case Kind.PAUSE, (str() as owner, int() as until_ns, str() as reason):
            return Pause(owner, until_ns, reason)
        case Kind.RESUME, (str() as why,):
            return Resume(why)
        case Kind.ARCHIVED, (int() as through,):
            return Archived(through)
        case Kind.BREAK, (int() as first, int() as last, str() as reason):
            return Break(first, last, reason)
    return None
