"""The leader's half: commitment (raft paper 5.4.2, figure 8), flow control, probing, snapshots."""

from __future__ import annotations

import pytest

from neumann.format.frame import Frame, Kind
from neumann.format.ids import Incarnation, LogPoint
from neumann.format.message import Append, AppendReply, SnapshotOffer
from neumann.raft import Mode, Raft
from tests.raft.build import Core, core_with, frames, make_durable, take, vote_reply
from tests.raft.disk import BASE, storage_of
from tests.raft.harness import ELECTION_TICKS, HEARTBEAT_TICKS, World


def _leader(made: list[Frame], term: int | None = None) -> Core:
    """Leader "b" of "abc", in the term after its log's; its first round is out and unanswered."""
    core = core_with(made) if term is None else core_with(made, term=term)
    while core.role != "precandidate":
        core.tick()
    core.step("a", vote_reply(core.term + 1, True, True))
    make_durable(core, take(core))
    core.step("a", vote_reply(core.term, True, False))
    assert core.role == "leader"
    return core


def _sent(core: Raft, receiver: str) -> list[Append]:
    """What goes out to this node now."""
    ready = core.ready()
    messages = ready.messages if ready is not None else ()
    return [m for r, m in messages if r == receiver and isinstance(m, Append)]


def _ok(core: Core, sender: str, point: LogPoint, round_number: int = 1, start: int = 1) -> None:
    reply = AppendReply(core.term, True, point.index, point.term, round_number)
    core.step(sender, reply, Incarnation(storage_of(sender), start))


def _propose(core: Raft, count: int = 1) -> LogPoint:
    (frame,) = frames((core.term, count), after=core.last)
    core.propose(frame)
    return frame.header.end


def test_an_entry_is_committed_when_a_majority_has_it_durable_the_leader_included() -> None:
    """Figure 2, leaders 2."""
    core = _leader([])
    end = _propose(core, 3)
    take(core)
    _ok(core, "a", end)
    assert core.commit_index == 0, "the leader's own disk has not answered"
    core.persisted(end.index, end.term, 0)
    assert take(core).commit_index == 3


def test_the_followers_may_be_faster_than_the_leaders_disk() -> None:
    """Thesis 10.2.1."""
    core = _leader([])
    end = _propose(core)
    take(core)
    for follower in "ac":
        _ok(core, follower, end)
    assert core.commit_index == 1 and core.durable_index == 0


def test_figure_8_an_entry_of_an_earlier_term_is_not_committed_by_counting() -> None:
    """Bug 14: a majority has an entry of term 2, and yet a leader of term 3 may still replace it. Figure 2,
    leaders 4."""
    made = frames((1, 1), (2, 1))
    core = _leader(made, term=3)
    for follower in "ac":
        _ok(core, follower, made[1].header.end)
    assert core.commit_index == 0
    end = _propose(core)
    make_durable(core, take(core))
    _ok(core, "c", end)
    assert core.commit_index == 3, "the entry of the own term commits all before it"


def test_figure_8_played_by_five_nodes() -> None:
    """Bug 14: the figure that the rule is there for, with the leaders of its terms 2, 3 and 4."""
    world = World("abcde")
    world.elect("a")
    world.run(HEARTBEAT_TICKS)
    world.isolate("a", "b")
    old = world.propose("a")
    world.settle("ab")
    world.crash("a")
    world.heal()
    world.isolate("e", "d", "c")
    world.elect_quietly("e")
    world.propose("e")
    world.sync("e")
    world.packets.clear()
    world.crash("e")
    world.heal()
    world.start("a")
    world.elect("a")
    assert world["a"].commit_index >= old.header.last_index
    world.start("e")
    world.run(4 * ELECTION_TICKS)
    ends = {world[name].log.end_at(old.header.last_index) for name in "abcde"}
    assert ends == {old.header.end}


def test_acknowledgements_of_another_term_are_not_counted() -> None:
    """Bug 39, for AppendReply: an acknowledgement of an earlier leadership says nothing in this one."""
    core = _leader(frames((1, 2)), term=4)
    end = _propose(core)
    make_durable(core, take(core))
    core.step("a", AppendReply(4, True, end.index, end.term, 1))
    assert core.commit_index == 0


def test_an_acknowledgement_names_a_frame_of_this_log_or_nothing() -> None:
    """R16: an index alone proves nothing."""
    core = _leader(frames((1, 2)))
    end = _propose(core, 2)
    make_durable(core, take(core))
    for index, term in ((end.index, end.term - 1), (end.index - 1, end.term), (end.index + 1, end.term)):
        core.step("a", AppendReply(core.term, True, index, term, 1))
    assert core.commit_index == 0
    _ok(core, "a", end)
    assert core.commit_index == 4


