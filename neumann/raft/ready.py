"""The one output of the core, and the box in which it is collected between two calls of `ready`."""

from __future__ import annotations

from typing import NamedTuple

from neumann.format.frame import Frame
from neumann.format.ids import Candidate
from neumann.format.message import Message, SnapshotOffer

Addressed = tuple[str, Message]
"""(node id of the receiver, message)."""


class Ready(NamedTuple):
    """Everything to be done since the last one; each thing is handed out exactly once.

    vote                 (term, voted_for): make durable, both slots, then call `vote_persisted`
    truncate_after       cut the own log behind this index, before `frames` are appended
    frames               append to the own log, sync, then call `persisted` with the last one's end and
                         `truncations`
    truncations          how often anything of the log was cut until now
    messages             send now, beside the writes. An Append names frames that may be in `frames`
    messages_after_sync  send when `vote` and `frames` of this and of all earlier Readys are durable
    commit_index         entries up to here may be applied; never falls
    reads                (token, index): serve it once `index` is applied
    lost_reads           tokens that will not be confirmed: answer "unavailable"
    need_snapshot        follower: fetch this from the leader, then call `installed`. Comes again with
                         each heartbeat until the log has been continued: ignore it while fetching
    role_changed         role, term or known leader differ from before. A new leader proposes its NOOP
    diverged             why this node has stopped for good (R5), told once
    """

    vote: tuple[int, Candidate] | None
    truncate_after: int | None
    frames: tuple[Frame, ...]
    truncations: int
    messages: tuple[Addressed, ...]
    messages_after_sync: tuple[Addressed, ...]
    commit_index: int
    reads: tuple[tuple[int, int], ...]
    lost_reads: tuple[int, ...]
    need_snapshot: SnapshotOffer | None
    role_changed: bool
    diverged: str | None


class Outbox:
    """Collects a Ready. `stored_index`: where the embedder's log ends once it did all it was told.
    `truncations`: each Ready names it, and what is reported durable gives it back (State.persisted)."""

    __slots__ = (
        "diverged",
        "frames",
        "lost_reads",
        "messages",
        "messages_after_sync",
        "need_snapshot",
        "reads",
        "stored_index",
        "truncate_after",
        "truncations",
        "vote",
    )

    def __init__(self, stored_index: int) -> None:
        self.stored_index = stored_index
        self.truncations = 0
        self._clear()

    def _clear(self) -> None:
        self.vote: tuple[int, Candidate] | None = None
        self.truncate_after: int | None = None
        self.frames: list[Frame] = []
        self.messages: list[Addressed] = []
        self.messages_after_sync: list[Addressed] = []
        self.reads: list[tuple[int, int]] = []
        self.lost_reads: list[int] = []
        self.need_snapshot: SnapshotOffer | None = None
        self.diverged: str | None = None

    def truncate(self, index: int) -> None:
        """Cut behind `index`: frames that were never handed out are just not handed out."""
        self.frames = [frame for frame in self.frames if frame.header.last_index <= index]
        self.truncations += 1
        if index < self.stored_index:
            self.truncate_after = self.stored_index = index

    def restart(self, index: int) -> None:
        """The embedder itself put an empty log at `index` in place of the old one."""
        self.frames = []
        self.truncate_after = None
        self.truncations += 1
        self.stored_index = index

    def take(self, commit_index: int, committed: bool, role_changed: bool) -> Ready | None:
        """Hand out what was collected; None if there is nothing."""
        something = (
            self.messages
            or self.messages_after_sync
            or self.frames
            or committed
            or self.reads
            or self.vote is not None
            or self.truncate_after is not None
            or role_changed
            or self.lost_reads
            or self.need_snapshot is not None
            or self.diverged is not None
        )
        if not something:
            return None
        ready = Ready(
            self.vote,
            self.truncate_after,
            tuple(self.frames),
            self.truncations,
            tuple(self.messages),
            tuple(self.messages_after_sync),
            commit_index,
            tuple(self.reads),
            tuple(self.lost_reads),
            self.need_snapshot,
            role_changed,
            self.diverged,
        )
        if self.frames:
            self.stored_index = self.frames[-1].header.last_index
        self._clear()
        return ready
