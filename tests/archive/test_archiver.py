"""The archiver with real commands and files: order, retries, time limits, stepping down, truth in the log."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from neumann.archive.archiver import Archiver, Brought, Settings, substitute
from neumann.env import Env
from neumann.format import history as history_format
from neumann.format.manifest import Archiving
from neumann.format.names import Paths
from neumann.format.special import Break
from tests.archive.archiving import HISTORY, HISTORY_NAME, World

ADMIN = Path(sys.executable).parent / "neumann-admin"


async def test_switched_on_then_history_then_segments_oldest_first(world: World) -> None:
    order = world.root / "order"
    world.settings = Settings(f"cp %p {world.archive}/%f && echo %f >> {order}", 20.0)
    world.log.add(3)
    async with world.leading():
        await world.until(lambda: world.log.state.through == 30)
        world.log.add()
        world.archiver.wake()
        await world.until(lambda: world.log.state.through == 40)
    assert world.log.proposed == [0, 10, 20, 30, 40]
    assert order.read_text().split() == world.names()
    assert history_format.decode((world.archive / HISTORY_NAME).read_bytes(), "archived") == HISTORY
    assert world.archiver.status.files_total == 5 and not world.archiver.status.failures
    assert world.archiver.lag() == (0, 0, 0, 0.0)


async def test_a_log_that_begins_later_is_archived_from_there(world: World) -> None:
    world.log.first = 101
    world.log.add(1)
    async with world.leading():
        await world.until(lambda: world.log.state.through == 110)
    assert world.log.proposed == [0, 100, 110]


async def test_what_was_dropped_while_archiving_was_off_is_declared_and_not_called_archived(
    world: World,
) -> None:
    """A second `archived` that jumped over the hole said that entries were archived which are gone."""
    world.log.state = Archiving(False, 50)
    world.log.first = 101
    world.log.add(1)
    async with world.leading():
        await world.until(lambda: world.log.state == Archiving(True, 110))
    assert world.log.breaks == [Break(51, 100, "archiving was off, and the log is gone")]
    assert world.log.proposed == [100, 110]


async def test_archiving_goes_on_after_a_stop_where_it_was(world: World) -> None:
    world.log.add(3)
    world.log.state = Archiving(False, 10)
    async with world.leading():
        await world.until(lambda: world.log.state == Archiving(True, 30))
    assert (world.log.breaks, world.log.proposed) == ([], [10, 20, 30])


async def test_failures_are_counted_by_reason_and_repeated_without_skipping(world: World) -> None:
    world.log.add(2)
    stop = world.root / "stop"
    stop.touch()
    world.settings = Settings(
        f"test ! -e {stop} || {{ echo no room >&2; exit 3; }}; cp %p {world.archive}/%f", 20
    )
    async with world.leading():
        await world.until(lambda: world.archiver.status.failures["exit"] >= 5)
        assert world.log.proposed == [0] and world.archived() == []
        assert world.archiver.status.last_error == f"{HISTORY_NAME}: exit: no room"
        assert world.archiver.lag().segments == 2 and world.archiver.lag().seconds > 0
        stop.unlink()
        await world.until(lambda: world.log.state.through == 20)
    assert world.archiver.status.last_error == ""
    assert world.archived() == sorted(world.names())


async def test_a_directory_in_the_place_of_the_history_is_a_failure_like_others(world: World) -> None:
    """Since what is no file is Corrupt when it is opened, it ended the archiver, which said nothing of it."""
    world.log.add(1)
    (world.root / "raft" / HISTORY_NAME).mkdir()
    async with world.leading():
        await world.until(lambda: world.archiver.status.failures["disk"] > 0)
        assert "is a directory" in world.archiver.status.last_error
        (world.root / "raft" / HISTORY_NAME).rmdir()
        await world.until(lambda: world.log.state.through == 10)


@pytest.mark.parametrize(
    ("command", "reason"),
    [("exit 1 # %p", "exit"), ("no-such-command %p", "not_found"), ("kill -9 $$ # %p", "signal")],
)
async def test_every_end_but_zero_is_a_failure(world: World, command: str, reason: str) -> None:
    world.log.add()
    world.settings = Settings(command, 20.0)
    async with world.leading():
        await world.until(lambda: world.archiver.status.failures[reason] >= 2)
    assert world.log.proposed == [0]


async def test_a_command_that_hangs_is_killed_with_all_it_started(world: World) -> None:
    world.log.add()
    alive = world.root / "alive"
    world.settings = Settings(f"(while :; do echo . >> {alive}; sleep 0.02; done) & wait # %p", 0.2)
    async with world.leading():
        await world.until(lambda: world.archiver.status.failures["timeout"] >= 1)
    size = alive.stat().st_size
    await asyncio.sleep(0.1)
    assert alive.stat().st_size == size


async def test_stepping_down_kills_the_command_and_the_next_leadership_goes_on(world: World) -> None:
    world.log.add(2)
    started = world.root / "started"
    world.settings = Settings(f"touch {started}; sleep 30; cp %p {world.archive}/%f", 60.0)
    async with world.leading():
        await world.until(started.exists)
    assert world.archived() == []
    world.settings = Settings(f"cp %p {world.archive}/%f", 20.0)
    async with world.leading():
        await world.until(lambda: world.log.state.through == 20)
    assert world.log.proposed == [0, 10, 20]


async def test_a_segment_is_not_pushed_twice_because_the_log_refused_to_say_so(world: World) -> None:
    """`test ! -f` refuses a second copy for ever; a lost proposal alone must not cause one."""
    world.log.add(2)
    world.settings = Settings(f"test ! -f {world.archive}/%f && cp %p {world.archive}/%f", 20.0)
    async with world.leading():
        await world.until(lambda: world.log.state.through >= 10)
        world.log.refuse = 3
        world.log.add(2)
        world.archiver.wake()
        await world.until(lambda: world.log.state.through == 40)
    assert not world.archiver.status.failures


async def test_an_empty_command_pauses_and_a_reload_goes_on(world: World) -> None:
    world.log.add()
    world.settings = Settings("", 20.0)
    async with world.leading():
        await asyncio.sleep(0.05)
        assert world.log.proposed == [] and not world.log.state.on
        world.settings = Settings(f"cp %p {world.archive}/%f", 20.0)
        world.archiver.wake()
        await world.until(lambda: world.log.state.through == 10)
        world.settings = Settings("", 20.0)
        world.log.add()
        world.archiver.wake()
        await asyncio.sleep(0.05)
    assert world.log.state == Archiving(True, 10)


async def test_a_hole_in_the_own_log_is_never_jumped_over(world: World) -> None:
    world.log.add(3)
    del world.log.segments[1]
    async with world.leading():
        await world.until(lambda: world.archiver.status.failures["missing"] >= 2)
    assert world.log.state.through == 10 and set(world.log.asked) == {(11, 20)}
    assert "entries 11..20 are neither archived nor" in world.archiver.status.last_error
    assert "n2 did not say whether they have them" in world.archiver.status.last_error


async def test_what_a_peer_still_has_is_archived_from_it(world: World) -> None:
    """A new leader, installed from a snapshot, lacks a sealed segment that the archive lacks too."""
    world.log.add(3)
    gone, path = world.log.segments.pop(1), world.root / "brought"

    def peers(first: int, last: int) -> Brought:
        path.write_bytes(b"entries 11")
        return Brought(str(path), gone.name, gone.last_index)

    world.log.peers = peers
    async with world.leading():
        await world.until(lambda: world.log.state.through == 30)
    assert (world.archive / gone.name).read_bytes() == b"entries 11" and not path.exists()
    assert world.log.proposed == [0, 10, 20, 30] and world.log.breaks == []


async def test_what_no_voter_has_is_declared_and_a_snapshot_is_made(world: World) -> None:
    """The break names the range that is gone, and no more: a peer has what follows."""
    world.log.add(4)
    del world.log.segments[1:3]
    left = [Brought(gone_through=15), Brought(silent=("n3",)), Brought(gone_through=30)]
    world.log.peers = lambda first, last: left.pop(0)
    async with world.leading():
        await world.until(lambda: world.log.state.through == 40)
    assert world.log.asked == [(11, 30), (16, 30), (16, 30)]
    reason = "no voter has them any more"
    assert world.log.breaks == [Break(11, 15, reason), Break(16, 30, reason)] and world.log.snapshots == 2
    assert world.log.proposed == [0, 10, 40]


async def test_a_missing_begin_is_looked_for_too(world: World) -> None:
    """The own log begins behind what is archived, and no sealed segment waits."""
    world.log.state = Archiving(True, 10)
    world.log.first = 21
    world.log.peers = lambda first, last: Brought(gone_through=last)
    async with world.leading():
        await world.until(lambda: world.log.state.through == 20)
    assert world.log.breaks == [Break(11, 20, "no voter has them any more")]


async def test_a_history_that_was_archived_is_only_laid_out_for_a_person(world: World) -> None:
    """To bring it again at each change of leaders would stamp a directory that is not mounted."""
    world.log.add(2)
    world.log.state = Archiving(True, 10)
    async with world.leading():
        await world.until(lambda: world.log.state.through == 20)
    assert world.archived() == [world.log.segments[1].name]
    assert history_format.decode((world.root / "raft" / HISTORY_NAME).read_bytes(), "here") == HISTORY


@pytest.mark.parametrize("command", ["cp %p {place}/%f", f"{ADMIN} wal-push %p {{place}}"])
async def test_the_next_leader_brings_the_history_that_the_first_one_could_not(
    real: World, env: Env, command: str
) -> None:
    """Archiving that was switched on late said at once that the log before it is through, so the next leader
    took the history file for archived: it was in no archive, ever, and wal-push refused every segment."""
    real.log.add(3)
    real.log.first = real.log.segments.pop(0).last_index + 1
    dropped = real.log.first - 1
    real.log.peers = lambda first, last: Brought(gone_through=last)
    place = real.root / "mount"
    real.settings = Settings(command.format(place=place), 20.0)
    async with real.leading():
        await real.until(lambda: real.archiver.status.failures.total() >= 1)
    assert real.log.state == Archiving(True, 0)
    place.mkdir()
    (real.root / "n2" / "raft").mkdir(parents=True)
    real.archiver = Archiver(env, Paths(str(real.root / "n2")), real.log, lambda: real.settings)
    async with real.leading():
        await real.until(lambda: real.log.state.through == real.log.segments[-1].last_index)
    assert sorted(path.name for path in place.iterdir()) == sorted(real.names())
    assert real.log.breaks == [Break(1, dropped, "no voter has them any more")]


def test_placeholders() -> None:
    assert substitute("x %p '%f' 100%% %%p", "/a/b", "b") == "x /a/b 'b' 100% %p"
