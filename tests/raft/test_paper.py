"""Rules of the paper and the thesis that no other test of this directory holds (see paper.py for all)."""

from __future__ import annotations

import pytest

from neumann.format.ids import Incarnation
from neumann.format.message import (
    Append,
    AppendReply,
    Message,
    SnapshotOffer,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from neumann.raft import Role
from tests.raft.build import Core, append, core_with, frames, make_durable, take, vote_reply
from tests.raft.disk import BASE, candidate, members, storage_of
from tests.raft.harness import ELECTION_TICKS, HEARTBEAT_TICKS, World


def _candidate(term: int = 4) -> Core:
    """Node b of abc, standing in `term`."""
    core = core_with([], term=term - 1)
    while core.role != "precandidate":
        core.tick()
    core.step("a", vote_reply(term, True, True))
    make_durable(core, take(core))
    assert (core.role, core.term) == ("candidate", term)
    return core


def _leader(term: int = 4) -> Core:
    core = _candidate(term)
    core.step("a", vote_reply(term, True, False))
    assert core.role == "leader"
    return core


def test_a_request_of_an_earlier_term_gets_no_vote() -> None:
    """Figure 2, RequestVote 1: reply false if term < currentTerm. The reply names the current term."""
    core = core_with([], term=5)
    core.step("a", VoteRequest(4, 9, 4, False, False))
    ((_, reply),) = take(core).messages_after_sync
    assert isinstance(reply, VoteReply) and (reply.term, reply.granted) == (5, False)
    assert core.voted_for == candidate("")


@pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
@pytest.mark.parametrize(
    "message",
    [
        append(9, BASE, []),
        SnapshotOffer(9, 5, 3, 1, 1),
        AppendReply(9, False, 0, 0, 1),
        vote_reply(9, False, True),
        vote_reply(9, False, False),
        VoteRequest(9, 0, 0, False, True),
    ],
    ids=["Append", "SnapshotOffer", "AppendReply", "pre-vote refused", "vote refused", "VoteRequest"],
)
def test_whoever_hears_of_a_later_term_follows_in_it(role: str, message: Message) -> None:
    """Figure 2, all servers 2: if a request or a reply has a later term, adopt it and become follower."""
    core = {"follower": lambda: core_with([], term=4), "candidate": _candidate, "leader": _leader}[role]()
    core.ready()
    core.step("a", message)
    assert (core.role, core.term) == ("follower", 9)
    ready = take(core)
    assert ready.vote is not None and ready.vote[0] == 9, "the new term is made durable"


def test_what_is_committed_may_be_applied_and_nothing_else() -> None:
    """Figure 2, all servers 1: apply up to commitIndex. The core only says how far; applying is the
    embedder's, and it can't claim more."""
    made = frames((1, 2), (1, 2))
    core = core_with(made, term=1)
    core.step("a", append(1, made[0].header.end, [made[1]], commit_index=2))
    assert take(core).commit_index == 2
    core.applied(2)
    assert core.applied_index == 2
    with pytest.raises(AssertionError):
        core.applied(4)


def test_a_vote_that_is_given_restarts_the_election_timeout_and_one_that_is_refused_does_not() -> None:
    """Figure 2, followers 2: the timeout elapses without AppendEntries *or granting a vote*."""
    for last_index, patient in ((0, True), (-1, False)):
        core = core_with(frames((1, 1)) if last_index < 0 else [], term=1)
        for _ in range(ELECTION_TICKS - 1):
            core.tick()
        core.step("a", VoteRequest(2, 0, 0, False, False))
        assert take(core).messages_after_sync[0][1].granted is patient  # type: ignore[union-attr]
        ticks = 0
        while core.role is Role.FOLLOWER:
            core.tick()
            ticks += 1
        assert (ticks >= ELECTION_TICKS) is patient


def test_a_candidate_follows_the_leader_of_its_term() -> None:
    """Figure 2, candidates 3: AppendEntries from a new leader makes a follower. Its vote stays its own."""
    core = _candidate()
    core.step("c", append(4, BASE, []))
    assert (core.role, core.leader, core.voted_for) == ("follower", "c", candidate("b"))


def test_a_candidate_that_nobody_answers_stands_again() -> None:
    """Figure 2, candidates 4: if the election timeout elapses, start a new election: a pre-vote first."""
    core = _candidate()
    for _ in range(2 * ELECTION_TICKS):
        core.tick()
        if core.role == "precandidate":
            break
    asked = [m for _, m in take(core).messages]
    assert asked == [VoteRequest(5, 0, 0, True, False)] * 2 and core.term == 4


def test_a_new_leader_makes_itself_known_at_once_and_at_each_heartbeat() -> None:
    """Figure 2, leaders 1: empty AppendEntries upon election, and again while idle."""
    core = _leader()
    receivers = [r for r, m in take(core).messages if isinstance(m, Append) and m.last_index == m.prev_index]
    assert receivers == ["a", "c"]
    for _ in range(3):
        for _ in range(HEARTBEAT_TICKS):
            core.tick()
        assert [r for r, m in take(core).messages if isinstance(m, Append)] == ["a", "c"]


def test_a_snapshot_of_an_earlier_term_s_leader_is_not_fetched() -> None:
    """Figure 13, InstallSnapshot 1: reply immediately if term < currentTerm."""
    core = core_with([], term=5)
    core.step("a", SnapshotOffer(4, 5, 3, 1, 7))
    ready = take(core)
    ((_, reply),) = ready.messages
    assert ready.need_snapshot is None and isinstance(reply, AppendReply)
    assert (reply.term, reply.ok) == (5, False)


def test_a_candidate_that_the_leader_chose_is_answered_by_who_hears_that_leader() -> None:
    """Thesis 3.10 and 4.2.3: a leader's heartbeats keep voters from answering anybody, but for whom the
    leader itself hands over to. Thesis 4.2.3."""
    core = core_with([], term=1)
    core.step("a", append(1, BASE, []))
    core.ready()
    core.step("c", VoteRequest(2, 0, 0, False, False))
    assert core.ready() is None and core.term == 1
    core.step("c", VoteRequest(2, 0, 0, False, True))
    assert core.term == 2 and core.voted_for == candidate("c")


def test_a_transfer_needs_no_election_timeout_and_no_pre_vote() -> None:
    """Thesis 3.10, step 3: the target starts an election at once, exactly as if its timeout had elapsed."""
    world = World()
    world.elect("a")
    world.change("a", lambda core: core.transfer_to("b"))
    asked = [p.message for p in world.packets if p.receiver == "b" and isinstance(p.message, TimeoutNow)]
    assert asked == [TimeoutNow(world["a"].term)]
    world.settle()
    assert world["b"].role == "leader" and world["b"].term == 2, "without a single tick"


def test_who_is_not_in_the_own_configuration_is_voted_for_and_followed() -> None:
    """Thesis 4.2.2: a server answers candidates and leaders that are not in its latest configuration; else a
    new one could never be elected by those that have not heard of it yet. Thesis 4.1, not in it."""
    core = core_with([], node_id="b", configuration=members("abc"), term=1)
    core.step("d", VoteRequest(2, 0, 0, False, False), Incarnation(storage_of("d")))
    assert core.voted_for == candidate("d")
    (frame,) = frames((2, 1))
    core.step("d", append(2, BASE, [frame]), Incarnation(storage_of("d")))
    assert core.leader == "d" and core.last == frame.header.end
