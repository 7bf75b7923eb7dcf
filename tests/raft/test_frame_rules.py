"""The follower's half: figure 2's AppendEntries, with frames as the unit (design section 4)."""

from __future__ import annotations

import pytest

from neumann.format.frame import Frame
from neumann.format.ids import NOBODY, LogPoint
from neumann.format.message import AppendReply, SnapshotOffer
from neumann.raft import Raft
from tests.raft.build import append, core_with, frames, make_durable, take
from tests.raft.disk import BASE, members

SHARED = frames((1, 3), (1, 2))
MIDDLE = SHARED[0].header.end
END = SHARED[1].header.end


def _with_tail(*runs: tuple[int, int]) -> list[Frame]:
    return SHARED + frames(*runs, after=END)


def _reply(core: Raft) -> AppendReply:
    ready = take(core)
    ((_, reply),) = ready.messages + ready.messages_after_sync
    assert isinstance(reply, AppendReply)
    return reply


def test_frames_are_appended_and_acknowledged_when_durable() -> None:
    core = core_with(SHARED[:1], term=2)
    core.step("a", append(2, MIDDLE, SHARED[1:], round_number=7))
    ready = take(core)
    assert ready.frames == tuple(SHARED[1:]) and ready.truncate_after is None
    assert ready.messages_after_sync == (("a", AppendReply(2, True, 5, 1, 7)),)
    at_once = AppendReply(2, True, 3, 1, 7)
    assert ready.messages == (("a", at_once),), "a round is answered with what is durable already"


def test_a_second_append_of_the_same_round_is_answered_only_when_durable() -> None:
    core = core_with(SHARED, term=1)
    more = frames((1, 1), (1, 1), after=END)
    core.step("a", append(1, END, more[:1], round_number=7))
    assert len(take(core).messages) == 1
    core.step("a", append(1, more[0].header.end, more[1:], round_number=7))
    ready = take(core)
    assert not ready.messages and len(ready.messages_after_sync) == 1


def test_what_is_here_already_is_acknowledged_and_not_written_again() -> None:
    """Figure 2, AppendEntries 4."""
    core = core_with(SHARED, term=2)
    core.step("a", append(2, BASE, SHARED))
    ready = take(core)
    assert not ready.frames and ready.messages == (("a", AppendReply(2, True, 5, 1, 1)),)


def test_an_old_shorter_append_cuts_nothing() -> None:
    """Bug 17: a late, shorter Append made a follower drop entries that it had acknowledged. Figure 2,
    AppendEntries 3."""
    core = core_with(_with_tail((2, 2)))
    core.step("a", append(2, BASE, SHARED[:1]))
    assert _reply(core) == AppendReply(2, True, 3, 1, 1)
    core.step("a", append(2, MIDDLE, []))
    assert _reply(core) == AppendReply(2, True, 3, 1, 1)
    assert core.last.index == 7


def test_a_frame_of_another_term_in_its_place_replaces_the_local_tail() -> None:
    """Figure 2, AppendEntries 3."""
    core = core_with(_with_tail((2, 1), (2, 2)))
    (new,) = frames((3, 2), after=END)
    core.step("a", append(3, END, [new]))
    ready = take(core)
    assert ready.truncate_after == 5 and ready.frames == (new,) and core.last == new.header.end


def test_frames_that_were_cut_before_they_were_handed_out_never_are() -> None:
    core = core_with(SHARED, term=2)
    (old,) = frames((2, 4), after=END)
    (new,) = frames((3, 1), after=END)
    core.step("a", append(2, END, [old]))
    core.step("c", append(3, END, [new]))
    ready = take(core)
    assert ready.frames == (new,) and ready.truncate_after is None and ready.vote == (3, NOBODY)


def test_two_cuts_before_one_ready_reach_as_deep_as_the_deeper() -> None:
    core = core_with(_with_tail((2, 1), (2, 1)))
    kept, cut = frames((3, 1), (3, 1), after=END)
    (new,) = frames((4, 1), after=kept.header.end)
    core.step("a", append(3, END, [kept, cut]))
    core.step("c", append(4, kept.header.end, [new]))
    ready = take(core)
    assert ready.truncate_after == 5 and ready.frames == (kept, new)


def test_a_gap_is_refused_with_the_own_end() -> None:
    """Figure 2, AppendEntries 2."""
    core = core_with(SHARED, term=2)
    core.step("a", append(2, LogPoint(9, 2, 77), []))
    assert _reply(core) == AppendReply(2, False, 5, 1, 1)


def test_a_refusal_names_the_end_before_the_conflicting_frame() -> None:
    """Figure 2, AppendEntries 2."""
    core = core_with(_with_tail((2, 4)), term=5)
    core.step("a", append(5, LogPoint(7, 4, 77), []))
    assert _reply(core) == AppendReply(5, False, 5, 1, 1)
    core.step("a", append(5, LogPoint(9, 4, 77), []))
    assert _reply(core) == AppendReply(5, False, 5, 1, 1)