def test_one_message_carries_all_frames_since_the_last() -> None:
    core = _leader([])
    take(core)
    _ok(core, "a", BASE)
    first, last = _propose(core), _propose(core, 2)
    (message,) = _sent(core, "a")
    assert (message.prev_index, message.last_index) == (0, last.index) and message.frames == ()
    _propose(core)
    (message,) = _sent(core, "a")
    assert (message.prev_index, message.prev_chain) == (last.index, last.chain)
    assert first.index == 1


def test_frames_are_sent_before_they_are_durable_and_before_earlier_ones_are_answered() -> None:
    core = _leader([])
    take(core)
    _ok(core, "a", BASE)
    for _ in range(3):
        _propose(core)
        assert len(_sent(core, "a")) == 1
    assert core.progress["a"].frames_in_flight == 3 and core.durable_index == 0


def test_the_flow_limits_hold_and_open_again() -> None:
    world = World(bytes_in_flight_max=500, append_bytes_max=200, frames_in_flight_max=5)
    world.elect("a")
    world.cut = {("b", "a")}
    for _ in range(40):
        world.propose("a", size=40)
    progress = world["a"].progress["b"]
    assert progress.frames_in_flight <= 5 and progress.bytes_in_flight < 500 + 200
    appends = [p.message for p in world.packets if isinstance(p.message, Append) and p.receiver == "b"]
    assert all(sum(len(f.data) for f in m.frames) <= 200 for m in appends)
    world.heal()
    world.run(2 * HEARTBEAT_TICKS)
    assert world["b"].last == world["a"].last and progress.frames_in_flight == 0


def test_one_frame_goes_out_even_if_it_is_larger_than_every_limit() -> None:
    world = World(bytes_in_flight_max=100, append_bytes_max=50)
    world.elect("a")
    for _ in range(3):
        world.propose("a", size=500)
    world.run(2 * HEARTBEAT_TICKS)
    assert world["b"].last == world["a"].last


def test_a_new_leader_probes_without_frames_and_jumps_to_where_the_logs_agree() -> None:
    """Figure 2, leaders 3."""
    shared = frames((1, 3), (1, 2))
    core = _leader(shared + frames((3, 1), (3, 1), after=shared[1].header.end))
    _propose(core)
    (probe,) = _sent(core, "a")
    assert (probe.prev_index, probe.last_index) == (7, 7)
    core.step("a", AppendReply(core.term, False, 5, 1, 1))
    (probe,) = _sent(core, "a")
    assert (probe.prev_index, probe.last_index) == (5, 5)
    _ok(core, "a", shared[1].header.end)
    (message,) = _sent(core, "a")
    assert (message.prev_index, message.last_index) == (5, 8)


def test_a_refusal_with_a_later_term_leads_to_an_end_of_an_earlier_term() -> None:
    made = frames((1, 2), (5, 2), (5, 2))
    core = _leader(made)
    take(core)
    core.step("a", AppendReply(core.term, False, 5, 3, 1))
    (probe,) = _sent(core, "a")
    assert (probe.prev_index, probe.prev_term) == (2, 1)


def test_old_and_doubled_refusals_do_not_lead_astray() -> None:
    """Bug 35: refusals that came twice or late sent leader and follower round in circles."""
    core = _leader(frames((1, 1), (1, 1), (1, 1)))
    take(core)
    refusal = AppendReply(core.term, False, 1, 1, 1)
    core.step("a", refusal)
    assert len(_sent(core, "a")) == 1
    core.step("a", refusal)
    assert _sent(core, "a") == []
    _ok(core, "a", core.last)
    core.step("a", refusal)
    assert core.progress["a"].match_index == 3 and core.progress["a"].mode is Mode.REPLICATE


def test_a_lost_append_is_noticed_at_the_next_heartbeat() -> None:
    world = World()
    world.elect("a")
    world.propose("a")
    world.packets = [p for p in world.packets if p.receiver != "b"]
    world.settle()
    assert world["b"].last != world["a"].last
    world.run(HEARTBEAT_TICKS)
    assert world["b"].last == world["a"].last


def test_who_is_unreachable_is_only_asked_once_a_heartbeat() -> None:
    core = _leader([])
    take(core)
    _ok(core, "a", BASE)
    _propose(core)
    assert len(_sent(core, "a")) == 1
    core.report_unreachable("a")
    _propose(core)
    assert _sent(core, "a") == []
    for _ in range(HEARTBEAT_TICKS):
        core.tick()
    (probe,) = _sent(core, "a")
    assert probe.prev_index == probe.last_index == 0


