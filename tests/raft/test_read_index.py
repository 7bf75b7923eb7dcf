"""ReadIndex: raft paper section 8, thesis 6.4."""

from __future__ import annotations

from neumann.format.message import Append, AppendReply
from tests.raft.harness import HEARTBEAT_TICKS, World


def _rounds(world: World, receiver: str) -> list[int]:
    appends = [p.message for p in world.packets if isinstance(p.message, Append) and p.receiver == receiver]
    return [m.round for m in appends]


def test_a_read_needs_a_round_that_a_majority_answers() -> None:
    """Thesis 6.4, steps 2 and 3."""
    world = World()
    world.elect("a")
    token = world.read("a")
    assert world.nodes["a"].reads == []
    assert len(_rounds(world, "b")) == len(_rounds(world, "c")) == 1, "sent at once, not at a tick"
    world.settle("ab")
    assert world.nodes["a"].reads == [(token, world["a"].commit_index)]


def test_an_answer_to_an_earlier_round_confirms_nothing() -> None:
    """Bug 20: an answer to an earlier request confirmed a later read. A follower may have answered it before
    it voted for another leader. Thesis 6.4, steps 2 and 3."""
    world = World()
    world.elect("a")
    for _ in range(HEARTBEAT_TICKS):
        world.tick("a")
    earlier = max(_rounds(world, "b"))
    token = world.read("a")
    last = world["a"].last
    for follower in "bc":
        world.step("a", follower, AppendReply(1, True, last.index, last.term, earlier))
    assert world.nodes["a"].reads == []
    world.step("a", "b", AppendReply(1, True, last.index, last.term, earlier + 1))
    assert world.nodes["a"].reads == [(token, last.index)]


def test_a_new_leader_answers_no_read_before_it_committed_in_its_term() -> None:
    """Bug 19: until then it does not know what its predecessor had committed. Thesis 6.4, step 1."""
    world = World()
    world.elect("a")
    frame = world.propose("a")
    world.settle()
    world.crash("a")
    world.elect_quietly("b")
    assert not world["b"].own_term_committed
    token = world.read("b")
    for _ in range(2 * HEARTBEAT_TICKS):
        world.tick("b")
        while world.packets:
            world.deliver()
    assert world["b"].progress["c"].round_answered > 1 and world.nodes["b"].reads == []
    world.settle()
    ((read, index),) = world.nodes["b"].reads
    assert read == token and index > frame.header.last_index


def test_a_leader_that_was_cut_off_confirms_nothing() -> None:
    """Bug 36: stale reads from a leader that others have replaced."""
    world = World()
    world.elect("a")
    world.isolate("a")
    token = world.read("a")
    world.elect("b", only="bc")
    world.propose("b")
    world.settle("bc")
    world.heal()
    world.run(2 * HEARTBEAT_TICKS)
    assert world.nodes["a"].reads == [] and world.nodes["a"].lost_reads == [token]


def test_reads_between_two_calls_share_a_round_and_at_most_two_are_out() -> None:
    """Thesis 6.4, batches."""
    world = World()
    world.elect("a")
    before = world["a"]
    assert before.read_index(-1) and before.read_index(-2)
    world.checker.asked |= {-1: 0, -2: 0}
    tokens = [-1, -2] + [world.read("a") for _ in range(5)]
    assert len(set(_rounds(world, "b"))) == 2
    world.settle()
    assert [t for t, _ in world.nodes["a"].reads] == tokens


def test_a_lost_round_is_made_good_by_the_next_heartbeat() -> None:
    world = World()
    world.elect("a")
    token = world.read("a")
    world.packets.clear()
    world.run(HEARTBEAT_TICKS)
    assert [t for t, _ in world.nodes["a"].reads] == [token]


def test_a_slow_disk_of_a_follower_does_not_hold_up_reads() -> None:
    world = World()
    world.elect("a")
    world.propose("a")
    while world.packets:
        world.deliver()
    token = world.read("a")
    while world.packets:
        world.deliver()
    assert [t for t, _ in world.nodes["a"].reads] == [token]
    assert world.nodes["b"].pending and world.nodes["c"].pending


def test_a_sole_voter_answers_at_once() -> None:
    world = World("a", "b")
    world.elect("a")
    token = world.read("a")
    assert world.nodes["a"].reads == [(token, world["a"].commit_index)]


def test_a_learners_answer_confirms_nothing() -> None:
    world = World("abc", "d")
    world.elect("a")
    world.packets.clear()
    world.isolate("a", "d")
    world.read("a")
    world.settle("ad")
    assert world.nodes["a"].reads == []


def test_a_follower_refuses() -> None:
    world = World()
    world.elect("a")
    assert not world["b"].read_index(1)


def test_a_round_of_an_earlier_leadership_confirms_nothing() -> None:
    """Bug 20: a leader that was paused, replaced and elected again took a late answer to one of its
    earlier rounds for one to a new read, whose round has the same number."""
    world = World()
    world.elect("a")
    early = world.read("a")
    answers = [AppendReply(1, True, *world["a"].last[:2], n) for n in range(1, 50)]
    world.isolate("a")
    world.elect("b", only="bc")
    world.propose("b")
    world.settle("bc")
    world.heal()
    world.run(2 * HEARTBEAT_TICKS)
    world.elect("a")
    assert world.nodes["a"].lost_reads == [early] and world["a"].term > 1
    world.isolate("a")
    token = world.read("a")
    for answer in answers:
        for follower in "bc":
            world.step("a", follower, answer)
    assert world.nodes["a"].reads == []
    world.heal()
    world.run(2 * HEARTBEAT_TICKS)
    assert [t for t, _ in world.nodes["a"].reads] == [token]
