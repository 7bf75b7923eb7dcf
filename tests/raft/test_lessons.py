"""Known bugs of others (tests/known_bugs.py) that no other file of this directory is about."""

from __future__ import annotations

from neumann.format.message import TimeoutNow
from tests.raft.build import core_with, frames, make_durable, take
from tests.raft.disk import members
from tests.raft.harness import ELECTION_TICKS, HEARTBEAT_TICKS, World


def test_two_leaders_that_each_change_one_server() -> None:
    """Bug 1: from one configuration, two leaders each changed one server, and the majorities of the two
    new ones did not meet. Here the second must first commit in its own term, and that shuts out the
    first one's change."""
    world = World("abcd", blank="e")
    world.elect("a")
    world.run(HEARTBEAT_TICKS)
    world.isolate("a", "e")
    first = world.propose_special("a", members("abcde"))
    world.settle("ae")
    assert world["a"].commit_index < first.header.last_index, "a and e are two of five"
    world.elect("b", only="bcd")
    second = world.propose_special("b", world["b"].configuration.without("a"))
    world.settle("bcd")
    assert world["b"].commit_index == second.header.last_index
    world.run(4 * ELECTION_TICKS, only="ae")
    assert world["a"].role != "leader" and world["e"].role != "leader"
    world.heal()
    world.run(4 * ELECTION_TICKS)
    assert world["b"].role == "leader" and world["b"].configuration.voters == ("b", "c", "d")
    assert all(world[name].commit_index >= second.header.last_index for name in "bcd")


def test_a_sole_voter_commits_only_what_its_own_disk_has() -> None:
    """Bug 7: with one node, the answer went out before the log was synced, and the write was lost."""
    core = core_with([], configuration=members("b"))
    core.tick()
    make_durable(core, take(core))
    assert core.role == "leader"
    made = frames((core.term, 1), (core.term, 2), after=core.last)
    for frame in made:
        core.propose(frame)
    assert take(core).commit_index == 0
    core.persisted(1, core.term, 0)
    assert core.commit_index == 1, "and not the second, which is not durable yet"
    core.persisted(3, core.term, 0)
    assert core.commit_index == 3


def test_a_node_ahead_in_terms_and_behind_in_its_log_does_not_block_elections() -> None:
    """Bug 24: a node with a later term and a short log answered every leader with its term and won no
    vote; those who could win heard a leader within their timeout and refused to campaign."""
    world = World()
    world.elect("a")
    world.run(HEARTBEAT_TICKS)
    world.isolate("c")
    frame = world.propose("a")
    world.settle("ab")
    world.step("c", "a", TimeoutNow(world["a"].term))
    world.settle("c")
    assert world["c"].term > world["a"].term and world["c"].last.index < frame.header.last_index
    world.packets.clear()
    world.heal()
    world.run(6 * ELECTION_TICKS)
    leaders = [name for name in "abc" if world[name].role == "leader"]
    assert len(leaders) == 1 and world[leaders[0]].own_term_committed
    assert len({world[name].term for name in "abc"}) == 1
    assert len({world[name].last for name in "abc"}) == 1
    term = world[leaders[0]].term
    world.run(6 * ELECTION_TICKS)
    assert world[leaders[0]].role == "leader" and world[leaders[0]].term == term, "and it lasts"
