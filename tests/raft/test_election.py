"""Elections: raft paper 5.2 and 5.4.1, pre-vote, check-quorum, transfer, floor, nodes without a vote."""

from __future__ import annotations

import pytest

from neumann.format.ids import LogPoint
from neumann.format.message import Append, AppendReply, TimeoutNow, VoteReply, VoteRequest
from neumann.raft import Raft, Role
from neumann.raft.progress import heir
from tests.raft.build import Core, append, core_with, frames, make_durable, take, vote_reply
from tests.raft.disk import BASE, candidate, members
from tests.raft.harness import ELECTION_TICKS, HEARTBEAT_TICKS, World


def _silence(core: Raft) -> None:
    """Let the node lose patience once."""
    for _ in range(2 * ELECTION_TICKS):
        core.tick()
        if core.role is not Role.FOLLOWER:
            return


def _candidate(core: Core) -> Core:
    """Win the pre-vote; the vote is not durable yet."""
    _silence(core)
    core.step("a", vote_reply(core.term + 1, True, True))
    assert core.role == "candidate"
    return core


def test_a_follower_hears_nothing_and_asks_before_it_enters_a_term() -> None:
    """Figure 2, followers 2; thesis 9.6, asking."""
    core = core_with(frames((3, 2)))
    for _ in range(ELECTION_TICKS - 1):
        core.tick()
        assert core.role == "follower"
    _silence(core)
    ready = take(core)
    assert core.role == "precandidate" and core.term == 3 and ready.vote is None
    assert [m for _, m in ready.messages] == [VoteRequest(4, 2, 3, True, False)] * 2


def test_a_candidate_asks_only_when_its_own_vote_is_durable() -> None:
    """A vote given to a log that a crash then shortened would elect a node that lacks entries. Figure 2,
    candidates 1."""
    core = core_with(frames((3, 2)))
    _silence(core)
    take(core)
    core.step("a", vote_reply(4, True, True))
    ready = take(core)
    assert ready.vote == (4, candidate("b")) and not ready.messages
    assert [m for _, m in ready.messages_after_sync] == [VoteRequest(4, 2, 3, False, False)] * 2


def test_nobody_leads_before_the_own_vote_is_durable() -> None:
    """R15: leadership begins with a new durable term, even with the votes of all others. Figure 2,
    candidates 2."""
    core = _candidate(core_with([]))
    for voter in "ac":
        core.step(voter, vote_reply(core.term, True, False))
    assert core.role == "candidate"
    core.vote_persisted(core.term - 1, candidate(""))
    assert core.role == "candidate"
    core.vote_persisted(core.term, candidate("b"))
    assert core.role == "leader" and take(core).role_changed


def test_a_sole_voter_leads_as_soon_as_its_new_term_is_durable() -> None:
    core = core_with(frames((3, 2)), configuration=members("b"), voted_for="b")
    core.tick()
    assert core.role == "candidate"
    make_durable(core, take(core))
    assert core.role == "leader" and core.term == 4


def test_one_vote_in_a_term_and_it_is_kept_over_a_restart() -> None:
    """Bug 12: a vote that is not remembered is given twice. Figure 2, state; figure 2, RequestVote 2."""
    core = core_with([], term=2)
    core.step("a", VoteRequest(3, 0, 0, False, False))
    ready = take(core)
    assert ready.vote == (3, candidate("a")) and not ready.messages
    assert ready.messages_after_sync == (("a", vote_reply(3, True, False, to="a")),)
    again = core_with([], term=3, voted_for="a")
    for name, granted in (("c", False), ("a", True)):
        again.step(name, VoteRequest(3, 9, 2, False, False))
        assert take(again).messages_after_sync == ((name, vote_reply(3, granted, False, to=name)),)


@pytest.mark.parametrize(
    ("last_index", "last_term", "granted"),
    [(5, 3, True), (6, 3, True), (4, 3, False), (1, 4, True), (9, 2, False)],
)
@pytest.mark.parametrize("pre", [True, False])
def test_a_vote_goes_only_to_a_log_at_least_as_far(
    last_index: int, last_term: int, granted: bool, pre: bool
) -> None:
    """Figure 2, RequestVote 2; thesis 9.6, answering."""
    core = core_with(frames((2, 3), (3, 2)))
    core.step("a", VoteRequest(7, last_index, last_term, pre, False))
    ready = take(core)
    ((_, reply),) = ready.messages + ready.messages_after_sync
    assert isinstance(reply, VoteReply) and reply.granted is granted


