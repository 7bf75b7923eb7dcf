"""A bit rots on a machine that is down: after its restart nothing wrong is served and nothing is lost."""

from __future__ import annotations

import asyncio
import posixpath
from contextlib import nullcontext
from dataclasses import replace
from random import Random

import pytest

from neumann.config import Config
from neumann.env.files import read_file, write_new
from neumann.errors import Corrupt, OutcomeUnknown
from neumann.format import names, state
from neumann.format.record import SLOT_BYTES
from neumann.runtime.marks import MARK_INTERVAL_S
from tests.sim.checkers.archive import is_damaged
from tests.sim.checkers.replicas import compare_rows
from tests.sim.doors import Pace
from tests.sim.keeping import form, keep_all_up, watch
from tests.sim.machine import Machine, Rotten
from tests.sim.mending import mend, move_damaged_away
from tests.sim.rot import log_spots, rot
from tests.sim.settings import ARCHIVE, make_config
from tests.sim.test_catching_up import LIMIT_S, formed, write
from tests.sim.world import World


async def _end(world: World, machine: Machine, path: str | None, *, asks: bool = True) -> None:
    """Its node ends by itself for damage of that file, which no peer that it reaches has."""
    (process, node), member = machine.running, world.member(machine)
    assert member is not None
    damage = Corrupt("what no peer has is damaged", detail={"path": path} if path else {})
    if asks:
        ways = world.network.isolate(machine.name, [other.name for other in world.machines])
        assert not await process.call(member.repair.mend(damage))
        for way in ways:
            world.network.mend(*way)
    process.run(node.host.fail, damage)
    await asyncio.sleep(0.1)


def _tables(machine: Machine) -> list[str]:
    store = machine.paths.store
    return [f"{store}/{name}" for name in machine.disk.list(store) if names.parse_table(name)]


def _manifests(machine: Machine) -> list[str]:
    store = machine.paths.store
    return [f"{store}/{name}" for name in machine.disk.list(store) if names.parse_manifest(name)]


def _segments(machine: Machine) -> list[str]:
    paths = machine.paths
    return [f"{paths.wal}/{n}" for n in machine.disk.list(paths.wal) if names.parse_segment(n)]


async def _damaged(world: World, victim: Machine, random: Random) -> None:
    """It crashes, a bit of a segment that holds something rots, and it starts again."""
    world.crash(victim, loses_power=random.random() < 0.5)
    if random.random() < 0.5:
        victim.disk = victim.disk.crash(random)
    path = random.choice(_segments(victim))
    file = victim.disk.open(path)
    used = len(file.pread(file.size(), 0).rstrip(b"\0"))
    at = random.randrange(max(1, used))
    bit = random.randrange(8)
    if any(path == spot and at < end for spot, _, end in log_spots(victim)):
        victim.rots(path, "segment", at, bit)
    else:
        world.promises.torn(victim.name)
        victim.disk.flip(path, at, bit)
    world.note("rot", victim.name, path)
    await world.start(victim)


async def _scrubbed(world: World, machine: Machine) -> None:
    """It has read all its files, and mended them."""
    process, node = machine.running
    for _ in range(2):
        process.run(lambda: node.scrub(begin=True))
        await world.until(lambda: not node.scrub()["running"], LIMIT_S, "the scrub has ended")
    assert node.scrub()["unrepaired"] == 0, node.scrub()


@pytest.mark.parametrize("seed", range(4))
def test_a_flip_in_a_segment_of_one_machine_loses_nothing(seed: int) -> None:
    world = World(f"damage/{seed}")
    random = world.random("damage")

    async def script() -> None:
        first = await formed(world)
        await write(first, range(120))
        written = 120
        for _ in range(4):
            victim = world.leading() if random.random() < 0.4 else random.choice(world.machines)
            await _damaged(world, victim, random)
            await world.until(lambda: world.leader() is not None, LIMIT_S, "one leads")
            await write(world.leading(), range(written, written + 40))
            written += 40
            await world.until(world.is_converged, LIMIT_S, "all replicas equal")
        for machine in world.machines:
            await _scrubbed(world, machine)
            machine.made_whole()
        world.check_files(full=True)
        for machine in world.machines:
            member = world.member(machine)
            assert member is not None
            compare_rows(machine.name, member.store.view(), world.committed.model)
            assert member.store.view().count() == written

    with world:
        world.loop.run(script())


