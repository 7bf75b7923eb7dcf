"""The follower's half of replication: match, truncate, append, acknowledge (raft paper figure 2).

The frame rules of design section 4 stand here: logs are compared at frame ends only, by index, term
and chain value. What contradicts a log without a later term to explain it is divergence (R5): the node
then stops and cuts nothing.
"""

from __future__ import annotations

from neumann.format.frame import Frame
from neumann.format.ids import LogPoint
from neumann.format.message import Append, AppendReply, SnapshotOffer
from neumann.raft.state import State


class Following:
    """Answers the leader of the current term. `_round_answered` spares double answers in a round."""

    __slots__ = ("_round_answered", "_state")

    def __init__(self, state: State) -> None:
        self._state = state
        self._round_answered = 0

    def new_leader(self) -> None:
        """Another term or leader: its rounds are counted anew."""
        self._round_answered = 0

    def on_append(self, leader: str, message: Append) -> None:
        """An Append of the current term's leader, frames verified among themselves."""
        if not _well_formed(message):
            return
        state = self._state
        prev = LogPoint(message.prev_index, message.prev_term, message.prev_chain)
        frames = message.frames
        if prev.index < state.log.base.index:
            before = next((f for f in frames if f.header.last_index > state.log.base.index), None)
            kept = frames.index(before) if before is not None else len(frames)
            frames = frames[kept:]
            prev = state.log.base
            if frames and not self._continues_base(frames[0]):
                return
        elif not self._matches(leader, prev, message.round):
            return
        matched = self._append(prev, frames)
        if matched is not None:
            state.commit(min(message.commit_index, matched.index))
            self._acknowledge(leader, matched, message.round)

    def on_offer(self, leader: str, offer: SnapshotOffer) -> None:
        """The leader has dropped what would come next here, or believes so."""
        state = self._state
        point = LogPoint(offer.index, offer.snapshot_term, offer.chain)
        if point.index > state.commit_index and state.log.end_at(point.index) == point:
            state.commit(point.index)
        committed = state.log.end_at(state.commit_index)
        assert committed is not None
        if point.index <= state.commit_index:
            self._acknowledge(leader, committed, offer.round)
            return
        state.outbox.need_snapshot = offer
        self._refuse(leader, committed, offer.round)

    def reject_stale(self, sender: str, message: Append | SnapshotOffer) -> None:
        """A leader of an earlier term hears of the current one, and steps down (etcd #8243)."""
        self._refuse(sender, self._state.log.last, message.round)

    def _continues_base(self, frame: Frame) -> bool:
        """The base is committed, so the leader's log has it as a frame end too."""
        base = self._state.log.base
        if frame.header.first_index == base.index + 1 and frame.header.parent == base.chain:
            return True
        self._state.diverge(
            f"{self._state.leader} sent a frame {frame.header.first_index}.."
            f"{frame.header.last_index} that does not continue the log's base {base}"
        )
        return False

    def _matches(self, leader: str, prev: LogPoint, round_number: int) -> bool:
        """Whether `prev` is the end of a local frame; answers if it is not."""
        state = self._state
        log = state.log
        local = log.end_at(prev.index)
        if local == prev:
            return True
        if prev.index > log.last.index:
            hint = log.end_before(log.last.index, prev.term)
        else:
            inside = local is None
            term = log.frame_containing(prev.index).term if local is None else local.term
            if term == prev.term or prev.index <= state.commit_index:
                state.diverge(
                    f"{leader} and this node disagree about entry {prev.index}: there it ends a "
                    f"frame of term {prev.term}, chain {prev.chain:08x}; here it is "
                    + (f"inside a frame of term {term}" if inside else f"{local}")
                )
                return False
            hint = log.end_before(log.previous_end(prev.index).index, prev.term)
        self._refuse(leader, hint or log.base, round_number)
        return False

    def _append(self, prev: LogPoint, frames: tuple[Frame, ...]) -> LogPoint | None:
        """Take what is new behind `prev`; where the log now matches, None if it diverges.

        Frames that are here already are skipped: an old, shorter Append cuts nothing (reference
        bug 17). Only a frame of another term in the same place does.
        """
        state = self._state
        for position, frame in enumerate(frames):
            header = frame.header
            if header.first_index <= state.log.last.index:
                local = state.log.frame_containing(header.first_index)
                assert local.first_index == header.first_index, "prev is a frame end of both"
                if (local.last_index, local.term, local.chain) == header.end:
                    continue
                committed = header.first_index <= state.commit_index
                if committed or local.term == header.term:
                    state.diverge(
                        f"{state.leader} sent a frame {header.end} in place of {local}, which is "
                        + ("committed here" if committed else "of the same term")
                    )
                    return None
                state.truncate_after(header.first_index - 1)
            for new in frames[position:]:
                state.append(new)
            break
        return frames[-1].header.end if frames else prev

    def _acknowledge(self, leader: str, matched: LogPoint, round_number: int) -> None:
        """Say what is, or will be, durable.

        A round is answered at once with what is durable already, so that neither reads nor the
        leader's check of its quorum wait for a disk.
        """
        state = self._state
        reply = AppendReply(state.term, True, matched.index, matched.term, round_number)
        if state.vote_durable and matched.index <= state.durable_index:
            state.send(leader, reply)
            return
        state.send_after_sync(leader, reply)
        if state.vote_durable and round_number > self._round_answered:
            self._round_answered = round_number
            durable = state.durable_point
            state.send(leader, AppendReply(state.term, True, durable.index, durable.term, round_number))

    def _refuse(self, leader: str, hint: LogPoint, round_number: int) -> None:
        state = self._state
        reply = AppendReply(state.term, False, hint.index, hint.term, round_number)
        state.answer(leader, reply)


def _well_formed(message: Append) -> bool:
    """Whether an Append's parts fit together; what does not comes from no leader of ours."""
    if not message.frames:
        return True
    first, last = message.frames[0].header, message.frames[-1].header
    return (
        first.first_index == message.prev_index + 1
        and first.parent == message.prev_chain
        and message.prev_term <= first.term
        and last.term <= message.term
    )