def test_answers_of_another_term_are_not_counted() -> None:
    """Bug 39: a vote of an older election made a second leader in a term."""
    core = _candidate(core_with([], term=4))
    make_durable(core, take(core))
    core.step("a", vote_reply(4, True, False))
    core.step("c", vote_reply(6, True, True))
    assert core.role == "candidate" and core.term == 5
    core.step("a", vote_reply(5, True, False))
    assert core.role == "leader"


def test_votes_of_others_than_voters_are_not_counted() -> None:
    core = _candidate(core_with([], configuration=members("abc", "d")))
    make_durable(core, take(core))
    core.step("d", vote_reply(1, True, False))
    core.step("stranger", vote_reply(1, True, False))
    assert core.role == "candidate"


def test_a_pre_vote_changes_nothing_on_either_side() -> None:
    """Thesis 9.6, answering."""
    core = core_with([], term=3, voted_for="c")
    core.step("a", VoteRequest(9, 0, 0, True, False))
    ready = take(core)
    assert ready.messages == (("a", vote_reply(9, True, True, to="a")),)
    assert (core.term, core.voted_for, ready.vote) == (3, candidate("c"), None)


def test_a_node_of_a_lower_term_is_told_and_comes_along() -> None:
    """Bug 23: with pre-vote, a node that was ignored for its low term never caught up."""
    core = core_with([], term=9)
    core.step("a", VoteRequest(4, 0, 0, True, False))
    ((_, reply),) = take(core).messages
    assert reply == vote_reply(9, False, True, to="a")
    late = core_with([], node_id="a", term=3)
    _silence(late)
    late.step("b", reply)
    assert (late.role, late.term, take(late).vote) == ("follower", 9, (9, candidate("")))


def test_a_leader_of_a_lower_term_is_told_and_steps_down() -> None:
    """Bug 23, the other half: a node that is ahead in terms must not be out of reach for ever. Figure 2,
    AppendEntries 1."""
    core = core_with([], term=9)
    core.step("a", append(4, BASE, []))
    ((_, reply),) = take(core).messages
    assert isinstance(reply, AppendReply) and (reply.term, reply.ok) == (9, False)
    world = World()
    world.elect("a")
    world.step("a", "b", reply)
    assert (world["a"].role, world["a"].term) == ("follower", 9)


def test_who_was_cut_off_disturbs_nobody_when_it_comes_back() -> None:
    """Bug 25. Thesis 9.6, rejoining."""
    world = World()
    world.elect("a")
    world.isolate("c")
    world.run(10 * ELECTION_TICKS)
    world.heal()
    world.run(4 * ELECTION_TICKS)
    assert world["a"].role == "leader" and world["a"].term == world["c"].term == 1


def test_a_voter_that_hears_a_leader_answers_no_candidate() -> None:
    """Thesis 4.2.3; thesis 9.6, answering."""
    core = core_with([], term=1)
    core.step("a", append(1, BASE, []))
    take(core)
    core.step("c", VoteRequest(5, 9, 4, False, False))
    core.step("c", VoteRequest(5, 9, 4, True, False))
    assert core.ready() is None and core.term == 1
    for _ in range(ELECTION_TICKS):
        core.tick()
    core.ready()
    core.step("c", VoteRequest(5, 9, 4, True, False))
    assert take(core).messages == (("c", vote_reply(5, True, True, to="c")),)


def test_a_leader_that_hears_no_majority_steps_down() -> None:
    """Thesis 6.2."""
    world = World("abcde")
    world.elect("a")
    world.isolate("a", "b")
    token = world.read("a")
    world.run(2 * ELECTION_TICKS + 1, only="ab")
    assert world["a"].role == "follower" and world["a"].leader == ""
    assert world.nodes["a"].lost_reads == [token] and "majority" in world["a"].left_because


def test_a_leader_stays_with_a_bare_majority() -> None:
    world = World("abcde")
    world.elect("a")
    world.isolate("a", "b", "c")
    world.run(10 * ELECTION_TICKS)
    assert world["a"].role == "leader" and world["a"].term == 1


