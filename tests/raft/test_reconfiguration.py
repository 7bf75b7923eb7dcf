"""Membership: one server at a time, in force from its append (thesis 4.1 and 4.2), learners, removal."""

from __future__ import annotations

import pytest

from neumann.format import special
from neumann.format.ids import LEARNER
from neumann.raft import quorum
from tests.raft.disk import members
from tests.raft.harness import ELECTION_TICKS, HEARTBEAT_TICKS, World


def test_a_configuration_is_in_force_from_its_append_on_leader_and_follower() -> None:
    """Bug 2: a configuration that waits for its apply leaves a slow node with old majorities. Thesis 4.1, in
    force."""
    world = World("abc", blank="d")
    world.elect("a")
    world.propose_special("a", members("abc", "d"))
    assert set(world["a"].progress) == {"b", "c", "d"}
    while world.packets:
        world.deliver()
    assert world["b"].configuration == members("abc", "d")
    assert world["b"].configuration_index > world["b"].commit_index


def test_no_configuration_before_an_entry_of_the_own_term_is_committed() -> None:
    """Bug 1: two leaders that each change one server from the same configuration share no majority. Thesis
    4.1, own term."""
    world = World("abc", "d")
    world.elect_quietly("a")
    assert world["a"].configuration_pending
    with pytest.raises(AssertionError):
        world.propose_special("a", members("abcd"))


def test_two_leaders_of_four_that_each_change_one_server_commit_nothing_apart() -> None:
    """Bug 1: from {a,b,c,d}, a adds e and b, in a later term, removes a. Majorities of {b,c,d} and of
    {a,b,c,d,e} need not meet: what b and c committed is lost when a, d and e elect a again."""
    world = World("abcd", blank="e")
    world.elect("a")
    world.run(HEARTBEAT_TICKS)
    world.isolate("a", "e")
    world.propose_special("a", world["a"].configuration.with_member(members("e").members[0]))
    world.settle("ae")
    world.elect_quietly("b")
    world.isolate("b", "c")
    world.settle("bc")
    if world["b"].configuration_pending:  # the gate: nothing of its term is on a majority of the four
        world.heal()
        world.isolate("a", "e")
        world.run(HEARTBEAT_TICKS, only="bcd")
        assert not world["b"].configuration_pending
    world.isolate("b", "c")
    removal = world.propose_special("b", world["b"].configuration.without("a"))
    world.settle("bc")
    assert world["b"].commit_index == removal.header.last_index
    world.heal()
    world.isolate("b", "c")
    world.run(10 * ELECTION_TICKS, only="ade")
    assert "leader" not in [world[name].role for name in "ade"]
    world.heal()
    world.run(4 * ELECTION_TICKS)
    assert world["d"].configuration == members("bcd")._replace(removed=("a",))


def test_a_removed_node_disturbs_nobody() -> None:
    """Thesis 4.2.3: it hears no more heartbeats, and campaigns for ever."""
    world = World("abcd")
    world.elect("a")
    world.run(HEARTBEAT_TICKS)
    world.isolate("d")
    world.propose_special("a", world["a"].configuration.without("d"))
    world.settle("abc")
    world.heal()
    term = world["a"].term
    world.run(20 * ELECTION_TICKS)
    assert (world["a"].role, world["a"].term) == ("leader", term)
    assert world["d"].is_voter, "nobody tells it"


def test_one_configuration_at_a_time() -> None:
    """Thesis 4.1, one at a time."""
    world = World("abc", "de")
    world.elect("a")
    world.propose_special("a", members("abcd", "e"))
    assert world["a"].configuration_pending
    with pytest.raises(AssertionError):
        world.propose_special("a", members("abcde"))
    world.settle()
    assert not world["a"].configuration_pending


def test_a_configuration_that_is_cut_gives_way_to_the_one_before() -> None:
    """Thesis 4.1, fallback."""
    world = World("abc", "d")
    world.elect("a")
    world.run(HEARTBEAT_TICKS)
    world.isolate("a")
    world.propose_special("a", members("abcd"))
    assert world["a"].configuration == members("abcd")
    world.elect("b", only="bcd")
    world.heal()
    world.run(2 * ELECTION_TICKS)
    assert world["a"].configuration == world["b"].configuration == members("abc", "d")