def test_a_refusal_passes_over_every_frame_of_a_later_term() -> None:
    core = core_with(_with_tail((3, 1), (3, 1), (4, 1)), term=5)
    core.step("a", append(5, LogPoint(8, 2, 77), []))
    assert _reply(core) == AppendReply(5, False, 5, 1, 1)


@pytest.mark.parametrize(
    ("prev", "why"),
    [
        (LogPoint(4, 1, 77), "inside a frame of term 1"),
        (LogPoint(5, 1, 77), "chain"),
        (LogPoint(2, 2, 77), "inside"),
        (LogPoint(3, 2, 77), "chain"),
    ],
    ids=["inside a frame of its term", "another chain", "inside what is committed", "committed"],
)
def test_divergence_is_told_and_nothing_is_cut_or_acknowledged(prev: LogPoint, why: str) -> None:
    core = core_with(SHARED, term=2, commit_index=3)
    core.step("a", append(2, prev, []))
    ready = take(core)
    assert ready.diverged is not None and why in ready.diverged and "a" in ready.diverged
    assert not ready.messages and not ready.messages_after_sync and ready.truncate_after is None
    core.step("a", append(2, BASE, SHARED))
    assert core.ready() is None and core.last == END


def test_another_frame_of_the_same_term_in_the_same_place_is_divergence() -> None:
    core = core_with(SHARED, term=2)
    (other,) = frames((1, 3), after=MIDDLE)
    core.step("a", append(2, MIDDLE, [other]))
    assert "same term" in core.diverged and core.last == END


def test_what_is_committed_is_never_cut() -> None:
    core = core_with(SHARED, commit_index=5, term=2)
    (other,) = frames((2, 1), after=MIDDLE)
    core.step("a", append(2, MIDDLE, [other]))
    assert "committed" in core.diverged and core.last == END


def test_the_commit_index_goes_no_further_than_what_the_append_covers() -> None:
    """Bug 18: a heartbeat behind which the follower's own tail differs committed that tail. Figure 2,
    AppendEntries 5."""
    core = core_with(_with_tail((2, 4)), term=3)
    core.step("a", append(3, END, [], commit_index=9))
    assert take(core).commit_index == 5
    core.step("a", append(3, MIDDLE, [], commit_index=9))
    assert core.commit_index == 5


def test_the_commit_index_never_falls() -> None:
    """Bug 15."""
    core = core_with(SHARED, term=2)
    core.step("a", append(2, END, [], commit_index=5))
    core.step("a", append(2, END, [], commit_index=3))
    core.step("c", append(3, END, [], commit_index=0))
    assert take(core).commit_index == 5


def test_an_append_from_before_the_base_continues_at_the_base() -> None:
    tail = frames((1, 2), after=END)
    core = core_with([], base=END, term=1, commit_index=5)
    core.step("a", append(1, BASE, SHARED))
    assert _reply(core) == AppendReply(1, True, 5, 1, 1)
    core.step("a", append(1, BASE, SHARED + tail))
    assert take(core).frames == tuple(tail)


def test_an_append_that_does_not_fit_the_base_is_divergence() -> None:
    core = core_with([], base=LogPoint(4, 1, 4), term=1, commit_index=4)
    core.step("a", append(1, BASE, SHARED))
    assert "does not continue the log's base" in core.diverged


def test_an_append_whose_parts_do_not_fit_is_not_taken() -> None:
    core = core_with(SHARED, term=1)
    core.step("a", append(1, MIDDLE, [])._replace(frames=tuple(frames((1, 1), after=END))))
    core.step("a", append(1, END, frames((9, 1), after=END)))
    ready = core.ready()
    assert ready is not None and not ready.frames and core.last == END and not core.diverged


def test_a_durable_report_of_a_frame_that_was_cut_and_came_back_is_ignored() -> None:
    """Bug 29 (ABA): the frame was written, cut by another leader, and is being written again; the
    report of the first write must not stand for the second."""
    core = core_with(SHARED, term=2)
    (ours,) = frames((2, 1), after=END)
    (theirs,) = frames((3, 2), after=END)
    core.step("a", append(2, END, [ours]))
    first = take(core)
    core.step("c", append(3, END, [theirs]))
    second = take(core)
    core.step("a", append(4, END, [ours]))
    third = take(core)
    for reported in (first, second):
        make_durable(core, reported)
        assert core.durable_index == 5
    make_durable(core, third)
    assert core.durable_index == 6