def test_old_answers_are_no_contact() -> None:
    """Check-quorum counts answers to rounds of its own window, not answers that were long under way. Thesis
    6.2."""
    world = World()
    world.elect("a")
    round_now = max(p.round_answered for p in world["a"].progress.values())
    for _ in range(3 * ELECTION_TICKS):
        if world["a"].role == "leader":
            world.step("a", "b", AppendReply(1, True, 0, 0, round_now))
            world.tick("a")
    assert world["a"].role == "follower"


def test_no_leader_without_a_vote_record_and_no_vote() -> None:
    """Bug 33, R10: a node that was wiped must not vote, or it could vote twice."""
    core = core_with([], can_vote=False)
    core.step("a", VoteRequest(5, 9, 4, False, False))
    core.step("a", VoteRequest(5, 9, 4, True, False))
    for _ in range(5 * ELECTION_TICKS):
        core.tick()
    assert core.ready() is None and core.term == 0
    core.step("a", append(2, BASE, []))
    ready = take(core)
    assert ready.vote == (2, candidate("")) and not ready.messages and len(ready.messages_after_sync) == 1
    assert not core.can_vote
    make_durable(core, ready)
    assert core.can_vote


def test_a_learner_never_campaigns() -> None:
    core = core_with([], node_id="d", configuration=members("abc", "d"))
    for _ in range(5 * ELECTION_TICKS):
        core.tick()
    core.step("a", append(1, BASE, []))
    core.step("a", TimeoutNow(1))
    assert core.role == "follower" and not core.is_voter


def test_below_its_floor_a_node_does_not_campaign_and_wants_the_floor_of_others() -> None:
    made = frames((1, 2), (2, 3), (2, 2))
    core = core_with(made[:1], term=3, floor=(2, 7))
    for _ in range(5 * ELECTION_TICKS):
        core.tick()
    assert core.role == "follower"
    core.ready()
    for index, granted in ((6, False), (7, True)):
        core.step("c", VoteRequest(4, index, 2, False, False))
        ((_, reply),) = take(core).messages_after_sync
        assert reply == vote_reply(4, granted, False, to="c")
    core.step("c", append(4, made[0].header.end, made[1:], commit_index=7))
    assert core.floor == (2, 7)
    make_durable(core, take(core))
    (noop,) = frames((4, 1), after=core.last)
    core.step("c", append(4, core.last, [noop]))
    make_durable(core, take(core))
    assert core.floor == (0, 0)


def test_who_lost_an_unknown_tail_votes_only_for_what_a_later_leader_supplied() -> None:
    """Where the last acknowledged frame is not known, the floor is a term above all that were known: a
    leader of it was elected without this node, so what it has is all that was committed."""
    core = core_with(frames((1, 2)), term=4, floor=(4, 1))
    core.step("a", append(3, core.last, frames((3, 1), after=core.last)))
    ((_, reply),) = take(core).messages
    assert (reply.term, reply.ok) == (4, False)
    core.step("c", VoteRequest(5, 900, 3, False, False))
    ready = take(core)
    make_durable(core, ready)
    assert [m.granted for _, m in ready.messages_after_sync] == [False]
    (old, noop) = frames((3, 1), (6, 1), after=core.last)
    core.step("a", append(6, core.last, [old]))
    make_durable(core, take(core))
    assert core.floor == (4, 1)
    core.step("a", append(6, core.last, [noop]))
    make_durable(core, take(core))
    assert core.floor == (0, 0)


def test_a_term_that_only_the_log_remembers_is_entered_without_a_vote() -> None:
    """A crash may keep the frames of a batch and lose the vote that was written with them."""
    core = core_with(frames((3, 2)), term=2, voted_for="a")
    assert (core.term, core.voted_for, take(core).vote) == (3, candidate(""), (3, candidate("")))


def test_transfer_to_a_follower_that_has_everything() -> None:
    world = World()
    world.elect("a")
    world.change("a", lambda core: core.transfer_to("b"))
    world.settle()
    assert world["b"].role == "leader" and world["a"].role == "follower"
    assert world["a"].leader == "b"


