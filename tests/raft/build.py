"""Small values for tests: frames made by hand, logs of them, a core that has such a log."""

from __future__ import annotations

import random

from neumann.format import frame as frame_format
from neumann.format.frame import Frame, Kind
from neumann.format.ids import Configuration, Incarnation, LogPoint
from neumann.format.message import Append, Message, VoteReply
from neumann.raft import FrameLog, Raft, RaftConfig, Ready, Restored
from tests.raft.disk import BASE, candidate, members, storage_of
from tests.raft.harness import ELECTION_TICKS, HEARTBEAT_TICKS


class Core(Raft):
    """A core whose messages come from the first start of a node that never lost its disk, unless told."""

    def step(self, sender: str, message: Message, incarnation: Incarnation | None = None) -> None:
        super().step(sender, message, incarnation or Incarnation(storage_of(sender), 1))


def vote_reply(term: int, granted: bool, pre: bool, to: str = "b") -> VoteReply:
    """An answer to a request of `to`."""
    return VoteReply(term, granted, pre, storage_of(to))


def frames(*runs: tuple[int, int], after: LogPoint = BASE) -> list[Frame]:
    """One frame for each (term, entry count). The same arguments make the same frames."""
    made: list[Frame] = []
    for term, count in runs:
        time_ns = after.index + 1
        made.append(
            frame_format.encode(Kind.DATA, after.index + 1, term, time_ns, after.chain, [b"x"] * count)
        )
        after = made[-1].header.end
    return made


def log_of(made: list[Frame], base: LogPoint = BASE) -> FrameLog:
    """A log that holds just these."""
    log = FrameLog(base)
    for frame in made:
        log.append(frame.header)
    return log


def core_with(
    made: list[Frame],
    node_id: str = "b",
    configuration: Configuration | None = None,
    base: LogPoint = BASE,
    commit_index: int | None = None,
    storage_id: bytes = b"",
    **restored: object,
) -> Core:
    """A follower that was restored with these frames; its term is the last one's."""
    log = log_of(made, base)
    commit = base.index if commit_index is None else commit_index
    fields: dict[str, object] = {"term": log.last.term, "voted_for": "", **restored}
    fields["voted_for"] = candidate(str(fields["voted_for"]))
    config = RaftConfig(
        node_id,
        storage_id or storage_of(node_id),
        heartbeat_ticks=HEARTBEAT_TICKS,
        election_ticks=ELECTION_TICKS,
    )
    return Core(
        config,
        Restored(
            log=log,
            configuration=members("abc") if configuration is None else configuration,
            configuration_index=base.index,
            commit_index=commit,
            applied_index=commit,
            **fields,  # type: ignore[arg-type]
        ),
        random.Random(0),
    )


def append(
    term: int, prev: LogPoint, sent: list[Frame], commit_index: int = 0, round_number: int = 1
) -> Append:
    """An Append of these frames behind `prev`."""
    last_index = sent[-1].header.last_index if sent else prev.index
    return Append(term, *prev, commit_index, round_number, last_index, tuple(sent))


def take(core: Raft) -> Ready:
    """The Ready that must be there."""
    ready = core.ready()
    assert ready is not None
    return ready


def make_durable(core: Raft, ready: Ready) -> None:
    """What a disk would report."""
    if ready.vote:
        core.vote_persisted(*ready.vote)
    if ready.frames:
        end = ready.frames[-1].header.end
        core.persisted(end.index, end.term, ready.truncations)
