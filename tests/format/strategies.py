"""Hypothesis strategies for format/: values that a codec must carry, and bytes that it must not."""

from __future__ import annotations

from typing import Any

import msgpack
from hypothesis import strategies as st

from neumann.format import message
from neumann.format.fields import types_of
from neumann.format.history import History, HistoryRecord
from neumann.format.ids import Configuration, LogPoint, Member, Timeline
from neumann.format.journal import Journal
from neumann.format.limits import FEATURE_LEVEL
from neumann.format.manifest import Archiving, Compaction, Manifest, SessionRecord, TableRef
from neumann.format.message import Append, Envelope, Status
from neumann.format.restored import Restored
from neumann.format.segment import SegmentHeader
from neumann.format.special import Archived, Break, Marker, Noop, Pause, Publish, Resume
from neumann.format.state import Diverged, Identity, SyncMark, Vote

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
ids = st.binary(min_size=16, max_size=16)
digests = st.binary(min_size=32, max_size=32)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_BY_TYPE: dict[type, st.SearchStrategy[Any]] = {
    int: u64,
    bool: st.booleans(),
    str: text,
    bytes: st.binary(max_size=40),
}


def of(cls: Any, **known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A NamedTuple of plain fields; `known` replaces single ones."""
    types = dict(zip(cls._fields, types_of(cls), strict=True))
    return st.builds(cls, **{n: known[n] if n in known else _BY_TYPE[types[n]] for n in types})


timelines = st.builds(Timeline, u32, u64)
configurations = st.builds(
    Configuration, st.lists(of(Member), max_size=3).map(tuple), *[st.lists(text, max_size=2).map(tuple)] * 3
)
specials = st.one_of(
    st.just(Noop()),
    of(Marker, publish=st.just(Publish.NO)),
    of(Marker, publish=st.sampled_from(Publish), seal=st.just(True), snapshot=st.just(True)),
    configurations,
    of(Pause),
    of(Resume),
    of(Archived),
    of(Break),
)
identities = of(Identity, timeline=timelines)
votes = of(Vote)
marks = of(SyncMark)
segment_headers = of(
    SegmentHeader,
    cluster_id=ids,
    timeline=timelines,
    previous_chain=u32,
    first_index=st.integers(1, 2**64 - 1),
)
restored = of(Restored, timeline=timelines)
diverged = of(Diverged)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """One to three timelines, each of the one before."""
    names = draw(st.lists(timelines, min_size=1, max_size=3, unique=True))
    parents = [None, *names]
    records = tuple(
        draw(of(HistoryRecord, timeline=st.just(name), parent=st.just(parent)))
        for name, parent in zip(names, parents, strict=False)
    )
    return History(draw(ids), records)


manifests = st.builds(
    Manifest,
    history=histories(),
    point=of(LogPoint),
    time_ns=u64,
    configuration=configurations,
    pause=st.none() | of(Pause),
    archiving=of(Archiving),
    tables=st.lists(of(TableRef, digest=digests), max_size=3).map(tuple),
    compaction=st.none()
    | st.builds(Compaction, u64, st.lists(digests, max_size=2).map(tuple), st.integers(1, 3)),
    feature_level=st.integers(1, FEATURE_LEVEL),
    block_bytes=u32,
    sessions=st.lists(
        st.builds(SessionRecord, u64, u64, st.lists(st.tuples(u64, u64, u64), max_size=3).map(tuple)),
        max_size=3,
    ).map(tuple),
)
_moves = st.lists(st.tuples(text, text), max_size=3).map(tuple)
journals = st.builds(Journal, text, _moves, _moves, st.lists(text, max_size=2).map(tuple))

_EMPTY_APPEND = of(Append, frames=st.just(())).map(lambda m: m._replace(last_index=m.prev_index))
messages = st.one_of(*(of(cls) for cls in message.Message.__args__ if cls is not Append), _EMPTY_APPEND)
envelopes = st.builds(
    Envelope, ids, timelines, text, ids, messages, st.none() | of(Status, snapshot_digest=digests)
)

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | text
    | st.binary(max_size=12),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(text | st.integers(0, 9), inner, max_size=2),
    max_leaves=8,
)
"""Whatever MessagePack can hold."""


def packed(value: Any) -> bytes:
    """Its MessagePack."""
    data: bytes = msgpack.packb(value, use_bin_type=True)
    return data


def unpacked(data: bytes) -> Any:
    """What a MessagePack holds, arrays as lists."""
    return msgpack.unpackb(data, strict_map_key=False)


def nested(depth: int) -> bytes:
    """Arrays in arrays, `depth` of them."""
    return b"\x91" * depth + b"\xc0"


rubbish = st.one_of(
    st.binary(max_size=60), plain.map(packed), st.sampled_from([nested(n) for n in (400, 600, 1100, 9999)])
)
"""Bytes that somebody may send: any, well-formed, or nested deeply."""
