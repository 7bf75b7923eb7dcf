"""Each rule bites: a small broken history for each, and none of them passes."""

from __future__ import annotations

import pytest

from neumann.env.files import write_new
from neumann.format import command, frame, names, segment
from neumann.format.frame import Frame, Kind
from neumann.format.ids import Incarnation, LogPoint, Timeline
from neumann.format.message import AppendReply, VoteReply
from neumann.raft.log import FrameLog
from neumann.raft.progress import Progress
from tests.sim.checkers.archive import Archive
from tests.sim.checkers.clients import Clients
from tests.sim.checkers.committed import Committed
from tests.sim.checkers.election import ElectionSafety
from tests.sim.checkers.log_matching import LogMatching
from tests.sim.checkers.matches import Matches
from tests.sim.checkers.promises import Promises
from tests.sim.checkers.segments import SealedSegments
from tests.sim.checkers.violation import Violation
from tests.sim.disk import SimDisk

BASE = LogPoint(0, 0, 7)
TIMELINE = Timeline(1, 2)


def put(key: str, value: str) -> bytes:
    return command.encode_put("registers", key, command.pack_value(value))


def follow(before: LogPoint, commands: list[bytes], term: int = 1) -> Frame:
    return frame.encode(Kind.DATA, before.index + 1, term, before.index + 1, before.chain, commands)


def log_of(*frames: Frame, base: LogPoint = BASE) -> FrameLog:
    log = FrameLog(base)
    for one in frames:
        log.append(one.header)
    return log


FIRST = follow(BASE, [put("k", "1")])
SECOND = follow(FIRST.header.end, [put("k", "2"), put("other", "3")])
OTHER = follow(FIRST.header.end, [put("k", "4"), put("other", "3")])
LATER = follow(FIRST.header.end, [put("k", "5"), put("other", "3")], term=2)


def commit(*frames: Frame) -> Committed:
    """A cluster in which n1 has committed these."""
    committed = Committed()
    committed.saw("n1", 1, frames[-1].header.last_index, log_of(*frames), lambda after, last: frames)
    return committed


def test_two_leaders_in_a_term() -> None:
    election = ElectionSafety()
    election.saw("n1", 3, "n1")
    election.saw("n2", 3, "")
    with pytest.raises(Violation, match="leaders n1 and n3"):
        election.saw("n2", 3, "n3")


def test_a_term_that_falls() -> None:
    election = ElectionSafety()
    election.saw("n1", 3, "")
    with pytest.raises(Violation, match="back"):
        election.saw("n1", 2, "")


def test_an_index_and_term_with_two_chains() -> None:
    matching = LogMatching()
    matching.saw("n1", log_of(FIRST, SECOND))
    matching.saw("n3", log_of(FIRST, LATER))
    with pytest.raises(Violation, match="chain"):
        matching.saw("n2", log_of(FIRST, OTHER))


def test_a_committed_frame_that_is_another_elsewhere() -> None:
    committed = commit(FIRST, SECOND)
    with pytest.raises(Violation, match="was committed before"):
        committed.saw("n2", 2, 3, log_of(FIRST, LATER), lambda after, last: ())


def test_a_commit_index_that_falls() -> None:
    committed = commit(FIRST, SECOND)
    with pytest.raises(Violation, match="fell"):
        committed.saw("n1", 1, 1, log_of(FIRST, SECOND), lambda after, last: ())
    committed.started("n1")
    committed.saw("n1", 1, 1, log_of(FIRST, SECOND), lambda after, last: ())


def test_a_leader_without_what_is_committed() -> None:
    committed = commit(FIRST, SECOND)
    committed.leads("n1", 2, log_of(FIRST, SECOND))
    with pytest.raises(Violation, match="leads term 2 with"):
        committed.leads("n2", 2, log_of(FIRST))