def test_a_restarted_follower_is_asked_anew_what_it_has() -> None:
    """A restart may lose what was acknowledged (damage above the manifest, design section 4)."""
    core = _leader([])
    take(core)
    _ok(core, "a", BASE)
    end = _propose(core, 5)
    take(core)
    _ok(core, "a", end)
    _ok(core, "a", BASE, start=2)
    assert core.progress["a"].match_index == 0
    _ok(core, "a", end, start=1)
    core.persisted(end.index, end.term, 0)
    assert core.commit_index == 0, "the first incarnation is not believed any more"
    _ok(core, "a", end, start=2)
    assert core.commit_index == 5


def test_the_commit_index_is_told_where_no_frame_told_it_for_a_tick() -> None:
    world = World()
    world.elect("a")
    frame = world.propose("a")
    world.settle()
    assert world["a"].commit_index == frame.header.last_index > world["b"].commit_index
    for _ in range(2):
        world.tick("a")
        world.settle()
    assert world["b"].commit_index == world["c"].commit_index == frame.header.last_index


def test_while_frames_flow_no_other_message_tells_the_commit_index() -> None:
    core = _leader([])
    take(core)
    _ok(core, "a", BASE)
    told = []
    for _ in range(5):
        end = _propose(core)
        sent = _sent(core, "a")
        assert [message.last_index for message in sent if message.prev_index < message.last_index] == [
            end.index
        ]
        told.append(sent[-1].commit_index)
        _ok(core, "a", end, sent[-1].round)
        core.persisted(end.index, end.term, 0)
        core.tick()
        assert [message.round for message in _sent(core, "a")] in ([], [sent[-1].round + 1]), "no heartbeat"
    assert told == [0, 1, 2, 3, 4]


def test_who_needs_what_was_dropped_is_offered_the_published_snapshot() -> None:
    """Bug 28: an append behind a compacted log named term 0 for its prev."""
    world = World()
    world.elect("a")
    world.isolate("c")
    for _ in range(5):
        world.propose("a", 2)
    world.settle("ab")
    world.apply("a")
    world.snapshot("a")
    point = world["a"].log.base
    world.propose("a")
    world.settle("ab")
    world.heal()
    for _ in range(HEARTBEAT_TICKS):
        world.tick("a")
    offers = []
    while world.packets:
        offers += [p.message for p in world.packets if isinstance(p.message, SnapshotOffer)]
        world.deliver()
    assert offers[0][1:4] == point
    assert world["a"].progress["c"].mode is Mode.SNAPSHOT
    world.fetch("c")
    world.settle()
    assert world["c"].log.base == point and world["c"].last == world["a"].last
    assert world["a"].progress["c"].match_index == world["a"].last.index


def test_the_log_may_be_dropped_while_it_is_being_sent() -> None:
    """Bug 28: the log was compacted while a follower was throttled, and what went out next named term 0."""
    world = World(frames_in_flight_max=2)
    world.elect("a")
    world.cut = {("c", "a")}
    for _ in range(10):
        world.propose("a")
    world.settle()
    world.apply("a")
    world.snapshot("a")
    assert world["a"].progress["c"].next_index <= world["a"].log.base.index
    world.heal()
    world.run(4 * HEARTBEAT_TICKS)
    assert world["c"].last == world["a"].last


@pytest.mark.parametrize("field", ["term", "first_index", "parent"])
def test_only_a_frame_that_continues_the_log_is_proposed(field: str) -> None:
    core = _leader([])
    (frame,) = frames((core.term, 1))
    header = frame.header._replace(**{field: getattr(frame.header, field) + 1})
    with pytest.raises(AssertionError):
        core.propose(Frame(header, frame.data))


def test_a_follower_does_not_propose() -> None:
    with pytest.raises(AssertionError):
        core_with([]).propose(frames((1, 1))[0])


def test_every_output_is_handed_out_once() -> None:
    core = _leader([])
    _propose(core)
    ready = take(core)
    assert ready.frames and ready.messages and ready.role_changed
    assert core.ready() is None


def test_unsynced_frames_and_votes_may_vanish_with_all_nodes() -> None:
    """Bug 12, the whole cluster: after a restart of all, terms and acknowledged entries are there."""
    world = World()
    world.elect("a")
    frame = world.propose("a")
    world.settle()
    term = world["a"].term
    world.propose("a")
    for name in "abc":
        world.crash(name)
    for name in "abc":
        world.start(name)
        assert world[name].term == term
    world.elect("b")
    assert world["b"].commit_index >= frame.header.last_index and world["b"].term > term
    assert frame.header.kind is Kind.DATA
