"""Edges of the flow to a follower (frames and bytes in flight), and of reads that share rounds."""

from __future__ import annotations

import random

from neumann.format.frame import Frame
from neumann.format.ids import Incarnation, LogPoint
from neumann.format.message import Append, AppendReply
from neumann.raft import Mode, RaftConfig, Restored
from tests.raft.build import Core, frames, log_of, make_durable, take, vote_reply
from tests.raft.disk import BASE, candidate, members, storage_of
from tests.raft.harness import ELECTION_TICKS, HEARTBEAT_TICKS, World

FRAME_BYTES = frames((1, 1))[0].header.frame_bytes


def _leader(**limits: int) -> Core:
    """Leader b of abc in term 1 with an empty log; a has answered, so frames go to it as they come."""
    config = RaftConfig(
        "b", storage_of("b"), heartbeat_ticks=HEARTBEAT_TICKS, election_ticks=ELECTION_TICKS, **limits
    )
    restored = Restored(0, candidate(""), log_of([]), members("abc"), 0, 0, 0)
    core = Core(config, restored, random.Random(0))
    while core.role != "precandidate":
        core.tick()
    core.step("a", vote_reply(1, True, True))
    make_durable(core, take(core))
    core.step("a", vote_reply(1, True, False))
    take(core)
    _ok(core, BASE)
    assert core.progress["a"].mode is Mode.REPLICATE
    return core


def _ok(core: Core, point: LogPoint, round_number: int = 1, start: int = 1) -> None:
    reply = AppendReply(1, True, point.index, point.term, round_number)
    core.step("a", reply, Incarnation(storage_of("a"), start))


def _propose(core: Core, count: int) -> list[Frame]:
    made = frames(*[(1, 1)] * count, after=core.last)
    for frame in made:
        core.propose(frame)
    return made


def _sent(core: Core, receiver: str = "a") -> list[tuple[int, int]]:
    """(first, last) of each Append that goes there now; first is behind last in an empty one."""
    ready = core.ready()
    messages = ready.messages if ready is not None else ()
    return [(m.prev_index + 1, m.last_index) for r, m in messages if r == receiver and isinstance(m, Append)]


def test_exactly_the_allowed_frames_are_in_flight_and_each_answer_lets_as_many_more_go() -> None:
    core = _leader(frames_in_flight_max=4)
    made = _propose(core, 10)
    assert _sent(core) == [(1, 4)] and core.progress["a"].frames_in_flight == 4
    _ok(core, made[0].header.end)
    assert _sent(core) == [], "the run that is under way is freed as a whole"
    _ok(core, made[3].header.end)
    assert _sent(core) == [(5, 8)]
    _ok(core, made[7].header.end)
    assert _sent(core) == [(9, 10)] and core.progress["a"].frames_in_flight == 2


def test_bytes_in_flight_end_at_the_limit_when_frames_fit_it_exactly() -> None:
    core = _leader(bytes_in_flight_max=3 * FRAME_BYTES, append_bytes_max=2 * FRAME_BYTES)
    _propose(core, 10)
    assert _sent(core) == [(1, 2), (3, 3)], "the second message takes only what is left of the limit"
    assert core.progress["a"].bytes_in_flight == 3 * FRAME_BYTES


def test_one_frame_goes_while_a_single_byte_is_left_and_none_when_nothing_is() -> None:
    core = _leader(bytes_in_flight_max=2 * FRAME_BYTES + 1, append_bytes_max=2 * FRAME_BYTES)
    _propose(core, 10)
    assert _sent(core) == [(1, 2), (3, 3)] and core.progress["a"].bytes_in_flight == 3 * FRAME_BYTES
    _propose(core, 1)
    assert _sent(core) == []