def test_a_leader_that_hears_late_of_its_election() -> None:
    """Bug: a leader of term 1 that heard of it late was held to what a leader of term 2 had committed."""
    committed = commit(FIRST)
    committed.saw("n3", 2, 3, log_of(FIRST, LATER), lambda after, last: (LATER,))
    committed.leads("n2", 1, log_of(FIRST))
    with pytest.raises(Violation, match="leads term 3 with"):
        committed.leads("n2", 3, log_of(FIRST))


def at(index: int, start_number: int) -> dict[str, Progress]:
    """n2 matches up to `index`, as that start of it answered."""
    progress = Progress(1, b"n2's")
    progress.meet(Incarnation(b"n2's", start_number), 1)
    progress.matched(index)
    return {"n2": progress}


def test_a_match_that_falls() -> None:
    matches = Matches()
    matches.saw("n1", 1, 9, at(5, 1))
    matches.saw("n1", 1, 9, at(3, 2))
    with pytest.raises(Violation, match="fell from 3 to 2"):
        matches.saw("n1", 1, 9, at(2, 2))
    matches.saw("n3", 2, 9, at(2, 2))
    matches.saw("n1", 3, 9, at(1, 2))
    matches.saw("n1", 3, 9, {})
    matches.saw("n1", 3, 9, at(0, 2))


def test_a_match_of_a_start_that_is_over() -> None:
    matches = Matches()
    matches.saw("n1", 1, 9, at(5, 1))
    matches.saw("n1", 1, 9, at(3, 2))
    with pytest.raises(Violation, match="earlier start"):
        matches.saw("n1", 1, 9, at(5, 1))


def test_a_match_beyond_the_leader_s_log() -> None:
    with pytest.raises(Violation, match="beyond"):
        Matches().saw("n1", 1, 4, at(5, 1))


def test_a_vote_given_twice() -> None:
    promises = Promises()
    promises.answered("n1", "n2", VoteReply(4, True, False, b""))
    promises.answered("n1", "n2", VoteReply(4, True, False, b""))
    with pytest.raises(Violation, match="votes for"):
        promises.answered("n1", "n3", VoteReply(4, True, False, b""))


def test_promises_that_a_crash_forgot() -> None:
    promises = Promises()
    promises.answered("n1", "n2", AppendReply(4, True, 3, 1, 0))
    promises.started("n1", 4, log_of(FIRST, SECOND))
    with pytest.raises(Violation, match="is durable"):
        promises.started("n1", 4, log_of(FIRST))
    with pytest.raises(Violation, match="starts in term"):
        promises.started("n1", 3, log_of(FIRST, SECOND))
    promises.truncated("n1", log_of(FIRST))
    promises.started("n1", 4, log_of(FIRST))


def test_a_log_that_rotted_loses_what_a_floor_stands_for_and_nothing_else() -> None:
    """The world forgot all that a machine had said was durable, whichever of its files had rotted."""
    lost = (1, 3)

    def acknowledged() -> Promises:
        promises = Promises()
        promises.answered("n1", "n2", AppendReply(4, True, lost[1], lost[0], 0))
        return promises

    with pytest.raises(Violation, match="is durable"):
        acknowledged().started("n1", 4, log_of(FIRST), lost)
    for floor in ((0, 0), (1, 2)):
        with pytest.raises(Violation, match="has lost"):
            acknowledged().started("n1", 4, log_of(FIRST), floor, may_lose=True)
    promises = acknowledged()
    promises.started("n1", 4, log_of(FIRST), lost, may_lose=True)
    with pytest.raises(Violation, match="has lost"):
        promises.started("n1", 4, log_of(FIRST), may_lose=True)
    promises.started("n1", 4, log_of(FIRST, SECOND), lost)
    promises.started("n1", 4, log_of(FIRST, SECOND))