@pytest.mark.parametrize("kind", ["table", "snapshot", "slot", "segment", "manifest"])
def test_a_refusal_to_start_is_excused_only_by_damage_that_may_be_the_reason(kind: str) -> None:
    """One rotten bit of any kind excused every refusal to start of that machine."""
    world = World("damage/refuses")
    victim = world.machines[0]
    may_refuse = kind in ("segment", "manifest")

    async def script() -> None:
        await formed(world)
        world.crash(victim)
        victim.rots(victim.paths.identity, kind, 20, 3)
        assert not await world.start(victim)

    with world:
        with nullcontext() if may_refuse else pytest.raises(Corrupt, match="identity"):
            world.loop.run(script(), LIMIT_S)
        assert world.counts["refused for rot"] == may_refuse


@pytest.mark.parametrize("kind", ["table", "segment", "manifest", "slot"])
def test_what_rots_is_known_by_its_kind(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest of the store was known as a table, since the store has that very file, and the refusal to
    start that it may be the reason of was held against the node."""
    monkeypatch.setattr("tests.sim.rot._SHARES", {kind: 1})
    world = World("damage/kind")

    async def script() -> None:
        victim = await formed(world)
        await write(victim, range(40))
        process, node = victim.running
        await process.call(node.snapshot(LIMIT_S))
        path = rot(victim, world.random("rot"))
        assert victim.rotten.keys() == {path} and victim.rotten_kinds == {kind}

    with world:
        world.loop.run(script(), LIMIT_S)


@pytest.mark.parametrize("is_linked", [True, False])
def test_what_rots_in_the_file_that_a_snapshot_and_the_store_share_may_stop_a_node(
    is_linked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bit rotted in a table under its name in a published snapshot, a merge met it under its name in the
    store, and the world held it against the node that it ended (seed 1014147 at the time)."""
    monkeypatch.setattr("tests.sim.rot._SHARES", {"snapshot": 1})
    world = World("damage/shared")
    random = world.random("rot")

    async def script() -> None:
        victim = await formed(world)
        await write(victim, range(40))
        (process, node), disk, store = victim.running, victim.disk, victim.paths.store
        await process.call(node.snapshot(LIMIT_S))
        for name in filter(names.parse_table, disk.list(store)):
            if not is_linked:  # another file in its place, as a repair puts it there before it links to it
                data = read_file(disk, f"{store}/{name}")
                disk.unlink(f"{store}/{name}")
                write_new(disk, f"{store}/{name}", data)
        name, path = "", ""
        while not names.parse_table(name):
            path = rot(victim, random)
            name = posixpath.basename(path)
        assert path.startswith(victim.paths.snapshots) and disk.exists(f"{store}/{name}")
        await _end(world, victim, f"{store}/{name}")
        assert not victim.is_up

    with world:
        with nullcontext() if is_linked else pytest.raises(Corrupt, match="what no peer has"):
            world.loop.run(script(), LIMIT_S)
        assert world.counts["stopped for rot"] == is_linked


@pytest.mark.parametrize(
    "what", ["the table", "another table", "no file", "asks no peer", "the segment", "asks no peer for it"]
)
def test_a_node_may_end_only_for_the_file_that_rotted_and_that_it_asked_for(what: str) -> None:
    """One rotten bit excused every damage that a node ended for: so it went unseen that one had asked no peer
    for the third damaged input of its merge (seed 1014147 at the time)."""
    world = World("damage/another")
    may_end = what in ("the table", "the segment")

    async def script() -> None:
        victim = await formed(world)
        process, node = victim.running
        for first in (0, 40):
            await write(victim, range(first, first + 40))
            await process.call(node.snapshot(LIMIT_S))
        (rotten, other), segment = _tables(victim)[:2], _segments(victim)[0]
        is_segment = what in ("the segment", "asks no peer for it", "no file")
        victim.rots(rotten, "table", 20, 3)
        if is_segment:
            victim.rots(segment, "segment", victim.disk.stat(segment).size_bytes - 1, 3)
        path = {"another table": other, "no file": None}.get(what, segment if is_segment else rotten)
        await _end(world, victim, path, asks="asks no peer" not in what)
        assert not victim.is_up

    with world:
        with nullcontext() if may_end else pytest.raises(Corrupt, match="what no peer has"):
            world.loop.run(script(), LIMIT_S)
        assert world.counts["stopped for rot"] == may_end


def test_what_rots_of_a_state_that_nobody_has_seen_yet_is_remembered() -> None:
    """A bit that rotted after a node had begun anew, and before it was seen as a member again, was forgotten
    with what had rotted of the state it gave up."""
    world = World("damage/unseen")

    async def script() -> None:
        first = await formed(world)
        victim = next(machine for machine in world.machines if machine is not first)
        await write(first, range(40))
        old = _segments(victim)[0]
        victim.rots(old, "segment", victim.disk.stat(old).size_bytes - 1, 3)
        process, node = victim.running
        victim.asked_to_rejoin = process
        began = asyncio.create_task(process.call(node.rejoin()))
        await world.until(lambda: not victim.disk.exists(old), LIMIT_S, "its state is aside")
        while not _manifests(victim):
            await asyncio.sleep(0.000_1)
        assert world.member(victim) is None
        new = _manifests(victim)[-1]
        victim.rotten[new] = Rotten("manifest", victim.disk.stat(new).inode)
        await began
        await world.until(world.is_formed, LIMIT_S, "it is a member again")
        assert victim.rotten.keys() == {new}

    with world:
        world.loop.run(script(), LIMIT_S)


def test_what_rots_in_the_segment_that_is_written_to_is_read_too() -> None:
    """A machine was called whole since nothing that was read was damaged, and what had rotted was not read:
    the segment was not sealed yet (seed 1008358 at the time)."""
    world = World("damage/open")

    async def script() -> None:
        first = await formed(world)
        await write(first, range(40))
        victim = next(machine for machine in world.machines if machine is not first)
        await world.until(world.is_converged, LIMIT_S, "all replicas equal")
        path, _, end = log_spots(victim)[-1]
        victim.rots(path, "segment", end - 1, 3)
        assert path == _segments(victim)[-1] and path == _segments(first)[-1]
        await mend(world)
        assert not victim.has_rotted and path != _segments(victim)[-1]
        assert read_file(victim.disk, path) == read_file(first.disk, path)

    with world:
        world.loop.run(script(), LIMIT_S)


def test_what_rots_behind_a_pass_that_is_under_way_is_read_again() -> None:
    """A machine was called whole when a pass ended that had read a file before the bit in it rotted (seed
    1015509 at the time)."""
    world = World("damage/behind")
    victim, peer = world.machines[:2]

    async def script() -> None:
        first = await formed(world)
        assert first.process is not None and first.node is not None
        await write(first, range(40))
        await first.process.call(first.node.archive_flush(LIMIT_S))
        await world.until(world.is_converged, LIMIT_S, "all replicas equal")
        process, node = victim.running
        process.run(lambda: node.scrub(begin=True))
        await world.until(lambda: node.scrub()["files"] > 0, LIMIT_S, "the newest sealed segment is read")
        path = _segments(victim)[-2]
        victim.rots(path, "segment", victim.disk.stat(path).size_bytes - 1, 3)
        assert node.scrub()["running"]
        await mend(world)
        assert not victim.has_rotted
        assert read_file(victim.disk, path) == read_file(peer.disk, path)

    with world:
        world.loop.run(script(), LIMIT_S)


def test_nothing_rots_above_the_sync_mark_that_a_power_failure_would_leave() -> None:
    """A bit rotted below a sync mark that could be read, though its sync had failed: the power failed, the
    older mark was there again, and the damage was a torn batch above it (seed 1017704 at the time)."""
    world = World("damage/mark")

    async def script() -> None:
        first = await formed(world)
        victim = next(machine for machine in world.machines if machine is not first)
        await write(first, range(5))
        await world.until(world.is_converged, LIMIT_S, "all replicas equal")
        await asyncio.sleep(2 * MARK_INTERVAL_S)
        durable = log_spots(victim)
        victim.disk.fail_sync(victim.paths.sync_mark)
        await write(first, range(5, 10))
        await world.until(victim.is_down, LIMIT_S, "it stops")
        mark_path = victim.paths.sync_mark
        _, mark = state.decode_mark(read_file(victim.disk, mark_path), mark_path)
        assert durable[-1][2] < mark.offset, "what is read is above what is durable"
        assert log_spots(victim) == durable
        victim.disk = victim.disk.crash(world.random("power"))
        assert log_spots(victim) == durable

    with world:
        world.loop.run(script(), LIMIT_S)


def test_no_slot_rots_that_a_power_failure_would_leave_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot might rot where the other one said the same to a reader, though its sync had failed: after a
    power failure only an older mark was left."""
    monkeypatch.setattr("tests.sim.rot._SHARES", {"slot": 1})
    world = World("damage/slots")

    async def script() -> None:
        first = await formed(world)
        victim = next(machine for machine in world.machines if machine is not first)
        world.crash(victim, loses_power=True)
        victim.power_on()
        disk, path = victim.disk, victim.paths.sync_mark
        number, mark = state.decode_mark(read_file(disk, path), path)
        newer = state.encode_mark_slot(number + 1, mark)
        file = disk.open(path, write=True)
        file.pwrite(newer, 0)
        file.sync()
        file.pwrite(newer, SLOT_BYTES)
        disk.fail_sync(path)
        with pytest.raises(OSError, match="Input/output error"):
            file.sync()
        assert read_file(disk, path) == newer * 2
        assert {rot(victim, Random(seed)) for seed in range(8)} == {victim.paths.vote, ""}

    with world:
        world.loop.run(script(), LIMIT_S)


class _Steady(Pace):
    """A command takes this long, and twenty times longer than to read a file."""

    def job_s(self, random: Random) -> float:
        return self.slowness * 0.05

    def lane_s(self, random: Random) -> float:
        return self.slowness * 0.0025


def _first_copies_others_push(name: str, peers: dict[str, str], random: Random, _: bool) -> Config:
    config = make_config(name, peers, random, is_archived=True)
    command = f"cp %p {ARCHIVE}/%f" if name == "n1" else f"neumann-admin wal-push %p {ARCHIVE}"
    return replace(config, wal=replace(config.wal, archive_command=command))


def test_what_rotted_under_the_cp_of_a_leader_that_ended_is_moved_away_as_the_next_one_asks() -> None:
    """Rightly nobody replaced the damaged copy, and the world did not follow the remedy (seed 1009297 at the
    time)."""
    world = World("damage/archive", configure=_first_copies_others_push)

    async def script() -> None:
        world.machines[0].pace = _Steady()
        first = await form(world)
        assert first.name == "n1" and first.process is not None and first.node is not None
        await write(first, range(40))
        await first.process.call(first.node.archive_flush(LIMIT_S))
        first.pace.slowness = 20
        path = _segments(first)[-1]
        await write(first, range(40, 50))
        await first.process.call(first.node.restore_point("now", LIMIT_S))
        commands, copy = first.commands, f"{ARCHIVE}/{posixpath.basename(path)}"
        assert commands is not None
        await world.until(lambda: commands.targets(path) == [copy], LIMIT_S, "its copy is under way")
        first.disk.flip(path, first.disk.stat(path).size_bytes - 1, 3)
        await world.until(lambda: world.shared.exists(copy), LIMIT_S, "it is copied")
        world.crash(first, loses_power=False)
        damaged = read_file(world.shared, copy)
        assert is_damaged(damaged, path)

        await world.until(lambda: world.leader() is not None, LIMIT_S, "another leads")
        process, node = world.leading().running
        with pytest.raises(OutcomeUnknown, match=r"it is damaged: .*; move it away") as refused:
            await process.call(node.archive_flush(LIMIT_S))
        assert read_file(world.shared, copy) == damaged
        assert move_damaged_away(world, refused.value.message)
        await process.call(node.archive_flush(LIMIT_S))
        assert read_file(world.shared, copy) == read_file(world.leading().disk, path)
        world.check_files()

    with world:
        world.loop.run(script(), 100.0)


def test_what_a_leader_of_yesterday_still_copies_does_not_rot() -> None:
    """The leader of today put its good copy there first, and the `cp` then put the damaged one over it (seed
    1015535 with five kinds, at the time)."""
    world = World("damage/yesterday", configure=_first_copies_others_push)

    async def script() -> None:
        first = world.machines[0]
        first.pace = _Steady()
        assert await form(world) is first and first.process is not None and first.node is not None
        await write(first, range(40))
        await first.process.call(first.node.archive_flush(LIMIT_S))
        first.pace.slowness = 20
        path = _segments(first)[-1]
        await write(first, range(40, 50))
        await first.process.call(first.node.restore_point("now", LIMIT_S))
        commands = first.commands
        assert commands is not None
        await world.until(lambda: bool(commands.targets(path)), LIMIT_S, "its copy is under way")
        assert not commands.replaces(path)
        assert path not in {rot(first, Random(number), leads=False) for number in range(100)}
        assert path in {rot(first, Random(number), leads=True) for number in range(100)}

    with world:
        world.loop.run(script(), 100.0)


def test_a_node_that_ends_while_it_reads_all_that_it_has_is_asked_again() -> None:
    """The world waited for ever for the scrub of a process that was gone (seed 100010 at the time)."""
    world = World("damage/ends")
    victim = world.machines[0]

    async def script() -> None:
        await write(await formed(world), range(40))
        mending = asyncio.create_task(mend(world))
        await asyncio.sleep(0.01)
        node = victim.node
        assert node is not None and node.scrub()["running"]
        world.crash(victim)
        await asyncio.sleep(0.2)
        await world.start(victim)
        await mending
        assert victim.node is not node and victim.node is not None
        assert victim.node.scrub()["last_success"] is not None

    with world:
        world.loop.run(script(), LIMIT_S)


def test_a_node_that_ends_again_and_again_for_what_nobody_can_mend_is_made_to_rejoin() -> None:
    """It said so each time, it was started again each time, and the world waited for it in vain."""
    world = World("damage/again")
    victim = world.machines[0]

    async def ends(storage_id: bytes) -> None:
        while True:
            await asyncio.sleep(0.01)
            node, process, member = victim.node, victim.process, world.member(victim)
            if node is None or process is None or member is None:
                continue
            if member.identity.storage_id == storage_id:
                process.run(node.host.fail, Corrupt("what no peer has is damaged", detail={"path": "/it"}))

    async def script() -> None:
        await write(await formed(world), range(40))
        world.is_calm = True
        member = world.member(victim)
        assert member is not None
        victim.rotten["/it"] = Rotten("table", 0)
        watching = [*keep_all_up(world), *watch(ends(member.identity.storage_id))]
        await mend(world)
        again = world.member(victim)
        assert again is not None and again.identity.storage_id != member.identity.storage_id
        for task in watching:
            task.cancel()

    with world:
        world.loop.run(script(), 60.0)
