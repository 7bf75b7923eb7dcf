"""Carries out what the core says: the order of durability, in one function.

This order (design sections 2 and 4) is kept here and in runtime/durability.py:

    1. what the core says is staged in order: vote, truncation, frames
    2. messages go out beside the write; the leader's disk works while followers' disks do
    3. one lane makes it durable: vote in both slots, then the log, one fdatasync for all that queued
    4. only then the answers that promise durability go out, in order, and the core hears of it
    5. committed frames are applied, and clients are answered

Whoever gave the core an input calls `run`. What follows from a Ready may give it another one and call
again: that is carried out behind this one, by the call that is under way.
"""

from __future__ import annotations

from collections.abc import Callable

from neumann.format.ids import Candidate
from neumann.format.message import SnapshotOffer
from neumann.raft import Raft, Ready
from neumann.runtime.applier import Applier
from neumann.runtime.durability import Durability
from neumann.runtime.ending import Wholly
from neumann.runtime.peers import Peers
from neumann.runtime.proposer import Proposer
from neumann.runtime.reader import Reader
from neumann.wal import Log, Synced


class Pump:
    """One member's. `on_persisted()` is called when more of the log is durable, `on_role_changed()` when
    role, term or known leader are others, `on_diverged(why)` when the core has stopped for good (R5),
    `on_need_snapshot(leader, offer)` when only a snapshot of the leader helps, `on_failure` when a Ready was
    carried out, or what is durable taken in, in part: nobody knows what state that left."""

    def __init__(
        self,
        raft: Raft,
        wal: Log,
        durability: Durability,
        peers: Peers,
        proposer: Proposer,
        applier: Applier,
        reader: Reader,
        *,
        on_persisted: Callable[[], None],
        on_role_changed: Callable[[], None],
        on_diverged: Callable[[str], None],
        on_need_snapshot: Callable[[str, SnapshotOffer], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._raft = raft
        self._wal = wal
        self._durability = durability
        self._peers = peers
        self._proposer = proposer
        self._applier = applier
        self._reader = reader
        self._on_persisted = on_persisted
        self._on_role_changed = on_role_changed
        self._on_diverged = on_diverged
        self._on_need_snapshot = on_need_snapshot
        self._wholly = Wholly(on_failure)
        self._running = False
        self._stopped = False

    def run(self) -> None:
        """Do what the core says, until it has nothing to say."""
        if self._running or self._stopped:
            return
        self._running = True
        try:
            with self._wholly:
                while not self._stopped and (ready := self._raft.ready()) is not None:
                    self._carry_out(ready)
        finally:
            self._running = False

    def durable(self, synced: Synced | None, vote: tuple[int, Candidate] | None, truncations: int) -> None:
        """A crash would keep this from here on: the core may count it."""
        with self._wholly:
            if vote is not None:
                self._raft.vote_persisted(*vote)
            if synced is not None:
                self._raft.persisted(synced.point.index, synced.point.term, truncations)
                self._on_persisted()
        self.run()

    def stop(self) -> None:
        """Do nothing more."""
        self._stopped = True

    def _carry_out(self, ready: Ready) -> None:
        if ready.diverged:
            self._on_diverged(ready.diverged)
            return
        if ready.frames or ready.truncate_after is not None:
            self._wal.stage(ready.frames, ready.truncate_after)
            self._applier.appended(ready.frames, ready.truncate_after)
            if ready.frames:
                self._proposer.log_time_at_least(ready.frames[-1].header.time_ns)
        self._durability.stage(ready.vote, ready.messages_after_sync, ready.truncations)
        for node_id, message in ready.messages:
            self._peers.send(node_id, message)
        self._durability.write()
        if ready.role_changed:
            self._on_role_changed()
        # The next frame goes out first: followers work on it while this node applies the last one.
        framing = self._proposer.committed(ready.commit_index)
        self._applier.committed(ready.commit_index, soon=framing)
        if ready.lost_reads:
            self._reader.lost(ready.lost_reads)
        if ready.reads:
            self._reader.confirmed(ready.reads)
        if ready.need_snapshot is not None:
            self._on_need_snapshot(self._raft.leader, ready.need_snapshot)
