"""The leader's half of replication. A `Leadership` lives for one term and dies with it.

* Frames are sent ahead of their answers and beside the own disk write; what is durable on a majority
  and of the own term is committed, and all before it (raft paper 5.4.2).
* Every member gets a message at each heartbeat. Heartbeats are numbered rounds; answers repeat the
  number. A round that a majority answered confirms reads, and is the contact that check-quorum wants.
* The next frames tell what is committed. Where none follow, a message of its own does, a tick or two
  later: while frames flow there is no such message.
* Nothing is sent from inside an input: `flush`, called by `Raft.ready`, sends once for all that came
  since, so one message carries many frames and one round many reads.
"""

from __future__ import annotations

from neumann.format.frame import Frame, Kind
from neumann.format.ids import Incarnation, LogPoint
from neumann.format.message import Append, AppendReply, SnapshotOffer, TimeoutNow
from neumann.raft import quorum
from neumann.raft.progress import Mode, Progress, heir
from neumann.raft.reads import Reads
from neumann.raft.state import State


class Leadership:
    """What a node has only while it leads. `first_index`: where the frames of its term begin."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.first_index = state.log.last.index + 1
        self.progress: dict[str, Progress] = {}
        self.transferring = ""
        self._transfer_ticks = 0
        self._timeout_sent = False
        self._left: dict[bytes, int] = {}
        self._reads = Reads()
        self._round = 0
        self._round_confirmed = 0
        self._round_due = True
        self._heartbeat_ticks = 0
        self._window_ticks = 0
        self._window_round = 1
        self._commit_due = self._commit_ticked = 0
        self._work = True
        self.follow_configuration()

    @property
    def own_term_committed(self) -> bool:
        """Whether the commit index is known to be the cluster's (raft paper 8)."""
        return self._state.commit_index >= self.first_index

    def follow_configuration(self) -> None:
        """The members changed: serve the new, forget the removed."""
        memberships = self._state.memberships
        next_index = self._state.log.last.index + 1
        known, self.progress = self.progress, {}
        for node_id in memberships.others:
            named = memberships.storages[node_id]
            self.progress[node_id] = known.get(node_id) or Progress(next_index, named)
            self.progress[node_id].name(named)
        if self.transferring not in memberships.voters:
            self.transferring = ""
        self._work = True

    def propose(self, frame: Frame) -> None:
        """Append a frame that the embedder built."""
        state = self._state
        assert frame.header.term == state.term and not self.transferring
        is_configuration = frame.header.kind is Kind.CONFIGURATION
        assert not (is_configuration and self.configuration_pending)
        state.append(frame)
        self._work = True
        if is_configuration:
            self.follow_configuration()

    @property
    def configuration_pending(self) -> bool:
        """Whether a configuration can't be proposed now: one is not committed yet, or nothing of
        the own term is (reference bug 1)."""
        uncommitted = self._state.memberships.index > self._state.commit_index
        return uncommitted or not self.own_term_committed

    def tick(self) -> bool:
        """One tick. False if a majority has not answered within an election timeout."""
        config = self._state.config
        self._commit_due, self._commit_ticked = self._commit_ticked, self._state.commit_index
        self._heartbeat_ticks += 1
        if self._heartbeat_ticks >= config.heartbeat_ticks:
            self._heartbeat_ticks = 0
            self._round_due = True
        if self.transferring:
            self._transfer_ticks += 1
            if self._transfer_ticks >= config.election_ticks:
                self.transferring = ""
        self._window_ticks += 1
        if self._window_ticks >= config.election_ticks:
            self._window_ticks = 0
            if not self._has_quorum():
                return False
            self._window_round = self._round + 1
        return True

    def _has_quorum(self) -> bool:
        """Whether a majority answered a round that this window began."""
        return self._state.is_sole_voter or self._majority_of_rounds() >= self._window_round

    def on_reply(self, sender: str, reply: AppendReply, incarnation: Incarnation) -> None:
        """An answer in the own term. May commit, confirm reads, or move the sender's progress."""
        state = self._state
        progress = self.progress.get(sender)
        if progress is None or self._has_left(incarnation):
            return
        if not progress.meet(incarnation, state.log.last.index + 1):
            return
        if progress.round_answered < reply.round <= self._round:
            progress.round_answered = reply.round
            self._confirm_reads()
        if not reply.ok:
            self._on_refusal(progress, reply)
        elif self._in_own_log(reply) and progress.matched(reply.match_index):
            self.advance_commit()
        replicates = progress.mode is Mode.REPLICATE
        if not replicates or progress.next_index <= state.log.last.index or self.transferring:
            self._work = True

    def leaves(self, node_id: str, incarnation: Incarnation) -> None:
        """See Raft.leaves."""
        storage_id, start_number = incarnation
        self._left[storage_id] = max(start_number, self._left.get(storage_id, 0))
        progress = self.progress.get(node_id)
        if progress is not None and progress.incarnation is not None and self._has_left(progress.incarnation):
            progress.forget(self._state.log.last.index + 1)

    def _has_left(self, incarnation: Incarnation) -> bool:
        return incarnation.start_number <= self._left.get(incarnation.storage_id, -1)

    def _in_own_log(self, reply: AppendReply) -> bool:
        """Whether the acknowledged frame is this log's. One before the base is: it is committed."""
        log = self._state.log
        if reply.match_index < log.base.index:
            return True
        point = log.end_at(reply.match_index)
        return point is not None and point.term == reply.match_term

    def _on_refusal(self, progress: Progress, reply: AppendReply) -> None:
        """Step back to where the logs may agree. An old refusal is one that doesn't lead back."""
        log = self._state.log
        point = log.end_before(reply.match_index, reply.match_term)
        if progress.mode is Mode.SNAPSHOT:
            if point is not None and point.index >= progress.match_index:
                progress.probe(point.index + 1)
        elif reply.match_index >= progress.next_index - 1 or reply.match_index < progress.match_index:
            return
        elif point is None:
            progress.offer_snapshot()
        else:
            progress.probe(max(point.index, progress.match_index) + 1)

    def advance_commit(self) -> None:
        """Commit what a majority has durable, if it is of the own term."""
        state = self._state
        index = quorum.reached_by_majority(
            [
                (state.durable_index if state.is_voter else 0)
                if voter == state.node_id
                else (known.match_index if (known := self.progress[voter]).counts else 0)
                for voter in state.memberships.voters
            ]
        )
        if index >= self.first_index and index > state.commit_index:
            state.commit(index)

    def unreachable(self, node_id: str) -> None:
        """What was on the way there may be lost."""
        progress = self.progress.get(node_id)
        if progress is not None and progress.mode is Mode.REPLICATE:
            progress.probe(progress.match_index + 1)
            progress.probe_due = False

    def read(self, token: int) -> None:
        """A linearizable read; its round begins with the next flush."""
        self._reads.ask(token)
        self._work = True

    def abandon(self) -> list[int]:
        """Leadership ends: the reads that can't be confirmed any more."""
        return self._reads.abandon()

    def transfer_to(self, node_id: str) -> None:
        """Hand over to this voter as soon as it has the whole log (thesis 3.10)."""
        assert node_id in self.progress and node_id in self._state.memberships.voters
        self.transferring = node_id
        self._transfer_ticks = 0
        self._timeout_sent = False
        self._work = True

    def abdicate(self) -> None:
        """Leave: tell what is committed, and let the voter that has most of the log campaign."""
        self._commit_due = self._state.commit_index
        self.flush()
        if next_leader := heir(self.progress, self._state.memberships.voters):
            self._state.send(next_leader, TimeoutNow(self._state.term))

    def flush(self) -> None:
        """Send whatever is due."""
        starts_round = self._round_due or (self._reads.want_round() and self.own_term_committed)
        if not (starts_round or self._work or self._commit_due):
            return
        if starts_round:
            self._begin_round()
        for node_id, progress in self.progress.items():
            self._serve(node_id, progress, starts_round)
        self._work, self._commit_due = False, 0
        if self.transferring and not self._timeout_sent:
            target = self.progress[self.transferring]
            if target.counts and target.match_index == self._state.log.last.index:
                self._timeout_sent = True
                self._state.send(self.transferring, TimeoutNow(self._state.term))

    def _begin_round(self) -> None:
        self._round += 1
        self._round_due = False
        if self.own_term_committed and self._reads.want_round():
            self._reads.begin(self._round, self._state.commit_index)
        self._confirm_reads()

    def _confirm_reads(self) -> None:
        confirmed = self._majority_of_rounds()
        if confirmed > self._round_confirmed:
            self._round_confirmed = confirmed
            self._state.outbox.reads += self._reads.confirm(confirmed)

    def _majority_of_rounds(self) -> int:
        """The newest round that a majority, this node included, has answered."""
        state = self._state
        return quorum.reached_by_majority(
            [
                (self._round if state.is_voter else 0)
                if voter == state.node_id
                else (known.round_answered if (known := self.progress[voter]).counts else 0)
                for voter in state.memberships.voters
            ]
        )

    def _serve(self, node_id: str, progress: Progress, heartbeat: bool) -> None:
        state = self._state
        log = state.log
        if progress.next_index <= log.base.index:
            progress.offer_snapshot()
        if progress.mode is not Mode.REPLICATE:
            if heartbeat or progress.probe_due:
                progress.probe_due = False
                if progress.mode is Mode.SNAPSHOT:
                    self._send_offer(node_id)
                else:
                    self._send_empty(node_id, progress)
            return
        sent = self._send_frames(node_id, progress)
        if not sent and (heartbeat or progress.commit_told < self._commit_due):
            self._send_empty(node_id, progress)

    def _send_frames(self, node_id: str, progress: Progress) -> bool:
        """Send runs of frames while the flow limits have room."""
        state = self._state
        config = state.config
        sent = False
        while progress.next_index <= state.log.last.index:
            frames_room = config.frames_in_flight_max - progress.frames_in_flight
            bytes_room = config.bytes_in_flight_max - progress.bytes_in_flight
            if frames_room <= 0 or bytes_room <= 0:
                break
            run = state.log.run_after(
                progress.next_index - 1, min(bytes_room, config.append_bytes_max), frames_room
            )
            progress.sent(run.last_index, run.frame_count, run.run_bytes)
            self._send_append(node_id, progress, run.prev, run.last_index)
            sent = True
        return sent

    def _send_empty(self, node_id: str, progress: Progress) -> None:
        """A heartbeat, a probe, or news of the commit index."""
        prev = self._state.log.end_at(progress.next_index - 1)
        assert prev is not None, "progress stands at frame ends"
        self._send_append(node_id, progress, prev, prev.index)

    def _send_append(self, node_id: str, progress: Progress, prev: LogPoint, last_index: int) -> None:
        state = self._state
        progress.commit_told = min(state.commit_index, last_index)
        message = Append(state.term, *prev, state.commit_index, self._round, last_index)
        state.send(node_id, message)

    def _send_offer(self, node_id: str) -> None:
        state = self._state
        point = max(state.snapshot, state.log.base)
        state.send(node_id, SnapshotOffer(state.term, *point, self._round))