def test_a_learner_receives_and_counts_for_nothing() -> None:
    """Thesis 4.2.1."""
    world = World("ab", "c")
    world.elect("a")
    world.isolate("a", "c")
    frame = world.propose("a")
    world.settle("ac")
    assert world["c"].last == frame.header.end
    assert world["a"].commit_index < frame.header.last_index


def test_a_blank_node_becomes_learner_then_voter_with_a_partner() -> None:
    """Thesis 4.2.1."""
    world = World("a", blank="bc")
    world.elect("a")
    for node_id in "bc":
        now = world["a"].configuration
        world.propose_special("a", now.with_member(members("", node_id).members[0]))
        world.run(HEARTBEAT_TICKS)
    caught_up = {n for n, p in world["a"].progress.items() if p.match_index == world["a"].last.index}
    assert caught_up == {"b", "c"}
    sizes = []
    while learner := quorum.next_promotion(world["a"].configuration, caught_up, 0):
        member = world["a"].configuration.member(learner)
        assert member is not None and member.role == LEARNER and world[learner].can_vote
        world.propose_special("a", world["a"].configuration.with_member(member._replace(role="voter")))
        world.run(HEARTBEAT_TICKS)
        sizes.append(len(world["b"].configuration.voters))
    assert sizes == [2, 3]
    world.crash("a")
    world.elect("b")


def test_a_blank_node_behind_a_dropped_log_starts_from_the_snapshot() -> None:
    """Bug 4: the snapshot is older than the entry that takes the node in."""
    world = World("a", blank="b")
    world.elect("a")
    for _ in range(4):
        world.propose("a")
    world.settle()
    world.apply("a")
    world.snapshot("a")
    world.propose_special("a", members("a", "b"))
    world.run(3 * HEARTBEAT_TICKS)
    assert world["b"].log.base == world["a"].log.base and world["b"].last == world["a"].last
    assert world["b"].configuration == members("a", "b")


def test_a_leader_that_is_removed_leads_until_that_is_committed() -> None:
    """Thesis 4.2.2."""
    world = World("abc")
    world.elect("a")
    world.run(HEARTBEAT_TICKS)
    frame = world.propose_special("a", world["a"].configuration.without("a"))
    assert world["a"].role == "leader" and not world["a"].is_voter
    world.settle()
    assert world["a"].role == "follower" and "no voter" in world["a"].left_because
    assert world["a"].commit_index == frame.header.last_index
    leaders = [name for name in "bc" if world[name].role == "leader"]
    assert len(leaders) == 1, "it let another one campaign"
    world.run(10 * ELECTION_TICKS)
    assert world[leaders[0]].role == "leader" and world["a"].role == "follower"


def test_a_removed_leader_does_not_count_itself() -> None:
    """Thesis 4.2.2."""
    world = World("abc")
    world.elect("a")
    frame = world.propose_special("a", world["a"].configuration.without("a"))
    world.isolate("a", "b")
    world.settle("ab")
    assert world["a"].commit_index < frame.header.last_index, "b alone is no majority of b and c"


def test_the_last_voter_that_stays_commits_the_removal_of_the_other() -> None:
    world = World("ab")
    world.elect("a")
    frame = world.propose_special("a", world["a"].configuration.without("b"))
    world.sync("a")
    assert world["a"].commit_index == frame.header.last_index


def test_a_snapshot_brings_its_configuration_and_the_log_the_later_ones() -> None:
    """Bug 3: the configuration in memory and the one on disk must be of the same log. Figure 13,
    InstallSnapshot 8."""
    world = World("abc", "d")
    world.elect("a")
    world.propose("a")
    world.settle()
    world.apply("a")
    world.snapshot("a")
    world.propose_special("a", members("abcd"))
    world.settle()
    assert world["a"].configuration_at(world["a"].log.base.index) == members("abc", "d")
    world.crash("a")
    world.start("a")
    assert world["a"].configuration == members("abcd")
    assert world["a"].configuration_index > world["a"].commit_index


def test_what_cannot_be_read_is_no_configuration() -> None:
    world = World()
    world.elect("a")
    kind, _ = special.encode(members("a"))
    world.propose_frame("a", kind, [b"\xc1"])
    world.settle()
    assert world["a"].configuration == world["b"].configuration == members("abc")
