"""A member is a node id and a storage: votes and acknowledgements bind to both (design section 6)."""

from __future__ import annotations

import pytest

from neumann.format.ids import LEARNER, VOTER, Candidate, Configuration, Incarnation
from neumann.format.message import Append, AppendReply, VoteReply, VoteRequest
from tests.raft.build import Core, append, core_with, frames, make_durable, take, vote_reply
from tests.raft.disk import BASE, candidate, members, storage_of
from tests.raft.harness import ELECTION_TICKS, HEARTBEAT_TICKS, World

OLD, NEW = storage_of("a"), b"another disk    "


def _of(node_id: str, storage_id: bytes) -> Configuration:
    """Voters a, b and c; this one with another disk than it began with."""
    member = members("abc").member(node_id)
    assert member is not None
    return members("abc").with_member(member._replace(storage_id=storage_id))


def _candidate(core: Core) -> Core:
    while core.role != "precandidate":
        core.tick()
    core.step("c", vote_reply(core.term + 1, True, True))
    make_durable(core, take(core))
    assert core.role == "candidate"
    return core


def _leader(core: Core) -> Core:
    _candidate(core).step("c", vote_reply(core.term, True, False))
    assert core.role == "leader"
    return core


@pytest.mark.parametrize("first", [OLD, NEW])
def test_one_voter_does_not_vote_for_two_storages_of_one_node(first: bytes) -> None:
    """Bug 33: a vote that names only a node id is believed by both disks of a voter that was replaced."""
    core = core_with([])
    second = NEW if first == OLD else OLD
    for storage_id, granted in ((first, True), (second, False), (first, True)):
        core.step("a", VoteRequest(3, 0, 0, False, False), Incarnation(storage_id))
        ready = take(core)
        assert ready.messages_after_sync == (("a", VoteReply(3, granted, False, storage_id)),)
        make_durable(core, ready)
    assert core.voted_for == Candidate("a", first)


def test_that_is_kept_over_a_restart() -> None:
    again = core_with([], term=3, voted_for="a")
    again.step("a", VoteRequest(3, 9, 2, False, False), Incarnation(NEW))
    assert take(again).messages_after_sync == (("a", VoteReply(3, False, False, NEW)),)


def test_a_vote_for_another_storage_of_this_node_is_not_counted() -> None:
    """The answer to the old disk's request comes back on the new disk's connection."""
    core = core_with([], configuration=_of("b", NEW), storage_id=NEW, term=2)
    for pre, before, after in ((True, "precandidate", "candidate"), (False, "candidate", "leader")):
        while core.role == "follower":
            core.tick()
        core.step("c", VoteReply(3, True, pre, storage_of("b")))
        assert core.role == before
        core.step("c", VoteReply(3, True, pre, NEW))
        make_durable(core, take(core))
        assert core.role == after


@pytest.mark.parametrize("pre", [True, False])
def test_a_vote_of_a_storage_that_the_configuration_does_not_name_is_not_counted(pre: bool) -> None:
    core = core_with([])
    if not pre:
        _candidate(core)
    while core.role == "follower":
        core.tick()
    role = core.role
    core.step("a", vote_reply(core.term + pre, True, pre), Incarnation(NEW, 1))
    core.step("a", vote_reply(core.term + 7, False, pre), Incarnation(NEW, 1))
    assert core.role == role
    core.step("a", vote_reply(core.term + pre, True, pre), Incarnation(OLD, 1))
    assert core.role == ("candidate" if pre else "leader")


def test_a_candidate_that_the_voter_does_not_know_gets_its_vote() -> None:
    """Thesis 4.2.2: a voter that lags behind the entry that added it would else never elect it."""
    core = core_with([])
    core.step("z", VoteRequest(3, 0, 0, False, False))
    assert take(core).messages_after_sync == (("z", vote_reply(3, True, False, to="z")),)


def test_what_another_storage_of_a_voter_has_is_part_of_no_majority() -> None:
    """Bug 33: a member that came back with an empty disk acknowledged in the name of what it had lost."""
    core = _leader(core_with([]))
    (noop,) = frames((core.term, 1))
    core.propose(noop)
    make_durable(core, take(core))
    reply = AppendReply(core.term, True, 1, core.term, 1)
    core.step("a", reply, Incarnation(NEW, 1))
    assert core.progress["a"].match_index == 1, "it is served all the same"
    assert core.commit_index == 0
    core.step("c", reply)
    assert core.commit_index == 1