def test_transfer_waits_for_the_log_and_gives_up_after_an_election_timeout() -> None:
    """Thesis 3.10, step 1; thesis 3.10, step 2; thesis 3.10, end."""
    world = World()
    world.elect("a")
    world.isolate("b")
    world.propose("a")
    world.change("a", lambda core: core.transfer_to("b"))
    assert world["a"].transferring == "b"
    with pytest.raises(AssertionError):
        world.propose("a")
    world.run(ELECTION_TICKS, only="ac")
    assert world["a"].transferring == "" and world["a"].role == "leader"
    world.propose("a")
    world.heal()
    world.run(4)
    world.change("a", lambda core: core.transfer_to("b"))
    world.settle()
    assert world["b"].role == "leader"


def test_timeout_now_is_believed_only_from_the_leader_of_the_term() -> None:
    """Thesis 3.10, step 3."""
    core = core_with([], term=1)
    core.step("a", append(1, BASE, []))
    core.step("c", TimeoutNow(1))
    core.step("a", TimeoutNow(0))
    assert core.role == "follower"
    core.step("a", TimeoutNow(1))
    ready = take(core)
    assert core.role == "candidate"
    assert [m for _, m in ready.messages_after_sync] == [VoteRequest(2, 0, 0, False, True)] * 2


def test_step_down_makes_room_for_the_follower_that_has_most() -> None:
    """Bug 27: a leader whose disk stalls must not keep the cluster waiting."""
    world = World()
    world.elect("a")
    world.isolate("b")
    world.propose("a")
    world.settle("ac")
    world.heal()
    world.change("a", lambda core: core.step_down("the disk stalls"))
    world.settle()
    assert world["c"].role == "leader" and world["a"].left_because == "the disk stalls"
    assert world["c"].term == 2


def test_of_followers_that_have_the_same_log_the_one_that_answers_is_the_heir() -> None:
    """In an idle cluster a follower that had died long before was the heir as well: a leader that went handed
    over to nobody, and the others waited for an election timeout."""
    world = World()
    world.elect("a")
    world.run(HEARTBEAT_TICKS)
    world.isolate("b")
    world.run(ELECTION_TICKS, "ac")
    assert heir(world["a"].progress, "abc") == "c"
    world.change("a", lambda core: core.step_down("it goes"))
    world.settle()
    assert world["c"].role == "leader"


def test_two_leaders_of_one_term_are_told_and_nothing_is_taken() -> None:
    core = core_with([], term=1)
    core.step("a", append(1, BASE, []))
    take(core)
    core.step("c", append(1, BASE, frames((1, 1))))
    ready = take(core)
    assert ready.diverged == core.diverged != "" and not ready.frames and not ready.messages
    core.step("a", append(2, BASE, []))
    for _ in range(5 * ELECTION_TICKS):
        core.tick()
    assert core.ready() is None and core.last == BASE


def test_a_leader_that_the_embedder_finds_different_stops() -> None:
    world = World()
    world.elect("a")
    core = world["a"]
    token = 1
    assert core.read_index(token)
    core.diverge("digest x, others y")
    ready = take(core)
    assert ready.diverged == "digest x, others y" and ready.lost_reads == (token,)
    assert core.role == "follower" and not core.read_index(2)


def test_the_graph_of_partial_links_finds_a_stable_leader() -> None:
    """Bug 26: with links lost between some pairs, leaders followed each other for hours."""
    world = World("abcde")
    links = {"ab", "bc", "cd", "de", "bd"}
    for one in "abcde":
        for other in "abcde":
            if one != other and one + other not in links and other + one not in links:
                world.cut.add((one, other))
    world.run(20 * ELECTION_TICKS)
    terms = max(node.up.term for node in world.running)
    world.run(20 * ELECTION_TICKS)
    leaders = [node.name for node in world.running if node.up.role == "leader"]
    assert len(leaders) == 1 and max(node.up.term for node in world.running) <= terms + 1


def test_heartbeats_carry_the_point_they_stand_on() -> None:
    world = World()
    world.elect("a")
    world.packets.clear()
    for _ in range(2):
        world.tick("a")
    beats = [p.message for p in world.packets if isinstance(p.message, Append)]
    assert {LogPoint(m.prev_index, m.prev_term, m.prev_chain) for m in beats} == {world["a"].last}
    assert all(m.last_index == m.prev_index and not m.frames for m in beats)