def test_heartbeats_go_on_while_the_flow_is_closed() -> None:
    """Else a follower with a slow disk would lose its patience with a leader that waits for it."""
    core = _leader(frames_in_flight_max=1)
    _propose(core, 3)
    assert _sent(core) == [(1, 1)]
    for _ in range(HEARTBEAT_TICKS):
        core.tick()
    assert _sent(core) == [(2, 1)]


def test_a_follower_that_takes_nothing_holds_up_nobody_else() -> None:
    world = World(frames_in_flight_max=2)
    world.elect("a")
    world.run(HEARTBEAT_TICKS)
    world.cut = {("c", "a")}
    for _ in range(20):
        world.propose("a")
    world.settle("ab")
    assert world["a"].commit_index == world["b"].last.index == world["a"].last.index
    assert world["a"].progress["c"].frames_in_flight <= 2


def test_whoever_is_unreachable_or_new_has_nothing_in_flight() -> None:
    core = _leader(frames_in_flight_max=2)
    made = _propose(core, 6)
    assert _sent(core) == [(1, 2)]
    core.report_unreachable("a")
    assert (core.progress["a"].frames_in_flight, core.progress["a"].bytes_in_flight) == (0, 0)
    _ok(core, made[1].header.end)
    assert _sent(core) == [(3, 4)], "an answer shows that it is there"
    _ok(core, BASE, start=2)
    assert core.progress["a"].match_index == 0 and core.progress["a"].frames_in_flight in (0, 2)
    assert _sent(core)[0][0] == 1, "another start is served from where it says it is"


def test_answers_out_of_order_free_what_they_cover_once() -> None:
    core = _leader(frames_in_flight_max=6, append_bytes_max=2 * FRAME_BYTES)
    made = _propose(core, 6)
    assert _sent(core) == [(1, 2), (3, 4), (5, 6)]
    _ok(core, made[3].header.end)
    _ok(core, made[1].header.end)
    _ok(core, made[3].header.end)
    progress = core.progress["a"]
    assert (progress.match_index, progress.frames_in_flight) == (4, 2)
    assert progress.bytes_in_flight == 2 * FRAME_BYTES


def test_a_thousand_reads_of_one_moment_are_one_round() -> None:
    core = _leader()
    (noop,) = _propose(core, 1)
    make_durable(core, take(core))
    _ok(core, noop.header.end)
    take(core)
    for token in range(1000):
        assert core.read_index(token)
    rounds = [m.round for _, m in take(core).messages if isinstance(m, Append)]
    assert len(set(rounds)) == 1 and len(rounds) == 2, "one message to each follower"
    _ok(core, noop.header.end, rounds[0])
    assert take(core).reads == tuple((token, 1) for token in range(1000))


def test_reads_that_wait_for_a_free_round_go_together_when_one_is() -> None:
    core = _leader()
    (noop,) = _propose(core, 1)
    make_durable(core, take(core))
    _ok(core, noop.header.end)
    take(core)
    rounds = []
    for token in range(2):
        core.read_index(token)
        rounds.append(next(m.round for _, m in take(core).messages if isinstance(m, Append)))
    for token in range(2, 50):
        core.read_index(token)
    assert _sent(core) == [], "two rounds with reads are out: the others wait"
    _ok(core, noop.header.end, rounds[0])
    ready = take(core)
    assert ready.reads == ((0, 1),)
    (third,) = {m.round for _, m in ready.messages if isinstance(m, Append)}
    _ok(core, noop.header.end, third)
    assert [token for token, _ in take(core).reads] == list(range(1, 50)), (
        "a later round settles earlier ones"
    )


def test_every_read_is_answered_or_lost_exactly_once() -> None:
    core = _leader()
    (noop,) = _propose(core, 1)
    make_durable(core, take(core))
    _ok(core, noop.header.end)
    take(core)
    for token in range(6):
        core.read_index(token)
        core.ready()
    core.step_down("asked")
    ready = take(core)
    assert sorted(ready.lost_reads) == list(range(6)) and ready.reads == ()
    assert not core.read_index(7)