def test_rounds_that_only_another_storage_answers_are_no_quorum() -> None:
    """Reads and the leader's own check must not rest on a disk that is no member."""
    core = _leader(core_with([]))
    for _ in range(3 * ELECTION_TICKS):
        if core.role != "leader":
            break
        core.tick()
        ready = core.ready()
        for receiver, message in ready.messages if ready is not None else ():
            if receiver == "a" and isinstance(message, Append):
                core.step("a", AppendReply(core.term, True, 0, 0, message.round), Incarnation(NEW, 1))
    assert core.role == "follower" and "majority" in core.left_because


def test_the_match_of_a_replaced_storage_does_not_count_for_its_successor() -> None:
    """The entry that names the new disk would be committed by what only the old one had."""
    core = _leader(core_with([], configuration=members("bc", "a")))
    (noop,) = frames((core.term, 1))
    core.propose(noop)
    make_durable(core, take(core))
    for sender in "ac":
        core.step(sender, AppendReply(core.term, True, 1, core.term, 1))
    assert core.progress["a"].counts
    core.step("a", AppendReply(core.term, True, 1, core.term, 1), Incarnation(NEW, 1))
    assert not core.progress["a"].counts and core.progress["a"].match_index == 1


def test_a_node_whose_storage_the_configuration_does_not_name_never_campaigns() -> None:
    core = core_with([], configuration=_of("b", NEW))
    for _ in range(10 * ELECTION_TICKS):
        core.tick()
        assert core.role == "follower"
    assert not core.is_voter
    core.step("a", append(3, BASE, []))
    core.step("a", VoteRequest(3, 0, 0, False, False))
    assert core.voted_for != candidate("b")


def test_a_sole_voter_of_another_storage_is_not_alone_the_majority() -> None:
    core = core_with([], configuration=Configuration((_of("b", NEW).members[1],)))
    core.tick()
    assert core.role == "follower"


@pytest.mark.parametrize("taken_in", [False, True])
def test_a_wiped_voter_of_four_elects_nobody_in_the_name_of_its_old_disk(taken_in: bool) -> None:
    """Bug 33: a, b and c have a committed entry; with the vote of c's empty disk, d would lead without it."""
    world = World("abcd")
    world.elect("a")
    world.run(HEARTBEAT_TICKS)
    world.isolate("d")
    world.propose("a")
    world.settle("abc")
    committed = world["a"].commit_index
    world.wipe("c", NEW, members("abcd") if taken_in else None)
    world.wipe("b", NEW + b"!", members("abcd") if taken_in else None)
    world.heal()
    world.isolate("a")
    world.run(20 * ELECTION_TICKS)
    assert [world[name].role for name in "bcd"].count("leader") == 0
    world.heal()
    world.run(4 * ELECTION_TICKS)
    assert world["a"].commit_index == committed, "a and d alone are no majority"


def test_a_wiped_voter_is_replaced_by_two_changes_of_one_server() -> None:
    world = World("abc")
    world.elect("a")
    for _ in range(3):
        world.propose("a")
    world.settle()
    world.wipe("c", NEW, members("abc"))
    world.run(4 * HEARTBEAT_TICKS)
    assert world["a"].progress["c"].match_index == world["a"].last.index
    world.isolate("b")
    frame = world.propose("a")
    world.settle("ac")
    assert world["a"].commit_index < frame.header.last_index, "c counts for nothing yet"
    world.heal()
    world.run(2 * HEARTBEAT_TICKS)
    for role in (LEARNER, VOTER):
        member = world["a"].configuration.member("c")
        assert member is not None
        successor = member._replace(storage_id=NEW, role=role)
        world.propose_special("a", world["a"].configuration.with_member(successor))
        world.run(HEARTBEAT_TICKS)
        assert not world["a"].configuration_pending
    world.isolate("b")
    frame = world.propose("a")
    world.settle("ac")
    assert world["a"].commit_index == frame.header.last_index, "c counts"
    world.heal()
    world.crash("a")
    world.elect("c")


def test_who_is_about_to_give_its_state_up_acknowledges_nothing_more() -> None:
    """An answer that was under way as the member went committed an entry, which was then on one disk only."""
    core = _leader(core_with([]))
    (noop,) = frames((core.term, 1))
    core.propose(noop)
    make_durable(core, take(core))
    going, earlier, again = (Incarnation(storage_of("c"), start) for start in (5, 4, 6))
    core.step("c", AppendReply(core.term, True, 0, 0, 1), going)
    assert core.progress["c"].incarnation == going
    core.leaves("c", going)
    for late in (going, earlier):
        core.step("c", AppendReply(core.term, True, 1, core.term, 1), late)
        assert core.commit_index == 0 and core.progress["c"].incarnation is None
    core.step("c", AppendReply(core.term, True, 1, core.term, 1), again)
    assert core.commit_index == 1, "it stayed, and was started again"
