"""One message of ours in etcd's words. Node ids are numbers there: "a" is 1.

An entry's data is named by its frame's chain value and its place in the frame, which no other entry
has; the NOOP of a term is empty, as the one that etcd appends by itself.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Any

from neumann.format.frame import Frame, Kind
from neumann.format.ids import Configuration
from neumann.format.message import Append, AppendReply, SnapshotOffer, TimeoutNow, VoteReply, VoteRequest
from neumann.raft import Raft

Operation = dict[str, Any]


def number(node_id: str) -> int:
    """etcd's name of a node; 0 for nobody."""
    return ord(node_id) - ord("a") + 1 if node_id else 0


@lru_cache(maxsize=4096)
def entries(frame: Frame) -> tuple[dict[str, Any], ...]:
    """The frame's entries, one by one."""
    header = frame.header
    count = header.last_index - header.first_index + 1
    if header.kind is Kind.NOOP:
        return ({"term": header.term, "data": ""},)
    return tuple({"term": header.term, "data": f"{header.chain:08x}.{place}"} for place in range(count))


@lru_cache(maxsize=4096)
def frame_sum(frame: Frame) -> int:
    """The checksums of the frame's entries, added up."""
    first = frame.header.first_index
    return sum(
        zlib.crc32(f"{first + place}/{entry['term']}/{entry['data']}".encode())
        for place, entry in enumerate(entries(frame))
    )


def members(configuration: Configuration) -> Operation:
    """Who votes and who only receives."""
    return {
        "voters": [number(voter) for voter in configuration.voters],
        "learners": [number(learner) for learner in configuration.learners],
    }


def vote_request(sender: str, request: VoteRequest) -> Operation:
    return {
        "do": "MsgPreVote" if request.pre else "MsgVote",
        "from": number(sender),
        "term": request.term,
        "index": request.last_index,
        "logTerm": request.last_term,
        "context": "CampaignTransfer" if request.transfer else "",
    }


def vote_reply(sender: str, reply: VoteReply) -> Operation:
    return {
        "do": "MsgPreVoteResp" if reply.pre else "MsgVoteResp",
        "from": number(sender),
        "term": reply.term,
        "reject": not reply.granted,
    }


def append(sender: str, message: Append) -> Operation:
    return {
        "do": "MsgApp",
        "from": number(sender),
        "term": message.term,
        "index": message.prev_index,
        "logTerm": message.prev_term,
        "commit": message.commit_index,
        "entries": [entry for frame in message.frames for entry in entries(frame)],
    }


def append_behind(sender: str, message: Append, index: int) -> Operation | None:
    """The same Append, only from behind `index` on; None if nothing of it is behind."""
    before = [frame for frame in message.frames if frame.header.last_index <= index]
    rest = message.frames[len(before) :]
    if not rest or rest[0].header.first_index != index + 1:
        return None
    term = before[-1].header.term if before else message.prev_term
    return append(sender, message._replace(prev_index=index, prev_term=term, frames=rest))


def append_reply(sender: str, reply: AppendReply) -> Operation:
    return {
        "do": "MsgAppResp",
        "from": number(sender),
        "term": reply.term,
        "index": reply.match_index if reply.ok else reply.match_index + 1,
        "reject": not reply.ok,
        "hint": reply.match_index,
    }


def heartbeat(sender: str, message: SnapshotOffer) -> Operation:
    """An offer, as far as it is a sign of life; etcd sends the snapshot itself (see `snapshot`)."""
    return {"do": "MsgHeartbeat", "from": number(sender), "term": message.term}


def snapshot(sender: str, term: int, point: tuple[int, int], members_then: Configuration) -> Operation:
    return {
        "do": "MsgSnap",
        "from": number(sender),
        "term": term,
        "index": point[0],
        "logTerm": point[1],
        **members(members_then),
    }


def timeout_now(sender: str, message: TimeoutNow) -> Operation:
    return {"do": "MsgTimeoutNow", "from": number(sender), "term": message.term}


def new(core: Raft, frames: list[Frame]) -> Operation:
    """A node that starts with what `core` holds."""
    return {
        "do": "new",
        "term": core.term,
        "vote": number(core.voted_for.node_id),
        "commit": core.commit_index,
        "index": core.log.base.index,
        "logTerm": core.log.base.term,
        "entries": [entry for frame in frames for entry in entries(frame)],
        **members(core.configuration),
    }