def test_what_clients_were_told() -> None:
    committed = commit(FIRST, SECOND)
    clients = Clients(committed)
    first = clients.begin_write("w1", put("k", "1"))
    second = clients.begin_write("w2", put("k", "2"))
    third = clients.begin_write("w3", put("other", "3"))
    early = clients.begin_read("r1", is_stale=False)
    with pytest.raises(Violation, match="not committed"):
        clients.end_write(first, 4, 0)
    with pytest.raises(Violation, match="another command"):
        clients.end_write(first, 2, 0)
    with pytest.raises(Violation, match="outcome"):
        clients.end_write(first, 1, 1)
    clients.end_write(first, 1, 0)
    clients.end_write(third, 3, 0)
    clients.end_read(early, ("registers", "k"), (command.pack_value("1"), 1))  # began before any ended
    late = clients.begin_read("r2", is_stale=False)
    with pytest.raises(Violation, match="does not have anywhere"):
        clients.end_read(late, ("registers", "k"), (command.pack_value("1"), 1))
    with pytest.raises(Violation, match="did not write"):
        clients.end_read(late, ("registers", "k"), (command.pack_value("1"), 2))
    with pytest.raises(Violation, match="never so"):
        clients.end_scan(late, "registers", {"k": 1, "other": 3})
    clients.end_scan(late, "registers", {"k": 2, "other": 3})
    clients.end_unknown(second)
    clients.finish()
    clients.end_refused(second, "no leader")
    with pytest.raises(Violation, match="was told it was not"):
        clients.finish()


def test_a_scan_that_began_before_a_restore() -> None:
    """Bug: to place it, every index was tried, also the thousand million that a new timeline leaves out."""
    base = LogPoint(1_000_000_000, 2, 7)
    restored = commit(FIRST).restored(1, base)
    added = follow(base, [put("other", "3")], term=2)
    restored.saw("n1", 2, added.header.last_index, log_of(added, base=base), lambda after, last: (added,))
    clients = Clients(restored)
    scan = clients.begin_read("r", is_stale=False)
    clients.end_scan(scan, "registers", {"k": 1, "other": added.header.last_index})
    with pytest.raises(Violation, match="never so"):
        clients.end_scan(scan, "registers", {"other": added.header.last_index})


def test_a_command_that_nobody_sent() -> None:
    with pytest.raises(Violation, match="sent by nobody"):
        Clients(commit(FIRST)).finish()


def segment_of(previous: LogPoint, *frames: Frame) -> tuple[str, bytes]:
    header = segment.SegmentHeader(bytes(16), TIMELINE, previous.index + 1, previous.term, previous.chain)
    data = segment.encode_header(header) + b"".join(one.data for one in frames)
    return names.segment_name(TIMELINE, previous.index + 1), data


def test_sealed_segments_that_differ() -> None:
    segments, disks = SealedSegments(), [SimDisk(), SimDisk()]
    for disk, last in zip(disks, (SECOND, OTHER), strict=True):
        disk.make_dirs("/wal")
        for name, data in (segment_of(BASE, FIRST, last), segment_of(last.header.end)):
            write_new(disk, f"/wal/{name}", data)
    segments.look("n1", disks[0], "/wal", 1, full=False)
    assert not segments.digests, "not committed to its end"
    segments.look("n1", disks[0], "/wal", 3, full=False)
    with pytest.raises(Violation, match="differs on n1 and n2"):
        segments.look("n2", disks[1], "/wal", 3, full=False)


def test_an_archive_with_what_is_not_committed_or_with_a_gap() -> None:
    committed, disk = commit(FIRST, SECOND), SimDisk()
    for directory, previous, one in (("/0", BASE, FIRST), ("/1", FIRST.header.end, OTHER)):
        disk.make_dirs(directory)
        name, data = segment_of(previous, one)
        write_new(disk, f"{directory}/{name}", data)
    archive = Archive(committed)
    archive.look(disk, "/0")
    with pytest.raises(Violation, match="not committed"):
        archive.look(disk, "/1")
    with pytest.raises(Violation, match="goes on with"):
        Archive(committed).look(disk, "/1")