def test_a_cut_that_no_ready_has_told_of_yet_counts() -> None:
    """The same, where the report comes before what the core did is handed out."""
    core = core_with(SHARED, term=2)
    (ours,) = frames((2, 1), after=END)
    (theirs,) = frames((3, 2), after=END)
    core.step("a", append(2, END, [ours]))
    first = take(core)
    core.step("c", append(3, END, [theirs]))
    core.step("a", append(4, END, [ours]))
    make_durable(core, first)
    assert core.durable_index == 5
    second = take(core)
    assert (second.truncate_after, second.frames) == (5, (ours,))
    make_durable(core, second)
    assert core.durable_index == 6


def test_a_durable_report_from_before_a_snapshot_replaced_the_log_is_ignored() -> None:
    """What was written went with the old log; the new one may not even have a frame that ends there."""
    core = core_with(SHARED, term=1)
    core.step("a", append(1, END, frames((1, 1), after=END)))
    before = take(core)
    point = LogPoint(5, 2, 55)
    core.installed(point, members("abc"))
    core.step("c", append(2, point, frames((2, 2), after=point)))
    make_durable(core, before)
    assert core.durable_index == point.index
    make_durable(core, take(core))
    assert core.durable_index == core.last.index == 7


def test_frames_of_an_earlier_term_are_durable_when_the_disk_says_so() -> None:
    """Only frames of the current term were counted: who caught up on older ones was told of nothing until
    the first of this term came, and with no snapshot made so far stopped to apply."""
    core = core_with(SHARED, term=1, floor=(3, 7), configuration=members("abc"))
    sent = frames((3, 1), (3, 1), (5, 1), after=END)
    core.step("a", append(5, END, sent[:1]))
    make_durable(core, take(core))
    assert core.durable_index == 6 and core.floor == (3, 7)
    core.step("a", append(5, sent[0].header.end, sent[1:2], commit_index=7))
    waiting = take(core)
    core.step("a", append(5, sent[1].header.end, [], round_number=2))
    assert [reply.match_index for _, reply in take(core).messages] == [6]
    core.step("c", append(6, sent[1].header.end, []))
    make_durable(core, waiting)
    assert core.durable_index == 7, "whichever term it is by now"
    assert core.floor == (0, 0)


def test_an_answer_names_nothing_that_is_not_durable() -> None:
    """Figure 2, state."""
    core = core_with(SHARED, term=1)
    (new,) = frames((1, 1), after=END)
    core.step("a", append(1, END, [new], round_number=1))
    ready = take(core)
    core.step("a", append(1, new.header.end, [], round_number=2))
    assert take(core).messages == (("a", AppendReply(1, True, 5, 1, 2)),)
    make_durable(core, ready)
    core.step("a", append(1, new.header.end, [], round_number=3))
    assert take(core).messages == (("a", AppendReply(1, True, 6, 1, 3)),)


def test_a_snapshot_is_asked_for_again_with_each_offer_until_it_is_installed() -> None:
    core = core_with([], term=1, node_id="d", configuration=members("abc", "d"))
    offer = SnapshotOffer(1, 5, 1, END.chain, 3)
    for _ in range(2):
        core.step("a", offer)
        ready = take(core)
        assert ready.need_snapshot == offer
        assert ready.messages == (("a", AppendReply(1, False, 0, 0, 3)),)
    core.installed(END, members("abc", "d"))
    ready = take(core)
    assert ready.messages == (("a", AppendReply(1, True, 5, 1, 0)),)
    assert ready.commit_index == 5 and core.log.base == core.last == END
    core.step("a", offer)
    assert take(core).need_snapshot is None


def test_an_offer_of_what_the_log_has_is_only_a_commit_index() -> None:
    """Bugs 30 and 31: a snapshot that came late, or twice, threw away a newer log. Figure 13,
    InstallSnapshot 6."""
    core = core_with(_with_tail((1, 2)))
    core.step("a", SnapshotOffer(1, 5, 1, END.chain, 3))
    ready = take(core)
    assert ready.need_snapshot is None and ready.commit_index == 5
    assert ready.messages == (("a", AppendReply(1, True, 5, 1, 3)),)
    core.installed(END, members("abc"))
    assert core.log.base == END and core.last.index == 7
    core.installed(MIDDLE, members("a"))
    assert core.log.base == END and core.configuration == members("abc")


def test_a_snapshot_replaces_a_log_that_it_does_not_continue() -> None:
    """Figure 13, InstallSnapshot 7; figure 13, InstallSnapshot 8."""
    core = core_with(frames((1, 3), (1, 3)), term=2)
    point = LogPoint(5, 2, 55)
    core.installed(point, members("bcd"))
    assert core.log.base == core.last == point and core.configuration == members("bcd")
    (next_frame,) = frames((2, 1), after=point)
    core.step("c", append(2, point, [next_frame]))
    assert take(core).frames == (next_frame,)


def test_a_snapshot_that_contradicts_what_is_committed_is_divergence() -> None:
    core = core_with(SHARED, commit_index=5)
    core.installed(LogPoint(4, 1, 4), members("abc"))
    assert "contradicts" in core.diverged and core.last == END
